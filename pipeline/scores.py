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

_BATCH: Final = 20_000  # texts at a time


def scores_of(
    tables: Tables, specs: Sequence[StageSpec], keys: Sequence[Sequence[str]], at: int | str | None = None
) -> dict[str, Floats]:
    """Return score name -> [rows] of what the stages made under their `keys`, [stage][row]; NaN where there is none.

    The newest outcome of a key counts, and only if it is `done`. `at` is a version or tag of the ledger, or the newest.

    Raises:
        TableError: There is no such version or tag.
    """

    def gathered() -> dict[str, Floats]:
        dataset = tables.open("outcomes", at)
        found: dict[str, Floats] = {}
        if dataset is not None:
            for spec, listed in zip(specs, keys, strict=True):
                found |= _of_stage(dataset, f"track = '{spec.track}' AND stage = '{spec.name}'", listed)
        return found

    return tables.patiently(gathered)


def _of_stage(dataset: Any, where: str, keys: Sequence[str]) -> dict[str, Floats]:
    """Return score name -> [rows] of one stage; rows may share a key.

    The log is gone through twice, in one order: first for where the newest outcome of each key stands, then for what it
    says. Hashing all keys once, and never holding all texts, is worth that.
    """
    listed = pa.array(keys, pa.string())
    unique = listed.unique()
    of_row = pc.index_in(listed, value_set=unique).to_numpy()
    log = dataset.to_table(columns=["key", "state", "epoch", "seq"], filter=where)
    key_of = _newest(log, unique)
    numbers: dict[str, Floats] = {}
    start = 0
    for batch in dataset.to_batches(columns=["made"], filter=where, batch_size=_BATCH, scan_in_order=True):
        key = key_of[start : start + len(batch)]
        start += len(batch)
        there = np.flatnonzero((key >= 0) & batch["made"].is_valid().to_numpy(zero_copy_only=False))
        for name, values in numbers_in(batch["made"].take(pa.array(there))).items():
            numbers.setdefault(name, np.full(len(unique), np.nan))[key[there]] = values
    return {name: values[of_row] for name, values in numbers.items()}


def _newest(log: pa.Table, keys: pa.StringArray) -> NDArray[np.int64]:
    """Return for each outcome the place of its key in `keys` if it is that key's newest, and done; else -1."""
    key = pc.fill_null(pc.index_in(log["key"].combine_chunks(), value_set=keys), -1).to_numpy()
    order = np.lexsort((log["seq"].to_numpy(), log["epoch"].to_numpy()))[::-1]
    order = order[key[order] >= 0]
    _, first = np.unique(key[order], return_index=True)
    rows = order[first]
    rows = rows[pc.equal(log["state"], ledger.DONE).to_numpy()[rows]]
    found = np.full(log.num_rows, -1, np.int64)
    found[rows] = key[rows]
    return found


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
