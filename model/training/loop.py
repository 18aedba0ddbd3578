"""The training loop: steps, not epochs; one process or many; all weights or a LoRA; killed at any moment, it goes on.

The loss of a step is one number whatever the split: the sum of errors over all micro-batches and ranks, divided by the
sum of their weights. The weights are known before the model runs, so each micro-batch's error is divided by the total
at once, and gradients simply add up. What is random follows from the seed and a sample's position (`order.py`), so the
number of ranks, the size of a micro-batch and an interruption change nothing but rounding, and the last not even that.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from manifests.errors import UserError
from model import lora
from model.backbone import Backbone
from model.training import broken, checkpoint, compiled, flops, learnable, order, parallel, validation
from model.training.config import TrainConfig, learning_rate
from model.training.ema import Ema
from model.training.metrics import Metrics
from model.training.muon import MuonAdamW
from model.training.salience import channel_weights
from model.training.strategy import Batch, Source, Strategy


class TrainingDiverged(UserError):
    """The loss or its gradient is no number any more."""

    exit_code = 1


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


class Learner:
    """A backbone that learns: its parameters, their optimizer and their running mean."""

    def __init__(self, config: TrainConfig, backbone: Backbone, strategy: Strategy, ranks: parallel.Ranks) -> None:
        self.config, self.backbone, self.strategy, self.ranks = config, backbone, strategy, ranks
        backbone.to(ranks.device)  # the VAE too: later phases are encoded, and sheets drawn, while it trains
        self.base = backbone.digest if config.trainable == "lora" else None
        self.shift = config.sigma.shift or backbone.spec.shift
        self.parameters = learnable.prepare(config, backbone)
        self.text_learns = any(name.startswith("text.") for name in self.parameters)
        if config.compile:
            compiled.put_on(backbone.transformer, ranks.device)
        self.objective = learnable.Objective(backbone, strategy)
        self.spread = parallel.spread(self.objective, ranks, may_be_unused=self.text_learns)
        opt = config.optimizer
        matrices = learnable.matrices(self.parameters) if opt.kind == "muon" else set()
        self.optimizer = MuonAdamW(self.parameters, matrices, opt.lr, opt.betas, opt.weight_decay)
        self.ema = Ema(self.parameters, config.ema_decay)
        self.channels: Tensor | None = None  # their weights, found out with the first batch

    def tensors(self) -> dict[str, Tensor]:
        """Return all that training goes on from, by name."""
        state = {f"weights.{name}": parameter.data for name, parameter in self.parameters.items()}
        state |= {f"ema.{name}": mean for name, mean in self.ema.means.items()}
        return state | {f"optimizer.{name}": value for name, value in self.optimizer.state().items()}

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over the tensors of a checkpoint.

        Raises:
            ResumeError: They are of a model of another size.
        """
        learnable.check_sizes(self.parameters, tensors)
        for name, parameter in self.parameters.items():
            parameter.copy_(tensors[f"weights.{name}"])
        # AdamW counts its steps on the CPU, wherever its moments are
        moments = {name.partition(".")[2]: value for name, value in tensors.items() if name.startswith("optimizer.")}
        device = self.ranks.device
        self.optimizer.load({name: v if name.endswith("/step") else v.to(device) for name, v in moments.items()})
        self.ema.load({name: tensors[f"ema.{name}"] for name in self.parameters})

    def save(self, folder: Path, state: checkpoint.State) -> None:
        """Write a checkpoint on rank 0; what others load in it are the EMA weights."""
        if self.ranks.main:

            def export(into: Path) -> None:
                with self.ema.applied():
                    learnable.export(self.config, self.backbone, self.base, into)

            checkpoint.save(folder, state, self.tensors(), export, self.config.checkpoint.keep)
        self.ranks.barrier()

    def chunks(self) -> list[range]:
        """Return this rank's micro-batches, as places in a global batch."""
        return order.chunks(self.ranks.share(self.config.global_batch), self.config.micro_batch)

    def step(self, source: Source, place: order.Place, done: int, stop: bool) -> tuple[dict[str, Any], bool]:
        """Learn from one global batch.

        Args:
            source: Of the phase.
            place: Which samples, and at which positions.
            done: Steps done before.
            stop: Whether this rank was told to stop.

        Returns:
            loss, gradient norm, learning rate, tokens and FLOP of the step, and what was broken of the samples; and
            whether any rank was told to stop.

        Raises:
            TrainingDiverged: The loss or the gradient is not finite; the weights are as they were before the step.
            TooManyBrokenError: Too many samples cannot be read.
        """
        config, ranks, chunks = self.config, self.ranks, self.chunks()
        batches = [source.read([place.indices[i] for i in chunk]) for chunk in chunks]
        said = broken.judged(source, ranks)
        weight = sum(float(self.strategy.weight(batch)) for batch in batches)
        total, stops = ranks.sum(torch.tensor([weight, stop], dtype=torch.float64, device=ranks.device)).tolist()
        rate = learning_rate(config.optimizer, done)
        self.optimizer.zero_grad()
        errors = torch.zeros((), dtype=torch.float64, device=ranks.device)
        for chunk, batch in zip(chunks, batches, strict=True):
            positions = [place.first + i for i in chunk]
            drawn = order.drawn(batch, config.seed, positions, config.sigma, self.shift, config.text_dropout)
            with nullcontext() if chunk is chunks[-1] else parallel.gradients_kept_here(self.spread):
                error = self.error(self.spread, *drawn)
                (error * (ranks.world / total)).backward()  # `spread` averages gradients over ranks; a sum is wanted
            errors += error.detach()
        loss = ranks.sum(errors).item() / total
        norm = nn.utils.clip_grad_norm_(self.parameters.values(), config.optimizer.clip_norm).item()
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise TrainingDiverged(
                f"step {done + 1}: the loss is {loss} and the norm of its gradient {norm}, at positions {place.first} "
                f"to {place.first + config.global_batch - 1}, samples {place.indices}; look at these samples, or lower "
                "optimizer.lr and train in another folder; the checkpoint before this step stands"
            )
        self.optimizer.step(rate)
        self.ema.update(done)
        return {"loss": loss, "grad_norm": norm, "lr": rate, **self.work(batches[0]), "data": said}, stops > 0

    def error(self, objective: nn.Module, batch: Batch, sigma: Tensor, noise: Tensor) -> Tensor:
        """Return the sum of squared errors of a batch, on this rank's device and at the config's precision."""
        device, batch = self.ranks.device, self._weighted(batch)
        with torch.autocast(device.type, torch.bfloat16, enabled=self.config.precision == "bf16"):
            summed: Tensor = objective(batch.to(device), sigma.to(device), noise.to(device))[0]
        return summed

    def _weighted(self, batch: Batch) -> Batch:
        if not self.config.channel_power:
            return batch
        if self.channels is None:
            height, width = batch.target.shape[3:]
            self.channels = channel_weights(self.backbone, height, width, self.config.channel_power).cpu()
        return replace(batch, loss_mask=batch.loss_mask * self.channels)

    def validate(self, held_out: Source) -> dict[str, dict[str, float]]:
        """Return the loss on the first held-out samples by sigma, and its mean: of the weights (raw), of their mean
        (ema), and of that with the driving half of another sample (other_driving)."""
        error = partial(self.error, self.objective)
        taken = partial(validation.losses, error, self.strategy, held_out, self.config, self.ranks)
        with compiled.as_written():
            found = {"raw": taken()}
            with self.ema.applied():
                found["ema"] = taken()
                if validation.can_exchange(held_out, self.config):
                    found["other_driving"] = taken(exchanged=True)
        return found

    def work(self, batch: Batch) -> dict[str, float]:
        """Return the tokens and the floating-point operations of a step of such samples, over all ranks."""
        tokens = math.prod(batch.target.shape[2:]) // math.prod(self.backbone.spec.patch)
        image = 0 if batch.image is None else batch.image.shape[1]
        cost = flops.of_sample(self.backbone.transformer, tokens, self.backbone.text.length, image, self.text_learns)
        return {"tokens": tokens * self.config.global_batch, "flop": cost.total * self.config.global_batch}


def train(
    config: TrainConfig,
    backbone: Backbone,
    strategy: Strategy,
    train: Source | Sequence[tuple[int, Source]],
    held_out: Source,
    folder: str | Path,
    *,
    on_sample: Callable[[int], None] | None = None,
    on_step: Callable[[Mapping[str, Any]], None] | None = None,
) -> Summary:
    """Train, from the newest whole checkpoint in `folder` or from the beginning, until `config.steps` are done.

    Args:
        config: What is done.
        backbone: What learns; moved to this process's device.
        strategy: How the error of a batch is made.
        train: Samples, or a curriculum of (first step, samples), the first from step 0.
        held_out: Samples that are never learned from.
        folder: Takes `metrics.jsonl`, `tensorboard/` and `checkpoints/`.
        on_sample: Called on rank 0 with the step, every `sample_every` steps, while the backbone has its EMA weights.
        on_step: Called on rank 0 with each step's line of metrics.

    Raises:
        UserError: Nothing can be trained like this, or goes on from here: said before the first step. Or the loss is
            no number any more.
    """
    phases, checkpoints = order.curriculum(train), Path(folder) / "checkpoints"
    sizes = [(phase.from_step, order.sizing(phase.source)) for phase in phases]
    with parallel.ranks(config.device) as ranks, parallel.Interrupts() as interrupts:
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
                if ranks.main and on_step:
                    on_step(line)
                if _due(done, config.validation.every) or (last and config.validation.every):
                    losses = learner.validate(held_out)
                    said = broken.judged(held_out, ranks)
                    if metrics:
                        metrics.write({"step": done, "validation": losses, "held_out": held_out.digest, **said})
                if ranks.main and on_sample and _due(done, config.sample_every):
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
        learner.restore(checkpoint.load(checkpoints, step, _state(learner, step, phases)))
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
