"""Sources, characters and scores for tests of pairs: rows and outcomes, without media."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml

from manifests import ledger
from manifests.lease import Lease
from manifests.ledger import Committer, Outcome
from manifests.schema import PAIRS, TABLES
from manifests.tables import Tables
from pipeline.config import Run
from pipeline.plan import plan_track
from stages.stage import Stage, StageConfig


class Measure(Stage[StageConfig]):
    """Stands for what measures a pair."""

    needs = ("source", "character")
    makes = ("motion", "flicker")

    def __call__(self, rows):
        raise AssertionError("the tests write its outcomes themselves")


class Judge(Measure):
    """Stands for what judges a pair: fields in one column, and a raw answer of any form."""

    needs = ("source", "character", "motion")
    makes = ("judge", "answer")


class Frame(Measure):
    """Stands for what measures how a character is framed."""

    needs = ("character",)
    makes = ("framing",)


STAGES = {
    "characters": {"frame": {"use": f"{__name__}:Frame"}},
    "pairs": {"measure": {"use": f"{__name__}:Measure"}, "judge": {"use": f"{__name__}:Judge"}},
}


def member(name: str, **fields: Any) -> dict[str, Any]:
    """Return a row that may be used, but for what `fields` say."""
    kind = "human" if name.startswith("src_") else "cartoon"
    row = {"id": name, "file": name, "licence": "MIT", "consent": "granted", "domain": kind, "identity": name}
    return {**row, "tags": [], "origins": [], **fields}


def put(root: Path, table: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows of a table."""
    Tables(root).upsert(table, pa.Table.from_pylist(list(rows), schema=TABLES[table]))


def put_pairs(root: Path, count: int, characters: int = 7) -> None:
    """Write sources, characters of two domains with tags, and pairs `par_0` and on."""
    put(root, "sources", [member(f"src_{n}", tags=["dance"] if n % 2 else []) for n in range(count)])
    kinds = ("cartoon", "animal")
    put(
        root,
        "characters",
        [member(f"chr_{n}", domain=kinds[n % 2], tags=["red"] if n % 3 == 0 else ["dance"]) for n in range(characters)],
    )
    rows = [{"id": f"par_{n}", "source": f"src_{n}", "character": f"chr_{n % characters}"} for n in range(count)]
    Tables(root).upsert("pairs", pa.Table.from_pylist(rows, schema=PAIRS))


def write_config(path: Path, root: Path, **fields: Any) -> str:
    path.write_text(yaml.safe_dump({"root": str(root), "stages": STAGES, **fields}, sort_keys=False))
    return str(path)


def settle(
    run: Run, track: str, stage: str, made: Mapping[str, dict[str, Any] | None], state: str = ledger.DONE
) -> None:
    """Write what a stage made of items (id -> columns) to the ledger, under the keys of the run."""
    tables = Tables(run.config.root)
    plan = plan_track(run.tracks[track], track, tables, ledger.Fold())
    names = [spec.name for spec in plan.specs]
    keys = dict(zip(plan.rows["id"].to_pylist(), plan.keys[names.index(stage)], strict=True))
    with Lease.take(run.config.root, "a test", above=ledger.highest_epoch(tables)) as lease:
        committer = Committer(tables, lease.epoch, every=10**9, every_s=10**9)
        reason = None if state == ledger.DONE else "tested"
        for item, columns in made.items():
            committer.add(Outcome(keys[item], track, item, stage, state, reason, made=columns))
        committer.flush()
