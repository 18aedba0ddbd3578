"""The numbers of a report: funnel, yield, scores, what was spent and what is left. Everything is ready for JSON."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from manifests import ledger
from manifests.tables import Tables
from manifests.verdicts import KeepError, Limit, Verdicts
from pipeline import cost_page
from pipeline.config import Run, StageSpec
from pipeline.cost import cost_of
from pipeline.keeping import Judged, columns_made, labels_of, limits_of, verdicts_on
from pipeline.plan import StageCount, TrackPlan, plan_run, plan_track
from pipeline.report_charts import bins_of
from pipeline.scores import scores_of
from pipeline.timings import read_timings
from pipeline.whatif import UNSAID, limit_lines

Floats = NDArray[np.float64]
Truths = NDArray[np.bool_]
SIDES: Final = {"source": "sources", "character": "characters"}


@dataclass
class Numbers:
    """A root at one moment: what its run makes of its rows, pair by pair."""

    run: Run
    tables: Tables
    folded: ledger.Fold
    plans: dict[str, TrackPlan]
    finished: Truths  # [pairs] through all stages
    scores: dict[str, dict[str, Floats]]  # stage of pairs -> score -> [pairs]
    verdicts: Verdicts | None  # None: they cannot be given
    no_verdicts: str | None = None  # and why
    limits: tuple[Limit, ...] = ()
    kept: Truths = field(default_factory=lambda: np.zeros(0, bool))  # [pairs] finished, and within all limits

    @property
    def pairs(self) -> pa.Table:
        """The usable pairs, by id: id, source, character."""
        return self.plans["pairs"].rows

    @property
    def all_scores(self) -> dict[str, Floats]:
        """Score -> [pairs], of all stages."""
        return {name: values for of_stage in self.scores.values() for name, values in of_stage.items()}


def numbers_of(run: Run, tables: Tables) -> Numbers:
    """Count a root; the ledger is folded once, so that all numbers are of one moment.

    Raises:
        KeepError: A limit names a score that no pair has, or labels cannot be read.
    """
    folded = ledger.fold(tables)
    plans = {plan.track: plan for plan in plan_run(run, tables, folded)}
    for track in ("sources", "characters", "pairs"):
        plans.setdefault(track, plan_track([], track, tables, folded))
    pairs = plans["pairs"]
    scores = {spec.name: scores_of(tables, [spec], [keys]) for spec, keys in zip(pairs.specs, pairs.keys, strict=True)}
    found = Numbers(run, tables, folded, plans, _finished(pairs, folded), scores, None)
    judged = Judged(pairs.rows.select(["id", "source", "character"]), found.all_scores, columns_made(pairs.specs))
    try:
        found.limits = limits_of(run, tables)
    except KeepError as error:  # a percentile of scores that are still to come: nothing can be kept yet
        found.no_verdicts = str(error)
        found.kept = np.zeros(len(found.finished), bool)
        return found
    found.verdicts = verdicts_on(judged, found.limits, labels_of(run.config.keep.labels))
    found.kept = found.finished & found.verdicts.kept
    return found


def _finished(plan: TrackPlan, folded: ledger.Fold) -> Truths:
    """Say of each usable pair whether it came through all stages, as the last line of the funnel counts it."""
    rows = plan.rows.num_rows
    if not plan.specs or plan.members is None:
        return np.zeros(rows, bool)
    ready = np.array([state == ledger.DONE for state, _ in plan.members.ends(plan.rows)], bool).reshape(rows)
    done = [np.array([folded.state.get(key) == ledger.DONE for key in keys], bool).reshape(rows) for keys in plan.keys]
    finished: Truths = ready & np.logical_and.reduce(done)
    return finished


def funnel_lines(found: Numbers) -> dict[str, list[StageCount]]:
    """Return track -> its lines, as `pipeline.funnel.funnel` does."""
    return {track: found.plans[track].counts for track in ("sources", "characters", "pairs")}


def pairs_json(found: Numbers) -> dict[str, Any]:
    """Return what became of the pairs: how many are usable, finished and kept, and why the rest is not."""
    told: dict[str, Any] = {"usable": found.pairs.num_rows, "finished": int(found.finished.sum())}
    told |= {"kept": int(found.kept.sum()), "dropped": {}, "limits": [], "problem": found.no_verdicts}
    if found.verdicts is not None:
        dropped = found.verdicts.reason[found.finished & ~found.kept]
        places, counts = np.unique(dropped, return_counts=True)
        order = np.argsort(-counts, kind="stable")
        told["dropped"] = {found.verdicts.reasons[places[n]]: int(counts[n]) for n in order}
        told["limits"] = limit_lines(_of_finished(found.verdicts, found.finished))
    return told


def _of_finished(verdicts: Verdicts, finished: Truths) -> Verdicts:
    """Return the verdicts of pairs that came through all stages: of the others a missing score says nothing."""
    chosen = np.flatnonzero(finished)
    columns = {name: getattr(verdicts, name)[chosen] for name in ("kept", "reason", "value", "limit")}
    ids = [verdicts.ids[place] for place in chosen.tolist()]
    return Verdicts(
        ids=ids, reasons=verdicts.reasons, limits=verdicts.limits, beyond=verdicts.beyond[:, chosen],
        labels=verdicts.labels, **columns,
    )  # fmt: skip


def yields_json(found: Numbers) -> dict[str, list[dict[str, Any]]]:
    """Return kind -> a line for each of its groups: pairs, finished, kept; the largest first."""
    told: dict[str, list[dict[str, Any]]] = {}
    for side, track in SIDES.items():
        rows = found.tables.read(track, columns=["id", "domain", "identity"])
        identities = dict(zip(rows["id"].to_pylist(), rows["identity"].to_pylist(), strict=True))
        place = pc.index_in(found.pairs[side].combine_chunks(), value_set=rows["id"].combine_chunks())
        for kind, names in ((f"{side} domain", rows["domain"]), (side, rows["id"])):
            of_pair = pc.fill_null(pc.take(names.combine_chunks(), place), UNSAID)
            told[kind] = list(_groups(of_pair, found.finished, found.kept))
        told[side] = [line | {"identity": identities.get(line["name"])} for line in told[side]]
    return {kind: told[kind] for kind in ("character domain", "source domain", "character", "source")}


def _groups(of_pair: pa.Array, finished: Truths, kept: Truths) -> Iterator[dict[str, Any]]:
    """Give a line for each name; `share` is of the pairs that came through all stages."""
    words = of_pair.dictionary_encode()
    codes, names = words.indices.to_numpy(zero_copy_only=False).astype(int), words.dictionary.to_pylist()
    every, done, good = (np.bincount(codes[chosen], minlength=len(names)) for chosen in (slice(None), finished, kept))
    for place in sorted(range(len(names)), key=lambda n: (-every[n], names[n])):
        share = float(good[place] / done[place]) if done[place] else None
        line = {"name": names[place], "pairs": int(every[place]), "finished": int(done[place])}
        yield line | {"kept": int(good[place]), "share": share}


def scores_json(found: Numbers) -> list[dict[str, Any]]:
    """Return a line for each score that a pair has: those with a limit first, in the config's order, then by stage."""
    of_limits = [limit.score for limit in found.limits]
    lines: list[dict[str, Any]] = []
    for stage, scores in found.scores.items():
        for name, values in scores.items():
            good = values[np.isfinite(values)]
            if not len(good):
                continue
            limits = [
                {"side": limit.side, "value": limit.value, "percentile": limit.percentile}
                for limit in found.limits
                if limit.score == name
            ]
            edges, counts = bins_of(good, [limit.value for limit in found.limits if limit.score == name])
            low, median, high = (float(each) for each in np.quantile(good, (0.1, 0.5, 0.9)))
            line: dict[str, Any] = {"name": name, "stage": stage, "count": len(good)}
            line |= {"missing": int((found.finished & ~np.isfinite(values)).sum())}
            line |= {"min": float(good.min()), "p10": low, "median": median, "p90": high, "max": float(good.max())}
            lines.append(line | {"limits": limits, "edges": edges, "counts": counts})
    return sorted(lines, key=lambda line: of_limits.index(line["name"]) if line["limits"] else len(of_limits))


def spent_json(found: Numbers) -> dict[str, Any]:
    """Return the working time in the ledger by stage, in all and for each kept pair, whatever recipe it was spent on.

    Hours are those of one worker, times the CPUs and GPUs that this config gives it.
    """
    run, price = found.run, found.run.config.price_per_gpu_hour
    specs = [spec for specs in run.tracks.values() for spec in specs]
    timings = read_timings(found.tables, [(spec.track, spec.name) for spec in specs])
    stages = []
    for spec in specs:
        of_recipes = timings[spec.track, spec.name]
        count, total = (sum(getattr(each, name) for each in of_recipes.values()) for name in ("count", "total_s"))
        own = of_recipes.get(spec.digest)
        line: dict[str, Any] = {"track": spec.track, "stage": spec.name, "items": count, "work_s": total}
        line["median_s"] = float(np.median(own.seconds)) if own is not None and own.count else None
        line |= {"p90_s": float(np.quantile(own.seconds, 0.9)) if own is not None and own.count else None}
        line["of_other_recipes"] = count - (own.count if own is not None else 0)
        stages.append(line | _hours(spec, total, price))
    kept, keys = int(found.kept.sum()), ("work_s", "cpu_hours", "gpu_hours", "money")
    whole = {
        key: None if any(line[key] is None for line in stages) else sum(line[key] for line in stages) for key in keys
    }
    each = {key: value / kept if kept and value is not None else None for key, value in whole.items()}
    for line in stages:
        line["work_s_per_kept_pair"] = line["work_s"] / kept if kept else None
    return {"stages": stages, "total": whole, "per_kept_pair": each, "price_per_gpu_hour": price}


def _hours(spec: StageSpec, seconds: float, price: float | None) -> dict[str, Any]:
    gpu_hours = seconds * spec.config.gpus / 3600
    money = None if price is None else gpu_hours * price
    return {"cpu_hours": seconds * spec.config.cpus / 3600, "gpu_hours": gpu_hours, "money": money}


def left_json(found: Numbers, config: str) -> dict[str, Any]:
    """Return what the rest will cost, as `plan` says it: its sentences, and its numbers."""
    run = found.run
    plans: Sequence[TrackPlan] = [found.plans[track] for track in run.tracks]
    cost = cost_of(run, plans, found.tables)
    return {
        "sentences": list(cost_page.sentences(cost, config, run.config.price_per_gpu_hour)),
        "cost": cost_page.as_json(cost),
    }
