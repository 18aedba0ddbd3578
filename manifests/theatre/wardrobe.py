"""What people wear, and their heads: clothes by region of the body, hair, hats, faces."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from manifests.theatre import palette
from manifests.theatre.motion import Array, Paint
from manifests.theatre.palette import Colour
from manifests.theatre.points import EYE, on_head
from manifests.theatre.rig import Assembly
from manifests.theatre.solids import Mesh, capsule, cone, ellipsoid

Put = Callable[[Mesh, Colour], None]
Triple = tuple[float, float, float]

REGIONS: Final = ("skin", "shirt", "sleeve", "forearm", "hand", "hips", "thigh", "shin", "shoe")
_REGION: Final = {
    "pelvis": "hips", "spine1": "shirt", "spine2": "shirt", "spine3": "shirt", "collar": "shirt", "shoulder": "sleeve",
    "elbow": "forearm", "hip": "thigh", "knee": "shin", "ankle": "shoe", "foot": "shoe", "neck": "skin", "head": "skin",
}  # fmt: skip
HAIRCUTS: Final = ("short", "bob", "bun", "tail", "afro", "bald", "spikes")
HATS: Final = ("none", "none", "none", "cap", "cone", "top", "beanie")


def region(joint: str) -> str:
    """Return the region of the body that hangs on a joint; wrists and fingers are the hand."""
    return _REGION.get(joint.removeprefix("left_").removeprefix("right_"), "hand")


def dress(rng: np.random.Generator, number: int, height_m: float) -> dict[str, Paint]:
    """Draw the paint of each region: skin, a shirt and trousers of two families of colours (see `palette.families`),
    with sleeves and legs of any length, shoes, and sometimes gloves."""
    one, two = palette.families(rng, number)
    top, bottom = palette.shade(rng, one), palette.shade(rng, two)
    bare = palette.SKINS[rng.integers(len(palette.SKINS))]
    skin = Paint(bare, bare)
    shirt = palette.paint(rng, top, bottom if rng.random() < 0.5 else (0.95, 0.95, 0.95), 0.65, height_m)
    plain_top, trousers = Paint(top, top), palette.paint(rng, bottom, palette.darker(bottom, 0.55), 0.8, height_m)
    sleeves = {0: (skin, skin), 1: (shirt, skin), 2: (shirt, shirt), 3: (plain_top, plain_top)}[int(rng.integers(4))]
    legs = (trousers, trousers if rng.random() < 0.65 else skin)
    leather = (
        palette.darker(top, 0.5) if rng.random() < 0.5 else ((0.12, 0.1, 0.1), (0.95, 0.95, 0.95))[rng.integers(2)]
    )
    gloves = Paint(leather, leather) if rng.random() < 0.2 else skin
    return {
        "skin": skin, "shirt": shirt, "sleeve": sleeves[0], "forearm": sleeves[1], "hand": gloves, "hips": trousers,
        "thigh": legs[0], "shin": legs[1], "shoe": Paint(leather, leather),
    }  # fmt: skip


@dataclass(frozen=True)
class Head:
    """What is on a head: its haircut and hat (of `HAIRCUTS` and `HATS`), their colours, whether there is a beard, and
    how large the nose is."""

    haircut: str
    hat: str
    hair: Colour
    cloth: Colour
    beard: bool
    nose: float


def draw_head(rng: np.random.Generator, number: int, skin: Colour) -> Head:
    """Draw a head with skin of this colour; `number` is the figure's."""
    # hair of nearly the skin's colour would hide where the face begins
    hairs = [h for h in palette.HAIRS if np.linalg.norm(np.subtract(h, skin)) > 0.3]
    hair = hairs[rng.integers(len(hairs))]
    cloth = palette.shade(rng, palette.families(rng, number)[0])
    return Head(
        HAIRCUTS[rng.integers(len(HAIRCUTS))], HATS[rng.integers(len(HATS))], hair, cloth, bool(rng.random() < 0.2),
        float(rng.uniform(0.8, 1.5)),
    )  # fmt: skip


def furnish(assembly: Assembly, skull: Mesh, head: Head, skin: Paint) -> None:
    """Put eyes, nose, mouth, hair and hat on a head. `skull` is its mesh at rest, in the world."""
    low, high = skull.vertices.min(axis=0), skull.vertices.max(axis=0)
    size = high - low

    def put(mesh: Mesh, colour: Colour) -> None:
        assembly.add("head", mesh, Paint(colour, colour))

    def at(around: float, up: float) -> Array:
        place: Array = on_head(skull, np.array([around]), np.array([up]))[0]
        return place

    unit = float(size[1])
    for side in (-1, 1):
        eye = at(side * EYE[0], EYE[1])
        put(ellipsoid(eye, (0.085 * unit, 0.075 * unit, 0.04 * unit), 5, 8), (0.97, 0.97, 0.97))
        pupil = eye + np.array([side * 0.005 * unit, 0, 0.032 * unit], np.float32)
        put(ellipsoid(pupil, (0.042 * unit, 0.05 * unit, 0.022 * unit), 5, 8), (0.06, 0.05, 0.08))
        put(ellipsoid(at(side * 1.55, 0.45), (0.05 * unit, 0.12 * unit, 0.08 * unit), 5, 8), skin.first)
    nose = at(0.0, 0.36)
    tip = nose + np.array([0, 0, 0.06 * unit * head.nose], np.float32)
    put(capsule(at(0.0, 0.5), tip, 0.03 * unit, 0.055 * unit, 6), palette.darker(skin.first, 0.88))
    mouth = np.concatenate([at(-0.25, 0.2), at(0.25, 0.2)]).reshape(2, 3)
    put(capsule(mouth[0], mouth[1], 0.028 * unit, sectors=6), (0.62, 0.16, 0.18))
    span = _Span((low + high) / 2, size, put)
    if head.beard:
        span.lump((0, -0.44, 0.22), (0.36, 0.17, 0.3), head.hair)
    _hair(span, head)
    _hat(span, head)


@dataclass(frozen=True)
class _Span:
    """The box of a head, in whose sizes hair and hats are stated: (0, 0, 0) is its middle, (0, 0.5, 0) the crown."""

    centre: Array
    size: Array
    put: Put

    def at(self, x: float, y: float, z: float) -> Array:
        place: Array = self.centre + self.size * np.array([x, y, z], np.float32)
        return place

    def lump(self, place: Triple, radii: Triple, colour: Colour) -> None:
        self.put(ellipsoid(self.at(*place), self.size * np.array(radii, np.float32), 6, 10), colour)

    def cone(self, low: float, high: float, wide: tuple[float, float], colour: Colour) -> None:
        reach = float(max(self.size[0], self.size[2]))
        self.put(cone(self.at(0, low, -0.06), self.at(0, high, -0.06), wide[0] * reach, wide[1] * reach, 14), colour)


def _hair(span: _Span, head: Head) -> None:
    """Put hair on: a cap that leaves the face free, and what the haircut adds to it. Under a hat it lies flat."""
    cut = {"bun": "short", "afro": "bob", "spikes": "short"}.get(head.haircut, head.haircut)
    cut = head.haircut if head.hat == "none" else cut
    if cut == "bald":
        return
    span.lump((0, 0.16, -0.16), (0.54, 0.46, 0.54), head.hair)
    if cut == "bob":
        span.lump((0, -0.12, -0.24), (0.6, 0.46, 0.42), head.hair)
    elif cut == "bun":
        span.lump((0, 0.6, -0.28), (0.26, 0.2, 0.24), head.hair)
    elif cut == "tail":
        span.lump((0, 0.12, -0.7), (0.16, 0.16, 0.2), head.hair)
        span.lump((0, -0.25, -0.76), (0.17, 0.45, 0.15), head.hair)
    elif cut == "afro":
        span.lump((0, 0.26, -0.22), (0.74, 0.55, 0.6), head.hair)
    elif cut == "spikes":
        for x, z in ((-0.3, -0.1), (0, 0.1), (0.3, -0.1), (-0.15, -0.35), (0.15, -0.35)):
            foot, tip = span.at(x, 0.45, z), span.at(1.5 * x, 0.87, 1.4 * z)
            span.put(cone(foot, tip, 0.17 * float(span.size[0]), sectors=6), head.hair)


def _hat(span: _Span, head: Head) -> None:
    """Put a hat on, of the cloth's colour, its rim above the eyes."""
    if head.hat == "cap":
        span.lump((0, 0.3, -0.08), (0.6, 0.34, 0.6), head.cloth)
        span.lump((0, 0.26, 0.5), (0.44, 0.045, 0.4), palette.darker(head.cloth, 0.75))
    elif head.hat == "cone":
        span.cone(0.22, 1.2, (0.66, 0.0), head.cloth)
    elif head.hat == "top":
        span.cone(0.26, 0.32, (0.85, 0.85), head.cloth)
        span.cone(0.3, 0.95, (0.56, 0.6), head.cloth)
    elif head.hat == "beanie":
        span.lump((0, 0.38, -0.08), (0.62, 0.34, 0.6), head.cloth)
        span.lump((0, 0.78, -0.08), (0.17, 0.13, 0.15), (0.96, 0.96, 0.96))
