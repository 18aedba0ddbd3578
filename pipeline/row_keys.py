"""The recipe keys of rows: known of every row in every stage before anything runs, without a single artifact."""

from collections.abc import Mapping, Sequence

import pyarrow as pa

from manifests.keys import canonical, recipe_key
from pipeline.config import StageSpec

Parts = Mapping[str, Sequence[str]]  # column -> [row] what of it goes into a key


def keys_of(rows: pa.Table, specs: Sequence[StageSpec], given: Parts | None = None) -> list[list[str]]:
    """Return the recipe keys of every row in every stage, [stage][row].

    Args:
        rows: With the manifest's columns that the stages need.
        specs: The stages of their track, in order.
        given: Parts that are known already; of pairs, what they see of their members.
    """
    ids = rows["id"].to_pylist()
    of_pairs = {"source", "character"} <= set(rows.column_names)
    # an id digests content and segment; a pair holds those of its members
    parts: dict[str, Sequence[str]] = {n: rows[n].to_pylist() if of_pairs else ids for n in ("source", "character")}
    parts |= {"key": [""] * len(ids), **(given or {})}  # a key cannot hold itself
    keys = []
    for spec in specs:
        for need in spec.cls.needs:
            if need not in parts:  # a column of the manifest counts with its value, written once for all stages
                parts[need] = [f"{need}={canonical(value)}" for value in rows[need].to_pylist()]
        digest = spec.digest
        made = [recipe_key(digest, row) for row in zip(*(parts[need] for need in spec.cls.needs), strict=True)]
        keys.append(made)
        parts |= {column: [f"{column}={key}" for key in made] for column in spec.cls.makes}
    return keys
