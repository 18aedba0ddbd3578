"""The demo's own members: clips and pictures of theatre's figures, as files and lists like anybody's.

They are of the held-out split: the embedded teacher has seen none of these figures, motions and backgrounds. They show
no person, so nobody had to be asked.
"""

import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image

from manifests.keys import digest
from manifests.media import Video, write_mp4
from manifests.synthetic import TITLE

SIDE_PX: Final = 384  # at which MediaPipe finds the points of nearly every figure
FPS: Final = 12.0
FRAMES: Final = 33
CLIPS: Final = 4
CAST: Final = ("human", "human", "human", "human", "quadruped", "bird", "robot", "snowman")  # of the pictures
_SEED: Final = 4711
_DOMAINS: Final = {"human": "cartoon", "quadruped": "animal", "bird": "animal", "octopus": "animal"}
_SAID: Final = {
    "licence": "Apache-2.0", "consent": "granted", "origin": "bodydouble, manifests/theatre: drawn, no person",
}  # fmt: skip


def make_members(folder: Path, told: Callable[[str, int, int], None] = lambda *_: None) -> dict[str, Path]:
    """Write clips and pictures into a folder, those that are not there, and return the list of each table to import.

    `told` hears what is made, how many are done, and how many there are.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lists = {}
    for table, count, make in (("sources", CLIPS, _clip), ("characters", len(CAST), _picture)):
        rows = []
        for number in range(count):
            rows.append(make(folder, number))
            told(f"draw {table} of theatre", number + 1, count)
        text = "".join(json.dumps(_SAID | row) + "\n" for row in rows)
        lists[table] = folder / f"{table}.jsonl"
        _publish(lists[table], partial(Path.write_text, data=text))
    return lists


def _clip(folder: Path, number: int) -> dict[str, Any]:
    """Write a clip of a person of theatre, if it is not there."""
    from manifests.theatre.cast import draw
    from manifests.theatre.scene import render

    take = draw(_SEED, number, "held_out", "easy")
    path = folder / f"clip-{digest(repr(take))[:8]}.mp4"
    if not path.exists():
        seen = render(take, FRAMES, FPS, SIDE_PX, SIDE_PX)
        note = json.dumps({"title": TITLE, "made_by": "bodydouble, manifests/theatre"})
        _publish(path, lambda part: write_mp4(Video(seen.frames, FPS), part, note))
    tags = ["theatre", take.motions[0].rpartition("-")[0]]
    return {"path": path.name, "identity": take.figures[0], "domain": "cartoon", "tags": tags}


def _picture(folder: Path, number: int) -> dict[str, Any]:
    """Write a picture of a figure of theatre, if it is not there."""
    from dataclasses import replace

    from manifests.theatre import figures
    from manifests.theatre.cast import draw, recast
    from manifests.theatre.scene import render

    kind = CAST[number]
    names = figures.names("held_out", (kind,))
    name = names[int(np.random.default_rng([_SEED, number]).integers(len(names)))]
    take = replace(recast(draw(_SEED, 100 + number, "held_out", "easy"), figure=name), lead_in=None)
    path = folder / f"picture-{digest(repr(take))[:8]}.png"
    if not path.exists():
        seen = render(take, 1, FPS, SIDE_PX, SIDE_PX)
        _publish(path, lambda part: Image.fromarray(seen.frames[0]).save(part, format="png"))
    tags = ["theatre", kind]
    return {"path": path.name, "identity": name, "domain": _DOMAINS.get(kind, "object"), "tags": tags}


def _publish(path: Path, write: Callable[[Path], object]) -> None:
    """Let a file appear whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    write(part)
    os.replace(part, path)
