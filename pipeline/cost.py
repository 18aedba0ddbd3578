"""What the rest of a run will cost: items, time, CPU- and GPU-hours, money.

How it is reckoned stands in `pipeline/projection.py`. Nothing that was not measured is guessed: a stage of which the
ledger knows no working time, or behind one of which it knows no yield, is named as unknown, with the canary that tells.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from manifests.tables import Tables
from pipeline.config import Run, StageSpec
from pipeline.plan import TrackPlan
from pipeline.projection import DRAWS, Estimate, Projection, Yield, estimate
from pipeline.timings import Floats, Timing, read_timings

CANARY: Final = 20  # rows that are enough for a first idea


@dataclass(frozen=True)
class StageCost:
    """One stage of one track. Times are seconds of one worker; hours are hours of work, not of waiting."""

    track: str
    stage: str
    now: int  # items that stand before it
    at_most: int  # and those that stages before it may pass on
    items: Estimate | None  # None: how many will arrive is not known
    passes: Yield | None
    timing: Timing | None  # None: nothing was measured
    own_recipe: bool  # whether what was measured was made with the present recipe
    work_s: Estimate | None
    cpu_hours: Estimate | None
    gpu_hours: Estimate | None

    @property
    def name(self) -> str:
        """The stage as the config names it."""
        return f"{self.track}.{self.stage}"


@dataclass(frozen=True)
class Cost:
    """What is left of a run. Sums are over the stages whose cost is known; `unknown` names the others."""

    stages: list[StageCost]
    yields: dict[str, Estimate]  # track -> rows that will come through all stages, of those still on their way
    work_s: Estimate
    wall_s: Estimate  # for `workers` on this machine
    workers: int
    pools_s: Estimate | None  # for full pools of `max_workers` on a cluster; None if a stage sets none
    slowest: str | None  # the stage that a cluster's pools wait for
    cpu_hours: Estimate
    gpu_hours: Estimate
    money: Estimate | None  # None: no `price_per_gpu_hour`
    unknown: list[str]
    canary: int  # rows with which `run --canary` would measure what is unknown


def cost_of(run: Run, plans: Sequence[TrackPlan], tables: Tables) -> Cost:
    """Return what `plans` will cost, from the outcomes under the run's root."""
    wanted = [(plan.track, spec.name) for plan in plans for spec in plan.specs]
    timings = read_timings(tables, wanted)
    chance = np.random.default_rng(0)  # the same ledger gives the same numbers
    projected = [Projection(plan, timings, chance) for plan in plans]
    return _sum(run, projected)


def _sum(run: Run, tracks: Sequence[Projection]) -> Cost:
    """Add up what is known."""
    stages = [_stage_cost(track, number) for track in tracks for number in range(len(track.plan.specs))]
    parts = [
        (spec, *work)
        for track in tracks
        for spec, work in zip(track.plan.specs, track.work, strict=True)
        if work is not None
    ]
    price = run.config.price_per_gpu_hour
    gpu_hours = _total(parts, [spec.config.gpus / 3600 for spec, _, _ in parts])
    work_s = _total(parts, [1.0] * len(parts))
    seconds, slowest = _pools(tracks)
    unknown = [each.name for each in stages if each.at_most and each.work_s is None]
    return Cost(
        stages=stages,
        yields={t.plan.track: estimate(t.through, t.through_draws) for t in tracks if t.through is not None},
        work_s=work_s,
        wall_s=work_s.scaled(1 / run.config.workers).at_least(_longest_way(stages, tracks)),
        workers=run.config.workers,
        pools_s=seconds,
        slowest=slowest,
        cpu_hours=_total(parts, [spec.config.cpus / 3600 for spec, _, _ in parts]),
        gpu_hours=gpu_hours,
        money=None if price is None else gpu_hours.scaled(price),
        unknown=unknown,
        canary=_canary([track.plan for track in tracks], unknown),
    )


def _stage_cost(track: Projection, number: int) -> StageCost:
    spec, plan = track.plan.specs[number], track.plan
    timing, own = track.measured[number]
    items, known = track.items[number], track.work[number]
    work = None if known is None else estimate(*known)
    later = sum(rows for stages, rows in plan.left.items() if number in stages[1:])
    return StageCost(
        track=plan.track,
        stage=spec.name,
        now=plan.counts[number + 1].pending,
        at_most=plan.counts[number + 1].pending + later,
        items=None if items is None else estimate(items, track.item_draws[number]),
        passes=track.yields[number],
        timing=timing,
        own_recipe=own,
        work_s=work,
        cpu_hours=work and work.scaled(spec.config.cpus / 3600),
        gpu_hours=work and work.scaled(spec.config.gpus / 3600),
    )


def _total(parts: Sequence[tuple[StageSpec, float, Floats | None]], weights: Sequence[float]) -> Estimate:
    """Add up stages; where one of them has no range, the sum has none."""
    value = sum(weight * seconds for weight, (_, seconds, _) in zip(weights, parts, strict=True))
    draws: Floats | None = np.zeros(DRAWS)
    for weight, (_, _, drawn) in zip(weights, parts, strict=True):
        if weight:
            draws = None if draws is None or drawn is None else draws + weight * drawn
    return estimate(value, draws)


def _longest_way(stages: Sequence[StageCost], tracks: Sequence[Projection]) -> float:
    """Return the seconds that one batch needs through all stages of a track: no number of workers is faster."""
    ways = dict.fromkeys((each.track for each in stages), 0.0)
    sizes = {(track.plan.track, spec.name): spec.config.batch_size for track in tracks for spec in track.plan.specs}
    for each in stages:
        if each.items is not None and each.timing is not None:
            ways[each.track] += min(sizes[each.track, each.stage], each.items.value) * each.timing.mean_s
    return max(ways.values(), default=0.0)


def _pools(tracks: Sequence[Projection]) -> tuple[Estimate | None, str | None]:
    """Return the time that full pools need, and whom they wait for: in each track its slowest stage, tracks in turn."""
    seconds, draws = 0.0, np.zeros(DRAWS)
    slowest: tuple[float, str] | None = None
    ranged = True
    for track in tracks:
        pools: list[tuple[float, Floats | None, str]] = []
        for spec, items, work in zip(track.plan.specs, track.items, track.work, strict=True):
            if items == 0:
                continue
            if work is None or items is None or spec.config.max_workers is None:
                return None, None
            workers = min(spec.config.max_workers, math.ceil(items / spec.config.batch_size))
            drawn = None if work[1] is None else work[1] / workers
            pools.append((work[0] / workers, drawn, f"{spec.track}.{spec.name}"))
        if not pools:
            continue
        longest = max(pools, key=lambda pool: pool[0])
        seconds += longest[0]
        slowest = max(slowest or (0.0, ""), (longest[0], longest[2]))
        drawn_pools = [pool[1] for pool in pools if pool[1] is not None]
        ranged = ranged and len(drawn_pools) == len(pools)
        if ranged:
            draws = draws + np.max(drawn_pools, axis=0)
    if slowest is None:
        return None, None
    return estimate(seconds, draws if ranged else None), slowest[1]


def _canary(plans: Sequence[TrackPlan], unknown: Sequence[str]) -> int:
    """Return how many rows would measure what is unknown.

    A first few; or those that began already, if some of them are still on their way; or five times as many.
    """
    rows = CANARY
    for plan in plans:
        if any(name.startswith(f"{plan.track}.") for name in unknown):
            first, *later = plan.counts[1:]
            begun = first.entered - first.pending
            rows = max(rows, begun if any(count.pending for count in later) else 5 * begun)
    return rows
