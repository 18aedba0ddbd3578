"""What a training costs, against torch's own counter, autograd's own storages, and published figures."""

from pathlib import Path

import pytest
import torch
from diffusers import WanTransformer3DModel
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from model.text import TinyText
from model.tiny import TinyTransformer, TinyVae, new_vae
from model.training import flops, learnable
from model.training.config import TrainConfig
from model.training.dry_run import dry_run
from model.training.strategy import PoseDriven, modules
from model.wan import Wan, new_tiny
from tests.model.small import wan_i2v
from tests.model.training.small_training import CHANNELS, CONFIG, TOKENS, Patterns, backbone, changed

TEXT = 8
MIDDLING = TinyTransformer(layers=6, heads=4, head_dim=64, ffn_dim=1024, freq_dim=64)


def wan(sizes: TinyTransformer) -> Wan:
    vae = new_vae(TinyVae(z_dim=CHANNELS, base_dim=4, dim_mult=(1, 1, 1)), 0)
    return new_tiny(vae, TinyText(dim=16, length=TEXT), sizes, 0)


def predicted(base: Wan, cells: tuple[int, int, int], text_learns: bool) -> Tensor:
    noisy, cond, mask = (torch.randn(1, CHANNELS, *cells) for _ in range(3))
    text = torch.randn(1, TEXT, 16, requires_grad=text_learns)
    return base.velocity(noisy, torch.tensor([0.5]), cond, mask, text)


@pytest.mark.parametrize("trainable", ["full", "lora"])
def test_operations_are_those_that_torch_counts(trainable: str) -> None:
    base = wan(TinyTransformer(layers=4, heads=4, head_dim=32, ffn_dim=384, freq_dim=64))
    learnable.prepare(changed(CONFIG, trainable=trainable, lora__rank=16), base)
    full = trainable == "full"
    with sdpa_kernel(SDPBackend.MATH):  # the counter knows no attention kernel of the CPU but this one
        with FlopCounterMode(display=False) as forward:
            loss = predicted(base, (3, 8, 16), full).sum()
        with FlopCounterMode(display=False) as backward:
            loss.backward()
    cost = flops.of_sample(base.transformer, 3 * 4 * 8, TEXT, text_learns=full)
    assert cost.forward == pytest.approx(forward.get_total_flops(), rel=0.01)
    assert cost.backward == pytest.approx(backward.get_total_flops(), rel=0.01)


def test_operations_on_the_image_to_video_base_count_its_picture() -> None:
    base = wan_i2v()
    z = base.spec.latent_channels
    noisy, cond, mask = (torch.randn(1, channels, 3, 4, 12) for channels in (z, z, 4))
    text, image = base.text.encode(["a bird"]), base.image_embeds(torch.zeros(1, 3, 32, 48))
    assert image is not None
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counted, torch.no_grad():
        base.velocity(noisy, torch.tensor([0.5]), cond, mask, text, image)
    cost = flops.of_sample(base.transformer, 3 * 2 * 6, base.text.length, image.shape[1])
    assert cost.forward == pytest.approx(counted.get_total_flops(), rel=0.01)


def test_a_lora_pays_little_for_weight_gradients() -> None:
    base, config = backbone(), changed(CONFIG, lora__rank=1)
    learnable.prepare(config, base)
    full = flops.of_sample(base.transformer, TOKENS, TEXT)
    assert full.backward == pytest.approx(2 * full.forward, rel=0.05)
    learnable.prepare(changed(config, trainable="lora"), base)
    small = flops.of_sample(base.transformer, TOKENS, TEXT)
    assert small.backward < 1.1 * small.forward


def test_forty_guided_steps_of_the_fourteen_billion_model_are_413_petaflop() -> None:
    """The figure METHOD gives for one pseudo video, 480x832x81, composite."""
    with torch.device("meta"):
        transformer = WanTransformer3DModel(in_channels=36, image_dim=1280, added_kv_proj_dim=5120)
    tokens = 21 * (480 // 16) * (2 * 832 // 16)
    assert tokens == 65_520
    cost = flops.of_sample(transformer, tokens, text_tokens=512, image_tokens=257)
    assert 40 * 2 * cost.forward == pytest.approx(413e15, rel=0.02)


def saved_bytes(base: Wan, config: TrainConfig, cells: tuple[int, int, int]) -> int:
    """Return the bytes of all storages that autograd keeps, but for the parameters'."""
    own = {p.untyped_storage().data_ptr() for p in base.transformer.parameters()}
    kept: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor  # held, so that no address is used twice
        return tensor

    precision = torch.autocast("cpu", torch.bfloat16, enabled=config.precision == "bf16")
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), precision:
        predicted(base, cells, config.trainable == "full")
    return sum(t.untyped_storage().nbytes() for address, t in kept.items() if address not in own)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("trainable", ["full", "lora"])
def test_activations_take_what_autograd_keeps(trainable: str, precision: str, tmp_path: Path) -> None:
    base = wan(MIDDLING)
    if trainable == "lora" and precision == "bf16":  # a frozen base lies in bf16, but for what diffusers keeps in fp32
        base.transformer.save_pretrained(tmp_path)
        base.transformer = WanTransformer3DModel.from_pretrained(tmp_path, torch_dtype=torch.bfloat16)
    config = changed(CONFIG, trainable=trainable, precision=precision, micro_batch=1, lora__rank=16)
    learnable.prepare(config, base)
    told = flops.memory(config, modules(base), base.transformer, tokens=3 * 8 * 16)
    measured = saved_bytes(base, config, (3, 16, 32))
    assert told.activations == pytest.approx(measured, rel=0.15)  # under a LoRA the first attention keeps nothing


@pytest.mark.parametrize("trainable", ["full", "lora"])
def test_recomputing_keeps_the_stream_between_blocks_and_one_block(trainable: str) -> None:
    base = wan(MIDDLING)
    config = changed(CONFIG, trainable=trainable, micro_batch=1, lora__rank=16)
    learnable.prepare(changed(config, recompute=True), base)
    told = flops.memory(changed(config, recompute=True), modules(base), base.transformer, tokens=3 * 8 * 16)
    stream = saved_bytes(base, config, (3, 16, 32))
    base.gradient_checkpointing(False)
    block = saved_bytes(base, config, (3, 16, 32)) / MIDDLING.layers
    assert told.activations == pytest.approx(stream + block, rel=0.1)


def test_weights_gradients_and_moments_are_counted_by_what_learns() -> None:
    base = backbone()
    every = sum(p.numel() for p in modules(base).parameters())
    learnable.prepare(CONFIG, base)
    full = flops.memory(CONFIG, modules(base), base.transformer, TOKENS)
    assert (full.weights, full.gradients, full.optimizer, full.ema) == (4 * every, 4 * every, 8 * every, 4 * every)
    config = changed(CONFIG, trainable="lora")
    learnable.prepare(config, base)
    small = flops.memory(config, modules(base), base.transformer, TOKENS, world=2)
    learning = 2 * 2 * 4 * (32 + 48)  # blocks, layers, rank, in and out
    assert (small.gradients, small.optimizer, small.ema) == (2 * 4 * learning, 8 * learning, 4 * learning)


def test_the_peak_is_what_the_config_says_or_unknown() -> None:
    assert flops.peak(torch.device("cpu"), "bf16") is None
    assert flops.peak(torch.device("cpu"), "bf16", given_tflops=2.0) == 2e12


def test_a_dry_run_computes_the_time_from_a_peak_and_measures_it_without() -> None:
    source = Patterns(6)
    computed = dry_run(changed(CONFIG, peak_tflops=1e-3), backbone(), PoseDriven(), source, utilisation=0.5)
    assert not computed.measured
    assert computed.seconds_a_step == pytest.approx(computed.flop_a_step / 0.5e9)
    measured = dry_run(CONFIG, backbone(), PoseDriven(), source)
    assert measured.measured
    assert 0 < measured.seconds_a_step < 60
    assert measured.tokens == TOKENS
    assert "measured here" in str(measured)
