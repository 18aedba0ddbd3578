"""What a run will cost, as a program and as a person reads it."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
from rich.table import Table

from pipeline.cost import Cost, StageCost
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


def as_table(cost: Cost) -> Table:
    """Return the stages with work left, as a person reads them."""
    table = Table(box=None, pad_edge=False)
    for column in ("table", "stage"):
        table.add_column(column, no_wrap=True)
    for column in ("now", "at most", "expected", "measured", "an item takes", "pass on", "work", "CPU-h", "GPU-h"):
        table.add_column(column, justify="right")
    before = None
    for stage in cost.stages:
        if not stage.at_most:
            continue
        seconds, measured = "-", "-"
        if stage.timing is not None:
            p10, median, p90 = quantiles(stage)
            seconds = f"{duration(median)} ({duration(p10)} to {duration(p90)})"
            measured = f"{stage.timing.count:,}{'' if stage.own_recipe else '*'}"
        table.add_row(
            stage.track if stage.track != before else "",
            stage.stage,
            f"{stage.now:,}",
            f"{stage.at_most:,}",
            ranged(stage.items, "{:,.0f}".format),
            measured,
            seconds,
            "-" if stage.passes is None else "{:.0%} ({:.0%} to {:.0%})".format(*_share(stage)),
            ranged(stage.work_s, duration),
            "-" if stage.cpu_hours is None else hours(stage.cpu_hours.value),
            "-" if stage.gpu_hours is None else hours(stage.gpu_hours.value),
        )
        before = stage.track
    return table


def _share(stage: StageCost) -> tuple[float, float, float]:
    assert stage.passes is not None
    return (stage.passes.share, *stage.passes.interval())


def sentences(cost: Cost, config: str, price: float | None) -> Iterator[str]:
    """Say what it comes to, and what is not known."""
    if not any(stage.at_most for stage in cost.stages):
        yield "nothing is left to do: it costs nothing"
        return
    if len(cost.unknown) < sum(stage.at_most > 0 for stage in cost.stages):
        workers = f"{cost.workers} worker{'s' * (cost.workers > 1)}"
        yield f"time on this machine with {workers}: {ranged(cost.wall_s, duration)}"
        if cost.pools_s is not None:
            time = ranged(cost.pools_s, duration)
            yield f"time on a cluster that holds all pools at `max_workers`: {time}; {cost.slowest} is the slowest pool"
        yield f"work: {ranged(cost.cpu_hours, hours)} CPU-hours, {ranged(cost.gpu_hours, hours)} GPU-hours"
        if cost.money is not None:
            yield f"money: {ranged(cost.money, money)} at {price:g} a GPU-hour, without the hours in which GPUs wait"
        for track, rows in cost.yields.items():
            on_their_way = sum(stage.now for stage in cost.stages if stage.track == track)
            if on_their_way:
                yield f"of {on_their_way:,} {track} on their way {ranged(rows, '{:,.0f}'.format)} will come through"
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


def ranged(estimate: Estimate | None, as_text: Any) -> str:
    """Return an estimate with its range, where it has one that shows."""
    if estimate is None:
        return "-"
    value = as_text(estimate.value)
    if estimate.low is None or estimate.high is None:
        return f"about {value}"
    low, high = as_text(estimate.low), as_text(estimate.high)
    return value if low == high == value else f"{value} ({low} to {high})"


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


def duration(seconds: float) -> str:
    """Return a time as a person says it: 40 ms, 12 s, 3.4 min, 5.1 h, 12 days."""
    if seconds < 1:
        return f"{short(seconds * 1000)} ms" if seconds else "0 s"
    for size, word, until in ((1.0, "s", 90), (60.0, "min", 90), (3600.0, "h", 72)):
        if seconds / size < until:
            return f"{short(seconds / size)} {word}"
    return f"{short(seconds / 86400)} days"
