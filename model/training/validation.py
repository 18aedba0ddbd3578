"""The loss on held-out samples, at fixed sigmas and with fixed noise; and whether the driving half counts at all.

A loss may fall and fall while the model looks only at the reference: the embedded teacher did so for 40,000 samples
(`docs/LOG.md`). So the same loss is taken with the driving half of ANOTHER sample: where it is no greater, nothing was
learned of motion.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from model.composite import join, left, right
from model.training import order
from model.training.config import TrainConfig
from model.training.parallel import Ranks
from model.training.strategy import Batch, Source, Strategy

Error = Callable[[Batch, Tensor, Tensor], Tensor]
"""(batch, sigma `[B]`, noise) to the sum of squared errors, on this rank."""


@torch.no_grad()
def losses(
    error: Error, strategy: Strategy, held_out: Source, config: TrainConfig, ranks: Ranks, *, exchanged: bool = False,
    in_step: bool = False,
) -> dict[str, float]:  # fmt: skip
    """Return the loss on the first held-out samples by sigma, and its mean, over all ranks.

    Args:
        error: Of the weights that are looked at.
        strategy: What an error is a sum over.
        held_out: Samples that are never learned from.
        config: How many samples, which sigmas, how many at once.
        ranks: Among whom they are shared.
        exchanged: Whether each is shown the driving half of the sample after it.
        in_step: Whether all ranks must take equally many forward passes; one that has no sample left takes the first.
    """
    sigmas, count = config.validation.sigmas, min(config.validation.samples, len(held_out))
    sums = torch.zeros(len(sigmas) + 1, dtype=torch.float64, device=ranks.device)
    mine, at_once = ranks.share(count), config.micro_batch
    for turn in range(ranks.turns(count, at_once)):
        own = mine[turn * at_once : (turn + 1) * at_once]
        if not own and not in_step:
            break
        numbers = own or range(1)
        batch = held_out.read(numbers)
        if exchanged:
            batch = _driven_by(batch, held_out.read([(number + 1) % count for number in numbers]))
        noise = order.fixed_noise(batch.target, numbers)
        sums[-1] += float(strategy.weight(batch)) if own else 0.0
        for i, sigma in enumerate(sigmas):
            found = error(batch, torch.full((len(numbers),), sigma), noise)
            sums[i] += found if own else 0.0
    *errors, weight = ranks.sum(sums).tolist()
    told = {str(sigma): value / weight for sigma, value in zip(sigmas, errors, strict=True)}
    return told | {"mean": sum(told.values()) / len(told)}


def can_exchange(held_out: Source, config: TrainConfig) -> bool:
    """Say whether there is another sample to take a driving half from."""
    return min(config.validation.samples, len(held_out)) > 1


def _driven_by(batch: Batch, other: Batch) -> Batch:
    """Return the batch with the other's driving half, also where it is noised, which would give its own away."""
    target, cond = join(left(batch.target), right(other.target)), join(left(batch.cond), right(other.cond))
    return replace(batch, target=target, cond=cond)
