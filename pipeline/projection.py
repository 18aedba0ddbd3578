"""What the rest of a run will cost, as far as this root has measured it; what was not measured is not guessed.

For each stage k of a track, with n_k items that ended there before, x_k of them done, and m_k measured working times:

    share that passes       p_k = (x_k + 1/2) / (n_k + 1)           Jeffreys' rule: 20 of 20 gives 0.976 and not 1
    its interval            Wilson's, 95 %
    items                   those that stand before k, and those that stages before it will pass on, by the p of each
    work                    items x mean working time (the median says what is usual; the mean is what adds up)
    its interval            95 %, from `DRAWS` possible worlds: in each, p_k is drawn from Beta(x_k + 1/2,
                            n_k - x_k + 1/2), who passes from binomials, the true mean from a studentised bootstrap,
                            and the items' own spread is added

Items are taken to be alike: those to come are no harder than those measured. `run --limit` and `--canary` take rows in
the order of their ids, which are digests of the content, so what they measure is a random sample.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from pipeline.plan import ENDS_THERE, WAITS, StageCount, TrackPlan
from pipeline.timings import Floats, Timing

Z: Final = 1.959963984540054  # of the normal distribution: 95 % lie within
DRAWS: Final = 2000
FEW: Final = (
    10  # independent measurements: with fewer there is no range (with 5, one in 5 slow items is often not seen)
)
RESAMPLED: Final = 1000  # times of one resample at most


@dataclass(frozen=True)
class Estimate:
    """A number, and the interval in which it lies with 95 %; None where too little was measured to say."""

    value: float
    low: float | None = None
    high: float | None = None

    def scaled(self, by: float) -> "Estimate":
        """Return the same in another unit."""
        low, high = self.low, self.high
        return Estimate(self.value * by, None if low is None else low * by, None if high is None else high * by)

    def at_least(self, floor: float) -> "Estimate":
        """Return the same, but nowhere below `floor`."""
        low, high = self.low, self.high
        lifted = None if low is None else max(low, floor), None if high is None else max(high, floor)
        return Estimate(max(self.value, floor), *lifted)


@dataclass(frozen=True)
class Yield:
    """Of `ended` items `passed` were done: the share, with Wilson's interval."""

    passed: int
    ended: int

    @property
    def share(self) -> float:
        """Return the share that is expected of items to come, by Jeffreys' rule."""
        return (self.passed + 0.5) / (self.ended + 1)

    def draws(self, chance: np.random.Generator) -> Floats:
        """Draw what the true share may be, `DRAWS` times."""
        return chance.beta(self.passed + 0.5, self.ended - self.passed + 0.5, DRAWS)

    def interval(self) -> tuple[float, float]:
        """Return Wilson's 95 % interval of the share (E. B. Wilson, 1927)."""
        n, p = self.ended, self.passed / self.ended
        middle = (p + Z**2 / (2 * n)) / (1 + Z**2 / n)
        half = Z / (1 + Z**2 / n) * math.sqrt(p * (1 - p) / n + Z**2 / (4 * n**2))
        return max(0.0, middle - half), min(1.0, middle + half)


def estimate(value: float, draws: Floats | None) -> Estimate:
    """Return a number with the interval that 95 % of `draws` lie in."""
    if draws is None:
        return Estimate(value)
    low, high = np.quantile(draws, (0.025, 0.975))
    return Estimate(value, min(value, float(low)), max(value, float(high)))


class Projection:
    """The stages of one track, in many possible worlds: arrays over `DRAWS`."""

    def __init__(
        self,
        plan: TrackPlan,
        timings: dict[tuple[str, str], dict[str | None, Timing]],
        chance: np.random.Generator,
    ) -> None:
        self.plan = plan
        size = len(plan.specs)
        self.measured = [_best(timings[plan.track, spec.name], spec.digest) for spec in plan.specs]
        self.yields = [_yield(count, timing) for count, (timing, _) in zip(plan.counts[1:], self.measured, strict=True)]
        self.items: list[float | None] = [0.0] * size
        self.item_draws = np.zeros((size, DRAWS))
        self.through: float | None = 0.0
        self.through_draws = np.zeros(DRAWS)
        self._follow(chance)
        self.work = [self._work_of(number, chance) for number in range(size)]

    def _follow(self, chance: np.random.Generator) -> None:
        """Send the rows through the stages that they have still to do."""
        passes = [None if known is None else known.draws(chance) for known in self.yields]
        shares = [_distinct(self.plan, number) for number in range(len(self.plan.specs))]
        for stages, rows in self.plan.left.items():
            expected: float | None = float(rows)
            alive = np.full(DRAWS, rows)
            for number in stages:
                if number == WAITS:
                    continue
                if number == ENDS_THERE:
                    expected, alive = 0.0, np.zeros_like(alive)
                    break
                so_far = self.items[number]
                self.items[number] = None if expected is None or so_far is None else so_far + expected * shares[number]
                self.item_draws[number] += alive * shares[number]
                known, drawn = self.yields[number], passes[number]
                if known is None or drawn is None or expected is None:
                    expected = None
                else:
                    expected *= known.share
                    alive = chance.binomial(alive, drawn)
            self.through = None if expected is None or self.through is None else self.through + expected
            self.through_draws = self.through_draws + alive

    def _work_of(self, number: int, chance: np.random.Generator) -> tuple[float, Floats | None] | None:
        """Return the expected working time of a stage's items, seconds, and in each world; None if unknown."""
        items, (timing, _) = self.items[number], self.measured[number]
        if items == 0:
            return 0.0, np.zeros(DRAWS)
        if items is None or timing is None:
            return None
        if timing.batches < FEW:
            return items * timing.mean_s, None
        drawn = self.item_draws[number]
        spread = timing.seconds.std(ddof=1) * math.sqrt(timing.count / timing.batches)  # of one item, in its batch
        own = chance.standard_normal(DRAWS) * np.sqrt(drawn) * spread
        return items * timing.mean_s, np.maximum(drawn * _means(timing, chance) + own, drawn * timing.seconds.min())


def _means(timing: Timing, chance: np.random.Generator) -> Floats:
    """Draw what the true mean may be: mean - t* x standard error, t* studentised from resamples (Efron, 1981).

    Working times have long tails to the right, and so has this interval; the plain bootstrap's is too short there.
    """
    size = max(2, min(len(timing.seconds), round(timing.batches), RESAMPLED))
    error = float(timing.seconds.std(ddof=1)) / math.sqrt(timing.batches)
    if error == 0:
        return np.full(DRAWS, timing.mean_s)
    studentised = np.empty(DRAWS)
    for start in range(0, DRAWS, 100):  # a hundred resamples at a time: memory stays flat
        resamples = chance.choice(timing.seconds, (100, size))
        errors = np.maximum(resamples.std(axis=1, ddof=1) / math.sqrt(size), error / 10)
        studentised[start : start + 100] = (resamples.mean(axis=1) - timing.seconds.mean()) / errors
    return timing.mean_s - studentised * error


def _best(timings: dict[str | None, Timing], recipe: str) -> tuple[Timing | None, bool]:
    """Return the timing of the present recipe, or of the newest other one that was measured often enough."""
    own = timings.get(recipe)
    if own is not None and own.count:
        return own, True
    others = [timing for timing in timings.values() if timing.count]
    return max(others, key=lambda each: (each.count >= FEW, each.last), default=None), False


def _yield(count: StageCount, timing: Timing | None) -> Yield | None:
    """Return how many passed: of this run's own rows, or if few of them have ended, of what the log holds."""
    ended = count.entered - count.pending
    logged = timing.ended.total() if timing is not None else 0
    if timing is not None and ended < FEW and logged > ended:
        return Yield(timing.ended["done"], logged)
    return Yield(count.done, ended) if ended else None


def _distinct(plan: TrackPlan, stage: int) -> float:
    """Return the share of a stage's rows that have a key of their own: rows with one key are one item."""
    rows = [row for row, first in enumerate(plan.position) if 0 <= first <= stage]
    return len({plan.keys[stage][row] for row in rows}) / len(rows) if rows else 1.0
