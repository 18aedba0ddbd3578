"""What learns in a training: a backbone's parameters, their optimizer, their running mean; and one step of it.

The loss of a step is one number whatever the split: the sum of errors over all micro-batches and ranks, divided by the
sum of their weights. The weights are known before the model runs, so each micro-batch's error is divided by the total
at once, and gradients simply add up.
"""

import math
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from manifests.errors import UserError
from model.backbone import Backbone
from model.training import (
    broken,
    checkpoint,
    compiled,
    flops,
    learnable,
    order,
    parallel,
    sharded_checkpoint,
    sharding,
    validation,
)
from model.training.config import TrainConfig, learning_rate
from model.training.ema import Ema
from model.training.muon import MuonAdamW
from model.training.salience import channel_weights
from model.training.strategy import Batch, Source, Strategy


class TrainingDiverged(UserError):
    """The loss or its gradient is no number any more."""

    exit_code = 1


class Learner:
    """A backbone that learns: its parameters, their optimizer and their running mean."""

    def __init__(self, config: TrainConfig, backbone: Backbone, strategy: Strategy, ranks: parallel.Ranks) -> None:
        self.config, self.backbone, self.strategy, self.ranks = config, backbone, strategy, ranks
        backbone.to(ranks.device)  # the VAE too: later phases are encoded, and sheets drawn, while it trains
        self.base = backbone.digest if config.trainable == "lora" else None
        self.shift = config.sigma.shift or backbone.spec.shift
        learning = learnable.prepare(config, backbone)
        self.text_learns = any(name.startswith("text.") for name in learning)
        self.sharded = config.parallel.shard == "fsdp" and ranks.world > 1
        if config.compile:
            compiled.put_on(backbone.transformer, ranks.device)
        self.objective = learnable.Objective(backbone, strategy)
        shards = [part for name, part in self.objective.parts.items() if name == "transformer" or self.text_learns]
        self.spread = parallel.spread(self.objective, ranks, self.text_learns, shards if self.sharded else ())
        self.parameters = learnable.learning(backbone)  # those that are shared out are others than before
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
        """Write a checkpoint; what others load in it are the EMA weights."""
        keep = self.config.checkpoint.keep
        alone = self.sharded or self.ranks.main
        self.ranks.at(state.step, "saves a checkpoint" if alone else "waits for rank 0")
        if self.sharded:
            with self.ema.applied():
                write = learnable.gathered_export(self.config, self.backbone, self.base, self.ranks.main)
            sharded_checkpoint.save(folder, state, self.tensors(), write, keep, self.ranks)
        elif self.ranks.main:

            def export(into: Path) -> None:
                with self.ema.applied():
                    learnable.export(self.config, self.backbone, self.base, into)

            checkpoint.save(folder, state, self.tensors(), export, keep)
        self.ranks.barrier()

    def load(self, folder: Path, step: int, now: checkpoint.State) -> None:
        """Go on from a checkpoint of either kind.

        Raises:
            ResumeError: It is of another training.
        """
        if self.sharded or not (checkpoint.at(folder, step) / checkpoint.TRAINER).exists():
            self.restore(sharded_checkpoint.load(folder, step, now, self.parameters))
        else:
            self.restore(checkpoint.load(folder, step, now))

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
        ranks.at(done + 1, "reads its samples")
        batches = [source.read([place.indices[i] for i in chunk]) for chunk in chunks]
        ranks.at(done + 1, "learns")
        said = broken.judged(source, ranks)
        weight = sum(float(self.strategy.weight(batch)) for batch in batches)
        total, stops = ranks.sum(torch.tensor([weight, stop], dtype=torch.float64, device=ranks.device)).tolist()
        rate = learning_rate(config.optimizer, done)
        self.optimizer.zero_grad()
        errors = torch.zeros((), dtype=torch.float64, device=ranks.device)
        turns = ranks.turns(config.global_batch, config.micro_batch) if self.sharded else len(chunks)
        for turn in range(turns):
            mine = min(turn, len(chunks) - 1)
            counts = float(turn == mine)  # shared weights are gathered by all: who has no more takes its last again
            positions = [place.first + i for i in chunks[mine]]
            drawn = order.drawn(batches[mine], config.seed, positions, config.sigma, self.shift, config.text_dropout)
            with nullcontext() if turn == turns - 1 else parallel.gradients_kept_here(self.spread):
                error = counts * self.error(self.spread, *drawn)
                (error * (ranks.world / total)).backward()  # `spread` averages gradients over ranks; a sum is wanted
            errors += error.detach()
        loss = ranks.sum(errors).item() / total
        norm = sharding.clip(list(self.parameters.values()), config.optimizer.clip_norm)
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
        arguments = (error, self.strategy, held_out, self.config, self.ranks)
        taken = partial(validation.losses, *arguments, in_step=self.sharded)
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
