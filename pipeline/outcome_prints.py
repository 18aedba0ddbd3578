"""What the ledger says of many keys at once: a print of each, to see whether anything changed, or all of it for few.

A print is a digest of what was made (numbers and words, the SHA-256 of each artifact) and of the version of the code
that made it. A million of them are read in seconds, and kept in a few hundred MB, where the words themselves (answers
of judges) would need gigabytes.
"""

import hashlib
import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from manifests.ledger import DONE
from manifests.store import Artifact
from manifests.tables import Tables

_READ: Final = ["key", "made", "artifacts", "made_with", "epoch", "seq"]
_BATCH: Final = 20_000
_CODE: Final = r'"code": "(?P<code>[^"]*)"'
_BETWEEN: Final = "\x1e"


@dataclass(frozen=True)
class Made:
    """What a stage made of a row: columns that are no artifact, those that are, and the version of the code."""

    columns: dict[str, Any]
    artifacts: dict[str, Artifact]
    code: str | None


def prints_of(tables: Tables, track: str, keys: Collection[str]) -> dict[str, str]:
    """Return key -> print of the newest `done` outcome of each of these keys of one track."""

    def read() -> dict[str, str]:
        newest: dict[str, tuple[int, int, str]] = {}
        for batch in _batches(tables, track):
            columns = (batch["key"].to_pylist(), batch["epoch"].to_pylist(), batch["seq"].to_pylist(), _texts(batch))
            for key, epoch, seq, text in zip(*columns, strict=True):
                before = newest.get(key)
                if key in wanted and (before is None or (epoch, seq) > before[:2]):
                    newest[key] = epoch, seq, hashlib.sha256(text.encode()).hexdigest()[:32]
        return {key: found for key, (_, _, found) in newest.items()}

    wanted = keys if isinstance(keys, set | frozenset) else set(keys)
    return tables.patiently(read) if wanted else {}


def made_of(tables: Tables, track: str, keys: Collection[str]) -> dict[str, Made]:
    """Return key -> what its newest `done` outcome holds; for as many keys as fit into memory."""

    def read() -> dict[str, Made]:
        chosen: list[dict[str, Any]] = []
        for batch in _batches(tables, track):
            chosen += batch.filter(pc.is_in(batch["key"], value_set=wanted)).to_pylist()
        chosen.sort(key=lambda row: (row["epoch"], row["seq"]))
        return {row["key"]: _made(row) for row in chosen}

    wanted = pa.array(sorted(keys), pa.string())
    return tables.patiently(read) if len(wanted) else {}


def _made(row: dict[str, Any]) -> Made:
    artifacts = {each["column"]: Artifact(**each) for each in row["artifacts"] or []}
    return Made(json.loads(row["made"] or "{}"), artifacts, json.loads(row["made_with"] or "{}").get("code"))


def _batches(tables: Tables, track: str) -> Iterator[Any]:
    dataset = tables.open("outcomes")
    if dataset is not None:
        where = f"track = '{track}' AND state = '{DONE}'"
        yield from dataset.to_batches(columns=_READ, filter=where, batch_size=_BATCH)


def _texts(batch: Any) -> list[str]:
    """Return for each outcome all that a print is taken of."""
    lists = batch["artifacts"]
    counts = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
    offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int32())
    sums = pa.ListArray.from_arrays(offsets, pc.struct_field(pc.list_flatten(lists), "sha256"))
    made = pc.fill_null(batch["made"], "")
    code = pc.fill_null(pc.struct_field(pc.extract_regex(pc.fill_null(batch["made_with"], ""), _CODE), "code"), "")
    texts: list[str] = pc.binary_join_element_wise(made, pc.binary_join(sums, ","), code, _BETWEEN).to_pylist()
    return texts
