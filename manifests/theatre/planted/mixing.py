"""People between two people, motions between two motions, and their pictures.

A teacher that copies its driver does not show the driver: it shows somebody between the character and the driver. So a
leak is planted where figures are made, in builds, paints and heads, and rendered like any figure; nothing is blended in
pixels, and the share that leaked is exact.
"""

from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from manifests.errors import UserError
from manifests.theatre import camera as cameras
from manifests.theatre import humans, motions, wardrobe
from manifests.theatre import rotations as turn
from manifests.theatre.figures import _figure, _human_leg_m, _posed
from manifests.theatre.humans import Build
from manifests.theatre.lens import filtered
from manifests.theatre.light import light
from manifests.theatre.motion import Figure, Motion, Paint, Performance
from manifests.theatre.names import numbered, seeded
from manifests.theatre.points import COUNT
from manifests.theatre.raster import rasterise
from manifests.theatre.scene import Take, _backdrop, _colours, _Staged
from manifests.theatre.wardrobe import REGIONS, Head

__all__ = ["LIMBS", "Mix", "build_of", "limb_ratios", "motion_between", "picture"]

LIMBS: Final = {
    "upper_arm": ("shoulder", "elbow"),
    "forearm": ("elbow", "wrist"),
    "thigh": ("hip", "knee"),
    "shin": ("knee", "ankle"),
}
"""The limbs of either side, as the joints at their ends."""
_HEAD: Final = "head"


@dataclass(frozen=True)
class Mix:
    """Somebody between two people: `build` and `look` are the shares, 0..1, of `other`.

    Attributes:
        one: Name of a human figure.
        other: Name of another.
        build: Share of the other's proportions; 1 is the other's body.
        look: Share of the other's looks.
        parts: How looks are shared: None blends every colour; else whole regions of the body go over, the first so
            many of this order, of `wardrobe.REGIONS` and `head`.
    """

    one: str
    other: str
    build: float = 0.0
    look: float = 0.0
    parts: tuple[str, ...] | None = None


@dataclass(frozen=True)
class _Drawn:
    build: Build
    clothes: dict[str, Paint]
    head: Head


@lru_cache(maxsize=512)
def _drawn(name: str) -> _Drawn:
    """Draw a person again, as `humans.human` does."""
    kind, number = numbered(name, ("human",), "person")
    rng = seeded("figure", f"{kind}-{number:03d}")
    build = humans.draw_build(rng)
    clothes = wardrobe.dress(rng, number, build.height * 1.7)
    return _Drawn(build, clothes, wardrobe.draw_head(rng, number, clothes["skin"].first))


def build_of(name: str) -> Build:
    """Return the proportions of a person.

    Raises:
        UnknownName: There is no such person.
    """
    return _drawn(name).build


def limb_ratios(mix: Mix) -> NDArray[np.float64]:
    """Return `[4]`, the natural logarithms of the lengths of `LIMBS` over the trunk's (hips to shoulders), at rest."""
    places = _body(mix).places
    gap = {
        name: float(np.linalg.norm(places[f"left_{ends[0]}"] - places[f"left_{ends[1]}"]))
        for name, ends in LIMBS.items()
    }
    trunk = float(np.linalg.norm(places["left_shoulder"] - places["left_hip"]))
    return np.log([gap[name] / trunk for name in LIMBS])


def motion_between(name: str, other: str, share: float, frames: int, fps: float) -> Motion:
    """Return the motion `share` of the way from one to another, joint by joint along the shorter way (slerp)."""
    one, two = motions.motion(name, frames, fps), motions.motion(other, frames, fps)
    turns = turn.slerp(turn.from_matrices(one.rotations), turn.from_matrices(two.rotations), share)
    return replace(
        one,
        rotations=turn.matrices(turns).astype(np.float32),
        translation=((1 - share) * one.translation + share * two.translation).astype(np.float32),
        curl=((1 - share) * one.curl + share * two.curl).astype(np.float32),
    )


def picture(mix: Mix, motion: Motion, take: Take, height_px: int, width_px: int, samples: int = 2) -> NDArray[np.uint8]:
    """Return uint8 `[T, H, W, 3]`: a mixed person in a motion, with the background, camera and light of a take.

    Raises:
        UserError: A name is not known, or a size is below one.
    """
    if min(height_px, width_px, samples) < 1:
        raise UserError(f"a picture of {width_px} x {height_px} px with {samples} samples; give numbers from 1")
    lit = light(take.light)
    staged = _staged(mix, motion, take.camera, width_px / height_px)
    rows, columns = height_px * samples, width_px * samples
    hits = rasterise(staged.camera.view(staged.vertices), staged.faces, staged.camera.focal * rows, rows, columns)
    canvas = _backdrop(take.background, staged, lit, rows, columns)
    canvas.reshape(-1, 3)[hits.sample] = _colours(staged, hits, lit, rows * columns)
    return np.asarray(filtered(canvas, samples), np.uint8)


def _staged(mix: Mix, motion: Motion, camera: str, aspect: float) -> _Staged:
    human, figure = _made(mix)
    posed = _posed(human.rig, motion, figure.leg_m)
    act = Performance(
        posed.carry(human.rig.vertices, human.rig.bone), human.markers.carried(posed), np.ones(COUNT, np.bool_)
    )
    framed = act.vertices[:, cameras.framed(camera, figure)]
    if framed.shape[1] == act.vertices.shape[1]:
        framed = np.concatenate([framed, act.points], axis=1)
    aimed = cameras.aim(camera, framed, aspect)
    return _Staged((figure,), (act,), aimed, figure.faces.astype(np.int64), np.zeros(len(figure.faces), np.int64))


@lru_cache(maxsize=64)
def _made(mix: Mix) -> tuple[humans.Human, Figure]:
    clothes, head = _worn(mix)
    human = humans._assembled(_body(mix), clothes, head)
    return human, _figure(f"{mix.one}+{mix.other}", "human", human.rig, _human_leg_m(human.rig))


@lru_cache(maxsize=64)
def _body(mix: Mix) -> humans.Body:
    one, other = build_of(mix.one), build_of(mix.other)
    parts: dict[str, float] = {
        each.name: float((1 - mix.build) * getattr(one, each.name) + mix.build * getattr(other, each.name))
        for each in fields(Build)
        if each.name != "shape"
    }
    shape = tuple((1 - mix.build) * a + mix.build * b for a, b in zip(one.shape, other.shape, strict=True))
    return humans.body(Build(shape, **parts))


def _worn(mix: Mix) -> tuple[dict[str, Paint], Head]:
    one, other = _drawn(mix.one), _drawn(mix.other)
    if mix.parts is None:
        shares = dict.fromkeys((*REGIONS, _HEAD), mix.look)
    else:
        over = set(mix.parts[: round(mix.look * len(mix.parts))])
        shares = {name: float(name in over) for name in (*REGIONS, _HEAD)}
    clothes = {name: _paint(one.clothes[name], other.clothes[name], shares[name]) for name in REGIONS}
    share = shares[_HEAD]
    more = other.head if share > 0.5 else one.head
    hair, cloth = (_colour(getattr(one.head, each), getattr(other.head, each), share) for each in ("hair", "cloth"))
    return clothes, replace(more, hair=hair, cloth=cloth)


def _paint(one: Paint, other: Paint, share: float) -> Paint:
    """Blend two paints; of two patterns the one with the greater share is seen, of one pattern that one."""
    first, second = _colour(one.first, other.first, share), _colour(one.second, other.second, share)
    more, less = (other, one) if share > 0.5 else (one, other)
    seen = less if more.pattern == "plain" and 0 < share < 1 else more
    return Paint(first, second, seen.pattern, seen.period_m)


def _colour(
    one: tuple[float, float, float], other: tuple[float, float, float], share: float
) -> tuple[float, float, float]:
    red, green, blue = (float((1 - share) * a + share * b) for a, b in zip(one, other, strict=True))
    return red, green, blue
