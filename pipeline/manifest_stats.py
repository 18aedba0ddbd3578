"""Counts and measures of a table, and the difference between two of its versions."""

from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from manifests.tables import TableError, Tables

COUNTED: Final = ("licence", "consent", "domain", "tags", "reject")
MEASURED: Final = ("frames", "seconds", "fps", "width", "height", "file_bytes")
_QUANTILES: Final = (0.0, 0.25, 0.5, 0.75, 1.0)

Version = int | str | None


def stats_of(root: str, table: str, *, where: str | None = None, version: Version = None) -> dict[str, Any]:
    """Return counts by licence, consent, domain, tag and reason, totals, and quantiles of the usable rows.

    `totals` has seconds, frames and the bytes of the files, each counted once; `quantiles` are the least, the quarters
    and the most. A row with two tags counts under both; what is not said counts as `-`.

    Raises:
        TableError: the condition, the version or the tag is not understood.
    """
    tables = Tables(root)
    rows = tables.read(table, where=where, version=version)
    usable = rows.filter(pc.is_null(rows["reject"])) if "reject" in rows.column_names else rows
    measures = {name: _measure(usable, name) for name in MEASURED}
    measures = {name: values for name, values in measures.items() if values is not None}
    totals: dict[str, float] = {name: float(measures[name].sum()) for name in ("seconds", "frames") if name in measures}
    if "file_bytes" in rows.column_names:
        by_file = (
            usable.select(["file_sha256", "file_bytes"]).group_by("file_sha256").aggregate([("file_bytes", "max")])
        )
        totals["files"] = by_file.num_rows
        totals["file_bytes"] = pc.sum(by_file["file_bytes_max"]).as_py() or 0
    return {
        "table": table,
        "version": version_number(tables, table, version),
        "rows": rows.num_rows,
        "usable": usable.num_rows,
        "totals": totals,
        "counts": {name: _counts(rows[name]) for name in COUNTED if name in rows.column_names},
        "quantiles": {
            name: [float(value) for value in np.quantile(values, _QUANTILES)]
            for name, values in measures.items()
            if len(values)
        },
    }


def diff_of(root: str, table: str, old: Version, new: Version, *, where: str | None = None) -> dict[str, Any]:
    """Return the rows that were added, removed and changed from one version to another, by id.

    A changed row has `fields`: name -> [before, after] of each column that differs.

    Raises:
        TableError: a version, tag or the condition is not understood, or the table has no ids.
    """
    tables = Tables(root)
    before, after = (_by_id(tables, table, version, where) for version in (old, new))
    changed = []
    for key in sorted(before.keys() & after.keys()):
        fields = {
            name: [before[key].get(name), after[key].get(name)]
            for name in after[key]
            if before[key].get(name) != after[key].get(name)
        }
        if fields:
            changed.append({**_named(after[key]), "fields": fields})
    return {
        "table": table,
        "old": version_number(tables, table, old),
        "new": version_number(tables, table, new),
        "added": [_named(after[key]) for key in sorted(after.keys() - before.keys())],
        "removed": [_named(before[key]) for key in sorted(before.keys() - after.keys())],
        "changed": changed,
    }


def version_number(tables: Tables, table: str, version: Version) -> int:
    """Return the number of a version or tag; 0 if the table was never written."""
    dataset = tables.open(table, version)
    return 0 if dataset is None else int(dataset.version)


def _by_id(tables: Tables, table: str, version: Version, where: str | None) -> dict[str, dict[str, Any]]:
    found = tables.read(table, where=where, version=version)
    if "id" not in found.column_names:
        raise TableError(f"table {table} is a log without ids, so versions of it are not compared")
    return {row["id"]: row for row in found.to_pylist()}


def _named(row: dict[str, Any]) -> dict[str, Any]:
    return {"id": row["id"], "file": row.get("file")}


def _measure(rows: pa.Table, name: str) -> Any:
    if name == "seconds" and {"frames", "fps"} <= set(rows.column_names):
        values = pc.divide(pc.cast(rows["frames"], pa.float64()), rows["fps"])
    elif name in rows.column_names:
        values = rows[name]
    else:
        return None
    return pc.drop_null(values).to_numpy()


def _counts(column: pa.ChunkedArray) -> dict[str, int]:
    """Return value -> number of rows, the most frequent first."""
    if pa.types.is_list(column.type):
        empty = pc.sum(pc.fill_null(pc.equal(pc.list_value_length(column), 0), True)).as_py() or 0
        column = pc.list_flatten(column)
    else:
        empty = column.null_count
    counts = {entry["values"]: entry["counts"] for entry in pc.value_counts(pc.drop_null(column)).to_pylist()}
    if empty:
        counts["-"] = empty
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
