"""What a training does, as plain frozen data; `pipeline` reads it from YAML and refuses what it does not know.

A field either shapes the numbers a training arrives at, or only where, how fast and how visibly it gets there. The
second kind (`FREE`) may change when a training goes on from a checkpoint, the first kind may not.
"""

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal

from manifests.errors import UserError

FREE: Final = frozenset(
    {
        "steps",
        "micro_batch",
        "recompute",
        "compile",
        "device",
        "peak_tflops",
        "log_every",
        "sample_every",
        "tensorboard",
    }
    | {"validation", "checkpoint", "parallel"}
)


class TrainConfigError(UserError):
    """A value of the training's config cannot be used; the message names the field."""


@dataclass(frozen=True)
class Lora:
    """Which small matrices learn where the base is frozen (`trainable: lora`)."""

    name: str = "pose"
    rank: int = 256  # section 3.3
    alpha: float | None = None  # ours: None is the rank, so that the update has scale 1
    targets: tuple[str, ...] | None = None  # None: those of the backbone, feed-forward only


@dataclass(frozen=True)
class Optimizer:
    """AdamW, or Muon for the matrices of the blocks and AdamW for the rest; and the course of the learning rate."""

    kind: Literal["adamw", "muon"] = "adamw"
    lr: float = 5e-5  # of both kinds in the measure of AdamW
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.01
    clip_norm: float = 1.0  # of the gradient over all parameters
    warmup_steps: int = 100
    schedule: Literal["constant", "cosine"] = "constant"
    horizon_steps: int | None = None  # where the cosine reaches zero; not `steps`, which may change


@dataclass(frozen=True)
class Sigma:
    """Shares of noise drawn in training: logit-normal, then shifted (METHOD section 6)."""

    shift: float | None = None  # None: the backbone's
    mean: float = 0.0
    std: float = 1.0


@dataclass(frozen=True)
class Validation:
    """Loss on held-out samples, at fixed sigmas and with fixed noise."""

    every: int = 500  # steps; 0: never
    samples: int = 32
    sigmas: tuple[float, ...] = (0.1, 0.3, 0.5, 0.7, 0.9)


@dataclass(frozen=True)
class Checkpoints:
    """When the state of a training is kept, and how many of them."""

    every: int = 500  # steps; the last step and a signal save as well
    keep: int = 3
    dtype: Literal["fp32", "fp16"] = "fp32"  # of the exported EMA weights; what training goes on from is always fp32


@dataclass(frozen=True)
class Parallel:
    """How several processes share a training; a checkpoint of either kind goes on in the other, on any number."""

    shard: Literal["none", "fsdp"] = "none"  # none: each holds all weights; fsdp: each holds its part (FSDP2)
    patience_s: float = 1800.0  # how long processes wait for one that stands still, before it is named and all end


@dataclass(frozen=True)
class TrainConfig:
    """One training, from the first step to the last."""

    steps: int
    global_batch: int = 2
    micro_batch: int = 2  # samples at once on one device; memory and speed, not mathematics
    seed: int = 0
    trainable: Literal["full", "lora"] = "lora"
    precision: Literal["fp32", "bf16"] = "bf16"
    text_dropout: float = 0.1  # share of samples whose prompt is empty, for guidance
    ema_decay: float = 0.999
    channel_power: float = 0.0  # how far a latent channel counts by what it shows (`salience.py`); 0: all alike
    lora: Lora = field(default_factory=Lora)
    optimizer: Optimizer = field(default_factory=Optimizer)
    sigma: Sigma = field(default_factory=Sigma)
    validation: Validation = field(default_factory=Validation)
    checkpoint: Checkpoints = field(default_factory=Checkpoints)
    parallel: Parallel = field(default_factory=Parallel)
    recompute: bool = False  # gradient checkpointing
    compile: bool = False  # generated code for the transformer: faster after a minute or two; rounding differs
    device: Literal["auto", "cpu", "cuda"] = "auto"
    peak_tflops: float | None = None  # of one device at this precision; None: looked up by its name
    log_every: int = 1
    sample_every: int = 1000  # steps; 0: never
    tensorboard: bool = True

    def __post_init__(self) -> None:
        """Refuse values that no training can use.

        Raises:
            TrainConfigError: naming the field, what it is and what it must be.
        """
        opt = self.optimizer
        for name, value in _positive(self).items():
            _require(value > 0, name, value, "above 0")
        counts: dict[str, float] = {"sample_every": self.sample_every, "validation.every": self.validation.every}
        counts |= {"optimizer.warmup_steps": opt.warmup_steps, "optimizer.weight_decay": opt.weight_decay}
        for name, count in counts.items():
            _require(count >= 0, name, count, "0 or more")
        full = self.trainable == "full" or opt.kind == "adamw"
        _require(full, "optimizer.kind", opt.kind, "adamw where a LoRA learns: its two matrices are parts of one")
        eager = not self.compile or self.parallel.shard == "none"
        _require(eager, "compile", self.compile, "false where parallel.shard is fsdp: weights come and go in a forward")
        _require(0 <= self.text_dropout <= 1, "text_dropout", self.text_dropout, "between 0 and 1")
        _require(0 <= self.channel_power <= 1, "channel_power", self.channel_power, "between 0 and 1")
        _require(0 <= self.ema_decay < 1, "ema_decay", self.ema_decay, "0 or more and below 1")
        _require(all(0 <= beta < 1 for beta in opt.betas), "optimizer.betas", opt.betas, "0 or more and below 1")
        inside = bool(self.validation.sigmas) and all(0 < sigma < 1 for sigma in self.validation.sigmas)
        _require(inside, "validation.sigmas", self.validation.sigmas, "numbers between 0 and 1, at least one")
        if opt.schedule == "cosine":
            horizon = opt.horizon_steps or 0
            wanted = "above optimizer.warmup_steps where the schedule is cosine"
            _require(horizon > opt.warmup_steps, "optimizer.horizon_steps", opt.horizon_steps, wanted)

    def mathematics(self) -> dict[str, Any]:
        """Return the fields that shape the result, flat, as `a.b` to a JSON value."""
        return {name: value for name, value in _flat(asdict(self)).items() if name.split(".")[0] not in FREE}


def learning_rate(config: Optimizer, step: int) -> float:
    """Return the rate of step `step`, counted from 0: a linear warm-up, then constant, or a half cosine to zero."""
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    if config.schedule == "constant" or config.horizon_steps is None:
        return config.lr
    share = (step - config.warmup_steps) / (config.horizon_steps - config.warmup_steps)
    return config.lr * 0.5 * (1 + math.cos(math.pi * min(share, 1.0)))


def _positive(config: TrainConfig) -> dict[str, float]:
    opt, given = config.optimizer, {"sigma.shift": config.sigma.shift, "lora.alpha": config.lora.alpha}
    given["peak_tflops"] = config.peak_tflops
    always = {
        "steps": config.steps,
        "global_batch": config.global_batch,
        "micro_batch": config.micro_batch,
        "log_every": config.log_every,
        "lora.rank": config.lora.rank,
        "optimizer.lr": opt.lr,
        "optimizer.clip_norm": opt.clip_norm,
        "sigma.std": config.sigma.std,
        "validation.samples": config.validation.samples,
        "checkpoint.every": config.checkpoint.every,
        "checkpoint.keep": config.checkpoint.keep,
        "parallel.patience_s": config.parallel.patience_s,
    }
    return always | {name: value for name, value in given.items() if value is not None}


def _require(holds: bool, name: str, value: object, wanted: str) -> None:
    if not holds:
        raise TrainConfigError(f"training.{name}: is {value!r}; it must be {wanted}")


def _flat(nested: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in nested.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = list(value) if isinstance(value, tuple) else value
    return flat
