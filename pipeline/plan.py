"""What is done, what is to do: every key of every row, before anything runs.

A key depends on the recipe of its stage, on manifest values and on upstream KEYS only, so the whole walk needs the
manifest and the ledger's fold, and no artifact.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from manifests import ledger
from manifests.schema import TABLES
from manifests.tables import Tables
from pipeline.config import Run, StageSpec
from pipeline.members import Members
from pipeline.row_keys import keys_of
from pipeline.strict_yaml import ConfigError

IMPORT = "import"  # the first line of every funnel: what the manifest itself rejects
ENDS_THERE = -1
WAITS = -2  # for its source or its character
MEDIA_COLUMNS = {"file", "start_s", "fps", "frames", "crop"}  # what a Clip or a Picture is made of


@dataclass
class StageCount:
    """One line of the funnel: `entered` is always the sum of the others."""

    stage: str
    entered: int = 0
    done: int = 0
    pending: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    quarantined: Counter[str] = field(default_factory=Counter)
    forgotten: int = 0

    def as_json(self) -> dict[str, Any]:
        """Return the line as the command prints it."""
        line: dict[str, Any] = {"stage": self.stage, "in": self.entered, "done": self.done}
        line |= {"rejected": dict(self.rejected), "quarantined": dict(self.quarantined), "pending": self.pending}
        return line | ({"forgotten": self.forgotten} if self.forgotten else {})


@dataclass
class TrackPlan:
    """One track: its usable rows, their keys in every stage, and how far each has come."""

    track: str
    specs: list[StageSpec]
    rows: pa.Table  # usable rows, sorted by id, with the columns that stages need
    keys: list[list[str]]  # [stage][row]
    position: list[int]  # [row]: the first stage that is still to do; -1 if the row has ended (well or not)
    counts: list[StageCount]  # import first, then the stages
    left: Counter[tuple[int, ...]] = field(default_factory=Counter)  # stages still to do (see `_left`) -> how many rows
    members: Members | None = None  # of pairs: what they see of their sources and characters


def plan_run(
    run: Run, tables: Tables, folded: ledger.Fold, limit: int | None = None, until: str | None = None
) -> list[TrackPlan]:
    """Plan every track of a run against the ledger.

    `limit` takes the first rows of each track by id, which is as good as a random sample. `until` leaves out the stages
    after the one named, and tracks that have no such stage.
    """
    names = {spec.name for specs in run.tracks.values() for spec in specs}
    if until is not None and until not in names:
        raise ConfigError(
            f"--until {until}: there is no such stage in this run; its stages are {', '.join(sorted(names))}"
        )
    chosen = {track: _up_to(until, specs) for track, specs in run.tracks.items()}
    return [
        plan_track(specs, track, tables, folded, limit, Members.of(run, tables, folded, specs))
        for track, specs in chosen.items()
        if specs or not until
    ]


def _up_to(until: str | None, specs: list[StageSpec]) -> list[StageSpec]:
    names = [spec.name for spec in specs]
    if until is None:
        return specs
    return specs[: names.index(until) + 1] if until in names else []


def plan_track(
    specs: Sequence[StageSpec],
    track: str,
    tables: Tables,
    folded: ledger.Fold,
    limit: int | None = None,
    members: Members | None = None,
) -> TrackPlan:
    """Plan one track; see `plan_run`. `members` are needed for pairs whose stages see columns of them."""
    rows, first = usable_rows(tables, track, specs, limit)
    keys = keys_of(rows, specs, None if members is None else members.parts(rows))
    alive = list(range(rows.num_rows))
    position = [-1] * rows.num_rows
    counts = [first]
    waiting: list[int] = []
    if members is not None:
        alive, waiting = _ready(members, rows, first)
    for number, spec in enumerate(specs):
        count = StageCount(spec.name, entered=len(alive))
        stage_keys, passed = keys[number], []
        for row in alive:
            state = folded.state.get(stage_keys[row])
            if state == ledger.DONE:
                passed.append(row)
            elif state == ledger.REJECTED:
                count.rejected[folded.reason[stage_keys[row]]] += 1
            elif state == ledger.QUARANTINED:
                count.quarantined[folded.reason[stage_keys[row]]] += 1
            elif state == ledger.FORGOTTEN:
                count.forgotten += 1
            else:
                count.pending += 1
                position[row] = number
        count.done = len(passed)
        counts.append(count)
        alive = passed
    left = Counter(_left(row, first_left, keys, folded) for row, first_left in enumerate(position) if first_left >= 0)
    left.update((WAITS, *_left(row, 0, keys, folded)) for row in waiting)
    return TrackPlan(track, list(specs), rows, keys, position, counts, left, members)


def _ready(members: Members, rows: pa.Table, first: StageCount) -> tuple[list[int], list[int]]:
    """Part pairs into those whose members are ready and those that wait; count the others in the first line."""
    alive, waiting = [], []
    first.done = 0
    for row, (state, reason) in enumerate(members.ends(rows)):
        if state == ledger.DONE:
            alive.append(row)
            first.done += 1
        elif state == ledger.REJECTED:
            first.rejected[reason] += 1
        elif state == ledger.QUARANTINED:
            first.quarantined[reason] += 1
        elif state == ledger.FORGOTTEN:
            first.forgotten += 1
        else:
            waiting.append(row)
            first.pending += 1
    return alive, waiting


def _left(row: int, first: int, keys: Sequence[Sequence[str]], folded: ledger.Fold) -> tuple[int, ...]:
    """Return the stages that a row has still to go through, in order: not those already done.

    Where a later stage has ended the row before (rejected, quarantined, forgotten), the last number is `ENDS_THERE`.
    """
    stages: list[int] = []
    for number in range(first, len(keys)):
        state = folded.state.get(keys[number][row])
        if state in ledger.SETTLED and state != ledger.DONE:
            return (*stages, ENDS_THERE)
        if state != ledger.DONE:
            stages.append(number)
    return tuple(stages)


def usable_rows(
    tables: Tables, track: str, specs: Sequence[StageSpec], limit: int | None
) -> tuple[pa.Table, StageCount]:
    """Return the rows that importing accepted, and the funnel's first line."""
    needs = {need for spec in specs for need in spec.cls.needs}
    joined = {"source", "character"} if track == "pairs" else set()  # the ids of its members
    wanted = (needs | MEDIA_COLUMNS | joined) & set(TABLES[track].names)
    rows = tables.read(track, columns=sorted({"id", "reject", *wanted})).sort_by("id")
    if limit is not None:
        rows = rows.slice(0, limit)
    first = StageCount(IMPORT, entered=rows.num_rows)
    first.rejected.update(reason for reason in rows["reject"].to_pylist() if reason is not None)
    usable = rows.filter(pc.is_null(rows["reject"]))
    first.done = usable.num_rows
    return usable, first


def summary(plans: Sequence[TrackPlan]) -> dict[str, list[dict[str, Any]]]:
    """Return track -> a line for each stage. `to_do` waits now, `later` is the most that may come from upstream."""
    lines: dict[str, list[dict[str, Any]]] = {}
    for plan in plans:
        lines[plan.track] = []
        for number, count in enumerate(plan.counts[1:]):
            later = sum(rows for stages, rows in plan.left.items() if number in stages[1:])
            line = {"stage": count.stage, "cached": count.done, "to_do": count.pending, "later": later}
            line |= {"rejected": count.rejected.total(), "quarantined": count.quarantined.total()}
            lines[plan.track].append(line)
    return lines


def why_again(now: Run, other: Run) -> list[dict[str, Any]]:
    """Return, for each stage of `other` that would not find the results of `now`, the fields that make it run again."""
    lines = []
    for track, specs in other.tracks.items():
        before = {spec.name: spec for spec in now.tracks.get(track, [])}
        stale: dict[str, str] = {}  # column -> the stage that will make it anew
        for spec in specs:
            old = before.get(spec.name)
            fields = ["(new stage)"] if old is None else _differences(old.recipe, spec.recipe)
            upstream = sorted({stale[need] for need in spec.cls.needs if need in stale})
            if fields or upstream:
                lines.append({"track": track, "stage": spec.name, "fields": fields, "upstream": upstream})
                stale |= dict.fromkeys(spec.cls.makes, spec.name)
    return lines


def _differences(old: dict[str, Any], new: dict[str, Any], path: str = "") -> list[str]:
    found = []
    for name in sorted({*old, *new}):
        before, after, where = old.get(name), new.get(name), f"{path}{name}"
        if isinstance(before, dict) and isinstance(after, dict):
            found += _differences(before, after, f"{where}.")
        elif before != after:
            found.append(f"{where}: {before!r} -> {after!r}")
    return found
