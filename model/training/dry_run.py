"""What a training will cost, said before it starts."""

import time
from dataclasses import dataclass

from torch import nn

from model.backbone import Backbone
from model.training import flops, order, parallel
from model.training.config import TrainConfig
from model.training.learner import Learner
from model.training.strategy import Source, Strategy, modules


@dataclass(frozen=True)
class Estimate:
    """The cost of a training.

    Attributes:
        tokens: Of one sample's composite.
        learning: Parameters that learn.
        frozen: Parameters that do not.
        flop_a_step: Floating-point operations of a step, over all processes.
        memory: On one device.
        seconds_a_step: How long a step takes.
        measured: Whether that was measured here, rather than computed from a peak.
        steps: Of the training.
    """

    tokens: int
    learning: int
    frozen: int
    flop_a_step: float
    memory: flops.Memory
    seconds_a_step: float
    measured: bool
    steps: int

    def __str__(self) -> str:
        memory, gib = self.memory, 2.0**30
        parts = ("weights", "gradients", "optimizer", "ema", "activations")
        told = ", ".join(f"{name} {getattr(memory, name) / gib:.2f}" for name in parts)
        how = "measured here" if self.measured else "computed"
        hours = self.seconds_a_step * self.steps / 3600
        return (
            f"{self.tokens} tokens a sample; {self.learning:,} parameters learn, {self.frozen:,} are frozen\n"
            f"{self.flop_a_step / 1e12:.3f} TFLOP a step, {self.flop_a_step * self.steps / 1e18:.3f} EFLOP in all\n"
            f"{memory.total / gib:.2f} GiB on a device: {told}\n"
            f"{self.seconds_a_step:.3f} s a step ({how}), {hours:.2f} h for {self.steps} steps"
        )


def dry_run(
    config: TrainConfig,
    backbone: Backbone,
    strategy: Strategy,
    source: Source,
    *,
    utilisation: float | None = None,
    measured_steps: int = 3,
) -> Estimate:
    """Return what a training will cost. Nothing is written; the backbone is not to be trained afterwards.

    Args:
        config: Of the training.
        backbone: That would learn; it takes a few real steps where the time is measured.
        strategy: Of the training.
        source: Of its first phase.
        utilisation: Share of the peak that is assumed (MFU). With it, and where the peak is known, the time is
            computed; else it is measured.
        measured_steps: How many steps are timed, after one that is not; the fastest counts.
    """
    with parallel.ranks(config.device, config.parallel.patience_s) as ranks:
        learner = Learner(config, backbone, strategy, ranks)
        cost = learner.work(source.read([0]))
        peak = flops.peak(ranks.device, config.precision, config.peak_tflops)
        computed = utilisation is not None and peak is not None
        if utilisation is not None and peak is not None:
            seconds = cost["flop"] / (peak * ranks.world * utilisation)
        else:
            seconds = _measured(learner, source, measured_steps)
        parts, tokens = modules(backbone), int(cost["tokens"]) // config.global_batch
        learning = sum(p.numel() for p in learner.parameters.values())
        return Estimate(
            tokens=tokens,
            learning=learning,
            frozen=_count(parts) - learning,
            flop_a_step=cost["flop"],
            memory=flops.memory(config, parts, backbone.transformer, tokens, ranks.world),
            seconds_a_step=seconds,
            measured=not computed,
            steps=config.steps,
        )


def _measured(learner: Learner, source: Source, steps: int) -> float:
    taken = []
    for done in range(steps + 1):
        began_s = time.perf_counter()
        place = order.indices(learner.config.seed, done, learner.config.global_batch, [(0, len(source))])
        learner.step(source, place, done, stop=False)
        taken.append(time.perf_counter() - began_s)
    return min(taken[1:])


def _count(parts: nn.Module) -> int:
    return sum(p.numel() for p in parts.parameters())
