"""Keep or not: a pure function of scores, numbers and labels. It costs no GPU, so other numbers may be tried freely.

A pair is kept if all its scores lie within all limits. A score that is missing, or is no finite number, is a reason of
its own: nothing is kept because nobody looked. A label, a person's word, wins over scores.

Percentiles are no limits yet: `resolve` makes numbers of them, over all scores of one version, once; from then on the
numbers count, and pairs that come later change nothing of what was decided.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from manifests.errors import UserError
from manifests.keys import digest

Side = Literal["min", "max"]
Scores = Mapping[str, NDArray[np.float64]]  # name -> [pairs]; NaN where a pair has none

KEPT: Final = "kept"
LABEL: Final = "label"
_SAID: Final[dict[Side, tuple[str, str]]] = {"min": ("low", "at least"), "max": ("high", "at most")}


class KeepError(UserError):
    """Verdicts cannot be given as asked; the message is one sentence for the user."""


@dataclass(frozen=True)
class Limit:
    """A score's least or greatest number, inclusive; `percentile` is what the number was resolved from, if it was."""

    score: str
    side: Side
    value: float
    percentile: float | None = None  # 0..100

    def breaks(self, values: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Say of scores [n] which lie beyond the limit; NaN does not."""
        return values < self.value if self.side == "min" else values > self.value


@dataclass(frozen=True)
class Percentile:
    """A limit that is still to be resolved: `min` drops at most so many per cent, `max` keeps at least so many."""

    score: str
    side: Side
    percent: float  # 0..100


@dataclass(frozen=True)
class Label:
    """What a person said of a pair."""

    keep: bool
    by: str = ""
    why: str = ""


@dataclass(frozen=True)
class Verdicts:
    """A verdict for each pair, as columns; `reasons[reason[i]]` says what decided on pair i."""

    ids: Sequence[str]
    kept: NDArray[np.bool_]  # [n]
    reason: NDArray[np.int64]  # [n]
    reasons: tuple[str, ...]
    value: NDArray[np.float64]  # [n] the score that decided; NaN if none did
    limits: tuple[Limit, ...]
    limit: NDArray[np.int64]  # [n] place in `limits` of the one that decided; -1 if none did
    beyond: NDArray[np.bool_]  # [limits, n] missing or broken; a label changes nothing of it
    labels: Mapping[str, Label]

    def counts(self) -> dict[str, int]:
        """Return reason -> pairs that were dropped for it, the most frequent first."""
        found = Counter(self.reason[~self.kept].tolist())
        return {self.reasons[place]: number for place, number in found.most_common()}

    def alone(self) -> list[int]:
        """Return for each limit how many pairs it alone drops: what would come back without it."""
        single = (self.beyond.sum(axis=0) == 1) & ~self.kept & (self.limit >= 0)
        return [int((row & single).sum()) for row in self.beyond]

    def row(self, place: int) -> dict[str, Any]:
        """Return a pair's verdict: id, keep, reason, score, value, limit, and a sentence."""
        name = self.ids[place]
        told: dict[str, Any] = {"id": name, "keep": bool(self.kept[place])}
        told |= {"reason": self.reasons[self.reason[place]], "score": None, "value": None, "limit": None}
        if told["reason"] == LABEL:
            label = self.labels[name]
            by = f" by {label.by}" if label.by else ""
            told["detail"] = f"labelled to {'keep' if label.keep else 'drop'}{by}" + (label.why and f": {label.why}")
        elif self.limit[place] >= 0:
            limit, value = self.limits[self.limit[place]], float(self.value[place])
            found = f"{limit.score} is {value:.4g}" if math.isfinite(value) else f"{limit.score} is missing"
            told |= {"score": limit.score, "value": value if math.isfinite(value) else None, "limit": limit.value}
            told["detail"] = f"{found}, wanted {_SAID[limit.side][1]} {limit.value:.4g}"
        else:
            told["detail"] = "within all limits"
        return told


def decide(
    ids: Sequence[str], scores: Scores, limits: Sequence[Limit], labels: Mapping[str, Label] | None = None
) -> Verdicts:
    """Give each pair its verdict. Of several limits that a pair breaks, the first in order is its reason.

    Args:
        ids: The pairs.
        scores: Score name -> its value for each pair, NaN where it has none; a name that is not there has none.
        limits: All of them must hold.
        labels: Pair id -> a person's word; of ids that are not asked for, it is passed over.

    Raises:
        KeepError: A limit is no finite number.
    """
    limits, labels, count = tuple(limits), labels or {}, len(ids)
    reasons = (KEPT, LABEL, *dict.fromkeys(name for limit in limits for name in _reasons_of(limit)))
    place_of = {name: place for place, name in enumerate(reasons)}
    kept, reason = np.ones(count, bool), np.zeros(count, np.int64)
    value, decisive = np.full(count, np.nan), np.full(count, -1)
    beyond = np.zeros((len(limits), count), bool)
    for number, limit in enumerate(limits):
        if not math.isfinite(limit.value):
            raise KeepError(f"the {limit.side} of {limit.score} is {limit.value}, wanted a finite number")
        found = scores.get(limit.score)
        found = np.full(count, np.nan) if found is None else found
        missing = ~np.isfinite(found)
        beyond[number] = missing | limit.breaks(found)
        first = beyond[number] & kept
        low_or_high, absent = (place_of[name] for name in _reasons_of(limit))
        reason[first] = np.where(missing[first], absent, low_or_high)
        value[first], decisive[first] = found[first], number
        kept &= ~beyond[number]
    if labels:
        for row, name in enumerate(ids):
            if name in labels:
                kept[row], reason[row], decisive[row] = labels[name].keep, place_of[LABEL], -1
    return Verdicts(ids, kept, reason, reasons, value, limits, decisive, beyond, labels)


def resolve(percentiles: Sequence[Percentile], scores: Scores) -> tuple[Limit, ...]:
    """Return percentiles as numbers: the least score x such that at least `percent` % of the scores are <= x.

    Missing scores do not count.

    Raises:
        KeepError: There is no score to take the percentile of.
    """
    limits = []
    for each in percentiles:
        found = scores.get(each.score, np.zeros(0))
        found = found[np.isfinite(found)]
        if not len(found):
            raise KeepError(
                f"the {each.side} of {each.score} is to be its percentile {each.percent:g}, but no pair has that score "
                "yet; run the stage that makes it, or name a number"
            )
        number = float(np.quantile(found, each.percent / 100, method="inverted_cdf"))
        limits.append(Limit(each.score, each.side, number, each.percent))
    return tuple(limits)


def rules_digest(limits: Sequence[Limit], labels: Mapping[str, Label]) -> str:
    """Return the digest of all that decides beside the scores: equal digests and scores give equal verdicts."""
    numbers = sorted([limit.score, limit.side, float(limit.value)] for limit in limits)
    return digest([numbers, {name: label.keep for name, label in labels.items()}])


def _reasons_of(limit: Limit) -> tuple[str, str]:
    return f"{limit.score}_{_SAID[limit.side][0]}", f"{limit.score}_missing"
