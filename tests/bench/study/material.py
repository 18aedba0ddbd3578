"""Members, pairs and the three cuts, made by what the commands call."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image

from manifests.keys import digest
from manifests.media import Video, write_mp4
from manifests.tables import Tables
from manifests.theatre import figures
from manifests.theatre.cast import draw, recast
from manifests.theatre.scene import render
from manifests.verdicts import Limit
from pipeline.config import load
from pipeline.keeping import Judged, judged, verdicts_on
from tests.bench.teacher.rows import progress

CONFIG: Final = Path(__file__).parent / "members.yaml"
CUTS: Final = ("filtered", "unfiltered", "random")
LEAST: Final = {"judge_identity": 3.0, "judge_appearance_consistency": 3.0}
BETTER_HALF: Final = "judge_motion"
"""What the filter keeps by. At 64 px hardly a pair has a 3 for its motion, so that the better half of them is taken."""
SPLIT, SEED, SIDE_PX, FPS, FRAMES = "train", 6007, 256, 12.0, 29
_KINDS: Final = ("human", "human", "human", "quadruped", "human", "human", "bird", "human", "human", "robot")
_DOMAINS: Final = {"human": "cartoon", "quadruped": "animal", "bird": "animal", "robot": "object"}
_SAID: Final = {"licence": "Apache-2.0", "consent": "granted", "origin": "bodydouble, manifests/theatre: drawn"}


@dataclass(frozen=True)
class Scale:
    """How much is made of everything."""

    sources: int = 320
    characters: int = 80
    steps: int = 300
    seeds: int = 3
    cases: int = 48
    sampler_steps: int = 8
    candidates: int = 20


SMALL: Final = Scale(sources=12, characters=6, steps=24, seeds=1, cases=3, sampler_steps=2, candidates=3)


def cuts(folder: Path, scale: Scale, teacher: Path) -> dict[str, int]:
    """Make what is missing, up to the packed cuts; return samples by cut."""
    from pipeline.importing import import_list
    from pipeline.packing import pack
    from pipeline.pairing import write_pairs
    from pipeline.progress import Progress
    from pipeline.run import execute

    root = folder / "pairs"
    for table, listed in _members(folder / "members", scale).items():
        import_list(table, str(listed), str(root))
    sets = [f"root={json.dumps(str(root))}", f"stages.pairs.render.weights={json.dumps(str(teacher))}"]
    run = load(CONFIG, sets)
    write_pairs(run)
    shown = Progress()
    try:
        execute(run, None, None, shown)
    finally:
        shown.end()
    found = judged(run, Tables(run.config.root))
    limits = LEAST | {BETTER_HALF: float(np.nanmedian(found.scores[BETTER_HALF]))}
    keeps = {
        "filtered": [f"keep.min={json.dumps(limits)}"],
        "unfiltered": [],
        "random": [f"keep.labels={json.dumps(str(_by_lot(found, limits, folder / 'by_lot.jsonl')))}"],
    }
    samples = {cut: pack(load(CONFIG, [*sets, f"pack.cut={cut}", *keep])).samples for cut, keep in keeps.items()}
    progress(f"samples by cut: {samples}")
    return samples


def _by_lot(found: Judged, limits: Mapping[str, float], path: Path) -> Path:
    """Write labels that keep as many pairs as the filter does, drawn by lot of all that were judged."""
    whole = [name for name, *scores in zip(found.ids, *found.scores.values(), strict=True) if np.isfinite(scores).any()]
    kept = sum(verdicts_on(found, [Limit(score, "min", least) for score, least in limits.items()], {}).kept)
    drawn = set(sorted(whole, key=lambda name: digest([SEED, name]))[:kept])
    lines = [json.dumps({"id": name, "keep": name in drawn, "by": "lot"}) for name in found.ids]
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def _members(folder: Path, scale: Scale) -> dict[str, Path]:
    """Write clips and pictures that are missing, and the lists of them."""
    folder.mkdir(parents=True, exist_ok=True)
    lists = {}
    for table, count, make in (("sources", scale.sources, _clip), ("characters", scale.characters, _picture)):
        rows = [make(folder, number) for number in range(count)]
        lists[table] = folder / f"{table}-{count}.jsonl"
        lists[table].write_text("".join(json.dumps(_SAID | row) + "\n" for row in rows))
        progress(f"{count} {table}")
    return lists


def _clip(folder: Path, number: int) -> dict[str, Any]:
    take = replace(draw(SEED, number, SPLIT, "turns" if number % 3 else "easy"), lead_in=None)
    path = folder / f"clip-{number:05d}.mp4"
    if not path.exists():
        write_mp4(Video(render(take, FRAMES, FPS, SIDE_PX, SIDE_PX).frames, FPS), path)
    return {"path": path.name, "identity": take.figures[0], "domain": "cartoon"}


def _picture(folder: Path, number: int) -> dict[str, Any]:
    kind = _KINDS[number % len(_KINDS)]
    names = figures.names(SPLIT, (kind,))
    name = names[int(digest([SEED, number])[:8], 16) % len(names)]
    take = replace(recast(draw(SEED, 100_000 + number, SPLIT, "easy"), figure=name), lead_in=None)
    path = folder / f"picture-{number:05d}.png"
    if not path.exists():
        Image.fromarray(render(take, 1, FPS, SIDE_PX, SIDE_PX).frames[0]).save(path)
    return {"path": path.name, "identity": name, "domain": _DOMAINS[kind]}
