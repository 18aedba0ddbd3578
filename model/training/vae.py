"""The small VAE of the embedded backbone: Wan's class, patched, trained on clips and on drawings of skeletons.

It is the teacher's ceiling, so it is accepted (or not) by PSNR inside held-out figures before the teacher is trained.
Every draw is a pure function of (seed, step), so that a killed run goes on exactly as it would have gone.
"""

import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from model.geometry import Geometry
from model.tiles import cut
from model.tiny import new_vae
from model.training.clips import Clips
from model.training.components import Components, components
from model.training.crops import crops, crops_ahead
from model.training.examples import Augment, example
from model.training.metrics import Metrics
from model.training.muon import MuonAdamW, kernels
from model.training.vae_config import VaeConfig, VaeError, check
from model.wan_vae import decode, encode, straight

_CUTS_FOR_COMPONENTS = 150
_FIRST_OF_THESE = 1_000_000  # steps that no training reaches: their crops are drawn for the components alone


def train_vae(
    config: VaeConfig,
    clips: Clips,
    geometry: Geometry,
    folder: Path,
    *,
    save_every: int = 250,
    on_step: Callable[[int, float], None] | None = None,
) -> AutoencoderKLWan:
    """Train, or go on training, and return the VAE with the mean weights and the latents' statistics set.

    Raises:
        VaeError: The crops do not fit the clips, or what lies in the folder was trained otherwise.
    """
    check(config, geometry)
    vae = _channels_last(new_vae(config.sizes, config.seed))
    optimizer = MuonAdamW(dict(vae.named_parameters()), kernels(vae), config.lr)
    mean = {name: value.detach().clone() for name, value in vae.state_dict().items()}
    with Metrics(folder, tensorboard=False) as metrics:
        step = _resume(folder, config, clips.digest, vae, optimizer, mean)
        metrics.go_on_from(step)
        taught = teacher(config, clips, geometry) if step < config.taught_steps else None
        started = time.perf_counter()
        for video, weight in crops_ahead(config, clips, geometry, step):
            if taught is not None and step < config.taught_steps:
                with straight(vae):
                    loss = _taught_loss(config, vae, taught, video, weight, step)
            else:
                loss = _loss(config, vae, video, weight, step)
            vae.zero_grad(set_to_none=True)
            if not torch.isfinite(loss):
                raise VaeError(f"the loss of step {step + 1} is no number; what was saved before it stands: lower lr")
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
            optimizer.step(learning_rate(config, step))
            step += 1
            decay = min(config.ema, (1 + step) / (10 + step))
            with torch.no_grad():
                for name, value in vae.state_dict().items():
                    mean[name].lerp_(value, 1 - decay)
            if step % 20 == 0:
                seconds = time.perf_counter() - started
                metrics.write({"step": step, "loss": loss.item(), "seconds": round(seconds, 1)})
            if step % save_every == 0 or step == config.steps:
                _save(folder, _told(config, clips.digest), vae, optimizer, mean, step)
            if on_step is not None:
                on_step(step, loss.item())
    vae.load_state_dict(mean)
    set_statistics(vae, clips, geometry, config.crop_px)
    return vae


def learning_rate(config: VaeConfig, step: int) -> float:
    """Return the rate of step `step`, from 0: it rises for `warmup` steps, stays, and falls to zero over the last
    `decay_steps`, as the square of what is left: branches that come late (`taught_steps`) want a low one. So `steps`
    may grow before the fall has begun, and what was learned stays what it was."""
    left = min(1.0, (config.steps - step) / config.decay_steps)
    return config.lr * min(1.0, (step + 1) / config.warmup) * left**2


def teacher(config: VaeConfig, clips: Clips, geometry: Geometry) -> Components:
    """Return the components of the clips' own crops that teach a VAE of these sizes."""
    cuts = (crops(config, clips, geometry, _FIRST_OF_THESE + number) for number in range(_CUTS_FOR_COMPONENTS))
    return components(cuts, config.sizes.z_dim, config.sizes.temporal_stride, config.sizes.spatial_stride)


def _taught_loss(
    config: VaeConfig, vae: AutoencoderKLWan, taught: Components, video: Tensor, weight: Tensor, step: int
) -> Tensor:
    """Return the loss of both halves apart: the decoder makes pixels of the components' code, the encoder the code."""
    code = taught.code(video)
    with _autocast(config, video):
        latent = encode(vae, video.to(memory_format=torch.channels_last_3d))
        got = decode(vae, (code + _noise(config, code, step)).to(video.dtype))
    return _error(got.float() - video, weight) + config.code_weight * (latent.float() - code).square().mean()


def _loss(config: VaeConfig, vae: AutoencoderKLWan, video: Tensor, weight: Tensor, step: int) -> Tensor:
    """Return the loss of the whole, and what holds the latents' scale.

    The latent is the mode, as it will be used; a little noise on it keeps neighbouring latents alike in what they show.
    """
    with _autocast(config, video):
        latent = encode(vae, video.to(memory_format=torch.channels_last_3d))
        got = decode(vae, (latent + _noise(config, latent, step)).to(video.dtype))
    return _error(got.float() - video, weight) + config.hold * latent.float().square().mean()


def _error(error: Tensor, weight: Tensor) -> Tensor:
    """Return the weighted squared error and a tenth of the absolute one."""
    return (weight * (error.square() + 0.1 * error.abs())).sum() / weight.expand_as(error).sum()


def _noise(config: VaeConfig, latent: Tensor, step: int) -> Tensor:
    drawn = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
    return config.noise * torch.randn(latent.shape, generator=drawn)


def _autocast(config: VaeConfig, video: Tensor) -> torch.autocast:
    return torch.autocast(video.device.type, torch.bfloat16, enabled=config.precision == "bf16")


def _channels_last(vae: AutoencoderKLWan) -> AutoencoderKLWan:
    """Lay out the weights as bfloat16 convolutions on a CPU like them: a step then takes 0.78 of the time."""
    for module in vae.modules():
        if isinstance(module, nn.Conv3d):
            module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last_3d)
        elif isinstance(module, nn.Conv2d):
            module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last)
    return vae


@torch.no_grad()
def set_statistics(vae: AutoencoderKLWan, clips: Clips, geometry: Geometry, tile_px: int, count: int = 64) -> None:
    """Measure mean and deviation of each latent channel over composites of clips of all worlds, cut into tiles, and set
    them in the VAE's config."""
    latents = []
    for number in range(0, len(clips), max(1, len(clips) // count)):
        made = example(clips.clip(number), geometry, Augment(), np.random.default_rng(number))
        latents += [encode(vae, cut(video, tile_px)).float() for video in (made.wanted, made.given)]
    whole = torch.cat(latents).transpose(0, 1).flatten(1)
    vae.register_to_config(latents_mean=whole.mean(dim=1).tolist(), latents_std=whole.std(dim=1).tolist())


def _save(
    folder: Path, told: dict[str, str], vae: AutoencoderKLWan, optimizer: MuonAdamW, mean: dict[str, Tensor], step: int
) -> None:
    tensors = {f"raw.{name}": value for name, value in vae.state_dict().items()}
    tensors |= {f"mean.{name}": value for name, value in mean.items()}
    tensors |= {f"optimizer.{name}": value for name, value in optimizer.state().items()}
    half = folder / "state.tmp"
    whole = {name: value.contiguous() for name, value in tensors.items()}
    save_file(whole, half, metadata={"step": str(step), **told})
    half.replace(folder / "state.safetensors")


def _resume(
    folder: Path, config: VaeConfig, clips: str, vae: AutoencoderKLWan, optimizer: MuonAdamW, mean: dict[str, Tensor]
) -> int:
    path = folder / "state.safetensors"
    if not path.exists():
        return 0
    with safe_open(path, framework="pt") as stored:
        said = stored.metadata()
    now = _told(config, clips)
    changed = [what for what in now if said.get(what, now[what]) != now[what]]
    if changed:
        said_so = " and ".join({"config": "another config", "clips": "other clips"}[what] for what in changed)
        raise VaeError(f"{path} was trained with {said_so}: train in another folder, or remove this one")
    tensors = load_file(path)
    vae.load_state_dict({name[4:]: value for name, value in tensors.items() if name.startswith("raw.")})
    for name in mean:
        mean[name] = tensors[f"mean.{name}"]
    optimizer.load({name[10:]: value for name, value in tensors.items() if name.startswith("optimizer.")})
    return int(said["step"])


def _told(config: VaeConfig, clips: str) -> dict[str, str]:
    """Return what must not change when a training goes on: all but the number of steps."""
    return {"config": json.dumps(asdict(config) | {"steps": None}, sort_keys=True), "clips": clips}
