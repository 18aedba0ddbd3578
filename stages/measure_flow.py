"""Does the picture change as motion would change it? Along optical flow: flicker, and figures that stand still.

Flow is DIS (Kroeger et al., ECCV 2016) between a frame and the next, at a working size.
"""

from collections.abc import Callable
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.measure_figures import Figure

_LONG_PX: Final = 192  # working size of the picture's long side
_SOFT_PX: Final = 2.0
_LEAST_SLOPE: Final = 1.0  # levels a px, below which a picture is empty
_MOVES: Final = 0.004  # lengths of the box a step, from which a source moves
_SHARE: Final = 0.25  # of the source's speed, below which the pseudo video stands still

Grey = NDArray[np.uint8]


def flicker(figure: Figure) -> float:
    """Return the change from frame to frame that is no motion: each frame is laid on the one before along the flow, and
    the median over the picture of the absolute difference (mean of the colours) is taken; of that the 80th percentile
    over frames. 0..255 levels, lower is better; 1 to 3 are noise."""
    found = []
    for before, after in zip(figure.frames, figure.after, strict=True):
        a, b = _small(before), _small(after)
        flow = _flow(_grey(a), _grey(b))
        laid = _along(b, flow)
        found.append(float(np.median(np.abs(laid.astype(np.float32) - a).mean(axis=2))))
    return float(np.percentile(found, 80))


def speeds(figure: Figure) -> NDArray[np.float64]:
    """Return `[n]`, about how fast what moves fastest in the figure's box moves, in lengths of the box a step.

    By the softened pictures' change over their slope (as in flow: change = slope x way), each its 95th percentile in
    the box: so it heeds neither contrast nor noise. Ways longer than an edge is wide are told too short.
    """
    out = []
    for before, after, box in zip(figure.frames, figure.after, figure.boxes, strict=True):
        a, b = _small(before), _small(after)
        x0, y0, x1, y1 = (max(int(v), 0) for v in np.round(box * a.shape[0] / before.shape[0]))
        one, two = (
            cv2.GaussianBlur(_grey(each).astype(np.float32), (0, 0), _SOFT_PX)[y0 : y1 + 1, x0 : x1 + 1]
            for each in (a, b)
        )
        if min(one.shape) < 3:
            out.append(0.0)
            continue
        slope = np.hypot(*np.gradient((one + two) / 2))
        way_px = np.percentile(np.abs(two - one), 95) / max(float(np.percentile(slope, 95)), _LEAST_SLOPE)
        out.append(float(way_px) / max(x1 - x0, y1 - y0, 1))
    return np.array(out)


def frozen_share(pseudo: NDArray[np.float64], source: NDArray[np.float64]) -> float:
    """Return the share of steps in which the source moves and the pseudo video does not, of those in which the source
    moves, 0..1; 0 if it never does."""
    moves = source > _MOVES
    if not moves.any():
        return 0.0
    return float((pseudo[moves] < _SHARE * source[moves]).mean())


def _small(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    scale = _LONG_PX / max(frame.shape[:2])
    if scale >= 1:
        return frame
    size = round(frame.shape[1] * scale), round(frame.shape[0] * scale)
    return np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_AREA), np.uint8)


def _grey(frame: NDArray[np.uint8]) -> Grey:
    return np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), np.uint8)


def _flow(a: Grey, b: Grey) -> NDArray[np.float32]:
    create: Callable[[int], Any] = cv2.DISOpticalFlow_create  # type: ignore[attr-defined,unused-ignore]
    engine = create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return np.asarray(engine.calc(cv2.GaussianBlur(a, (0, 0), 1.0), cv2.GaussianBlur(b, (0, 0), 1.0), None), np.float32)


def _along(frame: NDArray[np.uint8], flow: NDArray[np.float32]) -> NDArray[np.uint8]:
    y, x = np.mgrid[: flow.shape[0], : flow.shape[1]].astype(np.float32)
    laid = cv2.remap(frame, x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(laid, np.uint8)
