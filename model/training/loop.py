"""The training loop: steps, not epochs; one process or many; all weights or a LoRA; killed at any moment, it goes on.

A step is `learner.py`'s. What is random follows from the seed and a sample's position (`order.py`), so the
number of ranks, the size of a micro-batch and an interruption change nothing but rounding, and the last not even that.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from model import lora
from model.backbone import Backbone
from model.training import broken, checkpoint, compiled, flops, learnable, order, parallel
from model.training.config import TrainConfig
from model.training.learner import Learner, TrainingDiverged
from model.training.metrics import Metrics
from model.training.strategy import Source, Strategy

__all__ = ["Learner", "Summary", "TrainingDiverged", "train"]


@dataclass(frozen=True)
class Summary:
    """How a training ended.

    Attributes:
        step: Steps done.
        loss: Of the last step; None where no step was left to do.
        checkpoint: The newest one.
        stopped: Whether a signal ended it before its last step.
        message: One sentence for the user; empty on other ranks than 0, so that it is said once.
    """

    step: int
    loss: float | None
    checkpoint: Path
    stopped: bool
    message: str


def train(
    config: TrainConfig,
    backbone: Backbone,
    strategy: Strategy,
    train: Source | Sequence[tuple[int, Source]],
    held_out: Source,
    folder: str | Path,
    *,
    on_sample: Callable[[int], None] | None = None,
    on_step: Callable[[Mapping[str, Any]], object] | None = None,
    on_stall: Callable[[str], None] | None = None,
) -> Summary:
    """Train, from the newest whole checkpoint in `folder` or from the beginning, until `config.steps` are done.

    Args:
        config: What is done.
        backbone: What learns; moved to this process's device.
        strategy: How the error of a batch is made.
        train: Samples, or a curriculum of (first step, samples), the first from step 0.
        held_out: Samples that are never learned from.
        folder: Takes `metrics.jsonl`, `tensorboard/` and `checkpoints/`.
        on_sample: Called on rank 0 with the step, every `sample_every` steps, while the backbone has its EMA weights;
            on every rank where weights are shared out, since all of them compute together.
        on_step: Called on rank 0 with each step's line of metrics; True for an answer does what a signal does.
        on_stall: Called with a sentence, on the rank that found out that another keeps all waiting, before they end;
            without it the sentence goes to stderr.

    Raises:
        UserError: Nothing can be trained like this, or goes on from here: said before the first step. Or the loss is
            no number any more.
    """
    phases, checkpoints = order.curriculum(train), Path(folder) / "checkpoints"
    sizes = [(phase.from_step, order.sizing(phase.source)) for phase in phases]
    met = parallel.ranks(config.device, config.parallel.patience_s, on_stall)
    with met as ranks, parallel.Interrupts() as interrupts:
        metrics = Metrics(Path(folder), config.tensorboard) if ranks.main else None
        with metrics or nullcontext():
            ranks.require_work(config.global_batch)
            learner = Learner(config, backbone, strategy, ranks)
            peak = flops.peak(ranks.device, config.precision, config.peak_tflops)
            done = first = _resume(learner, checkpoints, phases)
            if metrics:
                metrics.go_on_from(done)
            line: dict[str, Any] = {"loss": None}
            stop = False
            order.announce(phases, config.seed, range(done, config.steps), config.global_batch, learner.chunks())
            while done < config.steps and not stop:
                began_s = time.perf_counter()
                place = order.indices(config.seed, done, config.global_batch, sizes)
                told, stop = learner.step(phases[place.phase].source, place, done, interrupts.name is not None)
                done += 1
                line = _line(told, done, config, time.perf_counter() - began_s, peak and peak * ranks.world)
                last = done == config.steps
                if metrics and (last or done % config.log_every == 0):
                    metrics.write(line)
                if ranks.main and on_step and on_step(line) is True:
                    interrupts.name = "on_step"
                if _due(done, config.validation.every) or (last and config.validation.every):
                    ranks.at(done, "validates")
                    losses = learner.validate(held_out)
                    said = broken.judged(held_out, ranks)
                    if metrics:
                        metrics.write({"step": done, "validation": losses, "held_out": held_out.digest, **said})
                if (ranks.main or learner.sharded) and on_sample and _due(done, config.sample_every):
                    ranks.at(done, "draws samples")
                    with learner.ema.applied(), compiled.as_written(), torch.no_grad():
                        on_sample(done)
                if last or stop or _due(done, config.checkpoint.every):
                    learner.save(checkpoints, _state(learner, done, phases))
            order.announce(phases, config.seed, range(0), config.global_batch, [])  # nothing more is prepared
        ended = Summary(done, line["loss"], checkpoint.at(checkpoints, done), done < config.steps, "")
        return replace(ended, message=_message(ended, config, done - first)) if ranks.main else ended


def _resume(learner: Learner, checkpoints: Path, phases: Sequence[order.Phase]) -> int:
    """Return the number of steps done, with the learner as it was then."""
    newest = (checkpoint.newest_whole(checkpoints) if learner.ranks.main else None) or 0
    step = learner.ranks.from_main(newest)
    if step:
        learner.load(checkpoints, step, _state(learner, step, phases))
    return step


def _state(learner: Learner, step: int, phases: Sequence[order.Phase]) -> checkpoint.State:
    said: dict[str, Any] = {"strategy": learner.strategy.name, "backbone": learner.backbone.name, "base": learner.base}
    said["text"] = None if learner.text_learns else learner.backbone.text.digest
    said |= {f"transformer.{name}": value for name, value in learnable.sizes(learner.backbone).items()}
    if loras := [name for name in lora.names(learner.backbone.transformer) if name != learner.config.lora.name]:
        said["loras"] = loras
    mathematics = learner.config.mathematics() | said | {"sigma.shift": learner.shift}
    sources = [(phase.from_step, phase.source.digest, len(phase.source)) for phase in phases]
    return checkpoint.State(step, step * learner.config.global_batch, mathematics, sources)


def _line(
    told: Mapping[str, Any], done: int, config: TrainConfig, seconds: float, peak: float | None
) -> dict[str, Any]:
    line: dict[str, Any] = {"step": done, **{name: told[name] for name in ("loss", "grad_norm", "lr")}}
    line |= {"samples": done * config.global_batch, "seconds": round(seconds, 4)}
    mfu = None if peak is None else round(told["flop"] / (seconds * peak), 4)
    return line | {"tokens_per_s": round(told["tokens"] / seconds, 1), "mfu": mfu, **told["data"]}


def _due(done: int, every: int) -> bool:
    return every > 0 and done % every == 0


def _message(ended: Summary, config: TrainConfig, steps: int) -> str:
    if ended.stopped:
        return f"stopped after step {ended.step} of {config.steps}; the same command goes on from {ended.checkpoint}"
    if not steps:
        return f"nothing to do: {ended.checkpoint} has {ended.step} steps, and {config.steps} are wanted"
    return f"{ended.step} steps are done; the last loss is {ended.loss:.5f}, and the weights are in {ended.checkpoint}"
