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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Final, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from manifests.errors import UserError
from manifests.keys import canonical
from model.flow_matching import draw_sigma
from model.training.config import Sigma
from model.training.strategy import Batch, Source

_FINEST_SHARE: Final = 10_000


class CurriculumError(UserError):
    """The phases of a training do not follow one another, or one of them is empty."""


class Place(NamedTuple):
    """What one step learns from: numbers in the source of phase `phase`, and the position of the first of them."""

    phase: int
    indices: list[int]
    first: int


class Mix(NamedTuple):
    """What a source holds that knows two kinds of samples, and numbers each epoch anew.

    A sample's PLACE is 0 and on: those of the first kind, then those of the second. Its number in epoch e of its kind
    is e * (main + aside) + place, so that from a number follow the sample and what is drawn for it in that epoch.

    Attributes:
        main: Samples of the first kind.
        aside: Samples of the second kind.
        share: Of all positions, how many go to the second kind, whatever the two numbers.
        shards, aside_shards: Sizes of the shards in which the samples of a kind lie, in the order of their places.
        at_once: Shards whose samples are mixed with one another: an epoch goes through so many at a time, in a new
            order of shards, and comes back to none. 0: all are mixed, and any shard is read at any time.
    """

    main: int
    aside: int = 0
    share: float = 0.0
    shards: tuple[int, ...] = ()
    aside_shards: tuple[int, ...] = ()
    at_once: int = 0


@runtime_checkable
class Mixed(Protocol):
    """A source whose numbers are those of a `Mix`."""

    mix: Mix


@runtime_checkable
class Ahead(Protocol):
    """A source that prepares what is read next while a step computes."""

    def expect(self, batches: Iterator[list[int]]) -> None:
        """Take note of the numbers of all the batches that this process will read from now on, in their order."""
        ...


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


def sizing(source: Source) -> int | Mix:
    """Return what `indices` has to know of a source."""
    return source.mix if isinstance(source, Mixed) else len(source)


def indices(seed: int, step: int, global_batch: int, sizes: Sequence[tuple[int, int | Mix]]) -> Place:
    """Return what step `step`, counted from 0, learns from.

    Each phase goes through its source in epochs, each epoch in a new order that holds every sample once; a batch may
    begin in one epoch and end in the next. Of a `Mix` each kind has epochs of its own, and positions are dealt out
    evenly: among any n in a row, n * share of them, give or take one, go to the second kind.

    Args:
        seed: Of the training.
        step: Steps finished before it.
        global_batch: Samples of one step over all ranks.
        sizes: (first step, `sizing` of the source) of each phase, in order.
    """
    phase = max(number for number, (start, _) in enumerate(sizes) if start <= step)
    start, size = sizes[phase]
    local = range((step - start) * global_batch, (step - start + 1) * global_batch)
    if isinstance(size, Mix):
        return Place(phase, [_number(seed, start, i, size) for i in local], step * global_batch)
    chosen = [int(_permutation(seed, start, i // size, size)[i % size]) for i in local]
    return Place(phase, chosen, step * global_batch)


def chunks(share: range, micro_batch: int) -> list[range]:
    """Return the micro-batches of a rank whose places in a batch are `share`."""
    return [share[i : i + micro_batch] for i in range(0, len(share), micro_batch)]


def announce(phases: Sequence[Phase], seed: int, steps: range, global_batch: int, micro: list[range]) -> None:
    """Tell each source that prepares ahead what one rank will read of it in these steps."""
    sizes = [(phase.from_step, sizing(phase.source)) for phase in phases]
    for number, phase in enumerate(phases):
        if isinstance(phase.source, Ahead):
            phase.source.expect(expected(seed, steps, global_batch, sizes, number, micro))


def expected(
    seed: int, steps: range, global_batch: int, sizes: Sequence[tuple[int, int | Mix]], phase: int, micro: list[range]
) -> Iterator[list[int]]:
    """Give the numbers of every micro-batch that one rank reads from a phase in these steps, in their order."""
    end = sizes[phase + 1][0] if phase + 1 < len(sizes) else steps.stop
    for step in range(max(steps.start, sizes[phase][0]), min(steps.stop, end)):
        place = indices(seed, step, global_batch, sizes)
        yield from ([place.indices[i] for i in chunk] for chunk in micro)


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


def _number(seed: int, from_step: int, position: int, mix: Mix) -> int:
    """Return the number of the sample at a position of a phase."""
    share = Fraction(mix.share).limit_denominator(_FINEST_SHARE)
    first = int(keyed(seed, "mix", from_step).bit_generator.random_raw()) % share.denominator
    before, after = ((p * share.numerator + first) // share.denominator for p in (position, position + 1))
    aside = after > before
    turn, size = (before, mix.aside) if aside else (position - before, mix.main)
    epoch, at = divmod(turn, size)
    what = "aside" if aside else "order"
    if mix.at_once:
        shards = mix.aside_shards if aside else mix.shards
        place = int(_by_shards(seed, from_step, epoch, shards, mix.at_once, what)[at])
    else:
        place = int(_permutation(seed, from_step, epoch, size, what)[at])
    return epoch * (mix.main + mix.aside) + place + (mix.main if aside else 0)


@functools.lru_cache(maxsize=8)  # a batch touches two epochs a kind at most, unless the source is smaller than a batch
def _permutation(seed: int, from_step: int, epoch: int, size: int, what: str = "order") -> NDArray[np.int64]:
    words = keyed(seed, what, from_step, epoch).bit_generator.random_raw(size)
    return np.argsort(words, kind="stable")


@functools.lru_cache(maxsize=8)
def _by_shards(
    seed: int, from_step: int, epoch: int, shards: tuple[int, ...], at_once: int, what: str
) -> NDArray[np.int64]:
    """Return a permutation that mixes the samples of `at_once` shards, then those of the next; shards come in any
    order."""
    firsts = np.cumsum([0, *shards])
    turns = np.argsort(
        keyed(seed, what, "shards", from_step, epoch).bit_generator.random_raw(len(shards)), kind="stable"
    )
    words = keyed(seed, what, from_step, epoch).bit_generator.random_raw(int(firsts[-1]))
    parts = []
    for start in range(0, len(shards), at_once):
        places = np.concatenate([np.arange(firsts[n], firsts[n + 1]) for n in turns[start : start + at_once]])
        parts.append(places[np.argsort(words[places], kind="stable")])
    return np.concatenate(parts)


def _normal(generator: np.random.Generator, batch: Tensor) -> Tensor:
    return torch.from_numpy(generator.standard_normal(tuple(batch.shape[1:]), dtype=np.float32))
