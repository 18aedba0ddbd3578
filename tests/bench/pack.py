"""Shards: writing them beside `webdataset.ShardWriter`, and a plan for a million samples."""

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import webdataset

from manifests import ledger
from manifests.files import files_of
from manifests.ledger import fold
from manifests.schema import OUTCOMES, PAIRS, TABLES
from manifests.shards.plan import Bucket, Group
from manifests.shards.writing import write_shard
from manifests.tables import Tables
from pipeline.config import Run, build
from pipeline.pack_plan import plan_pack
from pipeline.plan import plan_run
from tests import pack_samples

Measured = dict[str, Any]
SAMPLES, PER_SHARD, ROUNDS = 1024, 128, 5
SOURCES, PER_SOURCE, CHARACTERS = 200_000, 5, 10_000
_AT_ONCE = 100_000


def measure() -> list[Measured]:
    """Measure all parts."""
    return [writing(), planning()]


def writing() -> Measured:
    """Samples a second, as a share of webdataset's own writer, of the same samples on the same disk; ours also hash."""
    noise = np.random.default_rng(0)
    parts = {"driving.mp4": 300_000, "target.mp4": 300_000, "reference.png": 100_000, "skeleton.npy": 25_000}
    made = {name: noise.bytes(size) for name, size in parts.items()} | {"json": b"{" + b" " * 2000 + b"}"}
    ratios = []
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as ours, tempfile.TemporaryDirectory() as theirs:
            started = time.perf_counter()
            with webdataset.ShardWriter(f"{theirs}/%05d.tar", maxcount=PER_SHARD, verbose=0) as writer:
                for number in range(SAMPLES):
                    writer.write({"__key__": f"par_{number}", **made})
            theirs_s = time.perf_counter() - started
            started = time.perf_counter()
            files, group = files_of(ours), Group("reverse", Bucket(480, 832, 81, 16.0), "r")
            for shard in range(SAMPLES // PER_SHARD):
                names = (f"par_{shard * PER_SHARD + number}" for number in range(PER_SHARD))
                write_shard(files, "shards/main", group, shard, ((n, n, n, list(made.items())) for n in names))
            ratios.append(theirs_s / (time.perf_counter() - started))
    name = f"writing {SAMPLES:,} samples of 0.7 MB, SHA-256 and index included, samples/s over webdataset.ShardWriter's"
    return _row(name, statistics.median(ratios), "", at_least=1.0)


def planning() -> Measured:
    """Seconds from an open ledger to the plan of a million samples, keys and digests included."""
    with tempfile.TemporaryDirectory() as folder:
        run = million(Path(folder))
        tables = Tables(folder)
        started = time.perf_counter()
        plan = plan_pack(run, tables, fold(tables))
        seconds = time.perf_counter() - started
        assert len(plan.row) == SOURCES * PER_SOURCE, plan.counts
    count = f"{len(plan.row):,} samples of {SOURCES:,} sources in {len(plan.shards):,} shards"
    name = f"pack: a plan for {count}, two stages of pairs"
    return _row(name, seconds, "s", at_most=60.0)


def million(root: Path) -> Run:
    """Write a million pairs that are rendered and judged; no media, since a plan reads none."""
    tables = Tables(root)
    for table, count, prefix in (("sources", SOURCES, "src"), ("characters", CHARACTERS, "chr")):
        row = pack_samples.GIVEN | {"domain": "human", "file": "film.mp4", "file_sha256": "0" * 64}
        row |= {"start_s": 0.0, "fps": 16.0, "frames": 81, "width": 832, "height": 480} if prefix == "src" else {}
        tables.append(table, _repeated(row, count, TABLES[table], id=[f"{prefix}_{n:032x}" for n in range(count)]))
    total = SOURCES * PER_SOURCE
    sources = [f"src_{n // PER_SOURCE:032x}" for n in range(total)]
    characters = [f"chr_{n % CHARACTERS:032x}" for n in range(total)]
    ids = [f"par_{n:032x}" for n in range(total)]
    tables.append("pairs", _repeated({}, total, PAIRS, id=ids, source=sources, character=characters))
    run = build({"root": str(root), "stages": pack_samples.STAGES})
    for plan in plan_run(run, tables, ledger.Fold()):
        for spec, keys in zip(plan.specs, plan.keys, strict=True):
            for start in range(0, len(keys), _AT_ONCE):
                tables.append("outcomes", _outcomes(spec, keys[start : start + _AT_ONCE], start))
    return run


def _repeated(row: dict[str, Any], count: int, schema: pa.Schema, **columns: list[Any]) -> pa.Table:
    """Return a table whose rows differ in `columns` only."""
    one = pa.Table.from_pylist([row], schema=schema)
    table = one.take(pa.array(np.zeros(count, np.int64)))
    for name, values in columns.items():
        table = table.set_column(
            schema.get_field_index(name), schema.field(name), [pa.array(values, schema.field(name).type)]
        )
    return table


def _outcomes(spec: Any, keys: list[str], start: int) -> pa.Table:
    column = {"skeleton": "skeleton", "render": "pseudo"}.get(spec.name)
    artifacts = [{"column": column, "address": "artifacts/x", "sha256": "0" * 64, "bytes": 1}] if column else []
    row = {"track": spec.track, "item": "x", "stage": spec.name, "state": ledger.DONE, "artifacts": artifacts}
    epoch = ("skeleton", "render", "judge").index(spec.name) + 1  # one run a stage
    row |= {"made_with": '{"code": "0.1.0"}', "epoch": epoch}
    numbers = range(start, start + len(keys))
    made = {"skeleton": '{{"people": {}}}', "render": '{{"prompt": "a figure waves", "seed": {}}}'}
    text = made.get(spec.name, '{{"motion": {}.5, "judge": {{"identity": 4}}}}')
    columns = {"key": keys, "seq": list(numbers), "made": [text.format(number) for number in numbers]}
    return _repeated(row, len(keys), OUTCOMES, **columns)


def _row(name: str, value: float, unit: str, at_least: float | None = None, at_most: float | None = None) -> Measured:
    if at_least is not None:
        return {"name": name, "value": value, "unit": unit, "target": f">= {at_least:g}", "holds": value >= at_least}
    assert at_most is not None
    return {"name": name, "value": value, "unit": unit, "target": f"<= {at_most:g}", "holds": value <= at_most}


if __name__ == "__main__":
    for each in measure():
        print(each)
