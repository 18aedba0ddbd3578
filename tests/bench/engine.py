"""The engine's own cost: no-op items, a million outcomes, twenty thousand commits."""

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from manifests import ledger
from manifests.ledger import Committer, Outcome
from manifests.schema import OUTCOMES, SOURCES
from manifests.tables import Tables
from pipeline.feed import walks
from pipeline.plan import plan_run
from tests.rows import go, put_sources, run_of, write_config

Measured = dict[str, Any]
ITEMS = 10_000
ROWS, STAGES = 125_000, 8
COMMITS = 20_000


def no_op() -> list[Measured]:
    """Milliseconds an item for plan, ledger and runner together, start-up of processes included."""
    seconds = []
    for _ in range(3):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder)
            put_sources(root, [f"n{number}" for number in range(ITEMS)])
            started = time.perf_counter()
            go(run_of(root, {"noop": "NoOp"}))
            seconds.append(time.perf_counter() - started)
    value = statistics.median(seconds) / ITEMS * 1000
    return [_row(f"no-op stage over {ITEMS:,} items, an item", value, "ms", "<=", 1.0)]


def million() -> list[Measured]:
    """Seconds and memory for `plan` and for the start of `run`, at a quarter, half and the whole of a million."""
    measured, planned = [], {}
    for rows in (ROWS // 4, ROWS // 2, ROWS):
        with tempfile.TemporaryDirectory() as folder:
            config = _full_ledger(Path(folder), rows)
            outcomes = rows * STAGES
            runs = [_timed_child("plan", config) for _ in range(3)]
            seconds = statistics.median(run["seconds"] for run in runs)
            planned[rows] = seconds
            measured.append(_row(f"`plan` over {outcomes:,} outcomes", seconds, "s", "<=", 15.0))
            if rows == ROWS:
                peak = max(run["peak_gib"] for run in runs)
                measured.append(_row(f"`plan` over {outcomes:,} outcomes, peak memory", peak, "GiB", "<=", 2.0))
                seconds = _until_the_first_row(Path(folder))
                measured.append(
                    _row("until the first row goes out, with 125,000 of the last stage to do", seconds, "s", "<=", 15.0)
                )
                begun = [_timed_child("run", config) for _ in range(3)]
                seconds = statistics.median(run["seconds"] for run in begun)
                measured.append(_row(f"`run` over {outcomes:,} outcomes with nothing to do", seconds, "s", "<=", 15.0))
                peak = max(run["peak_gib"] for run in begun)
                measured.append(_row("the same, peak memory", peak, "GiB", "<=", 2.0))
    # start-up is the same at every size; what is left must grow no faster than the ledger
    grows = (planned[ROWS] - planned[ROWS // 4]) / (planned[ROWS // 2] - planned[ROWS // 4]) / 3
    measured.append(
        _row("growth of `plan` from 1/4 to 1/1 over that from 1/4 to 1/2, linear is 1", grows, "", "<=", 1.25)
    )
    return measured


def commits() -> list[Measured]:
    """Milliseconds a commit over twenty thousand commits with compaction: the last two thousand against the first."""
    with tempfile.TemporaryDirectory() as folder:
        tables = Tables(folder)
        committer = Committer(tables, epoch=1, every=1)
        times = []
        for number in range(COMMITS):
            committer.add(
                Outcome(f"{number:032x}", "sources", f"src_{number}", "noop", ledger.DONE, made={"x": number})
            )
            started = time.perf_counter()
            committer.flush()
            times.append(time.perf_counter() - started)
        first, last = statistics.median(times[:2000]) * 1000, statistics.median(times[-2000:]) * 1000
        mean_first, mean_last = statistics.mean(times[:2000]) * 1000, statistics.mean(times[-2000:]) * 1000
        bytes_ = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    return [
        _row(f"append, commits 1 to 2,000 of {COMMITS:,}", first, "ms", "", None),
        _row(f"append, last 2,000 of {COMMITS:,}, against the first", last / first, "x", "<=", 2.0),
        _row("the same, mean with compaction's share", mean_last / mean_first, "x", "", None),
        _row("size of the table at the end", bytes_ / 2**20, "MiB", "", None),
    ]


def measure() -> list[Measured]:
    """Measure everything of this file."""
    return [*no_op(), *million(), *commits()]


def _row(name: str, value: float, unit: str, sign: str, target: float | None) -> Measured:
    holds = None if target is None else (value <= target if sign == "<=" else value >= target)
    return {
        "name": name,
        "value": value,
        "unit": unit,
        "target": "" if target is None else f"{sign} {target:g}",
        "holds": holds,
    }


def _stages(last: int = STAGES - 1) -> dict[str, Any]:
    """A track of no-op stages; with another value of `last` the last one's results are not there yet."""
    return {f"s{number}": (f"NoOp{number}", {"value": min(number, last)}) for number in range(STAGES)}


def _until_the_first_row(root: Path) -> float:
    """Seconds from nothing to the first row that can be handed out, when one stage of eight is to do for all rows."""
    started = time.perf_counter()
    tables = Tables(root)
    folded = ledger.fold(tables)
    (plan,) = plan_run(run_of(root, _stages(last=STAGES - 2)), tables, folded)
    assert len(next(walks(plan, tables, folded)).done) == STAGES - 1
    return time.perf_counter() - started


def _full_ledger(root: Path, rows: int) -> Path:
    """Write a manifest of `rows` sources and a ledger in which each of eight stages is done for each."""
    ids, files = [f"src_{n:032x}" for n in range(rows)], [f"{n}.mp4" for n in range(rows)]
    segment = {"frames": [49] * rows, "fps": [10.0] * rows, "start_s": [0.0] * rows}
    table = pa.table({"id": ids, "file": files, **segment})
    full = pa.table(
        {f.name: table[f.name] if f.name in table.schema.names else pa.nulls(rows, f.type) for f in SOURCES}
    )
    tables = Tables(root)
    tables.upsert("sources", full.cast(SOURCES))
    stages = _stages()
    config = write_config(root / "run.yaml", root, stages)
    (plan,) = plan_run(run_of(root, stages), tables, ledger.Fold())
    now = datetime.now(UTC)
    for number, keys in enumerate(plan.keys):
        columns = {
            "key": keys, "track": ["sources"] * rows, "item": plan.rows["id"], "stage": [f"s{number}"] * rows,
            "state": [ledger.DONE] * rows, "made": ['{"number":49}'] * rows, "artifacts": [[]] * rows,
            "epoch": [1] * rows, "seq": range(number * rows, (number + 1) * rows), "written_at": [now] * rows,
        }  # fmt: skip
        arrays = [
            pa.array(columns[f.name], f.type)
            if f.name in columns and not isinstance(columns[f.name], pa.ChunkedArray)
            else columns.get(f.name, pa.nulls(rows, f.type))
            for f in OUTCOMES
        ]
        tables.append("outcomes", pa.Table.from_arrays(arrays, schema=OUTCOMES))
    return config


def _timed_child(command: str, config: Path) -> dict[str, float]:
    """Run a command in a process of its own, as a user does; its wall time and peak memory."""
    started = time.perf_counter()
    extra = ["--quiet"] if command == "run" else []
    code = (
        "import resource, sys; sys.argv = ['bodydouble', *sys.argv[1:]]\n"
        "from pipeline.__main__ import main\n"
        "try:\n    main()\nfinally:\n"
        "    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", code, command, str(config), "--json", *extra], capture_output=True, text=True, check=True
    )
    assert all(
        stage["done" if command == "run" else "cached"] for stage in json.loads(told.stdout)["tables"]["sources"]
    )
    return {"seconds": time.perf_counter() - started, "peak_gib": int(told.stderr.split()[-1]) / 2**20}


if __name__ == "__main__":
    for each in measure():
        print(each, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, "MiB")
