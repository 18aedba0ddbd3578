"""What the desk asks of a million pairs: `funnel`, and `whatif` under another limit."""

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

import numpy as np
import pyarrow as pa

from manifests import ledger
from manifests.schema import OUTCOMES, PAIRS
from manifests.tables import Tables
from pipeline.config import load
from pipeline.members import Members
from pipeline.plan import usable_rows
from pipeline.row_keys import keys_of
from tests.pipeline.small_pairs import member, put, settle, write_config

PAIRS_IN_ALL, SOURCES, CHARACTERS = 1_000_000, 100_000, 500
RUNS = 3


def measure() -> list[dict[str, Any]]:
    """Seconds of each command in a process of its own, start included; CPU time, and the clock's beside it."""
    with tempfile.TemporaryDirectory() as folder:
        config = million(Path(folder))
        rows = []
        for command, words in (("funnel", ()), ("whatif", ("--set", "keep.min.motion=0.6"))):
            runs = [_timed(command, config, *words) for _ in range(RUNS)]
            cpu, wall, peak = (statistics.median(run[each] for run in runs) for each in ("cpu", "wall", "peak"))
            name = f"`{command}` over {PAIRS_IN_ALL:,} pairs and two stages"
            rows.append(_row(f"{name}, CPU time", cpu, "s", 10.0))
            rows.append(_row(f"{name}, by the clock", wall, "s", None))
            rows.append(_row(f"{name}, peak memory", peak, "GiB", None))
        return rows


def million(root: Path) -> str:
    """Write a root of a million pairs whose two stages are done, and return its config's path."""
    put(root, "sources", [member(f"src_{n:032x}", tags=["dance"] if n % 2 else []) for n in range(SOURCES)])
    put(root, "characters", [member(f"chr_{n:032x}", domain=("cartoon", "animal")[n % 2]) for n in range(CHARACTERS)])
    numbers = range(PAIRS_IN_ALL)
    columns = {
        "id": [f"par_{n:032x}" for n in numbers],
        "source": [f"src_{n % SOURCES:032x}" for n in numbers],
        "character": [f"chr_{n * 7 % CHARACTERS:032x}" for n in numbers],
    }
    tables = Tables(root)
    full = {field.name: columns.get(field.name, pa.nulls(PAIRS_IN_ALL, field.type)) for field in PAIRS}
    tables.upsert("pairs", pa.table(full, schema=PAIRS))
    config = write_config(root / "run.yaml", root, keep={"min": {"motion": 0.5, "judge.identity": 2}})
    run = load(config)
    settle(run, "characters", "frame", {f"chr_{n:032x}": {"framing": "half"} for n in range(CHARACTERS)})
    specs = run.tracks["pairs"]
    rows, _ = usable_rows(tables, "pairs", specs, None)
    members = Members.of(run, tables, ledger.fold(tables), specs)
    drawn = np.random.default_rng(0).random((PAIRS_IN_ALL, 2))
    made = (
        [json.dumps({"motion": a, "flicker": b}) for a, b in drawn.tolist()],
        [json.dumps({"judge": {"identity": 1 + 4 * a}, "answer": {"why": "alike"}}) for a, _ in drawn.tolist()],
    )
    now = datetime.now(UTC)
    for number, keys in enumerate(keys_of(rows, specs, members.parts(rows) if members else None)):
        told = {
            "key": keys, "track": ["pairs"] * PAIRS_IN_ALL, "item": rows["id"],
            "stage": [specs[number].name] * PAIRS_IN_ALL, "state": [ledger.DONE] * PAIRS_IN_ALL, "made": made[number],
            "artifacts": [[]] * PAIRS_IN_ALL, "epoch": [1] * PAIRS_IN_ALL,
            "seq": range(number * PAIRS_IN_ALL, (number + 1) * PAIRS_IN_ALL), "written_at": [now] * PAIRS_IN_ALL,
        }  # fmt: skip
        full = {field.name: told.get(field.name, pa.nulls(PAIRS_IN_ALL, field.type)) for field in OUTCOMES}
        tables.append("outcomes", pa.table(full, schema=OUTCOMES))
    return config


def _timed(command: str, config: str, *words: str) -> dict[str, float]:
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    code = (
        "import sys; sys.argv = ['bodydouble', *sys.argv[1:]]\n"
        "from pipeline.__main__ import main\n"
        "try:\n    main()\nfinally:\n"  # ru_maxrss would begin at the parent's
        "    print(*[line for line in open('/proc/self/status') if line.startswith('VmHWM')], file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, command, config, *words, "--json"], capture_output=True, text=True, check=True
    )
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    told = json.loads(done.stdout)
    counted = told["pairs"] if command == "whatif" else told["tables"]["pairs"][-1]["done"]
    assert counted == PAIRS_IN_ALL
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"cpu": cpu, "wall": wall, "peak": int(done.stderr.split()[-2]) / 2**20}


def _row(name: str, value: float, unit: str, target: float | None) -> dict[str, Any]:
    told = None if target is None else f"<= {target:g}"
    return {"name": name, "value": value, "unit": unit, "target": told, "holds": target and value <= target}
