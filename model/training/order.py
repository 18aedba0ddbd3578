"""Which samples a step learns from, and with what noise: pure functions of (seed, position).

A sample's POSITION is its number in the whole training: step * global_batch + its place in the batch. From the seed
and the position follow the sample itself, its noise, its sigma and whether its prompt is dropped. So nothing depends on
how many processes share a step, how large a micro-batch is, or where a training was killed and went on: there is no
state of a random generator to keep, to split between ranks, or to lose. No two ranks draw the same noise by accident,
since no two samples share a position.

Philox's raw words and a stable sort are the same in every version of numpy, so an order outlives an upgrade.
"""

import functools
import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from manifests.errors import UserError
from manifests.keys import canonical
from model.flow_matching import draw_sigma
from model.training.config import Sigma
from model.training.strategy import Batch, Source


class CurriculumError(UserError):
    """The phases of a training do not follow one another, or one of them is empty."""


class Place(NamedTuple):
    """What one step learns from: numbers in the source of phase `phase`, and the position of the first of them."""

    phase: int
    indices: list[int]
    first: int


@dataclass(frozen=True)
class Phase:
    """From step `from_step` on, samples come from `source`."""

    from_step: int
    source: Source


def curriculum(train: Source | Sequence[tuple[int, Source]]) -> tuple[Phase, ...]:
    """Return the phases of a training, one for a lone source.

    Raises:
        CurriculumError: no phase begins at step 0, two begin at one step, or a source is empty.
    """
    given = [(0, train)] if not isinstance(train, Sequence) else list(train)
    starts = [start for start, _ in given]
    if not starts or starts[0] != 0 or any(b <= a for a, b in itertools.pairwise(starts)):
        raise CurriculumError(
            f"the phases begin at steps {starts}; the first must begin at 0, each other after the one before"
        )
    for start, source in given:
        if len(source) == 0:
            raise CurriculumError(f"the source of the phase from step {start} holds no sample; make its samples first")
    return tuple(Phase(start, source) for start, source in given)


def indices(seed: int, step: int, global_batch: int, sizes: Sequence[tuple[int, int]]) -> Place:
    """Return what step `step`, counted from 0, learns from.

    Each phase goes through its source in epochs, each epoch in a new order that holds every sample once; a batch may
    begin in one epoch and end in the next.

    Args:
        seed: Of the training.
        step: Steps finished before it.
        global_batch: Samples of one step over all ranks.
        sizes: (first step, number of samples) of each phase, in order.
    """
    phase = max(number for number, (start, _) in enumerate(sizes) if start <= step)
    start, size = sizes[phase]
    local = range((step - start) * global_batch, (step - start + 1) * global_batch)
    chosen = [int(_permutation(seed, start, i // size, size)[i % size]) for i in local]
    return Place(phase, chosen, step * global_batch)


def drawn(
    batch: Batch, seed: int, positions: Sequence[int], sigma: Sigma, shift: float, text_dropout: float
) -> tuple[Batch, Tensor, Tensor]:
    """Return the batch with some prompts emptied, sigmas `[B]`, and noise like `batch.target`, on the CPU.

    Args:
        batch: The samples of these positions, on the CPU.
        seed: Of the training.
        positions: One a sample.
        sigma: How sigmas are distributed.
        shift: The shift in use: the config's, or the backbone's.
        text_dropout: Share of samples whose prompt is emptied.
    """
    sigmas, prompts, noise = [], [], []
    for position, prompt in zip(positions, batch.prompts, strict=True):
        generator = keyed(seed, "sample", position)
        by_torch = torch.Generator().manual_seed(int(generator.bit_generator.random_raw()))
        sigmas.append(draw_sigma(by_torch, 1, shift, sigma.mean, sigma.std))
        prompts.append("" if generator.random() < text_dropout else prompt)
        noise.append(_normal(generator, batch.target))
    return replace(batch, prompts=tuple(prompts)), torch.cat(sigmas), torch.stack(noise)


def fixed_noise(target: Tensor, numbers: Sequence[int]) -> Tensor:
    """Return noise `[B, C, F, h, 2w]` that belongs to these held-out samples, whatever is trained and with any seed."""
    return torch.stack([_normal(keyed(0, "held out", number), target) for number in numbers])


def keyed(seed: int, *what: str | int) -> np.random.Generator:
    """Return a generator whose numbers depend on the seed and these words alone."""
    key = hashlib.sha256(canonical([seed, *what]).encode()).digest()[:16]
    return np.random.Generator(np.random.Philox(key=int.from_bytes(key, "little")))


@functools.lru_cache(maxsize=4)  # a batch touches two epochs at most, unless the source is smaller than a batch
def _permutation(seed: int, from_step: int, epoch: int, size: int) -> NDArray[np.int64]:
    words = keyed(seed, "order", from_step, epoch).bit_generator.random_raw(size)
    return np.argsort(words, kind="stable")


def _normal(generator: np.random.Generator, batch: Tensor) -> Tensor:
    return torch.from_numpy(generator.standard_normal(tuple(batch.shape[1:]), dtype=np.float32))
