"""What somebody does, in a few plain words, by measures of the skeleton: no model, and nothing of how they look.

The words are those in which theatre describes its clips (`manifests/theatre/words.py`), which the embedded teacher has
learnt. Rules of this kind tell coarse things, and never more than the points show: what fits no rule is "moving about".

Lengths are in trunks (shoulders to hips, median over the clip), so that neither size nor distance matters; x and y are
those of the picture.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from model.skeleton import Points

ABOUT: Final = "moving about"
STILL: Final = "standing still"
_MIN_SCORE: Final = 0.3
_SHOULDERS, _WRISTS, _HIPS, _KNEES, _ANKLES = (5, 6), (9, 10), (11, 12), (13, 14), (15, 16)
Track = NDArray[np.float64]  # [T, 2] x, y, in trunks; NaN where not seen


@dataclass(frozen=True)
class Body:
    """Points of one person over a clip, in trunks; each `[T, 2 sides, 2]`, NaN where not seen."""

    shoulders: NDArray[np.float64]
    wrists: NDArray[np.float64]
    hips: NDArray[np.float64]
    knees: NDArray[np.float64]
    ankles: NDArray[np.float64]
    fps: float

    @classmethod
    def of(cls, person: Points, fps: float) -> "Body | None":
        """Measure a person `[T, 133, 3]`; None if shoulders or hips are hardly ever seen."""
        at = person[..., :2].astype(np.float64)
        at[person[..., 2] < _MIN_SCORE] = np.nan
        trunk = np.linalg.norm(at[:, _SHOULDERS].mean(axis=1) - at[:, _HIPS].mean(axis=1), axis=1)
        if np.isfinite(trunk).mean() < 0.5:
            return None
        # the length that the trunk has when it is seen from the side of a bow, or from above, is too short
        unit = max(float(np.nanpercentile(trunk, 75)), 1e-6)
        shoulders, wrists, hips, knees, ankles = (
            at[:, list(pair)] / unit for pair in (_SHOULDERS, _WRISTS, _HIPS, _KNEES, _ANKLES)
        )
        return cls(shoulders, wrists, hips, knees, ankles, fps)


def doing(skeleton: Points, fps: float) -> str:
    """Say what the main person of `[T, P, 133, 3]` does, such as "waving"; `ABOUT` if nothing can be told."""
    if len(skeleton) < 3 or not skeleton.shape[1]:
        return ABOUT
    body = Body.of(skeleton[:, 0], fps)
    if body is None:
        return ABOUT
    return _lying(body) or _turning(body) or _legs(body) or _trunk(body) or _arms(body) or _rest(body)


def _lying(body: Body) -> str | None:
    """Trunks that are not upright: the picture's y grows downwards."""
    up = _middle(body.hips)[:, 1] - _middle(body.shoulders)[:, 1]
    if _share(up < -0.3) > 0.12:
        return "turning a cartwheel" if _range(_middle(body.hips)[:, 0]) > 1.0 else "rolling over"
    if _share(up < 0.45) > 0.7:
        return "crawling"
    if np.nanmean(up[:4]) < 0.5 and np.nanmean(up[-4:]) > 0.8:
        return "getting up"
    return None


def _turning(body: Body) -> str | None:
    """Which shoulder is on the right of the picture changes when somebody turns away."""
    across = body.shoulders[:, 0, 0] - body.shoulders[:, 1, 0]
    across = across[np.isfinite(across)]
    sides = np.sign(across[np.abs(across) > 0.15])
    turns = int((np.diff(sides) != 0).sum()) if len(sides) else 0
    if turns >= 2:
        return "spinning"
    return "turning round" if turns == 1 else None


def _legs(body: Body) -> str | None:
    feet, hips = body.ankles, _middle(body.hips)
    if np.isfinite(feet).all(axis=(1, 2)).mean() < 0.5:
        return None
    high = _middle(body.ankles)[:, 1] - hips[:, 1]  # hips above the feet
    apart, drift = feet[:, 0, 0] - feet[:, 1, 0], _range(hips[:, 0])
    lift = max(_range(feet[:, side, 1]) for side in (0, 1))
    if _range(apart) > 0.6 and _beats(apart) >= 2 and _range(hips[:, 1]) > 0.15 and drift < 0.7:
        return "doing jumping jacks"
    if lift > 1.0:
        return "kicking"
    if _range(high) > 0.25 and lift < 0.15:
        return "squatting"
    stepping = np.nanmean(np.abs(np.diff(feet[:, 0] - feet[:, 1], axis=0))) * body.fps  # trunks a second
    if stepping > 0.25 and lift > 0.1 and _beats(feet[:, 0, 1] - feet[:, 1, 1]) >= 1:
        if drift > 0.6 and _beats(hips[:, 0]) >= 2:
            return "stepping from side to side"
        if stepping > 2.2:
            return "running"
        return "walking" if drift > 0.5 else "marching on the spot"
    both = min(_range(feet[:, side, 1]) for side in (0, 1))
    if both > 0.2 and _range(hips[:, 1]) > 0.25:
        return "jumping"
    return None


def _trunk(body: Body) -> str | None:
    up = _middle(body.hips) - _middle(body.shoulders)
    if _range(up[:, 1]) > 0.35:
        return "bowing"
    if _range(up[:, 0]) > 0.35:
        return "swaying"
    return None


def _arms(body: Body) -> str | None:
    wrists, shoulders = body.wrists - _middle(body.shoulders)[:, None], body.shoulders
    reach = [float(np.nanmax([_range(wrists[:, side, axis]) for axis in (0, 1)])) for side in (0, 1)]
    above = [_share(body.wrists[:, side, 1] < shoulders[:, side, 1] - 0.1) for side in (0, 1)]
    one, other = int(np.argmax(reach)), int(np.argmin(reach))
    if reach[one] < 0.2:
        return None
    if reach[other] < 0.5 * reach[one] and above[one] > 0.5:
        return "waving"
    if min(above) > 0.6:
        return "conducting" if min(reach) < 0.8 else "dancing"
    if min(reach) > 1.0 and min(above) > 0.15:
        low = min(_share(wrists[:, side, 1] > 0.6) for side in (0, 1))
        return "circling the arms" if low > 0.15 and _beats(wrists[:, 0, 0]) >= 2 else "flapping the arms"
    gap = np.linalg.norm(wrists[:, 0] - wrists[:, 1], axis=1)
    if np.nanmin(gap) < 0.25 and _beats(gap) >= 2:
        return "clapping"
    if reach[other] < 0.5 * reach[one]:
        return "reaching out" if reach[one] > 0.8 else "pointing"
    return "talking with the hands" if max(reach) < 0.9 else "dancing"


def _rest(body: Body) -> str:
    hips, shoulders = _middle(body.hips), _middle(body.shoulders)
    if _range(hips[:, 1]) > 0.12 or _range(shoulders[:, 1]) > 0.12:
        return "bobbing up and down"
    if _range(body.shoulders[:, 0, 0] - body.shoulders[:, 1, 0]) > 0.15:
        return "twisting"
    parts = (body.wrists, body.knees, body.ankles, body.hips)
    moved = max((_range(part[:, side, axis]) for part in parts for side in (0, 1) for axis in (0, 1)), default=0.0)
    return STILL if moved < 0.1 else ABOUT


def _middle(pair: NDArray[np.float64]) -> Track:
    return np.asarray(pair.mean(axis=1))


def _share(truth: Any) -> float:
    return float(np.mean(truth))


def _range(values: NDArray[np.float64]) -> float:
    """Return the distance from the 5th to the 95th percentile; 0 if it is hardly ever seen."""
    seen = values[np.isfinite(values)]
    if len(seen) < max(3, len(values) // 2):
        return 0.0
    low, high = np.percentile(seen, [5, 95])
    return float(high - low)


def _beats(values: NDArray[np.float64]) -> int:
    """Return how often a value swings from clearly above its middle to clearly below, or back."""
    seen = values[np.isfinite(values)]
    if len(seen) < 3:
        return 0
    off = seen - (seen.max() + seen.min()) / 2
    sides = np.sign(off[np.abs(off) > 0.2 * (seen.max() - seen.min())])
    return int((np.diff(sides) != 0).sum())
