"""The pairs that a report shows: the best, the worst, those on the border, and some at random; and all that is known of
each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from manifests.ledger import Results
from manifests.store import Artifact
from manifests.verdicts import Limit
from pipeline.report_numbers import SIDES, Floats, Numbers

GROUPS: Final = ("best", "worst", "borderline", "random")
_SAID: Final = ("id", "licence", "consent", "origins", "identity", "domain", "tags")
_WORDS: Final = 600  # characters of a text that a page shows


@dataclass(frozen=True)
class Shown:
    """One pair that is shown: why, what is known of it, and what its films are made of."""

    facts: dict[str, Any]
    source: dict[str, Any]  # its row
    character: dict[str, Any]
    artifacts: Mapping[str, Artifact]  # skeleton (of the source), pseudo, if they are there


def margins_of(scores: Mapping[str, Floats], limits: Sequence[Limit]) -> tuple[Floats, str]:
    """Return for each pair [n] how good it is, and a sentence that says in what.

    With limits: the least distance to any of them, in standard deviations of that score; from 0 on it is within all.
    Without: the mean of the judge's scores, in standard deviations from their means. NaN where a score is missing.
    """
    count = len(next(iter(scores.values()), np.zeros(0)))
    if limits:
        rows = [np.full(count, np.nan)]
        for limit in limits:
            values = scores.get(limit.score, np.full(count, np.nan))
            away = values - limit.value if limit.side == "min" else limit.value - values
            rows.append(away / _spread(values))
        margin = np.min(np.stack(rows[1:]), axis=0)
        return (
            margin,
            "the least distance to a limit, in standard deviations of that score; below 0 is dropped",
        )
    judged = [values for name, values in scores.items() if name.startswith("judge")]
    if not judged:
        return np.full(count, np.nan), "no limit and no judge says which pair is good, so pairs are shown at random"
    scaled = [(values - np.nanmean(values)) / _spread(values) for values in judged if np.isfinite(values).any()]
    mean = np.mean(np.stack(scaled), axis=0) if scaled else np.full(count, np.nan)
    return mean, "the mean of the judge's scores, each in standard deviations from its mean: there is no limit"


def _spread(values: Floats) -> float:
    good = values[np.isfinite(values)]
    spread = float(good.std()) if len(good) else 0.0
    return spread if spread > 0 else 1.0


def choose(found: Numbers, films: int, seed: int) -> tuple[list[tuple[str, int]], Floats, str]:
    """Return the pairs to show as (group, place), each once, the margins of all, and what a margin is.

    Groups take turns, so that each has its share; which pairs are random follows from `seed`.
    """
    margin, meaning = margins_of(found.all_scores, found.limits)
    if not len(margin):
        margin = np.full(found.pairs.num_rows, np.nan)
    usable = np.flatnonzero(found.finished)
    ranked = usable[np.isfinite(margin[usable])]
    ranked = ranked[np.argsort(-margin[ranked], kind="stable")]
    near = ranked[np.argsort(np.abs(margin[ranked]), kind="stable")] if found.limits else ranked[:0]
    chance: NDArray[np.int64] = np.random.default_rng(seed).permutation(usable)
    queues = dict(zip(GROUPS, (ranked, ranked[::-1], near, chance), strict=True))
    waiting = {name: queue.tolist() for name, queue in queues.items()}
    chosen: dict[int, str] = {}
    while len(chosen) < films and any(waiting.values()):
        for name, queue in waiting.items():
            while queue and queue[0] in chosen:
                queue.pop(0)
            if queue and len(chosen) < films:
                chosen[queue.pop(0)] = name
    order = sorted(chosen.items(), key=lambda each: (GROUPS.index(each[1]), list(chosen).index(each[0])))
    return [(name, place) for place, name in order], margin, meaning


def shown_pairs(found: Numbers, films: int, seed: int) -> tuple[list[Shown], dict[str, Any]]:
    """Return the chosen pairs with all that a page says of them, and how they were chosen."""
    chosen, margin, meaning = choose(found, films, seed)
    how = {"order": meaning, "seed": seed, "finished": int(found.finished.sum())}
    places = [place for _, place in chosen]
    couples = found.pairs.take(pa.array(places, pa.int64())).to_pylist()
    rows = {side: _rows(found, side, [each[side] for each in couples]) for side in SIDES}
    ids = found.plans["sources"].rows["id"].combine_chunks()
    sources = pc.index_in(pa.array([each["source"] for each in couples], pa.string()), value_set=ids).to_pylist()
    made = _Made(found, places, [place for place in sources if place is not None])
    shown = []
    for (group, place), couple, of_source in zip(chosen, couples, sources, strict=True):
        if any(couple[side] not in rows[side] for side in SIDES):
            continue  # it is being forgotten this very moment, and then the page is not kept
        source, character = (rows[side][couple[side]] for side in SIDES)
        columns, artifacts = made.by("pairs", place)
        if of_source is not None:
            of_clip = made.by("sources", of_source)[1]
            artifacts = {name: of_clip[name] for name in ("skeleton",) if name in of_clip} | artifacts
        numbers = {name: _number(values[place]) for name, values in found.all_scores.items()}
        facts = {
            "group": group, "id": couple["id"], "kept": bool(found.kept[place]), "margin": _number(margin[place]),
            "verdict": found.verdicts.row(place)["detail"] if found.verdicts is not None else found.no_verdicts,
            "scores": numbers, "texts": texts_in(columns),
            "source": {name: source[name] for name in (*_SAID, "fps", "frames")},
            "character": {name: character[name] for name in _SAID},
        }  # fmt: skip
        shown.append(Shown(facts, source, character, artifacts))
    return shown, how


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


class _Made:
    """What stages made of some pairs and some sources, gathered in one pass over the log."""

    def __init__(self, found: Numbers, pairs: Sequence[int], sources: Sequence[int]) -> None:
        self._plans = found.plans
        wanted = [("pairs", place) for place in pairs] + [("sources", place) for place in sources]
        self._results = Results(found.tables, (key for each in wanted for key in self._keys(*each)))

    def _keys(self, track: str, place: int) -> list[str]:
        return [of_stage[place] for of_stage in self._plans[track].keys]

    def by(self, track: str, place: int) -> tuple[dict[str, Any], dict[str, Artifact]]:
        """Return what the stages of a track made of one row: columns, and artifacts."""
        columns: dict[str, Any] = {}
        artifacts: dict[str, Artifact] = {}
        for key in self._keys(track, place):
            if key in self._results:
                values, records = self._results[key]
                columns |= values
                artifacts |= {record["column"]: Artifact(**record) for record in records}
        return columns, artifacts


def _rows(found: Numbers, side: str, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    listed = ", ".join(f"'{name}'" for name in sorted(set(ids)))
    rows = found.tables.read(SIDES[side], where=f"id IN ({listed})").to_pylist() if ids else []
    return {row["id"]: row for row in rows}


def texts_in(columns: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return the texts that stages made, by the name of their column, each cut to what a page can show."""
    texts: dict[str, str] = {}
    for name, value in columns.items():
        if isinstance(value, Mapping):
            texts |= texts_in(value, f"{prefix}{name}.")
        elif isinstance(value, str) and value.strip():
            cut = value if len(value) <= _WORDS else value[:_WORDS] + f" … ({len(value):,} characters in all)"
            texts[prefix + name] = cut
    return texts
