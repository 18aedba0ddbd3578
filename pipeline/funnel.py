"""Why did so few survive: counts by table, stage and outcome, which always add up."""

from collections import Counter
from typing import Any

from rich.table import Table

from manifests import ledger, rights
from manifests.tables import Tables
from pipeline.config import Run
from pipeline.plan import StageCount, plan_run


def funnel(run: Run) -> dict[str, list[StageCount]]:
    """Return track -> its lines, import first. In each line `entered` is the sum of the other numbers."""
    tables = Tables(run.config.root)
    return {plan.track: plan.counts for plan in plan_run(run, tables, ledger.fold(tables))}


def kept_out(run: Run) -> dict[str, Counter[str]]:
    """Return table -> why rows of it may be in no pair, by what was said of them: `no_consent` 3. Empty where a run
    makes no pairs."""
    if not run.tracks.get("pairs"):
        return {}
    tables, pairs = Tables(run.config.root), run.config.pairs
    found = {}
    for track in ("sources", "characters"):
        rows = tables.read(track, columns=[*rights.COLUMNS], where="reject IS NULL").to_pylist()
        against = (rights.objection(row, pairs.reject_tags, pairs.allow_unknown_licence) for row in rows)
        found[track] = Counter(why[0] for why in against if why is not None)
    return {track: counted for track, counted in found.items() if counted}


def kept_out_sentence(kept: dict[str, Counter[str]]) -> str:
    """Return what `kept_out` found as a person reads it; empty if it is nothing."""
    said = (f"{track} {', '.join(f'{why} {n}' for why, n in counted.most_common())}" for track, counted in kept.items())
    return f"in no pair, by what was said of them: {'; '.join(said)}" if kept else ""


def as_json(counts: dict[str, list[StageCount]]) -> dict[str, Any]:
    """Return the funnel as `--json` prints it."""
    return {"tables": {track: [line.as_json() for line in lines] for track, lines in counts.items()}}


def _with_rows(counts: dict[str, list[StageCount]]) -> dict[str, list[StageCount]]:
    """Leave out tracks without a row, unless there is no row at all."""
    return {track: lines for track, lines in counts.items() if lines[0].entered} or counts


def as_table(counts: dict[str, list[StageCount]]) -> Table:
    """Return the funnel as a person reads it."""
    table = Table(box=None, pad_edge=False)
    table.add_column("table")
    table.add_column("stage")
    for column in ("in", "done", "rejected", "quarantined", "pending"):
        table.add_column(column, justify="right")
    table.add_column("why", overflow="fold")
    for track, lines in _with_rows(counts).items():
        for number, line in enumerate(lines):
            why = (line.rejected + line.quarantined).most_common()
            table.add_row(
                track if number == 0 else "",
                line.stage,
                str(line.entered),
                str(line.done),
                str(line.rejected.total()),
                str(line.quarantined.total()),
                str(line.pending),
                ", ".join(f"{reason} {count}" for reason, count in why)
                + (f" forgotten {line.forgotten}" * bool(line.forgotten)),
            )
    return table


def plan_table(lines: dict[str, list[dict[str, Any]]]) -> Table:
    """Return a plan's summary (`pipeline.plan.summary`) as a person reads it."""
    table = Table(box=None, pad_edge=False)
    table.add_column("table")
    table.add_column("stage")
    for column in ("cached", "to do", "later, at most", "rejected", "quarantined"):
        table.add_column(column, justify="right")
    for track, stages in lines.items():
        for number, line in enumerate(stages):
            numbers = (line[name] for name in ("cached", "to_do", "later", "rejected", "quarantined"))
            table.add_row(track if number == 0 else "", line["stage"], *map(str, numbers))
    return table
