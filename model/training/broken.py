"""Broken samples: each is counted and named where it was read, all ranks judge together, and too many end a training.

A training that goes on beside a few broken samples is worth its hours; one that learns from substitutes is not, and
nobody looks at a log that says so ten thousand times. The judgement falls on the sum over all ranks, so that all of
them end together, and none is left waiting.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Protocol, runtime_checkable

import torch

from manifests.errors import UserError
from model.training.parallel import Ranks

JUDGED_FROM: Final = 100  # samples: of fewer a share says nothing
_NAMED: Final = 5  # in the sentence that ends a training
_TEXT_BYTES: Final = 8192  # of one rank's names of one step


class TooManyBrokenError(UserError):
    """More samples are broken than the limit allows."""

    exit_code = 1


class Seen(NamedTuple):
    """What one process read since it was asked last: samples, the broken ones among them too; seconds of waiting for
    them; the broken ones' names."""

    read: int
    waited_s: float
    broken: list[str]


@dataclass
class Tally:
    """What was read, and what of it was broken.

    Attributes:
        limit: Share that may be broken, from `JUDGED_FROM` samples on.
        read: Samples that were judged.
        broken: Of these.
    """

    limit: float
    read: int = 0
    broken: int = 0
    _seen: Seen = field(default_factory=lambda: Seen(0, 0.0, []))
    _first: list[str] = field(default_factory=list)

    def add(self, read: int, broken: Sequence[str], waited_s: float = 0.0) -> None:
        """Take note of samples that this process read."""
        self._seen = Seen(self._seen.read + read, self._seen.waited_s + waited_s, [*self._seen.broken, *broken])

    def taken(self) -> Seen:
        """Return what was added since this was called last."""
        seen, self._seen = self._seen, Seen(0, 0.0, [])
        return seen

    def judge(self, read: int, broken: int, names: Sequence[str]) -> None:
        """Count samples of all processes, some of the broken ones by name.

        Raises:
            TooManyBrokenError: they are more than the limit allows.
        """
        self.read, self.broken = self.read + read, self.broken + broken
        self._first = [*self._first, *names][:_NAMED]
        if self.read >= JUDGED_FROM and self.broken > self.limit * self.read:
            raise TooManyBrokenError(
                f"{self.broken} of the first {self.read} samples that were read are broken, and data.broken_limit is "
                f"{self.limit:g}: {'; '.join(self._first)}; mend or pack the cut again (`bodydouble verify` names what "
                "is damaged), or raise data.broken_limit"
            )


@runtime_checkable
class Tallied(Protocol):
    """A source that counts what is broken."""

    tally: Tally


def judged(source: object, ranks: Ranks) -> dict[str, Any]:
    """Judge what all ranks read of a source since the last time, on every rank alike, and return what a line of metrics
    says of it: {"broken", "waited_s", "broken_samples"}, the last if there are any; of a source that does not count,
    nothing. `waited_s` is of this rank.

    Raises:
        TooManyBrokenError: they are too many.
    """
    if not isinstance(source, Tallied):
        return {}
    mine = source.tally.taken()
    counts = torch.tensor([mine.read, len(mine.broken)], dtype=torch.float64, device=ranks.device)
    read, broken = (int(count) for count in ranks.sum(counts).tolist())
    told: dict[str, Any] = {"broken": broken, "waited_s": round(mine.waited_s, 4)}
    if not broken:
        source.tally.judge(read, 0, ())
        return told
    names = _of_all(ranks, mine.broken)
    source.tally.judge(read, broken, names)
    return told | {"broken_samples": names}


def _of_all(ranks: Ranks, names: Sequence[str]) -> list[str]:
    """Return the names of all ranks, in the order of the ranks: each writes its own row, and rows are summed."""
    rows = torch.zeros(ranks.world, _TEXT_BYTES, dtype=torch.uint8, device=ranks.device)
    text = "\n".join(" ".join(name.split()) for name in names).encode()[:_TEXT_BYTES]
    rows[ranks.rank, : len(text)] = torch.frombuffer(bytearray(text), dtype=torch.uint8) if text else 0
    texts = (bytes(row.tolist()).rstrip(b"\0").decode(errors="ignore") for row in ranks.sum(rows).cpu())
    return [name for text in texts for name in text.splitlines()]
