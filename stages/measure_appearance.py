"""Who is it that moves: the character, as asked for, or the source's own figure, leaking in (METHOD.md section 5).

By colours, part by part, and by an embedding of the whole figure. Both are asked twice, against the character's picture
and against the source, since only the difference says anything.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from model.skeleton import Points
from stages.measure_figures import Figure, body_mask, trunk_px

# parts of the body as the points at the ends of what is sampled; of both sides together
_SEGMENTS: Final[dict[str, tuple[tuple[int, int], ...]]] = {
    "upper_arm": ((5, 7), (6, 8)),
    "forearm": ((7, 9), (8, 10)),
    "thigh": ((11, 13), (12, 14)),
    "shin": ((13, 15), (14, 16)),
}
PARTS: Final = ("head", "trunk", "hips", *_SEGMENTS)
_ALONG: Final = np.linspace(0.2, 0.8, 7)
_ASIDE: Final = (-0.05, 0.0, 0.05)  # trunks
_LEAST_SAMPLES: Final = 6
_LIKE: Final = 8.0  # delta E below which the source's and the character's parts are alike, and say nothing
_GREY: Final = 128

Lab = NDArray[np.float64]


@dataclass(frozen=True)
class Colours:
    """Mean colours of the parts of a figure: `lab` `[7, 3]` CIELAB, in the order of `PARTS`, NaN where not seen."""

    lab: Lab


def colours(figure: Figure, min_score: float) -> Colours:
    """Return the mean colour of each part over the frames in which it is seen (the mean of the frames' means, the
    farthest quarter of the frames left out)."""
    frames = [_parts(f, p, min_score) for f, p, there in zip(figure.frames, figure.points, figure.found, strict=True)
              if there]  # fmt: skip
    if not frames:
        return Colours(np.full((len(PARTS), 3), np.nan))
    every = np.stack(frames)
    out = np.full((len(PARTS), 3), np.nan)
    for part in range(len(PARTS)):
        seen = every[np.isfinite(every[:, part, 0]), part]
        if len(seen):
            apart = np.linalg.norm(seen - np.median(seen, axis=0), axis=1)
            out[part] = seen[np.argsort(apart, kind="stable")[: max(1, -(-3 * len(seen) // 4))]].mean(axis=0)
    return Colours(out)


def colour_leak(pseudo: Colours, character: Colours, source: Colours) -> float:
    """Return how far the parts' colours lie on the way from the character's to the source's: 0 none, 1 all; below 0 and
    above 1 if they lie beyond. NaN if the two wear the same, or no part is seen in all three.

    The least-squares share g of o = c + g (s - c) over all parts.
    """
    towards, gone = source.lab - character.lab, pseudo.lab - character.lab
    good = np.isfinite(towards).all(axis=1) & np.isfinite(gone).all(axis=1)
    good &= np.linalg.norm(towards, axis=1) > _LIKE
    if not good.any():
        return float("nan")
    return float((towards[good] * gone[good]).sum() / (towards[good] ** 2).sum())


def colour_distance(pseudo: Colours, character: Colours) -> tuple[float, float]:
    """Return the mean and the greatest distance between parts of the pseudo video and of the character, delta E (CIE
    1976), 0 upwards, lower is better; NaN if no part is seen in both."""
    apart = np.linalg.norm(pseudo.lab - character.lab, axis=1)
    if not np.isfinite(apart).any():
        return float("nan"), float("nan")
    return float(np.nanmean(apart)), float(np.nanmax(apart))


def look_margin(
    pseudo: NDArray[np.float32], character: NDArray[np.float32], source: NDArray[np.float32], percentile: float
) -> tuple[float, float]:
    """Return two numbers: a low percentile over frames of sim(pseudo, character) - sim(pseudo, source), and the median
    of sim(pseudo, character); cosines of vectors of figures cut out on grey, -2..2 and -1..1, higher is better.

    Args:
        pseudo: `[n, D]`, of length one; NaN where the figure was not found.
        character: `[1, D]`.
        source: `[n, D]`, of the same moments.

    NaN if the figure is not found in the character's picture, or in no frame of both videos.
    """
    to_character = pseudo @ character[0]
    margin = to_character - (pseudo * source).sum(axis=1)
    if not np.isfinite(margin).any():
        return float("nan"), float("nan")
    return float(np.nanpercentile(margin, percentile)), float(np.nanmedian(to_character))


def cut_out(figure: Figure, frame: int, min_score: float) -> NDArray[np.uint8]:
    """Return a square uint8 `[S, S, 3]`: the figure in its box, what is not its body grey."""
    picture, points = figure.frames[frame], figure.points[frame]
    mask = body_mask(points, picture.shape[:2], min_score)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return np.full((8, 8, 3), _GREY, np.uint8)
    kept = np.where(mask[..., None], picture, np.uint8(_GREY))[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    side = max(kept.shape[:2])
    square = np.full((side, side, 3), _GREY, np.uint8)
    top, left = (side - kept.shape[0]) // 2, (side - kept.shape[1]) // 2
    square[top : top + kept.shape[0], left : left + kept.shape[1]] = kept
    return square


def _parts(frame: NDArray[np.uint8], points: Points, min_score: float) -> Lab:
    lab = cv2.cvtColor(frame.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    unit = trunk_px(points, min_score)
    places: dict[str, list[NDArray[np.float64]]] = {part: [] for part in PARTS}
    if (points[[5, 6, 11, 12], 2] >= min_score).all():
        left, right, low_left, low_right = (points[i, :2].astype(np.float64) for i in (5, 6, 11, 12))
        places["trunk"] = _patch(left, right, low_left, low_right, np.linspace(0.15, 0.75, 7))
        places["hips"] = _patch(left, right, low_left, low_right, np.linspace(0.92, 1.08, 3))
    head = [i for i in range(5) if points[i, 2] >= min_score]
    if len(head) >= 3:
        middle = points[head, :2].mean(axis=0)
        places["head"] = [middle + 0.12 * unit * np.array(off) for off in np.ndindex(3, 3)]
        places["head"] = [place - 0.12 * unit for place in places["head"]]
    for part, segments in _SEGMENTS.items():
        for a, b in segments:
            if min(points[a, 2], points[b, 2]) >= min_score:
                places[part] += _rod(points[a, :2].astype(np.float64), points[b, :2].astype(np.float64), unit)
    return np.stack([_mean_at(lab, places[part]) for part in PARTS])


def _patch(
    left: Lab, right: Lab, low_left: Lab, low_right: Lab, down: Sequence[float] | NDArray[np.float64]
) -> list[Lab]:
    out = []
    for d in down:
        for a in np.linspace(0.2, 0.8, 5):
            top, low = left + a * (right - left), low_left + a * (low_right - low_left)
            out.append(top + d * (low - top))
    return out


def _rod(start: Lab, end: Lab, unit: float) -> list[Lab]:
    way = end - start
    across = np.array([-way[1], way[0]]) / max(float(np.linalg.norm(way)), 1e-6) * unit
    return [start + along * way + aside * across for along in _ALONG for aside in _ASIDE]


def _mean_at(lab: NDArray[np.float32], places: Sequence[Lab]) -> Lab:
    if len(places) < _LEAST_SAMPLES:
        return np.full(3, np.nan)
    at = np.round(np.stack(places) - 0.5).astype(int)
    inside = (at >= 0).all(axis=1) & (at[:, 0] < lab.shape[1]) & (at[:, 1] < lab.shape[0])
    if inside.sum() < _LEAST_SAMPLES:
        return np.full(3, np.nan)
    return np.asarray(lab[at[inside, 1], at[inside, 0]].astype(np.float64).mean(axis=0))
