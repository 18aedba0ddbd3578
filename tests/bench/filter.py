"""How well the filter tells good pseudo pairs from bad ones: `rules` against planted truth.

    python -m tests.bench.filter                      the report, on 600 pairs that no scale was set on
    python -m tests.bench.filter rows 0 train 0 300 FILE    measured pairs as JSON lines; goes on where FILE ends
    python -m tests.bench.filter report FILE...             the report on such files

The scales of `stages/judge_rules.py` were set on seed 0 of the train split; the report is on seed 1 of the held-out
one: other figures, motions, backgrounds, cameras, lights. A pair is dropped if a score is below `LEAST` or missing
(`manifests/verdicts.py` decides, as in a run). AUC is that of the dimensions that a kind of fault should lower, their
least counting, against the clean pairs; a score that is missing counts as the lowest.
"""

import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image

from manifests import verdicts
from manifests.media import Clip, Picture, Video, read_mp4, write_mp4
from manifests.theatre.planted import pairs
from stages.judge_rules import SCALES, judged
from stages.measure import Measure, MeasureConfig
from stages.skeleton import Skeleton, SkeletonConfig
from stages.stage import Reject

COUNT: Final = 600
CALIBRATED, REPORTED = (0, "train"), (1, "held_out")
FRAMES, FPS, SIZE_PX = 17, 12.0, 128
LEAST: Final = 3.0
FITTING: Final = {
    "leak": ("identity", "appearance_consistency"),
    "wrong_character": ("identity", "appearance_consistency"),
    "limbs": ("identity",),
    "other_motion": ("motion",),
    "frozen": ("motion_smoothness", "motion"),
    "flicker": ("temporal_consistency",),
    "blur": ("imaging_quality",),
}
"""The dimensions that a kind of fault should lower."""

Rows = Sequence[dict[str, Any]]


def rows(seed: int, split: str, start: int, stop: int) -> Iterator[dict[str, Any]]:
    """Plant pairs, send them through the stages, and give each with its truth, its measures and its scores."""
    skeleton = Skeleton(SkeletonConfig(min_person_px=0, min_seen_share=0.5, tile_share=0, refine_face=False))
    measure = Measure(MeasureConfig())
    with tempfile.TemporaryDirectory() as folder:
        made: dict[int, dict[str, Any] | None] = {}
        for index in range(start, stop):
            pair = pairs.draw(seed, index, split)
            shown = pairs.show(pair, FRAMES, FPS, SIZE_PX, SIZE_PX)
            base = index // pairs.PER_BASE
            if base not in made:
                made = {base: _members(Path(folder) / str(base), shown, skeleton)}
            truth = {"index": index, "kind": pair.kind, "grade": pair.grade, "camera": pair.source.camera}
            members = made[base]
            if members is None:
                yield truth | {"rejected": "no skeleton of the source"}
                continue
            file = Path(folder) / "pseudo.mp4"
            write_mp4(Video(shown.pseudo, FPS), file)
            (found,) = measure([members | {"pseudo": read_mp4(file)}])
            if isinstance(found, Reject):
                yield truth | {"rejected": found.reason}
            else:
                yield truth | found


def _members(stem: Path, shown: pairs.Shown, skeleton: Skeleton) -> dict[str, Any] | None:
    video, picture = stem.with_suffix(".mp4"), stem.with_suffix(".png")
    write_mp4(Video(shown.source, FPS), video)
    Image.fromarray(shown.character).save(picture)
    source = Clip(str(video), 0.0, FPS, FRAMES)
    (seen,) = skeleton([{"source": source}])
    if isinstance(seen, Reject):
        return None
    return {"source": source, "character": Picture(str(picture)), "skeleton": seen["skeleton"]}


def auc(clean: Sequence[float], faulty: Sequence[float]) -> float:
    """Return the probability that a faulty pair scores below a clean one, ties as half (Mann-Whitney)."""
    one, other = np.asarray(clean)[:, None], np.asarray(faulty)[None]
    return float((other < one).mean() + 0.5 * (other == one).mean())


def least(row: dict[str, Any], dimensions: Iterable[str]) -> float:
    """Return the lowest of some scores; 0 where one is missing."""
    return min(row[f"judge_{name}"] or 0.0 for name in dimensions)


def decided(measured: Rows) -> list[str | None]:
    """Return for each pair why it is dropped, or None."""
    columns = [f"judge_{name}" for name in SCALES]
    scores = {c: np.array([np.nan if r[c] is None else r[c] for r in measured]) for c in columns}
    given = verdicts.decide(
        [str(r["index"]) for r in measured], scores, [verdicts.Limit(c, "min", LEAST) for c in columns]
    )
    return [None if kept else given.reasons[why] for kept, why in zip(given.kept, given.reason, strict=True)]


def fits(kind: str, row: dict[str, Any]) -> bool:
    """Say whether one of the dimensions that the fault should lower is too low or missing."""
    return least(row, FITTING[kind]) < LEAST


def report(every: Rows) -> list[dict[str, Any]]:
    """Return one dict a figure: name, value, unit, target, holds."""
    measured = [row | judged(row) for row in every if "rejected" not in row]
    reasons = decided(measured)
    clean = [row for row in measured if row["kind"] == pairs.CLEAN]
    out = []
    for kind, dimensions in FITTING.items():
        for grade in pairs.GRADES:
            faulty = [row for row in measured if (row["kind"], row["grade"]) == (kind, grade)]
            value = auc([least(r, dimensions) for r in clean], [least(r, dimensions) for r in faulty])
            name = f"{kind} at grade {grade:g}: AUC of {len(faulty)} against {len(clean)} clean"
            out.append(_figure(name, value, "", 0.85 if grade == pairs.MIDDLE else None, True))
    for framing, half in (("whole", False), ("half", True)):  # proportions are told by legs
        some = [row for row in measured if row["camera"].startswith("half") == half]
        clean_ones, faulty = (
            [least(r, ["identity"]) for r in some if (r["kind"], r["grade"]) == wanted]
            for wanted in ((pairs.CLEAN, 0.0), ("limbs", pairs.MIDDLE))
        )
        name = (
            f"limbs at grade {pairs.MIDDLE:g}, {framing} figures: AUC of {len(faulty)} against {len(clean_ones)} clean"
        )
        out.append(_figure(name, auc(clean_ones, faulty), "", None, True))
    for kind in FITTING:
        severe = [r for r in measured if (r["kind"], r["grade"]) == (kind, pairs.SEVERE)]
        out.append(
            _figure(
                f"{kind}, severe, dropped", _share(fits(kind, r) for r in severe), "with a fitting reason", 0.95, True
            )
        )
    severe = [r for r in measured if r["grade"] == pairs.SEVERE]
    out.append(
        _figure(
            "all severe ones, dropped", _share(fits(r["kind"], r) for r in severe), "with a fitting reason", 0.95, True
        )
    )
    wrong = [why for row, why in zip(measured, reasons, strict=True) if row["kind"] == pairs.CLEAN]
    for framing in ("frontal", "full", "half"):
        some = [w for w, r in zip(wrong, clean, strict=True) if r["camera"].startswith(framing)]
        out.append(
            _figure(f"clean, {framing}, dropped", _share(w is not None for w in some), f"of {len(some)}", None, False)
        )
    said = ", ".join(f"{why} {number}" for why, number in Counter(w for w in wrong if w).most_common())
    out.append(_figure("clean, dropped", _share(w is not None for w in wrong), f"of {len(wrong)}: {said}", 0.15, False))
    out.append(_figure("pairs measured", len(measured), f"of {len(every)}", None, True))
    return out


def measure() -> list[dict[str, Any]]:
    """Measure 600 pairs that no scale was set on (some ten minutes of one core)."""
    return report(list(rows(*REPORTED, 0, COUNT)))


def _share(each: Iterable[bool]) -> float:
    values = list(each)
    return float(np.mean(values)) if values else float("nan")


def _figure(name: str, value: float, unit: str, target: float | None, more: bool) -> dict[str, Any]:
    holds = target is None or (value >= target if more else value <= target)
    wanted = None if target is None else f"at {'least' if more else 'most'} {target:g}"
    return {"name": f"rules on planted pairs: {name}", "value": value, "unit": unit, "target": wanted, "holds": holds}


def main(words: list[str]) -> None:
    """Do what the module's docstring says."""
    if words[:1] == ["rows"]:
        seed, split, start, stop, file = words[1:]
        known = len(Path(file).read_text().splitlines()) if Path(file).exists() else 0
        with Path(file).open("a") as lines:
            for row in rows(int(seed), split, int(start) + known, int(stop)):
                print(json.dumps(row), file=lines, flush=True)
        return
    files = words[1:] if words[:1] == ["report"] else []
    told = [json.loads(line) for file in files for line in Path(file).read_text().splitlines()]
    for figure in report(told) if told else measure():
        target = f"   {figure['target']}: {'yes' if figure['holds'] else 'NO'}" if figure["target"] else ""
        print(f"{figure['name']:<75} {figure['value']:.3f} {figure['unit']}{target}")


if __name__ == "__main__":
    main(sys.argv[1:])
