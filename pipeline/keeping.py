"""Verdicts over the table `pairs`: scores out of the ledger, percentiles made numbers once, labels out of a file.

Scores are the numbers that the stages of the pairs track made under this config; a number `motion` in a column `judge`
that holds fields is the score `judge.motion`. They are read straight out of the log, as columns.
"""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import json as arrow_json

from manifests import ledger
from manifests.keys import digest
from manifests.schema import OUTCOMES
from manifests.store import Store
from manifests.tables import Tables
from manifests.verdicts import KeepError, Label, Limit, Percentile, Scores, Verdicts, decide, resolve
from pipeline.config import Run
from pipeline.pair_config import KeepConfig, flattened
from pipeline.plan import plan_track
from pipeline.strict_yaml import nearest

_READ: Final = ["key", "state", "made", "epoch", "seq"]


@dataclass(frozen=True)
class Judged:
    """The pairs of a root that may be kept, with the scores that a run's stages gave them."""

    rows: pa.Table  # id, source, character of the usable pairs, sorted by id
    scores: Scores
    recipes: list[str]  # digests of the stages that may give scores

    @property
    def ids(self) -> list[str]:
        """The pairs' ids."""
        ids: list[str] = self.rows["id"].to_pylist()
        return ids


def judged(run: Run, tables: Tables, at: int | str | None = None) -> Judged:
    """Return all pairs and their scores; of the ledger at a version or tag if `at` is given, else of the newest.

    Raises:
        TableError: There is no such version or tag.
    """
    specs = run.tracks.get("pairs", [])
    plan = plan_track(specs, "pairs", tables, ledger.Fold())
    scores: dict[str, NDArray[np.float64]] = {}
    for spec, keys in zip(specs, plan.keys, strict=True):
        made = _made_by(tables, spec.name, keys, at)
        scores |= _numbers(made)
    couples = tables.read("pairs", columns=["id", "source", "character"], where="reject IS NULL").sort_by("id")
    return Judged(couples, scores, [spec.digest for spec in specs])


def limits_of(run: Run, tables: Tables, config: KeepConfig | None = None, record: bool = False) -> tuple[Limit, ...]:
    """Return a config's limits as numbers.

    What a percentile became at a version stands in `keep/<digest>.json` once it was recorded, and counts from then on.
    With `record` it is written down, which only the holder of the lease may do.

    Raises:
        KeepError: There is no score to take a percentile of.
        TableError: There is no such version or tag.
    """
    config = config or run.config.keep
    fixed = [Limit(score, "min", value) for score, value in config.min.items()]
    fixed += [Limit(score, "max", value) for score, value in config.max.items()]
    open_ = [Percentile(score, "min", percent) for score, percent in config.min_percentile.items()]
    open_ += [Percentile(score, "max", percent) for score, percent in config.max_percentile.items()]
    if open_ and config.at is not None:
        fixed += _resolved(run, tables, open_, config.at, record)
    return tuple(fixed)


def _resolved(
    run: Run, tables: Tables, percentiles: Sequence[Percentile], at: int | str, record: bool
) -> tuple[Limit, ...]:
    """Look what the percentiles became at a version, or find out."""
    number = at
    if isinstance(at, str):
        known = tables.tags("outcomes")
        if at not in known:
            tags = ", ".join(known) or "none"
            raise KeepError(f"keep.at names the tag {at!r} of table outcomes, which there is not; its tags: {tags}")
        number = known[at]
    recipes = [spec.digest for spec in run.tracks.get("pairs", [])]
    page = f"keep/{digest([[asdict(each) for each in percentiles], number, recipes])}.json"
    store = Store(run.config.root)
    found = store.page(page)
    if found is None:
        limits = resolve(percentiles, judged(run, tables, number).scores)
        if record:
            told = {"table": "outcomes", "version": number, "at": at, "recipes": recipes}
            store.put_page(page, told | {"limits": [asdict(limit) for limit in limits]})
        return limits
    return tuple(Limit(**limit) for limit in found["limits"])


def labels_of(path: str | None) -> dict[str, Label]:
    """Read labels: a JSON object a line with id, keep (true or false), and optionally by and why; a later line wins.

    Raises:
        KeepError: The file cannot be read, or a line is no label.
    """
    if path is None:
        return {}
    labels: dict[str, Label] = {}
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise KeepError(f"keep.labels names {path}, which cannot be read: {error}") from error
    for number, line in enumerate(lines, 1):
        if line.strip():
            labels.update([_label(line, f"line {number} of {path}")])
    return labels


def _label(line: str, where: str) -> tuple[str, Label]:
    wanted = 'wanted {"id": "par_...", "keep": true or false, "by": "...", "why": "..."}'
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise KeepError(f"{where} is no JSON ({error.msg}); {wanted}") from error
    known = {"id": str, "keep": bool, "by": str, "why": str}
    right = isinstance(row, dict) and {"id", "keep"} <= row.keys() <= known.keys()
    if not right or not all(isinstance(value, known[name]) for name, value in row.items()):
        raise KeepError(f"{where} is no label: found {line.strip()[:120]}; {wanted}")
    return row["id"], Label(row["keep"], row.get("by", ""), row.get("why", ""))


def verdicts_of(run: Run, tables: Tables, record: bool = False) -> tuple[Judged, Verdicts]:
    """Give every usable pair of a root its verdict by the run's `keep`; see `limits_of` for `record`."""
    found = judged(run, tables)
    return found, verdicts_on(found, limits_of(run, tables, record=record), labels_of(run.config.keep.labels))


def verdicts_on(found: Judged, limits: Sequence[Limit], labels: Mapping[str, Label]) -> Verdicts:
    """Give verdicts by these limits and labels.

    Raises:
        KeepError: A limit names a score that no pair has, while there are others: a slip of the pen.
    """
    for limit in limits:
        if found.scores and limit.score not in found.scores:
            known = nearest(limit.score, found.scores)
            raise KeepError(f"keep.{limit.side} names the score {limit.score!r}, which no pair has{known}")
    return decide(found.ids, found.scores, limits, labels)


def _made_by(tables: Tables, stage: str, keys: Sequence[str], at: int | str | None) -> pa.Table:
    """Return what a stage made for each key: `made` (JSON or null) in the order of `keys`, of the newest outcome."""
    where = f"track = 'pairs' AND stage = '{stage}'"
    log = tables.read("outcomes", columns=_READ, where=where, version=at)
    order = np.lexsort((log["seq"].to_numpy(), log["epoch"].to_numpy()))
    place = pc.index_in(log["key"].combine_chunks(), value_set=pa.array(keys, OUTCOMES.field("key").type))
    places = pc.fill_null(place, -1).to_numpy(zero_copy_only=False)[order]
    newest = np.full(len(keys), -1)
    newest[places[places >= 0]] = order[places >= 0]  # where a place comes again, numpy keeps the last value
    rows = log.select(["state", "made"]).take(pa.array(newest, mask=newest < 0))
    done = pc.fill_null(pc.equal(rows["state"], ledger.DONE), False)
    return pa.table({"made": pc.if_else(done, rows["made"], pa.scalar(None, pa.string()))})


def _numbers(made: pa.Table) -> dict[str, NDArray[np.float64]]:
    """Return score name -> [rows] of the JSON in `made`; NaN where there is none."""
    there = pc.is_valid(made["made"]).to_numpy(zero_copy_only=False)
    numbers = {}
    for name, found in _parsed(made["made"].drop_null().to_pylist()).items():
        numbers[name] = np.full(len(there), np.nan)
        numbers[name][there] = found
    return numbers


def _parsed(texts: list[str]) -> dict[str, NDArray[np.float64]]:
    """Return the numbers in JSON objects as columns: by Arrow, or, where types are mixed, by Python."""
    if not texts:
        return {}
    size = max(1 << 20, 2 * max(map(len, texts)) * 4)  # bytes; an object must fit into a block
    try:
        table = arrow_json.read_json(
            io.BytesIO("\n".join(texts).encode()), read_options=arrow_json.ReadOptions(block_size=size)
        )
    except pa.ArrowInvalid:  # a raw answer whose fields change their type from row to row, or a NaN
        return _parsed_by_python(texts)
    return {name: pc.cast(column, pa.float64()).to_numpy(zero_copy_only=False) for name, column in _columns(table, "")}


def _columns(table: pa.Table, prefix: str) -> list[tuple[str, pa.ChunkedArray]]:
    found: list[tuple[str, pa.ChunkedArray]] = []
    for name, column in zip(table.column_names, table.columns, strict=True):
        if pa.types.is_struct(column.type):
            inner = pa.table({each.name: pc.struct_field(column, each.name) for each in column.type})
            found += _columns(inner, f"{prefix}{name}.")
        elif pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
            found.append((prefix + name, column))
    return found


def _parsed_by_python(texts: list[str]) -> dict[str, NDArray[np.float64]]:
    numbers: dict[str, NDArray[np.float64]] = {}
    for row, text in enumerate(texts):
        for name, value in flattened(json.loads(text), ""):
            if isinstance(value, int | float) and not isinstance(value, bool):
                numbers.setdefault(name, np.full(len(texts), np.nan))[row] = value
    return numbers
