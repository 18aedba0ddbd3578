"""The parts of a Wan base: read from its folder, and checked against each other."""

from pathlib import Path
from typing import Any, Final

import torch
from diffusers import AutoencoderKLWan, WanTransformer3DModel
from torch import Tensor, nn

from model import weights
from model.backbone import BackboneError
from model.clip import ImageEncoder
from model.preconditioning import Preconditioning
from model.text import TextEncoder, TinyText, umt5
from model.wan_config import Settings

PARTS: Final[dict[str, Any]] = {"transformer": WanTransformer3DModel, "vae": AutoencoderKLWan}


def own_text(folder: Path, name: str, device: torch.device | str) -> TextEncoder:
    """Return the text encoder that lies beside a base: the small one of `tiny`, else umT5."""
    return TinyText.load(folder / "text_encoder").to(device) if name == "tiny" else umt5(folder, device)


def preconditioning_of(settings: Settings, channels: int) -> Preconditioning | None:
    """Return what the deviations in the settings ask for; None where there are none."""
    if not settings.deviation:
        return None
    if len(settings.deviation) != channels:
        raise BackboneError(f"{len(settings.deviation)} deviations are given for latents of {channels} channels")
    return Preconditioning(settings.deviation)


def check_dims(config: Any, text: TextEncoder, image: ImageEncoder | None) -> None:
    """Refuse a transformer whose texts or pictures are of another width than its encoders give."""
    if text.dim != config.text_dim:
        raise BackboneError(
            f"the transformer takes texts of {config.text_dim} channels (text_dim), and the text encoder gives "
            f"{text.dim}; take both from the same base"
        )
    given = None if image is None else image.dim
    if given != config.image_dim:
        raise BackboneError(
            f"the transformer takes pictures of {config.image_dim} channels (image_dim), and the image encoder gives "
            f"{given}; take both from the same base"
        )


def empty_of(made: Any, folder: Path) -> Any:
    """Return a model of the config in `folder` without weights."""
    config = weights.config_of(folder, made.__name__)
    with torch.device("meta"):
        return made.from_config(config)


def read(made: Any, folder: Path, dtype: torch.dtype) -> Any:
    """Return a model with its weights; read with the dtype, so that diffusers keeps in float32 what must stay so."""
    return made.from_pretrained(folder, torch_dtype=dtype, use_safetensors=True, local_files_only=True)


def match_norms(transformer: WanTransformer3DModel) -> None:
    """Let every norm of queries and keys work at its weight's dtype, also under autocast.

    Autocast hands them bfloat16 and leaves their weights in float32; torch then warns, and takes a slower way to the
    same result.
    """

    def cast(norm: nn.RMSNorm, given: tuple[Tensor]) -> Tensor:
        return given[0].to(norm.weight.dtype)

    for module in transformer.modules():
        if isinstance(module, nn.RMSNorm):
            module.register_forward_pre_hook(cast)
