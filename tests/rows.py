"""Rows for tests of the engine, which needs a manifest but no media."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml

from manifests.ledger import fold
from manifests.schema import SOURCES
from manifests.tables import Tables
from pipeline.config import Run, build
from pipeline.plan import plan_run
from pipeline.progress import Progress
from pipeline.run import execute

SAMPLES = "tests.stage_samples"


def put_sources(root: Path, names: Iterable[str], frames: int = 5) -> None:
    """Write a source row for each name; its `file` is the name."""
    rows = [{"id": f"src_{name}", "file": name, "frames": frames, "start_s": 0.0, "fps": 10.0} for name in names]
    Tables(root).upsert("sources", pa.Table.from_pylist(rows, schema=SOURCES))


def run_of(root: Path, stages: dict[str, Any], **fields: Any) -> Run:
    """Return a run whose sources go through `stages`: name -> sample class, or (class, config)."""
    return build(config_of(root, stages, **fields))


def config_of(root: Path, stages: dict[str, Any], **fields: Any) -> dict[str, Any]:
    listed = {}
    for name, given in stages.items():
        cls, config = given if isinstance(given, tuple) else (given, {})
        listed[name] = {"use": f"{SAMPLES}:{cls}", **config}
    return {"root": str(root), "stages": {"sources": listed}, **fields}


def write_config(path: Path, root: Path, stages: dict[str, Any], **fields: Any) -> Path:
    path.write_text(yaml.safe_dump(config_of(root, stages, **fields), sort_keys=False))
    return path


def go(run: Run, **options: Any) -> dict[str, dict[str, Any]]:
    """Execute a run and return stage -> its line of the funnel."""
    execute(run, options.pop("limit", None), options.pop("until", None), Progress(quiet=True), **options)
    return lines_of(run)


def lines_of(run: Run) -> dict[str, dict[str, Any]]:
    """Return stage -> its line of the funnel, which must add up."""
    tables = Tables(run.config.root)
    (plan,) = plan_run(run, tables, fold(tables))
    lines = {count.stage: count.as_json() for count in plan.counts}
    entered = None
    for line in lines.values():
        rest = line["done"] + line["pending"] + sum(line["rejected"].values()) + sum(line["quarantined"].values())
        assert line["in"] == rest + line.get("forgotten", 0)
        assert entered in (None, line["in"])
        entered = line["done"]
    return lines
