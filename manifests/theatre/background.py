"""Backgrounds by name: a wall and, under it, a floor; they stand still, whatever the camera does.

    plain     one colour
    gradient  two colours, blended
    floor     a wall and a floor, each plain, blended or with boards
    checker   squares on the wall, squares or boards on the floor
    clutter   a wall full of shapes, pictures, windows and furniture, and a floor

The wall stands behind the figures, square to the first look of the camera, and is as high as `WALL` pictures seen from
there; the floor is the ground, y = 0. So a wall fits every framing, and the feet stand on the floor.
Names are split by number: see `names.HELD_OUT_FROM`.
"""

import colorsys
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from manifests.theatre import furniture
from manifests.theatre.camera import Camera
from manifests.theatre.names import numbered, numbers, seeded

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float64]
Colour = tuple[int, int, int]

KINDS: Final = ("plain", "gradient", "floor", "checker", "clutter")
WALL: Final = 3.0
"""Width and height of the wall, in heights of the first picture."""
_BEHIND: Final = 1.35  # the wall is this much farther than the farthest point of the figures
_TILE: Final = 2.0  # side of the floor's pattern, in heights of the first picture at the figures


@dataclass(frozen=True)
class Room:
    """A background as two textures.

    Attributes:
        wall: uint8 `[S, S, 3]`, `WALL` by `WALL`; its middle is where the camera first looks.
        floor: uint8 `[S, S, 3]`, repeated on the ground; None where the wall is all there is.
        furniture: Colours of the boxes that stand before the wall.
    """

    wall: Pixels
    floor: Pixels | None
    furniture: tuple[Colour, ...] = ()


def names(split: str, kinds: tuple[str, ...] = KINDS) -> tuple[str, ...]:
    """Return the names of a split, `train` or `held_out`.

    Raises:
        UnknownName: The split or a kind does not exist.
    """
    for kind in kinds:
        numbered(f"{kind}-000", KINDS, "background")
    return tuple(f"{kind}-{number:03d}" for kind in kinds for number in numbers(split))


@lru_cache(maxsize=8)
def room(name: str, size_px: int) -> Room:
    """Return the background `name`, its wall drawn for a picture of `size_px` rows.

    Raises:
        UnknownName: There is no such background.
    """
    kind, number = numbered(name, KINDS, "background")
    rng = seeded("background", kind, number)
    side = int(size_px * WALL)
    if kind == "plain":
        return Room(_plain(side, _colour(rng)), None)
    if kind == "gradient":
        return Room(_gradient(rng, side, bend=0.3), None)
    if kind == "floor":
        wall = _gradient(rng, side, bend=0.9) if rng.random() < 0.5 else _plain(side, _colour(rng))
        return Room(wall, _boards(rng, side))
    wall = _checks(rng, side, (4, 13)) if kind == "checker" else _clutter(rng, side)
    floor = _boards(rng, side) if rng.random() < 0.6 else _checks(rng, side, (2, 6))
    things = int(rng.integers(3, 9)) if kind == "clutter" else 0
    return Room(wall, floor, tuple(_colour(rng, 0.8) for _ in range(things)))


@dataclass(frozen=True)
class Place:
    """Where a room stands: how far the wall is from the first eye, and the side of the floor's pattern, m."""

    wall_m: float
    tile_m: float


def place(camera: Camera, points: NDArray[np.floating]) -> Place:
    """Return where a room stands for figures whose points are `[T, N, 3]` m."""
    depth = ((points.reshape(-1, 3) - camera.position[0]) @ camera.rotation[0].T)[:, 2]
    near = float(np.median(depth))
    return Place(float(depth.max()) * _BEHIND, _TILE * near / float(camera.focal[0]))


def behind(
    name: str, where: Place, camera: Camera, height_px: int, width_px: int
) -> tuple[Pixels, NDArray[np.float32] | None]:
    """Return what is seen behind the figures, uint8 `[T, H, W, 3]`, and where on the ground each pixel looks, float32
    `[T, H, W, 2]` x and z m, NaN where it sees no ground; None if the background has none. T is 1 if the camera stands
    still.

    Raises:
        UnknownName: There is no such background.
    """
    scenery = room(name, height_px)
    still = all(np.ptp(part, axis=0).max() == 0 for part in (camera.rotation, camera.position, camera.focal))
    frames = range(1 if still else len(camera.focal))
    seen = [_frame(scenery, where, camera, t, (height_px, width_px)) for t in frames]
    pictures, grounds = np.stack([picture for picture, _ in seen]), np.stack([ground for _, ground in seen])
    if scenery.furniture:
        things = furniture.furniture(name, scenery.furniture, camera, *_axes(camera), where.wall_m)
        for t in frames:
            sample, colours = furniture.seen(things, camera, t, (height_px, width_px))
            pictures[t].reshape(-1, 3)[sample] = colours
            grounds[t].reshape(-1, 2)[sample] = np.nan
    return pictures, None if scenery.floor is None else grounds


def _axes(camera: Camera) -> tuple[Floats, Floats]:
    """Return the right of the first look and its direction, `[3]` each, along the ground."""
    first = camera.rotation[0][2]
    onward = np.array([first[0], 0.0, first[2]]) / np.hypot(first[0], first[2])
    return np.array([-onward[2], 0.0, onward[0]]), onward


def _frame(
    scenery: Room, where: Place, camera: Camera, t: int, size_px: tuple[int, int]
) -> tuple[Pixels, NDArray[np.float32]]:
    """Return the wall and floor as frame `t` sees them, `[H, W, 3]`, and the ground under each pixel, `[H, W, 2]`."""
    height_px, width_px = size_px
    focal_px = camera.focal[t] * height_px
    x = (np.arange(width_px) + 0.5 - width_px / 2) / focal_px
    y = (np.arange(height_px) + 0.5 - height_px / 2) / focal_px
    rows = camera.rotation[t]
    ray = x[None, :, None] * rows[0] + y[:, None, None] * rows[1] + rows[2]  # [H, W, 3] in the world, depth 1
    (aside, onward), first = _axes(camera), camera.rotation[0][2]
    start = camera.position[t] - camera.position[0]
    far = (where.wall_m - start @ onward) / np.maximum(ray @ onward, 1e-3)
    # the middle of the wall is where the first look meets it
    middle = first[1] / np.hypot(first[0], first[2]) * where.wall_m
    span = WALL * where.wall_m / camera.focal[0]
    u = (start @ aside + far * (ray @ aside)) / span + 0.5
    v = 0.5 - (start[1] + far * ray[..., 1] - middle) / span
    picture = _looked_up(scenery.wall, _mirrored(u), _mirrored(v))
    ground = np.full((height_px, width_px, 2), np.nan, np.float32)
    if scenery.floor is None:
        return picture, ground
    down = np.where(ray[..., 1] < -1e-6, camera.position[t][1] / np.maximum(-ray[..., 1], 1e-6), np.inf)
    seen = (down > 0) & (down < far)
    at = camera.position[t] + down[seen][:, None] * ray[seen]
    ground[seen] = at[:, [0, 2]]
    picture[seen] = _looked_up(scenery.floor, *((at @ axis / where.tile_m) % 1.0 for axis in (aside, onward)))
    return picture, ground


def _mirrored(u: Floats) -> Floats:
    """Fold coordinates into 0..1, there and back, so that a texture goes on without a seam."""
    return 1 - np.abs(u % 2.0 - 1)


def _looked_up(texture: Pixels, u: Floats, v: Floats) -> Pixels:
    rows, columns = texture.shape[:2]
    row, column = (v * rows).astype(np.int64), (u * columns).astype(np.int64)
    found: Pixels = texture[np.minimum(row, rows - 1), np.minimum(column, columns - 1)]
    return found


def _colour(rng: np.random.Generator, most: float = 0.55) -> Colour:
    """Draw a colour that is not glaring."""
    return _rgb(rng.random(), rng.uniform(0, most), rng.uniform(0.25, 0.95))


def _rgb(hue: float, saturation: float, value: float) -> Colour:
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return int(red * 255), int(green * 255), int(blue * 255)


def _like(rng: np.random.Generator, colour: Colour, by: float) -> Colour:
    """Return a colour that is lighter or darker by up to the share `by`."""
    change = 1 + rng.uniform(-by, by)
    red, green, blue = (int(np.clip(c * change, 0, 255)) for c in colour)
    return red, green, blue


def _plain(side: int, colour: Colour) -> Pixels:
    return np.full((side, side, 3), colour, np.uint8)


def _gradient(rng: np.random.Generator, side: int, bend: float) -> Pixels:
    """Blend two colours, mostly downwards; `bend` leans the direction. The blend is over before the picture's edge."""
    first, second = (np.array(_colour(rng), np.float64) for _ in range(2))
    lean = rng.uniform(-bend, bend)
    at = (np.arange(side) + 0.5) / side - 0.5
    along = (at[:, None] * np.cos(lean) + at[None, :] * np.sin(lean)) * WALL
    share = np.clip(along / 1.2 + 0.5, 0, 1)[..., None]
    blend: Pixels = (first + (second - first) * share).astype(np.uint8)
    return blend


def _checks(rng: np.random.Generator, side: int, pairs: tuple[int, int]) -> Pixels:
    """Draw squares of two colours, `pairs` (from, below) of them on a side."""
    first = _colour(rng)
    second = _like(rng, first, 0.6) if rng.random() < 0.5 else _colour(rng)
    count = 2 * int(rng.integers(*pairs))  # even, so that a repeated floor has no seam
    cell = np.arange(side) * count // side
    even = (cell[:, None] + cell[None, :]) % 2 == 0
    return np.where(even[..., None], np.array(first, np.uint8), np.array(second, np.uint8))


def _boards(rng: np.random.Generator, side: int) -> Pixels:
    """Draw boards of nearly one colour, or a floor without any."""
    base = _colour(rng, 0.4)
    floor = _plain(side, base)
    count = int(rng.choice([0, 6, 10, 16]))
    for board in range(count):
        floor[:, side * board // count : side * (board + 1) // count] = _like(rng, base, 0.18)
    return floor


def _clutter(rng: np.random.Generator, side: int) -> Pixels:
    """Fill a wall with shapes from large to small: panels, discs, polygons, bars, frames and rows of books."""
    wall = Image.fromarray(_gradient(rng, side, 0.9) if rng.random() < 0.5 else _plain(side, _colour(rng)))
    pen = ImageDraw.Draw(wall)
    count = int(rng.integers(90, 220))
    for i in range(count):
        size = side / WALL * (0.55 * (1 - i / count) + 0.08) * rng.uniform(0.4, 1.0, 2)
        x, y = rng.uniform(-0.1, 1.0, 2) * side
        _shape(rng, pen, (x, y, x + size[0], y + size[1]))
    return np.asarray(wall).copy()


def _shape(rng: np.random.Generator, pen: ImageDraw.ImageDraw, box: tuple[float, float, float, float]) -> None:
    x0, y0, x1, y1 = box
    colour, other = _colour(rng, 0.9), _colour(rng, 0.9)
    kind = rng.choice(["panel", "disc", "polygon", "bars", "frame", "books"])
    if kind == "panel":
        pen.rectangle(box, fill=colour)
    elif kind == "disc":
        pen.ellipse(box, fill=colour)
    elif kind == "polygon":
        corners = rng.uniform(0, 1, (int(rng.integers(3, 7)), 2)) * (x1 - x0, y1 - y0) + (x0, y0)
        pen.polygon([(float(x), float(y)) for x, y in corners], fill=colour)
    elif kind == "frame":
        pen.rectangle(box, fill=other)
        edge = 0.12 * min(x1 - x0, y1 - y0)
        pen.rectangle((x0 + edge, y0 + edge, x1 - edge, y1 - edge), fill=colour)
    else:
        count = int(rng.integers(3, 9))
        for i in range(count):
            top = y0 if kind == "bars" else y0 + rng.uniform(0, 0.4) * (y1 - y0)
            bar = (x0 + (x1 - x0) * i / count, top, x0 + (x1 - x0) * (i + 1) / count, y1)
            pen.rectangle(bar, fill=(colour, other)[i % 2] if kind == "bars" else _colour(rng, 0.9))
