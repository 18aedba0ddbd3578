"""Rows on their way through the stages of their track."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from manifests.ledger import DONE, SETTLED, Fold, Outcome, Results
from manifests.media import Clip, Picture
from manifests.store import Artifact
from manifests.tables import Tables
from pipeline.config import StageSpec
from pipeline.errands import Errand
from pipeline.plan import TrackPlan

ROWS_AT_ONCE = 500


@dataclass
class Walk:
    """One row, the stage it stands before, and all columns it has so far."""

    plan: TrackPlan
    row: int
    stage: int
    columns: dict[str, Any]
    done: set[int] = field(default_factory=set)  # stages whose columns it has
    ended: set[int] = field(default_factory=set)  # stages that rejected or quarantined it in an earlier run
    makers: dict[str, Errand] = field(default_factory=dict)  # of a pair: column of a member -> who makes it

    @property
    def id(self) -> str:
        """The row's id in its table."""
        return str(self.columns["id"])

    @property
    def spec(self) -> StageSpec:
        """The stage it stands before."""
        return self.plan.specs[self.stage]

    @property
    def key(self) -> str:
        """The recipe key of this row in that stage."""
        return self.plan.keys[self.stage][self.row]

    def inputs(self) -> dict[str, Any]:
        """Return exactly the columns that the stage needs."""
        return {need: self.key if need == "key" else self.columns[need] for need in self.spec.cls.needs}

    def outcome(self, state: str, **parts: Any) -> Outcome:
        """Return the row of the ledger that says so of this row in this stage."""
        return Outcome(self.key, self.plan.track, self.id, self.spec.name, state, **parts)

    def advance(self, made: dict[str, Any], artifacts: Sequence[dict[str, Any]]) -> bool:
        """Take what the stage made, and go on to the next that is still to do; False if there is none."""
        self.take(self.stage, made, artifacts)
        while self.stage in self.done:
            self.stage += 1
        return self.stage < len(self.plan.specs) and self.stage not in self.ended

    def back_to_maker_of(self, column: str) -> None:
        """Go back to the stage that makes a column, since what it made is gone."""
        self.stage = next(n for n, spec in enumerate(self.plan.specs) if column in spec.cls.makes)
        self.done.discard(self.stage)

    def take(self, stage: int, made: dict[str, Any], artifacts: Sequence[dict[str, Any]]) -> None:
        """Take what a stage made of this row."""
        self.columns |= made
        self.columns |= {artifact["column"]: Artifact(**artifact) for artifact in artifacts}
        self.done.add(stage)


def walks(plan: TrackPlan, tables: Tables, folded: Fold) -> Iterator[Walk]:
    """Give the rows of a track that have something left to do, with what earlier runs made of them."""
    todo = [row for row, position in enumerate(plan.position) if position >= 0]
    stages = range(len(plan.specs))
    done = (plan.keys[stage][row] for row in todo for stage in stages)
    earlier = Results(tables, (key for key in done if folded.state.get(key) == DONE))
    for start in range(0, len(todo), ROWS_AT_ONCE):
        chunk = todo[start : start + ROWS_AT_ONCE]
        rows = plan.rows.take(chunk)
        nothing: list[tuple[dict[str, Any], dict[str, Errand]]] = [({}, {})] * len(chunk)
        of_members = nothing if plan.members is None else plan.members.seen_by(rows)
        for row, columns, (seen, makers) in zip(chunk, rows.to_pylist(), of_members, strict=True):
            walk = Walk(plan, row, plan.position[row], with_media(plan.track, columns) | seen, makers=makers)
            for stage in stages:
                key = plan.keys[stage][row]
                if key in earlier and folded.state[key] == DONE:
                    walk.take(stage, *earlier[key])
                elif folded.state.get(key) in SETTLED:
                    walk.ended.add(stage)
            yield walk


def with_media(track: str, columns: dict[str, Any]) -> dict[str, Any]:
    """Add the word `source` or `character`: the file and what of it is meant."""
    crop = tuple(columns["crop"]) if columns.get("crop") else None
    if track == "sources":
        columns["source"] = Clip(columns["file"], columns["start_s"], columns["fps"], columns["frames"], crop)
    elif track == "characters":
        columns["character"] = Picture(columns["file"], crop)
    return columns
