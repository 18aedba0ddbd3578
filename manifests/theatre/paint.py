"""Paint on a figure: the colour of a point of a part, by its place on the body at rest.

A pattern is solid: it goes through the part like the rings through wood, so it has no seam, moves with the part, and is
the same from all sides. `along` runs along the longest side of the part's box at rest, `across` over the two others.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from manifests.theatre.motion import Array, Figure

PATTERNS: Final = ("plain", "stripes", "hoops", "dots", "checks")
_DOT: Final = 0.32  # radius of a dot, in periods


def painted(figure: Figure, face: NDArray[np.integer], weights: Array) -> Array:
    """Return the colours `[N, 3]`, RGB 0..1, of points given by triangle `[N]` and barycentric coordinates `[N, 3]`."""
    at = np.einsum("nc,ncx->nx", weights, figure.vertices[figure.faces[face]])
    part = figure.part[face]
    along_axis = _long_axes(figure)[part]
    along = np.take_along_axis(at, along_axis[:, None], axis=1)[:, 0]
    period = np.array([paint.period_m for paint in figure.paints])[part]
    u, v = along / period, (at[:, 0] + at[:, 1] + at[:, 2] - along) / period
    pattern = np.array([PATTERNS.index(paint.pattern) for paint in figure.paints])[part]
    hoop, stripe = np.floor(2 * u) % 2 == 1, np.floor(2 * v) % 2 == 1
    dot = (u % 1 - 0.5) ** 2 + (v % 1 - 0.5) ** 2 < _DOT**2
    second = np.choose(pattern, [np.zeros_like(hoop), stripe, hoop, dot, hoop ^ stripe])
    colours = np.array([[paint.first, paint.second] for paint in figure.paints], np.float32)
    chosen: Array = colours[part, second.astype(np.int64)]
    return chosen


def _long_axes(figure: Figure) -> NDArray[np.int64]:
    """Return for each part, `[parts]`, the axis along which its box at rest is longest."""
    axes = np.zeros(len(figure.paints), np.int64)
    for part in np.unique(figure.part):
        corners = figure.vertices[np.unique(figure.faces[figure.part == part])]
        axes[part] = int(np.ptp(corners, axis=0).argmax())
    return axes
