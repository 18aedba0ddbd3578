"""Triangles to pixels: a z-buffer rasteriser in numpy, over all triangles of many frames at once.

Picture: x px to the right, y px down, the top left corner of the picture is (0, 0), and the pixel in row i and column j
is the square [j, j + 1) x [i, i + 1). Its sample is its centre. A point of the view (x right, y down, z forward, in
metres) falls on `centre + focal * (x, y) / z`.

Corners are rounded to 1/256 px and everything about coverage is then computed in whole numbers: the sign of an edge is
exact, and a sample on an edge belongs to one of the two triangles that share it (the top-left rule of Direct3D 11 and
OpenGL). So a closed surface has no holes and no pixel is painted by both neighbours.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from manifests.theatre.motion import Array

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

SUB: Final = 256  # parts of a pixel to which corners are rounded
NEAR_M: Final = 0.05
_REACH_PX: Final = 1 << 20  # corners are kept within this of the picture: 2**20 * 2**8 squared fits into 63 bits
_LOW: Final = np.uint64(0xFFFFFFFF)
_BATCH: Final = 1_500_000  # rows of triangles at a time, which bounds memory


@dataclass(frozen=True)
class Hits:
    """The nearest surface at each sample that one covers, N samples in the order of frames, rows, columns.

    Attributes:
        sample: `[N]` index into a flattened `[T, H, W]`.
        face: `[N]` index of the triangle.
        weights: `[N, 3]` barycentric coordinates on it in space (perspective is accounted for); they sum to 1.
        depth: `[N]` m along the axis of view.
    """

    sample: Ints
    face: Ints
    weights: Array
    depth: Array


@dataclass(frozen=True)
class _Triangles:
    """K triangles on the picture, and for clipped ones the barycentric coordinates of their corners on the face they
    were cut from."""

    frame: Ints
    face: Ints
    x: Ints  # [K, 3] px / SUB
    y: Ints
    nearness: Floats  # [K, 3] 1 / m
    on_face: Array | None = None  # [K, 3, 3], None if nothing was cut


def rasterise(
    view: NDArray[np.floating], faces: NDArray[np.integer], focal_px: NDArray[np.floating],
    height_px: int, width_px: int, near_m: float = NEAR_M,
) -> Hits:  # fmt: skip
    """Return what is seen at the centre of each pixel.

    Args:
        view: `[T, V, 3]` corners in view coordinates: x right, y down, z forward, m.
        faces: `[F, 3]` indices of corners, counter-clockwise seen from outside; the back of a triangle is not seen.
        focal_px: `[T]` focal length; the axis of view meets the middle of the picture.
        height_px: Rows of the picture.
        width_px: Columns of the picture.
        near_m: Nothing nearer than this is seen; triangles that cross that plane are cut at it.
    """
    best = np.zeros(len(view) * height_px * width_px, np.uint64)
    found: list[tuple[Ints, Array, Array]] = []
    count = 0
    for part in _facing(
        view, np.asarray(faces, np.int64), np.asarray(focal_px, np.float64), (height_px, width_px), near_m
    ):
        for triangle, sample, weights, nearness in _covered(part, height_px, width_px):
            # the nearer wins; of two at the same depth, the first: the lower half of the key counts down
            key = nearness.view(np.uint32).astype(np.uint64) << np.uint64(32)
            key |= _LOW - np.arange(count, count + len(key), dtype=np.uint64)
            np.maximum.at(best, sample, key)
            on_face = weights if part.on_face is None else np.einsum("nc,ncb->nb", weights, part.on_face[triangle])
            found.append((part.face[triangle], on_face, nearness))
            count += len(key)
    samples = np.flatnonzero(best)
    if not found:
        return Hits(samples, samples, np.zeros((0, 3), np.float32), np.zeros(0, np.float32))
    winner = (_LOW - (best[samples] & _LOW)).astype(np.int64)
    face, weights, nearness = (np.concatenate(column)[winner] for column in zip(*found, strict=True))
    return Hits(samples, face, weights, (1 / nearness).astype(np.float32))


def _on_picture(view: Floats, focal_px: Floats, size_px: tuple[int, int]) -> tuple[Ints, Ints]:
    """Project points in front of the eye: x and y in parts of a pixel."""
    scale = focal_px / view[..., 2]
    x = np.clip(view[..., 0] * scale + size_px[1] / 2, -_REACH_PX, _REACH_PX)
    y = np.clip(view[..., 1] * scale + size_px[0] / 2, -_REACH_PX, _REACH_PX)
    return np.rint(x * SUB).astype(np.int64), np.rint(y * SUB).astype(np.int64)


def _facing(
    view: NDArray[np.floating], faces: Ints, focal_px: Floats, size_px: tuple[int, int], near_m: float
) -> Iterator[_Triangles]:
    """Give the triangles that turn their front to the eye and are not nearer than `near_m`: whole ones, then cut."""
    points = np.asarray(view, np.float64)
    ahead = points[..., 2] >= near_m
    safe = points if ahead.all() else np.where(ahead[..., None], points, [0.0, 0.0, near_m])
    x, y = _on_picture(safe, focal_px[:, None], size_px)
    a, b, c = faces.T
    front = (x[:, c] - x[:, a]) * (y[:, b] - y[:, a]) > (x[:, b] - x[:, a]) * (y[:, c] - y[:, a])
    if not ahead.all():
        inside = ahead[:, faces].sum(axis=2)
        frame, face = np.nonzero((inside > 0) & (inside < 3))
        front &= inside == 3
        if len(frame):
            yield _cut(frame, face, points[frame[:, None], faces[face]], focal_px, size_px, near_m)
    frame, face = np.nonzero(front)
    corner = frame[:, None], faces[face]
    yield _Triangles(frame, face, x[corner], y[corner], 1 / safe[..., 2][corner])


def _cut(
    frame: Ints, face: Ints, corners: Floats, focal_px: Floats, size_px: tuple[int, int], near_m: float
) -> _Triangles:
    """Cut triangles `[K, 3, 3]` at the plane z = near_m: one with one corner ahead stays one, with two becomes two."""
    inside = corners[..., 2] >= near_m
    one = inside.sum(axis=1) == 1
    # turn each so that the odd corner (the only one ahead, or the only one that is not) is the first
    odd = np.where(one, inside.argmax(axis=1), (~inside).argmax(axis=1))
    order = (odd[:, None] + np.arange(3)) % 3
    turned = np.take_along_axis(corners, order[..., None], axis=1)
    z = turned[..., 2]
    to_b, to_c = (((near_m - z[:, 0]) / (z[:, i] - z[:, 0]))[:, None] for i in (1, 2))

    def pieces(values: Floats) -> Floats:
        a, b, c = values[:, 0], values[:, 1], values[:, 2]
        ab, ac = a + (b - a) * to_b, a + (c - a) * to_c
        halves = ((a, ab, ac), one), ((ab, b, c), ~one), ((ab, c, ac), ~one)
        return np.concatenate([np.stack(corner, axis=1)[which] for corner, which in halves])

    frames, kept = (np.concatenate([v[one], v[~one], v[~one]]) for v in (frame, face))
    cut = pieces(turned)
    cut[..., 2] = np.maximum(cut[..., 2], near_m)
    x, y = _on_picture(cut, focal_px[frames, None], size_px)
    return _Triangles(frames, kept, x, y, 1 / cut[..., 2], pieces(np.eye(3)[order]).astype(np.float32))


def _covered(these: _Triangles, height_px: int, width_px: int) -> Iterator[tuple[Ints, Ints, Array, Array]]:
    """Give, in batches, what triangles cover: index of the triangle, of the sample, barycentric coordinates in space
    `[N, 3]`, and 1 / depth. Triangles are laid out flat into their rows, and rows into the samples between their two
    ends, so that no loop runs over triangles, rows or samples."""
    y, half = these.y, SUB // 2
    first_row = np.maximum(-((half - y.min(axis=1)) // SUB), 0)
    rows = np.minimum((y.max(axis=1) - half) // SUB, height_px - 1) - first_row + 1
    keep = np.flatnonzero((rows > 0) & (these.x.max(axis=1) > half) & (these.x.min(axis=1) <= width_px * SUB - half))
    for some in np.array_split(keep, max(1, int(rows[keep].sum()) * 3 // _BATCH)):
        of_row, row = _laid_out(first_row[some], rows[some])
        edges, least = _edges(these.x[some], y[some])
        step, start = edges[:, 0] * SUB, edges[:, 2] + edges[:, 0] * half
        # along a row of samples the value of an edge is step * column + value; it must not be less than `least`
        value = edges[:, 1][:, of_row] * (row * SUB + half) + start[:, of_row]
        across = step[:, of_row]
        spare = value - least[:, of_row]
        turn = spare // np.where(across == 0, 1, np.abs(across))
        low = np.maximum(np.where(across > 0, -turn, 0).max(axis=0), 0)
        high = np.minimum(np.where(across < 0, turn, width_px - 1).min(axis=0), width_px - 1)
        high[((across == 0) & (spare < 0)).any(axis=0)] = -1
        of_sample, column = _laid_out(low, np.maximum(high - low + 1, 0))
        mine = of_row[of_sample]
        area = step[:, mine] * column + value[:, of_sample]
        triangle = some[mine]
        # the coordinates on the picture are e_i / sum(e); in space e_i / z_i over their sum, and that sum is 1 / z
        weights = area * these.nearness.T[:, triangle]
        total = weights.sum(axis=0)
        nearness = total / area.sum(axis=0)
        sample = (these.frame[triangle] * height_px + row[of_sample]) * width_px + column
        yield triangle, sample, (weights / total).astype(np.float32).T, nearness.astype(np.float32)


def _laid_out(first: Ints, count: Ints) -> tuple[Ints, Ints]:
    """Return, for the ranges `first[i]`, `first[i] + 1`, ... of `count[i]` numbers, which range each number is of, and
    the number: two arrays of sum(count)."""
    which = np.repeat(np.arange(len(count)), count)
    starts = np.cumsum(count) - count
    return which, np.arange(len(which)) + (first - starts)[which]


def _edges(x: Ints, y: Ints) -> tuple[Ints, Ints]:
    """Return `[3, 3, K]`, for the edge opposite to each corner a, b, c: a*x + b*y + c is twice the area between that
    edge and a point, above zero on the triangle's side; and `[3, K]`, the least that it must be for a sample to belong
    to the triangle."""
    edges, least = np.empty((3, 3, len(x)), np.int64), np.empty((3, len(x)), np.int64)
    for corner in range(3):
        p, q = (corner + 1) % 3, (corner + 2) % 3
        a, b = y[:, q] - y[:, p], x[:, p] - x[:, q]
        edges[corner] = a, b, -(a * x[:, p] + b * y[:, p])
        # samples on a top or a left edge are the triangle's own, those on any other edge are the neighbour's
        least[corner] = ~((a > 0) | ((a == 0) & (b > 0)))
    return edges, least
