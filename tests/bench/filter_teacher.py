"""How well the filter tells what the teacher itself draws: as it was asked, and led astray in a known way.

    python -m tests.bench filter_teacher          needs a teacher: BODYDOUBLE_TEACHER, or the one that ships

The same source and character are rendered by the stage `render` five times: as asked; with a picture of the source as
its character, which is an identity that leaked whole; with a picture of a third person; with the skeleton of another
clip; and as asked, but by two steps of the sampler. What the judge should say of each follows. Beside it: does the
judge rank what was drawn as asked as its distance from the rendered truth does?
"""

import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image
from scipy.stats import spearmanr

from manifests.keys import digest
from manifests.media import Picture, Video, read_mp4, write_mp4
from manifests.theatre import cast, figures, motions, scene
from manifests.theatre.planted import pairs
from manifests.theatre.scene import Take
from stages.judge_rules import SCALES, judged
from stages.measure import Measure, MeasureConfig
from stages.render import Render, RenderConfig
from stages.skeleton import Skeleton, SkeletonConfig
from stages.stage import Reject
from tests.bench.filter import FPS, FRAMES, SIZE_PX, _members, auc, least

SEED, SPLIT = 2, "held_out"
SHIPPED: Final = Path(__file__).parents[2] / "model" / "tiny_weights" / "teacher"
COUNT: Final = int(os.environ.get("BODYDOUBLE_CASES", "60"))
STEPS: Final = 12
ASKED: Final = "as asked"
ASTRAY: Final = {
    "the source's picture": ("identity", "appearance_consistency"),
    "a third person's picture": ("identity", "appearance_consistency"),
    "another clip's skeleton": ("motion",),
    "two steps": ("imaging_quality",),
}
"""How the teacher is led astray, and the dimensions that this should lower."""


def measure() -> list[dict[str, Any]]:
    """Render, measure and judge, and report AUC against what was asked, and the rank correlation with the truth."""
    weights = os.environ.get("BODYDOUBLE_TEACHER")
    if weights is None and not SHIPPED.exists():
        print(f"no teacher at {SHIPPED}, and BODYDOUBLE_TEACHER names none: left out", flush=True)
        return []
    teachers = {steps: Render(RenderConfig(weights=weights, steps=steps)) for steps in (STEPS, 2)}
    rows = [row | judged(row) for number in range(COUNT) for row in _case(number, teachers)]
    asked = [row for row in rows if row["kind"] == ASKED]
    out = []
    for kind, dimensions in ASTRAY.items():
        astray = [row for row in rows if row["kind"] == kind]
        value = auc([least(row, dimensions) for row in asked], [least(row, dimensions) for row in astray])
        out.append(_figure(f"{kind}: AUC of {len(astray)} against {len(asked)} as asked", value))
    for dimension in SCALES:
        scores = [row[f"judge_{dimension}"] or 0.0 for row in asked]
        rank = float(spearmanr(scores, [row["psnr_db"] for row in asked]).statistic) if len(set(scores)) > 1 else np.nan
        out.append(_figure(f"{dimension}: rank correlation with PSNR against the truth, as asked", rank))
        out.append(_figure(f"{dimension}: median score, as asked", float(np.median(scores))))
    return out


def _case(number: int, teachers: dict[int, Render]) -> Iterator[dict[str, Any]]:
    """Give the measures of one source and character, rendered in each way; nothing where nobody is found."""
    pair = pairs.draw(SEED, number * pairs.PER_BASE, SPLIT)
    shown = pairs.show(pair, FRAMES, FPS, SIZE_PX, SIZE_PX)
    skeleton = Skeleton(SkeletonConfig(min_person_px=0, min_seen_share=0.5, tile_share=0, refine_face=False))
    with tempfile.TemporaryDirectory() as folder:
        asked = _members(Path(folder) / "asked", shown, skeleton)
        other = _members(Path(folder) / "other", replace(shown, source=_film(_other_motion(pair.source))), skeleton)
        if asked is None or other is None:
            return
        ours = replace(pair.still, figures=pair.source.figures)
        third = replace(pair.still, figures=(_third(pair),))
        prompt = cast.describe(replace(pair.source, figures=pair.still.figures))
        given = asked | {"prompt": prompt, "key": digest([SEED, number])}
        ways: dict[str, tuple[dict[str, Any], int]] = {
            ASKED: (given, STEPS),
            "the source's picture": (given | {"character": _picture(folder, "ours", ours)}, STEPS),
            "a third person's picture": (given | {"character": _picture(folder, "third", third)}, STEPS),
            "another clip's skeleton": (given | {"skeleton": other["skeleton"]}, STEPS),
            "two steps": (given, 2),
        }
        truth = _film(replace(pair.source, figures=pair.still.figures, background=pair.still.background))
        for kind, (row, steps) in ways.items():
            (drawn,) = teachers[steps]([row])
            assert not isinstance(drawn, Reject)
            file = Path(folder) / "pseudo.mp4"
            write_mp4(drawn["pseudo"], file)
            (found,) = Measure(MeasureConfig())([asked | {"pseudo": read_mp4(file)}])
            if not isinstance(found, Reject):
                yield {"kind": kind, "psnr_db": _psnr(drawn["pseudo"], truth)} | found


def _film(take: Take) -> Any:
    return scene.render(take, FRAMES, FPS, SIZE_PX, SIZE_PX).frames


def _picture(folder: str, name: str, take: Take) -> Picture:
    path = Path(folder) / f"{name}.png"
    Image.fromarray(scene.render(take, 1, FPS, SIZE_PX, SIZE_PX).frames[0]).save(path)
    return Picture(str(path))


def _other_motion(take: Take) -> Take:
    family = take.motions[0].partition("-")[0]
    names = [name for name in motions.names(SPLIT, easy=True) if name.partition("-")[0] != family]
    return replace(take, motions=(names[int(digest(take.key)[:6], 16) % len(names)],))


def _third(pair: pairs.Planted) -> str:
    names = [name for name in figures.names(SPLIT) if name not in (*pair.source.figures, *pair.still.figures)]
    return names[int(digest(pair.source.key)[:6], 16) % len(names)]


def _psnr(pseudo: Video, truth: Any) -> float:
    size = (pseudo.frames.shape[2], pseudo.frames.shape[1])
    small = np.stack([np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BOX)) for frame in truth])
    error = np.square(small.astype(np.float64) - pseudo.frames).mean()
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def _figure(name: str, value: float) -> dict[str, Any]:
    return {"name": f"rules on the teacher's own: {name}", "value": value, "unit": "", "target": None, "holds": None}
