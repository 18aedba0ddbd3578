"""Animals, built of simple solids: four-footed ones, birds, octopuses."""

import numpy as np
from numpy.typing import NDArray

from manifests.theatre.anatomy import PUPIL, SIDES, Coat, Point, eyes, limb, tail, trunk
from manifests.theatre.rig import Assembly
from manifests.theatre.solids import capsule, cone, ellipsoid


def quadruped(into: Assembly, rng: np.random.Generator, coat: Coat) -> None:
    """From dachshund to giraffe: legs, trunk, neck, muzzle, ears and tail of any length."""
    leg = float(rng.uniform(0.3, 0.7))
    long, neck = leg * float(rng.uniform(0.85, 1.35)) + 0.15, leg * float(rng.uniform(0.25, 0.9))
    head, girth = float(rng.uniform(0.12, 0.18)), 0.07 + leg * float(rng.uniform(0.18, 0.3))
    y = leg + 0.04 + 0.5 * girth
    neck_end = (0.0, y + 0.3 * girth + 0.85 * neck, long + 0.5 * neck)
    trunk(into, (0, y, 0), (0, y, 0.3 * long), (0, y, 0.7 * long), (0, y + 0.3 * girth, long), neck_end)
    into.add("pelvis", ellipsoid((0, y, 0), (girth * 0.85, girth, girth * 1.1)), coat.body)
    into.add("back", ellipsoid((0, y, 0.45 * long), (girth * 0.88, girth * 0.97, 0.42 * long)), coat.body)
    into.add("chest", ellipsoid((0, y + 0.05 * girth, 0.88 * long), (girth * 0.9, girth * 1.1, girth * 1.2)), coat.body)
    into.add("neck", capsule((0, y + 0.1 * girth, long), neck_end, 0.7 * girth, 0.6 * head), coat.body)
    _muzzle(into, neck_end, head, head * float(rng.uniform(0.6, 1.4)), coat)
    _ears(into, rng, coat, neck_end, head)
    thick = 0.26 * girth + 0.012
    rows = (("pelvis", ("thigh", "shin", "foot"), 0.0), ("chest", ("arm", "forearm", "hand"), long))
    for side, mirror in SIDES:
        for parent, (upper, lower, paw), z in rows:
            x = mirror * 0.6 * girth
            joints = (f"{side}_{upper}", f"{side}_{lower}", f"{side}_{paw}")
            places = ((x, leg + 0.04, z), (x, 0.5 * leg + 0.04, z), (x, 0.05, z))
            limb(into, parent, joints, places, (1.4 * thick, thick, 0.8 * thick), coat.limbs)
            into.add(joints[2], ellipsoid((x, 0.045, z + 0.4 * thick), (1.1 * thick, 0.045, 1.6 * thick)), coat.dark)
    tail(into, (0, y + 0.4 * girth, -0.9 * girth), leg * float(rng.uniform(0.25, 0.6)), 0.16 * girth + 0.01, coat,
         float(rng.uniform(-0.6, 0.9)))  # fmt: skip


def _muzzle(into: Assembly, neck_end: Point, head: float, long: float, coat: Coat) -> None:
    """Add a head of radius `head` with a muzzle of length `long`, a nose and eyes."""
    x, y, z = neck_end
    into.add("head", ellipsoid((x, y + 0.3 * head, z + 0.3 * head), (0.85 * head, 0.9 * head, head)), coat.limbs)
    tip = (x, y - 0.05 * head, z + head + long)
    into.add("head", capsule((x, y + 0.15 * head, z + 0.7 * head), tip, 0.6 * head, 0.42 * head), coat.trim)
    into.add("head", ellipsoid((x, tip[1] + 0.2 * head, tip[2] + 0.35 * head), 0.2 * head, 5, 8), PUPIL)
    eyes(into, (x, y + 0.75 * head, z + 0.85 * head), 0.48 * head, 0.24 * head)


def _ears(into: Assembly, rng: np.random.Generator, coat: Coat, root: Point, head: float) -> None:
    """Add ears: pricked or hanging, on joints of their own."""
    _, y, z = root
    pricked, long = bool(rng.random() < 0.6), float(rng.uniform(0.7, 1.5)) * head
    for side, mirror in SIDES:
        foot = (mirror * 0.6 * head, y + head, z + 0.2 * head)
        into.joint(f"{side}_ear", "head", foot)
        if pricked:
            into.add(
                f"{side}_ear",
                cone(foot, (mirror * 0.85 * head, y + head + long, z + 0.1 * head), 0.34 * head),
                coat.trim,
            )
        else:
            end = (mirror * 1.15 * head, y + head - 0.9 * long, z + 0.2 * head)
            into.add(f"{side}_ear", capsule(foot, end, 0.16 * head, 0.3 * head), coat.trim)


def bird(into: Assembly, rng: np.random.Generator, coat: Coat) -> None:
    """From chick to stork: upright, wings folded at the sides, beak, crest, feet with toes."""
    leg, girth = float(rng.uniform(0.25, 0.55)), float(rng.uniform(0.15, 0.24))
    neck, head = float(rng.uniform(0.06, 0.3)), float(rng.uniform(0.11, 0.17))
    y, tall = leg + 0.05 + 0.35 * girth, girth * float(rng.uniform(2.0, 2.8))
    top = y + tall
    throat, nape = (0, top - 0.3 * girth, 0.15 * girth), (0, top + neck, 0.3 * girth)
    trunk(into, (0, y, 0), (0, y + 0.2 * tall, 0), (0, y + 0.55 * tall, 0.05 * girth),
          (0, top - 0.1 * girth, 0.2 * girth), nape)  # fmt: skip
    into.add("pelvis", ellipsoid((0, y + 0.15 * girth, -0.1 * girth), (girth * 0.9, girth * 0.9, girth)), coat.body)
    into.add("back", ellipsoid((0, y + 0.4 * tall, 0), (girth, 0.45 * tall, girth)), coat.body)
    into.add("chest", ellipsoid((0, y + 0.65 * tall, 0.1 * girth), (0.9 * girth, 0.4 * tall, 0.9 * girth)), coat.body)
    into.add("chest", ellipsoid((0, y + 0.5 * tall, 0.5 * girth), (0.65 * girth, 0.4 * tall, 0.6 * girth)), coat.trim)
    into.add("neck", capsule(throat, nape, 0.5 * girth, 0.5 * head), coat.limbs)
    _beak(into, rng, (0, top + neck + 0.4 * head, 0.3 * girth), head, coat)
    span = (tall + leg * 0.5) * float(rng.uniform(0.9, 1.2))
    for side, mirror in SIDES:
        _wing(into, side, (mirror * 0.98 * girth, y + 0.85 * tall, 0), span, 0.75 * girth, coat)
        hip = mirror * 0.5 * girth
        joints = (f"{side}_thigh", f"{side}_shin", f"{side}_foot")
        limb(into, "pelvis", joints, ((hip, leg + 0.05, 0), (hip, 0.5 * leg + 0.05, 0), (hip, 0.05, 0)),
             (0.05, 0.028, 0.024), coat.trim)  # fmt: skip
        for out in (-0.05, 0.0, 0.05):
            into.add(joints[2], capsule((hip, 0.03, 0), (hip + out, 0.022, 0.11), 0.022, sectors=6), coat.trim)
    tail(into, (0, y, -0.9 * girth), girth * 0.9, 0.06, coat, -0.3)


def _beak(into: Assembly, rng: np.random.Generator, middle: Point, head: float, coat: Coat) -> None:
    """Add a head with a beak, eyes and up to three feathers."""
    x, y, z = middle
    into.add("head", ellipsoid(middle, head), coat.limbs)
    tip = (x, y - 0.3 * head, z + head * float(rng.uniform(1.6, 2.9)))
    into.add("head", cone((x, y - 0.1 * head, z + 0.8 * head), tip, 0.4 * head), coat.trim)
    eyes(into, (x, y + 0.3 * head, z + 0.72 * head), 0.5 * head, 0.28 * head)
    for i in range(int(rng.integers(0, 4))):
        root = (x, y + 0.8 * head, z + 0.3 * head * (1 - i))
        into.add("head", cone(root, (x, root[1] + 0.7 * head, root[2] - 0.5 * head), 0.2 * head, sectors=6), coat.trim)


def _wing(into: Assembly, side: str, shoulder: Point, span: float, chord: float, coat: Coat) -> None:
    """Add a wing of three flat parts that hangs from the shoulder, `span` long and twice `chord` wide."""
    x, top, z = shoulder
    above, ends = "chest", np.array([0.0, 0.38, 0.7, 1.05]) * span
    for i, (name, paint) in enumerate(zip(("arm", "forearm", "hand"), (coat.limbs, coat.trim, coat.dark), strict=True)):
        joint = f"{side}_{name}"
        into.joint(joint, above, (x, top - ends[i], z))
        middle, half = (x, top - (ends[i] + ends[i + 1]) / 2, z - 0.15 * chord * i), (ends[i + 1] - ends[i]) / 2
        into.add(joint, ellipsoid(middle, (0.045 - 0.008 * i, half * 1.3, chord * (1 - 0.15 * i))), paint)
        above = joint


def octopus(into: Assembly, rng: np.random.Generator, coat: Coat) -> None:
    """A dome on eight tentacles: four stand, four hang from higher up and curl outwards."""
    leg, girth = float(rng.uniform(0.35, 0.6)), float(rng.uniform(0.16, 0.24))
    dome, thick = girth * float(rng.uniform(0.95, 1.35)), float(rng.uniform(0.035, 0.055))
    y = leg + thick
    into.joint("pelvis", None, (0, y, 0))
    into.joint("head", "pelvis", (0, y + 0.8 * girth, 0))
    into.add("pelvis", ellipsoid((0, y + 0.2 * girth, 0), (girth, 0.8 * girth, girth)), coat.limbs)
    into.add("head", ellipsoid((0, y + 0.9 * girth + 0.8 * dome, -0.15 * dome), (dome, dome * 1.15, dome)), coat.body)
    eyes(into, (0, y + 0.9 * girth + 0.55 * dome, 0.68 * dome), 0.42 * dome, 0.24 * dome)
    mouth = (0, y + 0.9 * girth + 0.1 * dome, 0.62 * dome)
    into.add("head", ellipsoid(mouth, (0.2 * dome, 0.1 * dome, 0.1 * dome), 5, 8), coat.dark)
    for side, mirror in SIDES:
        for row, azimuths, top in (("leg", (30, 150), y), ("arm", (65, 115), y + 0.5 * girth)):
            for place, azimuth in zip(("front", "rear"), np.deg2rad(azimuths), strict=True):
                out = np.array([mirror * np.sin(azimuth), 0, np.cos(azimuth)])
                _tentacle(into, f"{side}_{place}{row}", out, (0.75 * girth, top, leg, thick), coat)


def _tentacle(
    into: Assembly, name: str, out: NDArray[np.float64], sizes: tuple[float, float, float, float], coat: Coat
) -> None:
    """Add a tentacle of three parts that leaves the body towards `out`; `sizes` m: how far from the middle and how high
    it begins, how far down it reaches, and how thick it is there."""
    reach, top, long, thick = sizes
    standing = name.endswith("leg")
    down = np.array([0.0, -1.0, 0.0])
    lean = 0.0 if standing else 0.12
    points = [reach * out + top * -down]
    for share in (0.5, 0.5) if standing else (0.5, 0.42):
        points.append(points[-1] + share * long * (down + lean * out))
    points.append(points[-1] + (0.26 * long * out if standing else 0.22 * long * (0.6 * down + out)))
    names = [f"{name}{i}" for i in (1, 2, 3)]
    for i, joint in enumerate(names):
        into.joint(joint, "pelvis" if i == 0 else names[i - 1], points[i])
        rod = capsule(
            points[i], points[i + 1], thick * (1.5 - 0.3 * i), thick * (1.2 - 0.3 * i + (0.1 if i == 2 else 0)), 8
        )
        into.add(joint, rod, (coat.limbs, coat.limbs if standing else coat.trim, coat.trim)[i])
