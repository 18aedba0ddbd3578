"""What a run will cost, as a program and as a person reads it."""

from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
from rich.table import Table

from pipeline.cost import Cost, StageCost
from pipeline.fitting import Fitting
from pipeline.projection import FEW, Estimate


def as_json(cost: Cost) -> dict[str, Any]:
    """Return a cost as `--json` prints it. An estimate is {value, low, high}, the last two null if it has no range."""
    told = {name: value for name, value in vars(cost).items() if name not in ("stages", "yields")}
    told |= {name: asdict(value) for name, value in told.items() if isinstance(value, Estimate)}
    told["come_through"] = {track: asdict(rows) for track, rows in cost.yields.items()}
    return told | {"stages": [_stage_json(stage) for stage in cost.stages]}


def _stage_json(stage: StageCost) -> dict[str, Any]:
    line: dict[str, Any] = {"track": stage.track, "stage": stage.stage, "now": stage.now, "at_most": stage.at_most}
    for name in ("items", "work_s", "cpu_hours", "gpu_hours"):
        estimate: Estimate | None = getattr(stage, name)
        line[name] = None if estimate is None else asdict(estimate)
    line["seconds"] = None
    if stage.timing is not None:
        p10, median, p90 = quantiles(stage)
        line["seconds"] = {"median": median, "p10": p10, "p90": p90, "mean": stage.timing.mean_s}
        line["seconds"] |= {"measured": stage.timing.count, "own_recipe": stage.own_recipe}
        line["seconds"]["devices"] = sorted(stage.timing.devices)
    line["passes"] = None
    if stage.passes is not None:
        low, high = stage.passes.interval()
        line["passes"] = {"passed": stage.passes.passed, "ended": stage.passes.ended}
        line["passes"] |= {"share": stage.passes.share, "low": low, "high": high}
    return line


def quantiles(stage: StageCost) -> tuple[float, float, float]:
    """Return the 10th percentile, the median and the 90th percentile of a measured stage's working times, seconds."""
    assert stage.timing is not None, f"{stage.name} was not measured"
    p10, median, p90 = np.quantile(stage.timing.seconds, (0.1, 0.5, 0.9))
    return float(p10), float(median), float(p90)


def as_table(cost: Cost) -> Fitting:
    """Return the stages with work left, as a person reads them; on a terminal too narrow for ranges, without them."""
    return Fitting(_table(cost, ranges=True), _table(cost, ranges=False))


def _table(cost: Cost, ranges: bool) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("table")
    table.add_column("stage")
    for column in ("items", "at most", *["measured"] * ranges, "an item", "pass on", "work", "CPU-h", "GPU-h"):
        table.add_column(column, justify="right", no_wrap=True)
    before = None
    for stage in (stage for stage in cost.stages if stage.at_most):
        name = stage.track if stage.track != before else ""
        table.add_row(name, stage.stage, *_cells(stage, ranges))
        before = stage.track
    return table


def _cells(stage: StageCost, ranges: bool) -> list[str]:
    measured, seconds, passes = "-", "-", "-"
    if stage.timing is not None:
        p10, median, p90 = quantiles(stage)
        mark = "" if stage.own_recipe else "*"
        measured = f"{stage.timing.count:,}{mark}"
        seconds = time_of(Estimate(median, p10, p90), ranges) + mark * (not ranges)
    if stage.passes is not None:
        low, high = stage.passes.interval()
        passes = f"{stage.passes.share:.0%}" + f" ({low:.0%}–{high:.0%})" * ranges
    items = "-" if stage.items is None else number_of(stage.items, count, ranges)
    work = "-" if stage.work_s is None else time_of(stage.work_s, ranges)
    hours_of = ("-" if each is None else hours(each.value) for each in (stage.cpu_hours, stage.gpu_hours))
    return [items, f"{stage.at_most:,}", *[measured] * ranges, seconds, passes, work, *hours_of]


def sentences(cost: Cost, config: str, price: float | None) -> Iterator[str]:
    """Say what it comes to, and what is not known."""
    if not any(stage.at_most for stage in cost.stages):
        yield "nothing is left to do: it costs nothing"
        return
    if len(cost.unknown) < sum(stage.at_most > 0 for stage in cost.stages):
        workers = f"{cost.workers} worker{'s' * (cost.workers > 1)}"
        yield f"time on this machine with {workers}: {time_of(cost.wall_s)}"
        if cost.pools_s is not None:
            time = time_of(cost.pools_s)
            yield f"time on a cluster that holds all pools at `max_workers`: {time}; {cost.slowest} is the slowest pool"
        yield f"work: {number_of(cost.cpu_hours, hours)} CPU-hours, {number_of(cost.gpu_hours, hours)} GPU-hours"
        if cost.money is not None:
            yield f"money: {number_of(cost.money, money)} at {price:g} a GPU-hour, without the hours in which GPUs wait"
        for track, rows in cost.yields.items():
            on_their_way = sum(stage.now for stage in cost.stages if stage.track == track)
            if on_their_way:
                yield f"of {on_their_way:,} {track} on their way {number_of(rows, count)} will come through"
        yield "ranges: an item's time from the 10th to the 90th of 100 items, all else 95 %; start-up comes on top"
    others = [
        stage.name for stage in cost.stages if stage.at_most and stage.timing is not None and not stage.own_recipe
    ]
    if others:
        yield f"* measured with another recipe: {', '.join(others)}"
    few = [s.name for s in cost.stages if s.at_most and s.timing is not None and s.timing.batches < FEW]
    if few:
        yield f"fewer than {FEW} batches measured, so no range: {', '.join(few)}; {_measure(config, cost.canary)}"
    if cost.unknown:
        sums = "" if len(cost.unknown) == sum(stage.at_most > 0 for stage in cost.stages) else ", and not in the sums"
        yield f"not measured yet{sums}: {', '.join(cost.unknown)}; {_measure(config, cost.canary)}"


def _measure(config: str, rows: int) -> str:
    return f"`bodydouble run {config} --canary {rows}` measures"


def number_of(estimate: Estimate, as_text: Callable[[float], str], ranges: bool = True) -> str:
    """Return an estimate with its range, where it has one that shows."""
    value = as_text(estimate.value)
    if estimate.low is None or estimate.high is None:
        return f"about {value}"
    low, high = as_text(estimate.low), as_text(estimate.high)
    return value if not ranges or low == high == value else f"{value} ({low}–{high})"


def time_of(estimate: Estimate, ranges: bool = True) -> str:
    """Return a time in seconds with its range, both in the unit that fits the time."""
    size, word = _unit(estimate.value)
    return _in_unit(number_of(estimate.scaled(1 / size), short, ranges), word)


def _in_unit(number: str, word: str) -> str:
    value, bracket, rest = number.partition(" (")
    return f"{value} {word}{bracket}{rest}"


def duration(seconds: float) -> str:
    """Return a time as a person says it: 40 ms, 12 s, 3.4 min, 5.1 h, 12 days."""
    size, word = _unit(seconds)
    return f"{short(seconds / size)} {word}"


def _unit(seconds: float) -> tuple[float, str]:
    if 0 < seconds < 1:
        return 0.001, "ms"
    for size, word, until in ((1.0, "s", 90), (60.0, "min", 90), (3600.0, "h", 72)):
        if seconds / size < until:
            return size, word
    return 86400.0, "days"


def count(number: float) -> str:
    """Return a number of items."""
    return f"{number:,.0f}"


def short(number: float) -> str:
    """Return a number with two digits that count, and never as a power of ten."""
    if number == 0 or abs(number) >= 10:
        return f"{number:,.0f}"
    return f"{number:.{min(max(1 - int(np.floor(np.log10(abs(number)))), 1), 5)}f}"


def hours(number: float) -> str:
    """Return hours of work; too few to matter are not told apart."""
    return "<0.01" if 0 < number < 0.01 else short(number)


def money(amount: float) -> str:
    """Return an amount of money; small ones with cents."""
    return "<0.01" if 0 < amount < 0.01 else f"{amount:,.2f}" if amount < 1000 else f"{amount:,.0f}"
