"""Backbones of the exact diffusers classes, small and with random weights; folders of them in diffusers' layout."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKLWan,
    FlowMatchEulerDiscreteScheduler,
    WanImageToVideoPipeline,
    WanTransformer3DModel,
)
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from torch import Tensor, nn
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    CLIPVisionModel,
    PreTrainedTokenizerFast,
    UMT5Config,
    UMT5EncoderModel,
)

from model.backbone import Backbone
from model.clip import ImageEncoder
from model.composite import composite, mask
from model.text import TinyText
from model.wan import TinyTransformer, TinyVae, Wan, new_tiny, new_vae
from model.wan_config import SETTINGS_OF

NAMES = ("tiny", "wan-i2v")
TEXT_DIM = 24
SIZES = TinyTransformer(layers=2, heads=2, head_dim=12, ffn_dim=40, freq_dim=16)
HEIGHT_PX, WIDTH_PX, FRAMES = 32, 48, 9
SETTINGS = replace(SETTINGS_OF["tiny"], height_px=HEIGHT_PX, width_px=WIDTH_PX, frames=FRAMES, tile_px=0)


def tiny(seed: int = 0, z_dim: int = 20) -> Wan:
    """Return a `tiny` backbone whose head is not zero and whose latents are not normalised by 0 and 1."""
    vae = new_vae(TinyVae(z_dim=z_dim, base_dim=8), seed)
    for number, parameter in enumerate(vae.parameters()):
        if not parameter.any():  # branches begin at zero, and would hide half of the VAE
            torch.nn.init.normal_(parameter, std=0.05, generator=torch.Generator().manual_seed(number))
    numbers = torch.linspace(0.1, 1.1, z_dim)
    vae.register_to_config(latents_mean=(0.3 - numbers).tolist(), latents_std=(0.2 + numbers).tolist())
    backbone = new_tiny(vae, TinyText(dim=TEXT_DIM, length=8), SIZES, seed, SETTINGS)
    draw(backbone.transformer, seed)
    return backbone


def wan_i2v(seed: int = 0) -> Wan:
    """Return a `wan-i2v` backbone: Wan2.1's own VAE levels and statistics, and its branch for a picture."""
    pipeline = wan_i2v_pipeline(seed)
    image = ImageEncoder(pipeline.image_encoder, pipeline.image_processor)
    text = TinyText(dim=TEXT_DIM, length=512)
    return Wan(
        "wan-i2v", pipeline.transformer, pipeline.vae, text, replace(SETTINGS_OF["wan-i2v"], prefix_frames=4), image
    )


def wan_i2v_pipeline(seed: int = 0) -> WanImageToVideoPipeline:
    """Return diffusers' pipeline of Wan2.1's parts, all small, without its text encoder."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vae = AutoencoderKLWan(base_dim=8, num_res_blocks=1)
        clip = CLIPVisionConfig(
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=3,
            num_attention_heads=2,
            image_size=32,
            patch_size=16,
        )
        image_encoder = CLIPVisionModel(clip)
        transformer = WanTransformer3DModel(
            num_attention_heads=SIZES.heads,
            attention_head_dim=SIZES.head_dim,
            in_channels=36,
            out_channels=16,
            text_dim=TEXT_DIM,
            freq_dim=SIZES.freq_dim,
            ffn_dim=SIZES.ffn_dim,
            num_layers=SIZES.layers,
            image_dim=16,
            added_kv_proj_dim=SIZES.heads * SIZES.head_dim,
        )
    draw(transformer, seed)
    processor = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    return pipeline_of(transformer, vae, image_encoder.eval(), processor)


def pipeline_of(
    transformer: WanTransformer3DModel,
    vae: AutoencoderKLWan,
    image_encoder: CLIPVisionModel | None = None,
    image_processor: CLIPImageProcessorPil | None = None,
) -> WanImageToVideoPipeline:
    """Return diffusers' public pipeline around these parts."""
    pipeline = WanImageToVideoPipeline(
        tokenizer=None,
        text_encoder=None,
        vae=vae,
        scheduler=FlowMatchEulerDiscreteScheduler(),
        image_encoder=image_encoder,
        image_processor=image_processor,
        transformer=transformer,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def add_text(pipeline: WanImageToVideoPipeline) -> None:
    """Give a pipeline a UMT5 and a tokenizer of a few words, small, of the classes of the published bases."""
    words = ["<pad>", "</s>", "<unk>", "a", "bird", "waves", "its", "wings"]
    rules = Tokenizer(WordLevel({word: n for n, word in enumerate(words)}, unk_token="<unk>"))
    rules.pre_tokenizer = Whitespace()
    rules.post_processor = TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=rules, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=512
    )
    config = UMT5Config(vocab_size=len(words), d_model=TEXT_DIM, d_kv=8, d_ff=16, num_layers=2, num_heads=2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        pipeline.register_modules(tokenizer=tokenizer, text_encoder=UMT5EncoderModel(config).eval())


def draw(transformer: nn.Module, seed: int) -> None:
    """Give every parameter a value that matters: a zero head or bias would hide mistakes."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in transformer.named_parameters():
        fan = parameter[0].numel() if parameter.ndim > 1 else 1
        drawn = torch.randn(parameter.shape, generator=generator)
        around = 1.0 if ".norm" in name and name.endswith("weight") else 0.0
        parameter.data = around + drawn * (0.1 if parameter.ndim < 2 or "table" in name else fan**-0.5)


@cache
def shared(name: str) -> Wan:
    """Return the backbone `name`, one for all tests that do not change it."""
    return tiny() if name == "tiny" else wan_i2v()


def pixels(seed: int, *shape: int) -> Tensor:
    """Return pixels of whole 8-bit levels in [-1, 1]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, shape, generator=generator).float() / 127.5 - 1.0


def inputs(backbone: Backbone, batch: int = 2, seed: int = 0) -> dict[str, Tensor | None]:
    """Return the arguments of `velocity` for composites of this file's size, made by the method's own rooms."""
    generator = torch.Generator().manual_seed(seed)
    reference = pixels(seed, batch, 3, HEIGHT_PX, WIDTH_PX)
    driving = pixels(seed + 1, batch, 3, FRAMES, HEIGHT_PX, WIDTH_PX)
    cond = backbone.encode(composite(reference, driving))
    return {
        "noisy": torch.randn(cond.shape, generator=generator),
        "sigma": torch.rand(batch, generator=generator),
        "cond": cond,
        "mask": backbone.pack_mask(mask(FRAMES, HEIGHT_PX, WIDTH_PX)),
        "text": torch.randn(batch, backbone.text.length, TEXT_DIM, generator=generator),
        "image": backbone.image_embeds(reference),
    }


def saved(folder: Path, backbone: Wan) -> Path:
    """Write a backbone and return its folder."""
    backbone.save(folder)
    return folder
