"""What creatures are made of: a coat of paint, a trunk, limbs, eyes, a tail."""

from dataclasses import dataclass
from typing import Final

from manifests.theatre.motion import Paint
from manifests.theatre.rig import Assembly
from manifests.theatre.solids import capsule, ellipsoid

Point = tuple[float, float, float]
SIDES: Final = (("left", 1), ("right", -1))
_EYE_WHITE: Final = Paint((0.97, 0.97, 0.97), (0.97, 0.97, 0.97))
PUPIL: Final = Paint((0.06, 0.05, 0.08), (0.06, 0.05, 0.08))


@dataclass(frozen=True)
class Coat:
    """A creature's paints: of the body, of its limbs, of what is set off (hooves, beaks), of small parts."""

    body: Paint
    limbs: Paint
    trim: Paint
    dark: Paint


def limb(
    into: Assembly, parent: str, joints: tuple[str, str, str], places: tuple[Point, Point, Point],
    radii: tuple[float, float, float], paint: Paint,
) -> None:  # fmt: skip
    """Add a limb's three joints and the two rods between them; what hangs on the last one is the caller's."""
    for joint, above, place in zip(joints, (parent, *joints[:2]), places, strict=True):
        into.joint(joint, above, place)
    for i in (0, 1):
        into.add(joints[i], capsule(places[i], places[i + 1], radii[i], radii[i + 1]), paint)


def eyes(into: Assembly, middle: Point, apart_m: float, size_m: float, white: Paint = _EYE_WHITE) -> None:
    """Put two eyes on the head, that look forward."""
    x, y, z = middle
    for _, side in SIDES:
        into.add("head", ellipsoid((x + side * apart_m, y, z), size_m, 5, 8), white)
        pupil = (x + side * (apart_m + 0.1 * size_m), y, z + 0.65 * size_m)
        into.add("head", ellipsoid(pupil, 0.52 * size_m, 5, 8), PUPIL)


def trunk(into: Assembly, *places: Point) -> None:
    """Add pelvis, back, chest, neck and head."""
    names = ("pelvis", "back", "chest", "neck", "head")
    for name, above, place in zip(names, (None, *names[:-1]), places, strict=True):
        into.joint(name, above, place)


def tail(into: Assembly, root: Point, long: float, thick: float, coat: Coat, rise: float) -> None:
    """Add a tail of two parts that leaves backwards, rising by `rise` for each metre."""
    x, y, z = root
    middle, end = (x, y + rise * long * 0.5, z - long * 0.6), (x, y + rise * long * 1.2, z - long * 1.1)
    into.joint("tail", "pelvis", root)
    into.joint("tailtip", "tail", middle)
    into.add("tail", capsule(root, middle, thick), coat.body)
    into.add("tailtip", capsule(middle, end, thick, 1.6 * thick), coat.trim)
