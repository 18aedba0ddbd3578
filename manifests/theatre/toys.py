"""Toys, built of simple solids: robots and snowmen."""

from typing import Final

import numpy as np

from manifests.theatre.anatomy import SIDES, Coat, Point, eyes, limb, trunk
from manifests.theatre.motion import Paint
from manifests.theatre.rig import Assembly
from manifests.theatre.solids import box, capsule, cone, ellipsoid

_SNOW: Final = Paint((0.96, 0.97, 0.99), (0.96, 0.97, 0.99))
_CARROT: Final = Paint((0.95, 0.5, 0.12), (0.95, 0.5, 0.12))
_LIT: Final = Paint((1.0, 0.95, 0.55), (1.0, 0.95, 0.55))


def robot(into: Assembly, rng: np.random.Generator, coat: Coat) -> None:
    """Boxes and rods: a head with a screen and antennas, a panel on its chest, a pack on its back, claws."""
    leg, trunk_m = float(rng.uniform(0.35, 0.85)), float(rng.uniform(0.35, 0.6))
    wide, head = float(rng.uniform(0.16, 0.28)), float(rng.uniform(0.11, 0.2))
    arm, thick = float(rng.uniform(0.4, 0.8)), float(rng.uniform(0.035, 0.065))
    y = leg + 0.07
    top = y + trunk_m
    trunk(into, (0, y, 0), (0, y + 0.2 * trunk_m, 0), (0, y + 0.45 * trunk_m, 0), (0, top, 0), (0, top + 0.06, 0))
    into.add("pelvis", box((0, y + 0.03, 0), (1.5 * wide, 0.14, 0.9 * wide)), coat.limbs)
    into.add("back", capsule((0, y + 0.05, 0), (0, y + 0.5 * trunk_m, 0), 0.5 * wide), coat.dark)
    chest = y + 0.7 * trunk_m
    into.add(
        "chest", box((0, chest, 0), (2 * wide, 0.6 * trunk_m, 1.2 * wide), float(rng.uniform(0.8, 1.25))), coat.body
    )
    into.add("chest", box((0, chest, 0.6 * wide), (wide, 0.3 * trunk_m, 0.12)), coat.trim)
    into.add("chest", box((0, chest, -0.7 * wide), (1.2 * wide, 0.45 * trunk_m, 0.5 * wide)), coat.dark)
    into.add("neck", capsule((0, top - 0.03, 0), (0, top + 0.08, 0), 0.05), coat.dark)
    middle = top + 0.05 + head
    into.add("head", box((0, middle, 0), (2.2 * head, 1.8 * head, 1.8 * head)), coat.limbs)
    into.add("head", box((0, middle + 0.1 * head, 0.86 * head), (1.8 * head, 1.1 * head, 0.2 * head)), coat.dark)
    eyes(into, (0, middle + 0.2 * head, 0.98 * head), 0.45 * head, 0.24 * head, _LIT)
    into.add("head", box((0, middle - 0.25 * head, 0.97 * head), (0.8 * head, 0.14 * head, 0.06 * head)), _LIT)
    for side, mirror in SIDES:
        root = (mirror * 0.6 * head, middle + 0.85 * head, 0.0)
        tip = (mirror * 0.9 * head, middle + 1.7 * head, 0.0)
        into.joint(f"{side}_antenna", "head", root)
        into.add(f"{side}_antenna", capsule(root, tip, 0.1 * head, sectors=6), coat.dark)
        into.add(f"{side}_antenna", ellipsoid(tip, 0.24 * head, 5, 8), coat.trim)
        x, shoulder = mirror * (wide + 1.6 * thick), y + 0.9 * trunk_m
        names = (f"{side}_arm", f"{side}_forearm", f"{side}_hand")
        ends = ((x, shoulder, 0.0), (x, shoulder - 0.5 * arm, 0.0), (x, shoulder - arm, 0.0))
        limb(into, "chest", names, ends, (1.1 * thick, thick, thick), coat.limbs)
        into.add(names[0], ellipsoid(ends[0], 1.7 * thick), coat.trim)
        into.add(names[1], ellipsoid(ends[1], 1.4 * thick), coat.dark)
        for z in (-1, 1):
            finger = (x, shoulder - arm - 2.2 * thick, z * 1.3 * thick)
            into.add(names[2], capsule(ends[2], finger, 0.8 * thick, 0.6 * thick, 6), coat.trim)
        hip = mirror * 0.55 * wide
        legs = (f"{side}_thigh", f"{side}_shin", f"{side}_foot")
        down = ((hip, leg + 0.07, 0.0), (hip, 0.5 * leg + 0.07, 0.0), (hip, 0.07, 0.0))
        limb(into, "pelvis", legs, down, (1.3 * thick, 1.1 * thick, 1.1 * thick), coat.limbs)
        into.add(legs[1], ellipsoid(down[1], 1.6 * thick), coat.dark)
        into.add(legs[2], box((hip, 0.04, 0.06), (3 * thick, 0.08, 0.26), 0.8), coat.trim)


def snowman(into: Assembly, rng: np.random.Generator, coat: Coat) -> None:
    """Two or three balls on short legs: a hat, a carrot, buttons, a scarf, arms with mittens."""
    leg, low = float(rng.uniform(0.18, 0.32)), float(rng.uniform(0.24, 0.34))
    middle, head = low * float(rng.uniform(0.72, 0.85)), low * float(rng.uniform(0.58, 0.75))
    paint = coat.body if rng.random() < 0.5 else _SNOW
    y = leg + 0.05
    waist, neck = y + 1.55 * low, y + 1.55 * low + 1.45 * middle
    into.joint("pelvis", None, (0, y, 0))
    into.joint("chest", "pelvis", (0, waist, 0))
    into.joint("head", "chest", (0, neck, 0))
    into.add("pelvis", ellipsoid((0, y + 0.75 * low, 0), low, 8, 14), paint)
    into.add("chest", ellipsoid((0, waist + 0.6 * middle, 0), middle, 8, 14), paint)
    into.add("chest", ellipsoid((0, neck - 0.02, 0), (0.8 * middle, 0.2 * middle, 0.8 * middle), 5, 12), coat.trim)
    for up in (0.25, 0.6, 0.95):
        z = middle * float(np.sqrt(1 - (up - 0.6) ** 2))
        into.add("chest", ellipsoid((0, waist + up * middle, z), 0.12 * middle, 5, 8), coat.dark)
    _snow_head(into, rng, (0, neck + 0.75 * head, 0), head, paint, coat)
    reach = float(rng.uniform(0.5, 0.75)) * (low + middle)
    for side, mirror in SIDES:
        x, shoulder = mirror * 0.95 * middle, waist + 0.95 * middle
        names = (f"{side}_arm", f"{side}_forearm", f"{side}_hand")
        # held off the balls, which are wider below
        ends = ((x, shoulder, 0.0), (x + mirror * 0.5 * low, shoulder - 0.8 * reach, 0.0),
                (x + mirror * 0.7 * low, shoulder - 1.7 * reach, 0.02))  # fmt: skip
        limb(into, "chest", names, ends, (0.045, 0.04, 0.035), coat.limbs)
        into.add(names[2], ellipsoid(ends[2], 0.1, 6, 8), coat.trim)
        hip = mirror * 0.5 * low
        legs = (f"{side}_thigh", f"{side}_shin", f"{side}_foot")
        down = ((hip, leg + 0.05, 0.0), (hip, 0.5 * leg + 0.05, 0.0), (hip, 0.05, 0.0))
        limb(into, "pelvis", legs, down, (0.08, 0.06, 0.05), coat.limbs)
        into.add(legs[2], ellipsoid((hip, 0.05, 0.05), (0.085, 0.05, 0.14)), coat.dark)


def _snow_head(into: Assembly, rng: np.random.Generator, middle: Point, head: float, paint: Paint, coat: Coat) -> None:
    """Add a ball with a carrot, eyes, a mouth, and a top hat or a pointed cap."""
    x, y, z = middle

    def at(up: float, ahead: float) -> Point:
        return x, y + up * head, z + ahead * head

    into.add("head", ellipsoid(middle, head, 8, 14), paint)
    into.add("head", cone(at(-0.05, 0.85), at(-0.12, 1.75), 0.2 * head), _CARROT)
    eyes(into, at(0.28, 0.84), 0.36 * head, 0.19 * head)
    into.add("head", ellipsoid(at(-0.42, 0.86), (0.3 * head, 0.07 * head, 0.1 * head), 5, 8), coat.dark)
    if rng.random() < 0.5:
        into.add("head", cone(at(0.6, 0), at(0.72, 0), 1.15 * head, 1.15 * head, 14), coat.dark)
        into.add("head", cone(at(0.7, 0), at(1.6, 0), 0.75 * head, 0.8 * head, 14), coat.dark)
    else:
        into.add("head", cone(at(0.55, 0), at(1.9, -0.3), 0.9 * head, sectors=14), coat.trim)
        into.add("head", ellipsoid(at(1.9, -0.3), 0.22 * head, 5, 8), _SNOW)
