"""The small VAE of the embedded backbone: Wan's class, patched, trained on clips and on drawings of skeletons.

It is the teacher's ceiling, so it is accepted (or not) by PSNR inside held-out figures before the teacher is trained.
Every draw is a pure function of (seed, step), so that a killed run goes on exactly as it would have gone.
"""

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from manifests.errors import UserError
from model.bones import normalise
from model.composite import joined
from model.driving import blank_prefix
from model.geometry import Geometry
from model.skeleton import Points, frames_of
from model.tiny import TinyVae, new_vae
from model.training.clips import Clips
from model.training.examples import Augment, example, pixels
from model.training.metrics import Metrics
from model.training.muon import MuonAdamW
from model.training.wan_vae import decode, encode, straight


class VaeError(UserError):
    """A VAE's training cannot go on from what lies in its folder."""


@dataclass(frozen=True)
class VaeConfig:
    """Sizes and training of the VAE.

    Attributes:
        sizes: Of the VAE; more latent channels are the cheap way to a better one.
        steps: Of training.
        batch: Crops a step.
        crop_px: Side of a crop, whole latent cells.
        frames: Frames of a crop, 4k + 1.
        long_from: Step from which crops are `long_frames` long and `long_batch` many; None: never. What has been seen
            of short crops alone goes wrong behind their length: the VAE's caches reach further back.
        long_frames: Frames of a long crop, 4k + 1.
        long_batch: Long crops a step.
        straight_steps: Steps at the beginning in which residual branches are left out (`wan_vae.straight`).
        lr: Learning rate, reached after `warmup` steps; it falls to zero over the last `decay_steps`.
        noise: Standard deviation of the noise on the latents.
        hold: Weight of the latents' mean square, which holds their scale near one.
        figure_weight: How much more a pixel inside a figure counts.
        skeleton_share: Share of crops taken from drawings of skeletons.
        composite_share: Share of crops that reach over the seam of both halves.
        ema: Decay of the weights' running mean.
        seed: Of weights and draws.
        precision: `fp32` or `bf16`.
    """

    sizes: TinyVae = field(default_factory=TinyVae)
    steps: int = 4000
    batch: int = 8
    crop_px: int = 32
    frames: int = 5
    long_from: int | None = None
    long_frames: int = 21
    long_batch: int = 2
    straight_steps: int = 0
    lr: float = 5e-3
    warmup: int = 50
    decay_steps: int = 1500
    noise: float = 0.1
    hold: float = 1e-3
    figure_weight: float = 4.0
    skeleton_share: float = 0.2
    composite_share: float = 0.1
    ema: float = 0.995
    seed: int = 0
    precision: str = "fp32"

    def cut(self, step: int) -> tuple[int, int]:
        """Return how many crops a step takes, and of how many frames."""
        long = self.long_from is not None and step >= self.long_from
        return (self.long_batch, self.long_frames) if long else (self.batch, self.frames)


def crops(config: VaeConfig, clips: Clips, geometry: Geometry, step: int) -> tuple[Tensor, Tensor]:
    """Return the crops of one step, `[B, 3, T, s, s]` in [-1, 1], and their weights `[B, 1, T, s, s]`.

    A crop is taken around a figure, from a drawing of a skeleton (blank in front, as it will be), or over the seam.
    """
    videos, weights = [], []
    batch, frames = config.cut(step)
    for item in range(batch):
        rng = np.random.default_rng([config.seed, step, item])
        clip = clips.clip(int(rng.integers(len(clips))))
        first = int(rng.integers(geometry.frames - frames + 1))
        time = slice(first, first + frames)
        video, figure = pixels(clip.frames[time]), torch.from_numpy(clip.figure[time])
        kind, seam = rng.random(), geometry.width_px
        x = _start(figure[0].any(dim=0), config.crop_px, seam, rng)
        if kind < config.skeleton_share + config.composite_share:
            driving, nowhere = _driving(clip.skeleton, time, geometry, rng), torch.zeros_like(figure)
            if kind < config.skeleton_share:
                video, figure = driving, nowhere
            else:
                video, figure = joined(video, driving), torch.cat([figure, nowhere], dim=-1)
                x = int(rng.integers(seam - config.crop_px + 1, seam))
        y = _start(figure[0].any(dim=1), config.crop_px, geometry.height_px, rng)
        part = (slice(None), slice(y, y + config.crop_px), slice(x, x + config.crop_px))
        videos.append(video[(slice(None), slice(None), *part)])
        weights.append(1.0 + config.figure_weight * figure[part][None, None].float())
    return torch.cat(videos), torch.cat(weights)


def _driving(skeleton: Points, time: slice, geometry: Geometry, rng: np.random.Generator) -> Tensor:
    """Draw some frames of a driving half; in one of four the first frame is still blank."""
    placed = normalise(skeleton, geometry.height_px, geometry.width_px)[time]
    drawn = pixels(frames_of(placed, geometry.height_px, geometry.width_px))
    return blank_prefix(drawn, int(rng.integers(4) == 0), "grey")


def _start(filled: Tensor, size: int, whole: int, rng: np.random.Generator) -> int:
    """Return the start of a crop of `size` that holds a place drawn from those that are filled."""
    places = filled.nonzero().flatten()
    centre = int(places[int(rng.integers(len(places)))]) if len(places) else int(rng.integers(whole))
    return int(rng.integers(max(0, min(centre - size + 1, whole - size)), max(0, min(centre, whole - size)) + 1))


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
    optimizer = MuonAdamW(vae, config.lr)
    mean = {name: value.detach().clone() for name, value in vae.state_dict().items()}
    with Metrics(folder, tensorboard=False) as metrics:
        step = _resume(folder, config, clips.digest, vae, optimizer, mean)
        metrics.go_on_from(step)
        started = time.perf_counter()
        for video, weight in _ahead(config, clips, geometry, step):
            with straight(vae) if step < config.straight_steps else nullcontext():
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
    set_statistics(vae, clips, geometry)
    return vae


def _ahead(config: VaeConfig, clips: Clips, geometry: Geometry, step: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the crops of each step from `step` on, and cut the next one's meanwhile."""
    with ThreadPoolExecutor(1) as pool:
        cutting = [pool.submit(crops, config, clips, geometry, step)] if step < config.steps else []
        for following in range(step + 1, config.steps + 1):
            cut = cutting.pop().result()
            if following < config.steps:
                cutting.append(pool.submit(crops, config, clips, geometry, following))
            yield cut


def learning_rate(config: VaeConfig, step: int) -> float:
    """Return the rate of step `step`, from 0: it rises for `warmup` steps, stays, and falls to zero over the last
    `decay_steps`. So `steps` may grow before the fall has begun, and what was learned stays what it was."""
    return config.lr * min(1.0, (step + 1) / config.warmup, (config.steps - step) / config.decay_steps)


def _loss(config: VaeConfig, vae: AutoencoderKLWan, video: Tensor, weight: Tensor, step: int) -> Tensor:
    """Return the weighted squared error, a tenth of the absolute one, and what holds the latents' scale.

    The latent is the mode, as it will be used; a little noise on it keeps neighbouring latents alike in what they show.
    """
    noise = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
    with torch.autocast(video.device.type, torch.bfloat16, enabled=config.precision == "bf16"):
        latent = encode(vae, video.to(memory_format=torch.channels_last_3d))
        drawn = latent + config.noise * torch.randn(latent.shape, generator=noise)
        got = decode(vae, drawn.to(video.dtype))
    error = got.float() - video
    near: Tensor = (weight * (error.square() + 0.1 * error.abs())).sum() / weight.expand_as(error).sum()
    held: Tensor = config.hold * latent.float().square().mean()
    return near + held


def _channels_last(vae: AutoencoderKLWan) -> AutoencoderKLWan:
    """Lay out the weights as bfloat16 convolutions on a CPU like them: a step then takes 0.78 of the time."""
    for module in vae.modules():
        if isinstance(module, nn.Conv3d):
            module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last_3d)
        elif isinstance(module, nn.Conv2d):
            module.weight.data = module.weight.data.contiguous(memory_format=torch.channels_last)
    return vae


@torch.no_grad()
def set_statistics(vae: AutoencoderKLWan, clips: Clips, geometry: Geometry, count: int = 64) -> None:
    """Measure mean and deviation of each latent channel over composites of clips of all worlds, and set them in the
    VAE's config."""
    latents = []
    for number in range(0, len(clips), max(1, len(clips) // count)):
        made = example(clips.clip(number), geometry, Augment(), np.random.default_rng(number))
        latents += [encode(vae, video).float() for video in (made.wanted, made.given)]
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


def check(config: VaeConfig, geometry: Geometry) -> None:
    """Refuse what cannot be trained, before any long work.

    Raises:
        VaeError: Crops, numbers of steps, precision or sizes do not fit.
    """
    sizes = config.sizes
    stride, side = sizes.patch_size * 2 ** (len(sizes.dim_mult) - 1), min(geometry.height_px, geometry.width_px)
    if config.crop_px % stride or not stride <= config.crop_px <= side:
        raise VaeError(f"crop_px is {config.crop_px}; it must be a multiple of {stride} px, at most {side} px")
    long = {} if config.long_from is None else {"long_frames": config.long_frames}
    for name, frames in ({"frames": config.frames} | long).items():
        if frames % 4 != 1 or not 1 <= frames <= geometry.frames:
            raise VaeError(f"{name} is {frames}; it must be 4k + 1, at most {geometry.frames}")
    for name, steps in (("steps", config.steps), ("warmup", config.warmup), ("decay_steps", config.decay_steps)):
        if steps < 1:
            raise VaeError(f"{name} is {steps}; it must be 1 or more")
    if config.precision not in ("fp32", "bf16"):
        raise VaeError(f"precision is {config.precision!r}; it must be fp32 or bf16")
    try:
        new_vae(sizes, config.seed)
    except (ValueError, RuntimeError) as error:
        raise VaeError(f"a VAE of these sizes cannot be built: {' '.join(str(error).split())}") from error
