"""Cameras by name: perspective, aimed at what is to be seen over the whole clip.

A name, `half-012`, is a framing and a number from which yaw, pitch, roll, focal length, margin and offset are drawn. It
says how to look at a figure, not from where: the distance follows from the extent of the figure in its motion, so that
one name frames a child, a giant and a dog alike.

    frontal    the whole figure from in front, at most 15 degrees aside, level
    full       the whole figure from any side
    half       from the hips up, within 80 degrees of the front
    portrait   head and shoulders, within 50 degrees of the front
    moving     like full or half, and the camera pans and zooms slowly, or goes along with the figure

Any camera goes along, at an even pace, with a figure that travels (see `FOLLOWED`).

World: x to the figure's left, y up, z to where it faces, metres. View: x right, y down, z forward, metres. Picture:
`centre + focal * (x, y) / z` px from its top left corner; the focal length is in heights of the picture, so that a
camera serves every size of one shape.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from manifests.theatre.motion import Array, Figure
from manifests.theatre.names import numbered, seeded

Floats = NDArray[np.float64]

FRAMINGS: Final = ("frontal", "full", "half", "portrait", "moving")
FROM_HEIGHT: Final = {"half": 0.5, "portrait": 0.68}
"""Of the whole, only what is above this share of the height in rest is framed."""
FOLLOWED: Final = 0.35
"""A camera goes along with a figure that travels farther than this share of its height: it would else be a dot."""
_YAW: Final = {"frontal": 15.0, "full": 180.0, "half": 80.0, "portrait": 50.0}  # degrees, to either side


@dataclass(frozen=True)
class Camera:
    """Where a camera stands and how it looks, frame by frame.

    Attributes:
        rotation: `[T, 3, 3]` world to view.
        position: `[T, 3]` m, in the world.
        focal: `[T]` focal length in heights of the picture.
    """

    rotation: Floats
    position: Floats
    focal: Floats

    def view(self, points: NDArray[np.floating]) -> Floats:
        """Return points `[T, N, 3]` of the world in view coordinates, m."""
        seen: Floats = (points - self.position[:, None]) @ self.rotation.transpose(0, 2, 1)
        return seen

    def project(self, points: NDArray[np.floating], height_px: int, width_px: int) -> tuple[Array, Array]:
        """Return where points `[T, N, 3]` of the world fall, `[T, N, 2]` px, and their depth, `[T, N]` m. What lies
        behind the camera has a depth below zero, and its place means nothing."""
        view = self.view(points)
        depth = view[..., 2]
        scale = self.focal[:, None] * height_px / np.where(depth > 0, depth, 1.0)
        px = view[..., :2] * scale[..., None] + (width_px / 2, height_px / 2)
        return px.astype(np.float32), depth.astype(np.float32)


@dataclass(frozen=True)
class _Look:
    """What a name says, before there is a figure."""

    framing: str
    yaw: float  # rad
    pitch: float  # rad, above zero looks down
    roll: float  # rad
    focal: float  # heights of the picture
    fill: float  # share of the picture's height or width that the extent takes
    offset: tuple[float, float]  # -1..1, of the room that is left beside it
    moves: str  # "", "pan" or "along"
    pan: tuple[float, float, float]  # rad to the side, rad up, and growth of the focal length, over the clip


def _look(name: str) -> _Look:
    kind, number = numbered(name, FRAMINGS, "camera")
    rng = seeded("camera", kind, number)
    framing = ("full", "half")[int(rng.integers(2))] if kind == "moving" else kind
    moves = ("pan", "along")[int(rng.integers(2))] if kind == "moving" else ""
    calm = 0.0 if kind == "frontal" else 1.0
    sway = rng.uniform(-1, 1, 2) * np.radians((7.0, 3.0))
    return _Look(
        framing,
        yaw=float(np.radians(rng.uniform(-1, 1) * _YAW[framing])),
        pitch=float(np.radians(rng.uniform(0, 4) + calm * rng.uniform(-6, 14))),
        roll=float(calm * np.radians(np.clip(rng.normal(0, 2.5), -6, 6))),
        focal=float(rng.uniform(1.2, 2.2)),
        fill=float(rng.uniform(0.92, 0.98) - calm * rng.uniform(0, 0.06)),
        offset=(float(calm * rng.uniform(-0.7, 0.7)), float(calm * rng.uniform(-0.7, 0.7))),
        moves=moves,
        pan=(float(sway[0]), float(sway[1]), float(rng.uniform(-0.12, 0.2))) if moves else (0.0, 0.0, 0.0),
    )


def framed(name: str, figure: Figure) -> NDArray[np.bool_]:
    """Return `[V]` which vertices of a figure the camera `name` frames; all of them if it shows the whole figure.

    Of a figure that is not human all is framed, whatever the name: what its arms drive may lie in its lower half, as a
    dog's forelegs do.

    Raises:
        UnknownName: There is no such camera.
    """
    framing = _look(name).framing if figure.kind == "human" else "full"
    high = figure.vertices[:, 1] >= FROM_HEIGHT.get(framing, -np.inf) * figure.height_m
    if framing == "portrait":  # without the arms, which stretch to both sides at rest
        high &= np.abs(figure.vertices[:, 0]) <= 0.16 * figure.height_m
    return high if high.any() else np.ones_like(high)


def yaw_of(name: str) -> float:
    """Return the angle, rad, from the front of the figure to the camera, above zero to the figure's left."""
    return _look(name).yaw


def aim(name: str, points: NDArray[np.floating], aspect: float) -> Camera:
    """Return the camera `name`, at such a distance that all of `points` stay in the picture and fill it as its name
    says.

    Args:
        name: Name of the camera.
        points: `[T, N, 3]` m, in the world: what is to be framed (see `framed`).
        aspect: Width of the picture over its height.

    Raises:
        UnknownName: There is no such camera.
    """
    look = _look(name)
    frames = len(points)
    rotation = _turned(look.yaw, look.pitch, look.roll)
    path = _smooth(points.mean(axis=1))
    path[:, 1] = 0.0
    gone = float(np.linalg.norm(path[-1] - path[0])) if frames > 1 else 0.0
    if look.moves != "along" and gone < FOLLOWED * float(np.ptp(points[..., 1])):
        path[:] = 0.0
    seen = (points - path[:, None]).reshape(-1, 3) @ rotation.T
    eye = rotation.T @ _eye(seen, look, aspect)
    time = np.linspace(-0.5, 0.5, frames) if frames > 1 else np.zeros(1)
    # a turned camera that turns on is one that is turned by more about its own axes
    level = _turned(0.0, 0.0, 0.0)
    sway = np.stack([_turned(look.pan[0] * t, look.pan[1] * t, 0.0) @ level.T for t in time])
    return Camera(sway @ rotation, eye + path, look.focal * np.exp(look.pan[2] * time))


def _turned(yaw: float, pitch: float, roll: float) -> Floats:
    """Return `[3, 3]`, world to view, of a camera that stands `yaw` to the left of the front, looks back at the figure
    and down by `pitch`, and is turned about its axis by `roll`."""
    cy, sy, cp, sp, cr, sr = (f(a) for a in (yaw, pitch, roll) for f in (np.cos, np.sin))
    level = np.array([[cy, 0, -sy], [0, -1, 0], [-sy, 0, -cy]])  # rows: right, down, forward
    down = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    turn = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
    turned: Floats = turn @ down @ level
    return turned


def _eye(seen: Floats, look: _Look, aspect: float) -> Floats:
    """Return the place of the eye, in view directions, that is nearest while all of `seen` `[N, 3]` stay in the frame.

    A point (x, y, z), seen from (ex, ey, -d), is within the share m of the half width w if |x - ex| * f <= m*w*(z + d).
    Over all points that is A - f*ex <= m*w*d and B + f*ex <= m*w*d with A = max(f*x - m*w*z), B = max(-f*x - m*w*z); so
    d = (A + B) / (2*m*w) at least, and then any ex between (A - m*w*d) / f and (m*w*d - B) / f. Likewise for y.
    """
    half = np.array([aspect / 2, 0.5]) * look.fill
    # a growing focal length shows less at one end of the clip, a turning camera leaves the middle
    half = half * np.exp(-abs(look.pan[2]) / 2) - np.abs(look.pan[:2]) / 2 * look.focal
    x = seen[:, :2] * look.focal
    z = seen[:, 2:] * half
    most, least = (x - z).max(axis=0), (-x - z).max(axis=0)
    distance = max(float(((most + least) / (2 * half)).max()), float(-seen[:, 2].min()) + 0.3)
    low, high = (most - half * distance) / look.focal, (half * distance - least) / look.focal
    across = (low + high) / 2 + np.array(look.offset) * (high - low) / 2
    return np.array([across[0], across[1], -distance])


def _smooth(path: NDArray[np.floating]) -> Floats:
    """Return a path `[T, 3]` as a straight line at even pace, fitted: a person carries a camera so."""
    time = np.linspace(-0.5, 0.5, len(path))
    slope = (time[:, None] * path).sum(axis=0) / max(float((time**2).sum()), 1e-9)
    line: Floats = np.asarray(path.mean(axis=0) + time[:, None] * slope, np.float64)
    return line
