"""Sizes and training of the small VAE, checked before any long work."""

from dataclasses import dataclass, field

from manifests.errors import UserError
from model.geometry import Geometry
from model.tiny import TinyVae, new_vae


class VaeError(UserError):
    """A VAE's training cannot go on from what lies in its folder."""


@dataclass(frozen=True)
class VaeConfig:
    """Sizes and training of the VAE.

    Attributes:
        sizes: Of the VAE; more latent channels are the cheap way to a better one.
        steps: Of training.
        batch: Crops a step.
        crop_px: Side of a crop, whole latent cells; the VAE then works in tiles of this size (`model.tiles`).
        frames: Frames of a crop, 4k + 1.
        long_from: Step from which crops are `long_frames` long and `long_batch` many; None: never. What has been seen
            of short crops alone goes wrong behind their length: the VAE's caches reach further back.
        long_frames: Frames of a long crop, 4k + 1.
        long_batch: Long crops a step.
        taught_steps: Steps at the beginning in which encoder and decoder learn apart, taught by principal components
            (`components`), and without residual branches (`wan_vae.straight`).
        code_weight: Weight of the encoder's error while it is taught.
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
    taught_steps: int = 0
    code_weight: float = 0.1
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


def check(config: VaeConfig, geometry: Geometry) -> None:
    """Refuse what cannot be trained, before any long work.

    Raises:
        VaeError: Crops, numbers of steps, precision or sizes do not fit.
    """
    sizes = config.sizes
    stride, side = sizes.spatial_stride, min(geometry.height_px, geometry.width_px)
    if config.crop_px % stride or not stride <= config.crop_px <= side:
        raise VaeError(f"crop_px is {config.crop_px}; it must be a multiple of {stride} px, at most {side} px")
    if geometry.height_px % config.crop_px or geometry.width_px % config.crop_px:
        raise VaeError(
            f"crop_px is {config.crop_px}, the side of the tiles in which the VAE will work; pictures of "
            f"{geometry.width_px}x{geometry.height_px} px are not whole tiles"
        )
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
