"""How exact the skeletons are, against people's labels: `python -m tests.bench.accuracy`.

Data: four COCO pictures with COCO-WholeBody labels in `../shared/wholebody`, never copied here. Who counts: a labelled
person with at least 12 labelled body points and a box of at least 96 px on its long side. Each is cut out with a
quarter of its long side around it, as a user cuts a character out of a picture, and goes through the stage
`CharacterSkeleton` like any picture. Of the people that come back, the one whose box overlaps the label most is taken.

Measure: distance between point and label over sqrt(box width x box height) of the labelled box, in per cent; averaged
over the labelled points (v > 0) of a person that the stage gives with any score above 0, then over people. People and
points that are not given are misses: they are counted, and are no part of the mean.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from manifests.media import Picture
from model.skeleton import BODY, FACE, FEET, LEFT_HAND, RIGHT_HAND
from stages.skeleton import CharacterSkeleton, CharacterSkeletonConfig
from stages.stage import Reject
from stages.tracking import iou

FOLDER = Path(__file__).resolve().parents[3] / "shared" / "wholebody"
PARTS = {"body": BODY, "feet": FEET, "face": FACE, "left hand": LEFT_HAND, "right hand": RIGHT_HAND}
TARGETS = {"body": 8.0, "face": 1.5}  # per cent, at most
MIN_POINTS, MIN_SIDE_PX, MARGIN = 12, 96, 0.25


@dataclass(frozen=True)
class Labelled:
    """One person of the labels: picture, cut x, y, width, height px, and points [133, 3] in px of the cut (x, y, v)."""

    name: str
    file: Path
    crop: tuple[int, int, int, int]
    points: NDArray[np.float32]
    box: NDArray[np.float32]  # x0, y0, x1, y1 px of the cut


def labelled() -> Iterator[Labelled]:
    """Give the people that count."""
    data = json.loads((FOLDER / "test_coco_wholebody.json").read_text())
    pictures = {picture["id"]: FOLDER / picture["file_name"] for picture in data["images"]}
    keys = ("keypoints", "foot_kpts", "face_kpts", "lefthand_kpts", "righthand_kpts")
    for person in data["annotations"]:
        points = np.array([value for key in keys for value in person[key]], np.float32).reshape(133, 3)
        x, y, width, height = person["bbox"]
        if (points[BODY, 2] > 0).sum() < MIN_POINTS or max(width, height) < MIN_SIDE_PX:
            continue
        file = pictures[person["image_id"]]
        with Image.open(file) as picture:
            size = picture.size
        margin = MARGIN * max(width, height)
        x0, y0 = int(max(0, x - margin)), int(max(0, y - margin))
        x1, y1 = int(min(size[0], x + width + margin)), int(min(size[1], y + height + margin))
        box = np.array([x - x0, y - y0, x + width - x0, y + height - y0], np.float32)
        points[:, :2] -= (x0, y0)
        yield Labelled(str(person["id"]), file, (x0, y0, x1 - x0, y1 - y0), points, box)


def errors(person: Labelled, found: NDArray[np.float32]) -> dict[str, tuple[float, int, int]]:
    """Return part -> (mean error in per cent, points given, points labelled) for found points [133, 3]."""
    side = float(np.sqrt(np.prod(person.box[2:] - person.box[:2])))
    distance = np.hypot(*(found[:, :2] - person.points[:, :2]).T) / side * 100
    out = {}
    for part, span in PARTS.items():
        wanted = person.points[span, 2] > 0
        given = wanted & (found[span, 2] > 0)
        out[part] = (
            float(distance[span][given].mean()) if given.any() else float("nan"),
            int(given.sum()),
            int(wanted.sum()),
        )
    return out


def seen() -> list[tuple[Labelled, dict[str, tuple[float, int, int]] | None]]:
    """Run the stage on every labelled person; None for one that it did not find."""
    stage = CharacterSkeleton(CharacterSkeletonConfig(max_people=4, min_person_px=48))
    out: list[tuple[Labelled, dict[str, tuple[float, int, int]] | None]] = []
    for person in labelled():
        (row,) = stage([{"character": Picture(str(person.file), person.crop)}])
        assert not isinstance(row, Reject), row
        overlaps = [iou(box, person.box) for box in row["boxes"][0]]
        best = int(np.argmax(overlaps)) if overlaps else -1
        hit = best >= 0 and overlaps[best] > 0.3
        out.append((person, errors(person, row["skeleton"][0, best]) if hit else None))
    return out


def measure() -> list[dict[str, Any]]:
    """Return one dict a figure: name, value, unit, target (None: no promise), holds."""
    people = seen()
    hits = [found for _, found in people if found is not None]
    out = [_figure("people found", len(hits) / len(people) * 100, f"% of {len(people)}", None)]
    for part in PARTS:
        rows = [found[part] for found in hits if found[part][1] > 0]
        labels = sum(int((person.points[PARTS[part], 2] > 0).sum()) for person, _ in people)
        given = sum(row[1] for row in rows)
        unit = f"% of box size, mean of {len(rows)} people"
        if rows:
            out.append(_figure(f"{part}: error", float(np.mean([row[0] for row in rows])), unit, TARGETS.get(part)))
        out.append(_figure(f"{part}: points given", given / max(labels, 1) * 100, f"% of {labels}", None))
    return out


def _figure(name: str, value: float, unit: str, target: float | None) -> dict[str, Any]:
    return {
        "name": f"accuracy on COCO-WholeBody crops, {name}",
        "value": round(value, 2),
        "unit": unit,
        "target": None if target is None else f"at most {target:g}",
        "holds": target is None or value <= target,
    }


if __name__ == "__main__":
    for labelled_person, found in seen():
        print(labelled_person.name, labelled_person.box[2:] - labelled_person.box[:2], found or "not found")
    for figure in measure():
        print(figure)
