"""A take: who does what, where, seen how; and its picture with the exact truth.

Everything that a take shows follows from its names, so a take can be rendered alone, anywhere, at any size, and the
true answer to "this figure in that motion" is one more take.
"""

from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from manifests.errors import UserError
from manifests.keys import digest
from manifests.theatre import camera as cameras
from manifests.theatre import figures, motions
from manifests.theatre.background import behind, place
from manifests.theatre.camera import Camera
from manifests.theatre.lens import filtered
from manifests.theatre.light import Light, contact_shadow, corner_normals, face_normals, light, shade
from manifests.theatre.motion import JOINTS, Array, Figure, Motion, Performance
from manifests.theatre.paint import painted
from manifests.theatre.raster import Hits, rasterise

LAYOUTS: Final = ("side", "crossing")
SEEN: Final = 1.0
HIDDEN: Final = 0.6
"""Score of a point that lies in the picture, but behind the figure itself or another one."""
# How far from a point, on the body at rest, the skin before it may be for the point to count as seen, in heights of the
# figure: nose and eyes, ears, shoulders, elbows and wrists, hips, knees, ankles, feet, face, hands. Joints lie inside.
_NEAR: Final = np.repeat(
    [0.05, 0.06, 0.11, 0.06, 0.13, 0.09, 0.07, 0.07, 0.05, 0.05], [3, 2, 2, 4, 2, 2, 2, 6, 68, 42]
).astype(np.float32)


@dataclass(frozen=True)
class Take:
    """Names and numbers only: nothing here holds a picture.

    Attributes:
        world: The world from which it was drawn, for statistics; it changes nothing in the picture.
        figures: One or two names of `figures`.
        motions: As many names of `motions`.
        background: A name of `background`.
        camera: A name of `camera`.
        light: A name of `light`.
        lead_in: The motion in whose first pose the clip begins, when it is rendered with frames of lead-in, or None.
        layout: How two figures stand: `side` by side, or `crossing` each other's way if they walk.
    """

    world: str
    figures: tuple[str, ...]
    motions: tuple[str, ...]
    background: str
    camera: str
    light: str
    lead_in: str | None = None
    layout: str = "side"

    def __post_init__(self) -> None:
        if not 1 <= len(self.figures) <= 2 or len(self.figures) != len(self.motions):
            raise TakeError(
                f"a take has {len(self.figures)} figures and {len(self.motions)} motions: give one or two figures, and "
                "one motion for each"
            )
        if self.layout not in LAYOUTS:
            raise TakeError(f"there is no layout {self.layout!r}: give one of {', '.join(LAYOUTS)}")

    def as_json(self) -> dict[str, Any]:
        """Return the take as a dict that JSON can hold; `from_json` makes it again."""
        return asdict(self) | {"figures": list(self.figures), "motions": list(self.motions)}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Take":
        """Return the take that `as_json` gave."""
        return cls(**value | {"figures": tuple(value["figures"]), "motions": tuple(value["motions"])})

    @property
    def key(self) -> str:
        """The digest of all its names (`manifests.keys`): equal takes have equal keys."""
        return digest(self.as_json())


class TakeError(UserError):
    """A take cannot be rendered as it is."""


@dataclass(frozen=True)
class Rendered:
    """A take's picture and its exact truth; P is the number of figures, in the take's order.

    Attributes:
        frames: uint8 `[T, H, W, 3]`.
        skeleton: float32 `[T, P, 133, 3]`: x px, y px (0 is the left or top edge of the picture, a pixel is 1 wide) and
            score: `SEEN`, `HIDDEN`, or 0 with x = y = 0 where a point is outside the picture or the figure has none.
            For a figure that is not human, the points are those of the human who drives it: they need not lie on it,
            so only another figure hides them.
        masks: bool `[T, P, H, W]`, the pixels of which a figure covers more than half; no pixel is in two masks.
    """

    frames: NDArray[np.uint8]
    skeleton: Array
    masks: NDArray[np.bool_]


@dataclass(frozen=True)
class _Staged:
    """Figures in their places: all in one mesh, before a camera."""

    cast: tuple[Figure, ...]
    acts: tuple[Performance, ...]
    camera: Camera
    faces: NDArray[np.int64]  # [F, 3] of all figures
    owner: NDArray[np.int64]  # [F] which figure

    @property
    def vertices(self) -> Array:
        """`[T, V, 3]` m."""
        return np.concatenate([act.vertices for act in self.acts], axis=1)

    @property
    def at_rest(self) -> Array:
        """`[V, 3]` m, each figure at its own origin."""
        return np.concatenate([figure.vertices for figure in self.cast])


def render(
    take: Take, frames: int, fps: float, height_px: int, width_px: int, lead_in_frames: int = 0, samples: int = 2
) -> Rendered:
    """Render a take: the same names and numbers give the same bytes.

    Args:
        take: What to render.
        frames: T.
        fps: Frames a second.
        height_px: H.
        width_px: W.
        lead_in_frames: The first so many frames blend from the first pose of `take.lead_in` into the motion; nothing if
            the take has no lead-in.
        samples: Samples a pixel, each way.

    Raises:
        UserError: A name is not known, or the sizes are below one.
    """
    if min(frames, height_px, width_px, samples) < 1 or not 0 <= lead_in_frames < max(frames, 1) or not fps > 0:
        raise TakeError(
            f"cannot render {frames} frames of {width_px}x{height_px} px at {fps} fps with {lead_in_frames} frames of "
            f"lead-in and {samples} samples a pixel: give numbers above 0, and a lead-in from 0 to {frames - 1} frames"
        )
    lit = light(take.light)
    staged = _stage(take, frames, fps, width_px / height_px, lead_in_frames)
    rows, columns = height_px * samples, width_px * samples
    hits = rasterise(staged.camera.view(staged.vertices), staged.faces, staged.camera.focal * rows, rows, columns)
    canvas = _backdrop(take.background, staged, lit, rows, columns)
    canvas.reshape(-1, 3)[hits.sample] = _colours(staged, hits, lit, rows * columns)
    owner = np.full(frames * rows * columns, -1, np.int8)
    owner[hits.sample] = staged.owner[hits.face]
    parts = owner.reshape(canvas.shape[:3])
    masks = [_summed(parts == i, samples) * 2 > samples**2 for i in range(len(staged.acts))]
    return Rendered(
        frames=filtered(canvas, samples),
        skeleton=_skeleton(staged, hits, (height_px, width_px), samples),
        masks=np.stack(masks, axis=1),
    )


def scenery(
    take: Take, frames: int, fps: float, height_px: int, width_px: int, lead_in_frames: int = 0
) -> NDArray[np.uint8]:
    """Return uint8 `[T, H, W, 3]`: what `render` shows behind the figures, with their shadows on the ground."""
    staged = _stage(take, frames, fps, width_px / height_px, lead_in_frames)
    return filtered(_backdrop(take.background, staged, light(take.light), 2 * height_px, 2 * width_px), 2)


def _summed(values: NDArray[Any], samples: int) -> NDArray[np.uint32]:
    """Return the sums `[T, H, W, ...]` over the samples of each pixel of `[T, H * samples, W * samples, ...]`."""
    total = np.zeros_like(values[:, ::samples, ::samples], np.uint32)
    for i in range(samples):
        for j in range(samples):
            total += values[:, i::samples, j::samples]
    return total


def _stage(take: Take, frames: int, fps: float, aspect: float, lead_in_frames: int) -> _Staged:
    """Let the figures perform, put them in their places, and aim the camera at them."""
    cast = tuple(figures.figure(name) for name in take.figures)
    acts = []
    for figure, name in zip(cast, take.motions, strict=True):
        motion = motions.motion(name, frames, fps)
        if take.lead_in is not None and lead_in_frames:
            motion = motions.with_lead_in(motion, motions.motion(take.lead_in, frames, fps), lead_in_frames)
        acts.append(figures.perform(figure, motion))
    if len(acts) == 2:
        acts = _side_by_side(cast, acts, cameras.yaw_of(take.camera), take.layout == "crossing")
    framed = [a.vertices[:, cameras.framed(take.camera, f)] for f, a in zip(cast, acts, strict=True)]
    whole = all(f.shape[1] == a.vertices.shape[1] for f, a in zip(framed, acts, strict=True))
    if whole:  # the skeleton that drives a figure which is not human must be in the picture too
        framed += [a.points[:, a.given] for a in acts]
    starts = np.cumsum([0] + [len(f.vertices) for f in cast[:-1]])
    return _Staged(
        cast,
        tuple(acts),
        cameras.aim(take.camera, np.concatenate(framed, axis=1), aspect),
        np.concatenate([f.faces.astype(np.int64) + start for f, start in zip(cast, starts, strict=True)]),
        np.repeat(np.arange(len(cast)), [len(f.faces) for f in cast]),
    )


def _side_by_side(cast: tuple[Figure, ...], acts: list[Performance], yaw: float, crossing: bool) -> list[Performance]:
    """Move two figures apart, the first to the left as the camera sees them. Crossing, both are turned so that they
    walk across the picture towards each other and meet in the middle of the clip, the first nearer to the camera."""
    aside = np.array([np.cos(yaw), 0.0, -np.sin(yaw)])
    nearer = np.array([np.sin(yaw), 0.0, np.cos(yaw)])
    middles = [a.vertices.mean(axis=1) for a in acts]
    ways = [(m[-1] - m[0]) * (1.0, 0.0, 1.0) for m in middles]
    walks = min(np.linalg.norm(way) / f.leg_m for way, f in zip(ways, cast, strict=True)) > 0.6
    if not (crossing and walks):
        near = 0.15 * max(f.height_m for f in cast) * (1.0 if crossing else 0.0)
        spans = [(a.vertices @ aside).ravel() for a in acts]
        overlap = 0.04 * max(f.height_m for f in cast)
        shifts = [aside * (overlap - spans[0].max()) + nearer * near, aside * (-overlap - spans[1].min())]
        return [_moved(a, np.eye(3), s) for a, s in zip(acts, shifts, strict=True)]
    placed = []
    for act, way, towards, figure in zip(acts, ways, (aside, -aside), cast, strict=True):
        angle = np.arctan2(towards[0], towards[2]) - np.arctan2(way[0], way[2])
        turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
        turned = _moved(act, turn, np.zeros(3))
        middle = turned.vertices[len(turned.vertices) // 2].mean(axis=0) * (1.0, 0.0, 1.0)
        gap = nearer * 0.22 * figure.height_m * (1 if towards is aside else -1)
        placed.append(_moved(turned, np.eye(3), gap - middle))
    return placed


def _moved(act: Performance, turn: NDArray[np.float64], shift: NDArray[np.float64]) -> Performance:
    vertices, points = ((p @ turn.T + shift).astype(np.float32) for p in (act.vertices, act.points))
    return Performance(vertices, points, act.given)


def _backdrop(name: str, staged: _Staged, lit: Light, rows: int, columns: int) -> NDArray[np.uint8]:
    """Return the background `[T, rows, columns, 3]` with the shadows of the figures on its ground."""
    vertices = staged.vertices
    where = place(staged.camera, vertices)
    back, ground = behind(name, where, staged.camera, rows, columns)
    canvas = np.broadcast_to(back, (len(vertices), *back.shape[1:])).copy()
    if ground is None:
        return canvas
    for t in range(len(canvas)):
        at = ground[t % len(ground)]
        seen = np.isfinite(at[..., 0])
        keep = np.ones(int(seen.sum()), np.float32)
        for figure, act in zip(staged.cast, staged.acts, strict=True):
            # the middles of the triangles too: the sole of a box is a few corners far apart
            skin = np.concatenate([act.vertices[t], act.vertices[t][figure.faces].mean(axis=1)])
            keep *= 1 - lit.shadow * contact_shadow(skin, figure.height_m, at[seen])
        canvas[t][seen] = (canvas[t][seen] * keep[:, None]).astype(np.uint8)
    return canvas


def _colours(staged: _Staged, hits: Hits, lit: Light, per_frame: int) -> NDArray[np.uint8]:
    """Return the colours uint8 `[N, 3]` of what was hit."""
    colours = np.zeros((len(hits.sample), 3), np.float32)
    frame = hits.sample // per_frame
    first = 0
    for i, (figure, act) in enumerate(zip(staged.cast, staged.acts, strict=True)):
        mine = np.flatnonzero(staged.owner[hits.face] == i)
        face, weights, t = hits.face[mine] - first, hits.weights[mine], frame[mine]
        first += len(figure.faces)
        corners = figure.faces[face]
        if lit.smooth:
            around = corner_normals(act.vertices, figure.faces)[t[:, None], corners]
            normals = np.einsum("nc,ncx->nx", weights, around)
        else:
            normals = face_normals(act.vertices[t[:, None], corners])
        colours[mine] = painted(figure, face, weights) * shade(normals, staged.camera.rotation[0], lit)
    return (np.clip(colours, 0, 1) * 255 + 0.5).astype(np.uint8)


def _skeleton(staged: _Staged, hits: Hits, size_px: tuple[int, int], samples: int) -> Array:
    """Project the points, and score each by what is seen at its place: `HIDDEN` if that is another figure before it, or
    another part of the figure's own body before it."""
    height_px, width_px = size_px
    hit = np.full((len(staged.camera.focal), height_px * samples, width_px * samples), -1, np.int32)
    hit.reshape(-1)[hits.sample] = np.arange(len(hits.sample))
    skin = np.einsum("nc,ncx->nx", hits.weights, staged.at_rest[staged.faces[hits.face]])
    people = []
    for i, (figure, act) in enumerate(zip(staged.cast, staged.acts, strict=True)):
        px, far = staged.camera.project(act.points, height_px, width_px)
        inside = act.given & (far > 0) & (px >= 0).all(axis=-1) & (px < (width_px, height_px)).all(axis=-1)
        at = (np.where(inside[..., None], px, 0) * samples).astype(np.int64)
        there = hit[np.arange(len(px))[:, None], at[..., 1], at[..., 0]]
        before = (there >= 0) & (hits.depth[there] < far)
        apart = np.linalg.norm(skin[there] - _points_at_rest(figure), axis=-1)
        other_part = (apart > _NEAR * figure.height_m) & (figure.kind == "human")
        hidden = before & np.where(staged.owner[hits.face[there]] == i, other_part, True)
        score = np.where(hidden, HIDDEN, SEEN) * inside
        people.append(np.concatenate([px * inside[..., None], score[..., None]], axis=-1).astype(np.float32))
    return np.stack(people, axis=1)


def _points_at_rest(figure: Figure) -> Array:
    """Return the figure's points `[133, 3]` m at rest."""
    still = np.broadcast_to(np.eye(3, dtype=np.float32), (1, len(JOINTS), 3, 3))
    rest = Motion("rest", 1.0, still, np.zeros((1, 3), np.float32), np.zeros((1, 2), np.float32))
    points: Array = figures.perform(figure, rest).points[0]
    return points
