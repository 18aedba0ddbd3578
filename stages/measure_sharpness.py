"""Is the figure sharp? Judged at one size of the figure, so that a small one in a large picture is not called sharp."""

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from stages.measure_figures import Figure

_FIGURE_PX: Final = 128  # long side of the figure's box, at which sharpness is judged
_MARGIN: Final = 0.08
_EMPTY: Final = 0.05  # mean difference of neighbours, levels, below which there is nothing to see


def sharpness(figure: Figure) -> float:
    """Return the median over frames of the share of the picture's finest differences that another blur takes away
    (Crete et al., 2007), within the figure's box at 128 px. 0..1, higher is sharper."""
    found = [_lost(_crop(frame, box)) for frame, box in zip(figure.frames, figure.boxes, strict=True)]
    return float(np.median(found))


def _crop(frame: NDArray[np.uint8], box: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the figure, grey float32, its box 128 px long."""
    margin = _MARGIN * float((box[2:] - box[:2]).max())
    x0, y0 = (max(0, int(v - margin)) for v in box[:2])
    x1, y1 = int(box[2] + margin) + 1, int(box[3] + margin) + 1
    grey = cv2.cvtColor(frame[y0:y1, x0:x1], cv2.COLOR_RGB2GRAY).astype(np.float32)
    scale = _FIGURE_PX / max(float((box[2:] - box[:2]).max()), 1.0)
    size = max(3, round(grey.shape[1] * scale)), max(3, round(grey.shape[0] * scale))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(grey, size, interpolation=how), np.float32)


def _lost(grey: NDArray[np.float32]) -> float:
    """Return the share of the differences between neighbours that a box of 9 pixels takes away, of the better axis."""
    grey = cv2.GaussianBlur(grey, (0, 0), 0.8)  # noise is not sharpness
    shares = []
    for axis, kernel in ((0, (1, 9)), (1, (9, 1))):
        soft = cv2.blur(grey, kernel)
        sharp, blurred = (np.abs(np.diff(g, axis=axis)) for g in (grey, soft))
        whole = float(sharp.mean())
        shares.append(float(np.maximum(sharp - blurred, 0).mean()) / whole if whole > _EMPTY else 0.0)
    return max(shares)
