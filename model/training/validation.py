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
    error: Error, strategy: Strategy, held_out: Source, config: TrainConfig, ranks: Ranks, *, exchanged: bool = False
) -> dict[str, float]:
    """Return the loss on the first held-out samples by sigma, and its mean, over all ranks.

    Args:
        error: Of the weights that are looked at.
        strategy: What an error is a sum over.
        held_out: Samples that are never learned from.
        config: How many samples, which sigmas, how many at once.
        ranks: Among whom they are shared.
        exchanged: Whether each is shown the driving half of the sample after it.
    """
    sigmas, count = config.validation.sigmas, min(config.validation.samples, len(held_out))
    sums = torch.zeros(len(sigmas) + 1, dtype=torch.float64, device=ranks.device)
    mine = ranks.share(count)
    for numbers in (mine[i : i + config.micro_batch] for i in range(0, len(mine), config.micro_batch)):
        batch = held_out.read(numbers)
        if exchanged:
            batch = _driven_by(batch, held_out.read([(number + 1) % count for number in numbers]))
        noise = order.fixed_noise(batch.target, numbers)
        sums[-1] += float(strategy.weight(batch))
        for i, sigma in enumerate(sigmas):
            sums[i] += error(batch, torch.full((len(numbers),), sigma), noise)
    *errors, weight = ranks.sum(sums).tolist()
    found = {str(sigma): value / weight for sigma, value in zip(sigmas, errors, strict=True)}
    return found | {"mean": sum(found.values()) / len(found)}


def can_exchange(held_out: Source, config: TrainConfig) -> bool:
    """Say whether there is another sample to take a driving half from."""
    return min(config.validation.samples, len(held_out)) > 1


def _driven_by(batch: Batch, other: Batch) -> Batch:
    """Return the batch with the other's driving half, also where it is noised, which would give its own away."""
    target, cond = join(left(batch.target), right(other.target)), join(left(batch.cond), right(other.cond))
    return replace(batch, target=target, cond=cond)
