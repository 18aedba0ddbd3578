"""The numbers that stages made of rows, out of the ledger as columns: one pass over the log, memory by the batch.

A number is a score by the name of its column; a number `motion` in a column `judge` that holds fields is the score
`judge.motion`.
"""

import json
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import json as arrow_json

from manifests import ledger
from manifests.tables import Tables
from pipeline.config import StageSpec
from pipeline.pair_config import flattened

Floats = NDArray[np.float64]

_READ: Final = ["key", "stage", "state", "made", "epoch", "seq"]
_BATCH: Final = 20_000  # outcomes at a time


def scores_of(
    tables: Tables, specs: Sequence[StageSpec], keys: Sequence[Sequence[str]], at: int | str | None = None
) -> dict[str, Floats]:
    """Return score name -> [rows] of what the stages made under their `keys`, [stage][row]; NaN where there is none.

    The newest outcome of a key counts, and only if it is `done`. `at` is a version or tag of the ledger, or the newest.

    Raises:
        TableError: There is no such version or tag.
    """

    def gathered() -> list[_Stage]:
        stages = [_Stage(listed) for listed in keys]
        by_name = {spec.name: stage for spec, stage in zip(specs, stages, strict=True)}
        dataset = tables.open("outcomes", at)
        if dataset is not None and by_name:
            names = ", ".join(f"'{name}'" for name in by_name)  # letters, digits and _ only (pipeline/config.py)
            where = f"track = '{specs[0].track}' AND stage IN ({names})"
            for batch in dataset.to_batches(columns=_READ, filter=where, batch_size=_BATCH):
                for name, stage in by_name.items():
                    stage.take(batch.filter(pc.equal(batch["stage"], name)))
        return stages

    return {name: values for stage in tables.patiently(gathered) for name, values in stage.by_row().items()}


class _Stage:
    """What is known of the keys of one stage, so far; rows may share a key."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._place: dict[str, int] = {}
        self._of_row = np.array([self._place.setdefault(key, len(self._place)) for key in keys], np.int64)
        self._newest = np.full((len(self._place), 2), -1, np.int64)  # epoch, seq
        self._numbers: dict[str, Floats] = {}

    def by_row(self) -> dict[str, Floats]:
        """Return score name -> [rows]."""
        return {name: values[self._of_row] for name, values in self._numbers.items()}

    def take(self, batch: Any) -> None:
        """Take outcomes in any order."""
        place = np.array([self._place.get(key, -1) for key in batch["key"].to_pylist()], np.int64)
        order = np.lexsort((batch["seq"].to_numpy(), batch["epoch"].to_numpy()))
        order = order[place[order] >= 0]
        last = dict(zip(place[order].tolist(), order.tolist(), strict=True))
        places = np.fromiter(last.keys(), np.int64, len(last))
        rows = np.fromiter(last.values(), np.int64, len(last))
        written = np.stack([batch[name].to_numpy()[rows] for name in ("epoch", "seq")], axis=1)
        before = self._newest[places]
        newer = (written[:, 0] > before[:, 0]) | ((written[:, 0] == before[:, 0]) & (written[:, 1] > before[:, 1]))
        places, rows = places[newer], rows[newer]
        self._newest[places] = written[newer]
        for values in self._numbers.values():
            values[places] = np.nan  # what an older outcome said
        made = batch["made"].take(pa.array(rows))
        done = pc.equal(batch["state"].take(pa.array(rows)), ledger.DONE)
        there = np.flatnonzero(pc.and_(done, pc.is_valid(made)).to_numpy(zero_copy_only=False))
        for name, values in numbers_in(made.take(pa.array(there))).items():
            known = self._numbers.setdefault(name, np.full(len(self._place), np.nan))
            known[places[there]] = values


def numbers_in(texts: pa.StringArray) -> dict[str, Floats]:
    """Return the numbers in JSON objects as columns: by Arrow, or, where types are mixed, by Python."""
    if not len(texts):
        return {}
    lines = pc.binary_join(pa.ListArray.from_arrays([0, len(texts)], texts), "\n")[0].as_buffer()
    try:
        whole = arrow_json.ReadOptions(block_size=lines.size + 1)  # types are found block by block
        table = arrow_json.read_json(pa.BufferReader(lines), read_options=whole)
    except pa.ArrowInvalid:  # a raw answer whose fields change their type from row to row, or a NaN
        return _by_python(texts.to_pylist())
    return {name: pc.cast(column, pa.float64()).to_numpy() for name, column in _columns(table, "")}


def _columns(table: pa.Table, prefix: str) -> list[tuple[str, pa.ChunkedArray]]:
    found: list[tuple[str, pa.ChunkedArray]] = []
    for name, column in zip(table.column_names, table.columns, strict=True):
        if pa.types.is_struct(column.type):
            inner = pa.table({each.name: pc.struct_field(column, each.name) for each in column.type})
            found += _columns(inner, f"{prefix}{name}.")
        elif pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
            found.append((prefix + name, column))
    return found


def _by_python(texts: list[str]) -> dict[str, Floats]:
    numbers: dict[str, Floats] = {}
    for row, text in enumerate(texts):
        for name, value in flattened(json.loads(text), ""):
            if isinstance(value, int | float) and not isinstance(value, bool):
                numbers.setdefault(name, np.full(len(texts), np.nan))[row] = value
    return numbers
