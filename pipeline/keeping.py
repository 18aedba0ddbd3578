"""Verdicts over the table `pairs`: scores out of the ledger, percentiles made numbers once, labels out of a file.

Scores are the numbers that the stages of the pairs track made under this config (pipeline/scores.py).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa

from manifests.keys import digest
from manifests.ledger import Fold
from manifests.store import Store
from manifests.tables import Tables
from manifests.verdicts import KeepError, Label, Limit, Percentile, Scores, Verdicts, decide, resolve
from pipeline.config import Run, StageSpec
from pipeline.members import Members
from pipeline.pair_config import KeepConfig
from pipeline.plan import usable_rows
from pipeline.row_keys import keys_of
from pipeline.scores import scores_of
from pipeline.strict_yaml import nearest


@dataclass(frozen=True)
class Judged:
    """The pairs of a root that may be kept, with the scores that a run's stages gave them."""

    rows: pa.Table  # id, source, character of the usable pairs, sorted by id
    scores: Scores
    columns: frozenset[str]  # that the run's stages of pairs make; a score may be null in every pair

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
    rows, _ = usable_rows(tables, "pairs", specs, None)
    members = Members.of(run, tables, Fold(), specs)
    scores = scores_of(tables, specs, keys_of(rows, specs, members.parts(rows) if members else None), at)
    couples = tables.read("pairs", columns=["id", "source", "character"], where="reject IS NULL").sort_by("id")
    return Judged(couples, scores, columns_made(specs))


def columns_made(specs: Sequence[StageSpec]) -> frozenset[str]:
    """Return the columns that stages make."""
    return frozenset(column for spec in specs for column in spec.cls.makes)


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
        KeepError: A limit names a score that no pair has, while there are others: a slip of the pen. It is none where a
            stage makes that column and it is null in every pair.
    """
    of_columns = {score.partition(".")[0] for score in found.scores}
    for limit in limits:
        null_in_all = limit.score.partition(".")[0] in found.columns - of_columns
        if found.scores and limit.score not in found.scores and not null_in_all:
            known = nearest(limit.score, found.scores)
            raise KeepError(f"keep.{limit.side} names the score {limit.score!r}, which no pair has{known}")
    return decide(found.ids, found.scores, limits, labels)
