"""Planted pairs by number: a source, a character, and a pseudo video with one fault of a known kind and grade.

    leak             looks of the source's figure: every colour blended, or whole regions of the body gone over
    wrong_character  looks and build of a third person
    limbs            the proportions of the source's figure
    other_motion     joints that far on the way to another motion
    frozen           the last share of the steps stands still
    flicker, blur    see `damage`

A clean pair is the character in the source's motion, before the source's camera, on the character's background and in
its light. It is not perfect, as no teacher is: joints are a few degrees off, and the pixels are `damage.worn`. The
faulty ones are that, and their fault.

A pair is a pure function of (seed, index, split). Ten numbers in a row share a source and a character: two are clean.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from manifests.theatre import cast, figures, motions, scene
from manifests.theatre import rotations as turn
from manifests.theatre.motion import JOINTS, Motion
from manifests.theatre.names import seeded
from manifests.theatre.planted import damage
from manifests.theatre.planted.mixing import Mix, limb_ratios, motion_between, picture
from manifests.theatre.scene import Take
from manifests.theatre.wardrobe import REGIONS

KINDS: Final = ("leak", "wrong_character", "limbs", "other_motion", "frozen", "flicker", "blur")
GRADES: Final = (0.25, 0.5, 0.75, 1.0)
CLEAN: Final = "clean"
MIDDLE: Final = 0.5
SEVERE: Final = 1.0
PER_BASE: Final = 10
CLEAN_PER_BASE: Final = 2
UNLIKE: Final = 0.2
"""Root mean square difference of `mixing.limb_ratios`, of the limbs in the picture, from which two people are unlike in
build. Of those whose limbs are alike, proportions cannot be seen to leak, so no such pair is drawn."""
MOVING: Final = 0.35
"""Root mean square angle, rad, of the limbs in the picture from where they begin, within two seconds, from which a
motion moves; a figure that stands still cannot be told from a frozen one."""
_WOBBLE_RAD: Final = np.radians(2.0)
_ARMS, _LEGS = (
    [JOINTS.index(f"{side}_{joint}") for side in ("left", "right") for joint in joints]
    for joints in (("shoulder", "elbow"), ("hip", "knee"))
)


@dataclass(frozen=True)
class Planted:
    """A planted pair, by names and numbers only.

    Attributes:
        kind: One of `KINDS`, or `CLEAN`.
        grade: 0 if clean, else one of `GRADES`.
        source: The source's take.
        still: The take whose first frame is the picture of the character.
        other: Name of the third person or of the other motion that the kind asks for.
        parts: The order in which regions of the body go over, or None; see `mixing.Mix`.
        number: What its random numbers are drawn from, beside its names.
    """

    kind: str
    grade: float
    source: Take
    still: Take
    other: str
    parts: tuple[str, ...] | None
    number: tuple[int, int]

    @property
    def character(self) -> str:
        """Name of the character's figure."""
        return self.still.figures[0]


@dataclass(frozen=True)
class Shown:
    """What a pair shows: `source` and `pseudo` uint8 `[T, H, W, 3]`, `character` uint8 `[H, W, 3]`."""

    source: NDArray[np.uint8]
    character: NDArray[np.uint8]
    pseudo: NDArray[np.uint8]


def draw(seed: int, index: int, split: str = "train") -> Planted:
    """Return planted pair number `index`.

    Raises:
        UnknownName: There is no such split.
    """
    base, slot = divmod(index, PER_BASE)
    source, still = _base(seed, base, split)
    rng = seeded("planted", seed, index, split)
    combination = base * (PER_BASE - CLEAN_PER_BASE) + slot - CLEAN_PER_BASE
    grade, kind = divmod(combination, len(KINDS))
    clean = slot < CLEAN_PER_BASE
    kind_name = CLEAN if clean else KINDS[kind]
    order = tuple(str(each) for each in rng.permutation([*REGIONS, "head"]))
    return Planted(
        kind_name,
        0.0 if clean else GRADES[grade % len(GRADES)],
        source,
        still,
        other=_other(rng, kind_name, source, still, split),
        parts=order if rng.random() < 0.5 else None,
        number=(seed, index),
    )


def show(pair: Planted, frames: int, fps: float, height_px: int, width_px: int) -> Shown:
    """Render a planted pair.

    Raises:
        UserError: A size is below one.
    """
    seed, index = pair.number
    rng, share = seeded("shown", seed, index), pair.grade
    seen = replace(pair.source, background=pair.still.background, light=pair.still.light)
    mix, other = Mix(pair.character, pair.source.figures[0]), ("", 0.0)
    if pair.kind == "leak":
        mix = replace(mix, look=share, parts=pair.parts)
    elif pair.kind == "limbs":
        mix = replace(mix, build=share)
    elif pair.kind == "wrong_character":
        mix = Mix(pair.character, pair.other, share, share, pair.parts)
    elif pair.kind == "other_motion":
        other = (pair.other, share)
    pseudo = _performed(mix, seen, other, (seed, index // PER_BASE), (frames, fps, height_px, width_px))
    if pair.kind == "frozen":
        pseudo = damage.freeze(pseudo, share)
    elif pair.kind == "flicker":
        pseudo = damage.flicker(pseudo, share, rng)
    elif pair.kind == "blur":
        pseudo = damage.blur(pseudo, share)
    return Shown(
        _rendered(pair.source, frames, fps, height_px, width_px),
        _rendered(pair.still, 1, fps, height_px, width_px)[0],
        damage.worn(pseudo, rng),
    )


@lru_cache(maxsize=2)
def _performed(
    mix: Mix, take: Take, other: tuple[str, float], wobble: tuple[int, int], size: tuple[int, float, int, int]
) -> NDArray[np.uint8]:
    """Render a mixed person in a take's motion, once for the pairs of a base that differ only in their pixels.

    Args:
        mix: Who.
        take: Motion, background, camera, light.
        other: Another motion, and how far it is on the way to it.
        wobble: What the joints' own few degrees are drawn from.
        size: Frames, frames a second, height and width px.
    """
    frames, fps, height_px, width_px = size
    name = take.motions[0]
    motion = motion_between(name, *other, frames, fps) if other[0] else motions.motion(name, frames, fps)
    seen = picture(mix, _wobbling(motion, seeded("wobble", *wobble)), take, height_px, width_px)
    seen.setflags(write=False)
    return seen


@lru_cache(maxsize=4)
def _rendered(take: Take, frames: int, fps: float, height_px: int, width_px: int) -> NDArray[np.uint8]:
    """Render a take, once for the pairs in a row that share it."""
    seen = scene.render(take, frames, fps, height_px, width_px).frames
    seen.setflags(write=False)
    return seen


@lru_cache(maxsize=16)
def _base(seed: int, base: int, split: str) -> tuple[Take, Take]:
    """Draw a source that moves, and another person, whole and unlike in build, who stands somewhere else."""
    for attempt in range(1000):
        rng = seeded("planted base", seed, base, split, attempt)
        world = ("easy", "turns")[int(rng.integers(2))]
        source = replace(cast.draw(seed, base * 1000 + attempt, split, world), lead_in=None)
        if source.camera.startswith("portrait") or not _moves(source.motions[0], _whole(source)):
            continue
        still = replace(cast.draw(seed + 1, base * 1000 + attempt, split, "easy"), lead_in=None)
        still = replace(still, camera=f"frontal-{still.camera.partition('-')[2]}")
        if _unlike(source.figures[0], still.figures[0], _whole(source)) >= UNLIKE:
            return source, still
    raise RuntimeError(f"no pair of people unlike each other in 1000 draws of split {split!r}")


def _other(rng: np.random.Generator, kind: str, source: Take, still: Take, split: str) -> str:
    """Draw what a kind needs besides: a person who is neither, or a motion of another family that moves."""
    if kind == "wrong_character":
        names: tuple[str, ...] = tuple(n for n in figures.names(split) if n not in (*source.figures, *still.figures))
    elif kind == "other_motion":
        family = source.motions[0].partition("-")[0]
        names = tuple(n for n in motions.names(split, easy=True) if n.partition("-")[0] != family)
    else:
        return ""
    while True:
        name = names[int(rng.integers(len(names)))]
        if kind == "wrong_character" or _moves(name, _whole(source)):
            return name


def _whole(take: Take) -> bool:
    """Say whether the camera shows legs too."""
    return not take.camera.startswith("half")


@lru_cache(maxsize=4096)
def _moves(name: str, legs: bool) -> bool:
    """Say whether arms, or arms and legs, move within two seconds."""
    joints = [*_ARMS, *_LEGS] if legs else _ARMS
    local = turn.from_matrices(motions.motion(name, 12, 6.0).rotations[:, joints])
    apart = turn.multiply(local, turn.inverse(np.broadcast_to(local[:1], local.shape)))
    angle = 2 * np.arctan2(np.linalg.norm(apart[..., 1:], axis=-1), np.abs(apart[..., 0]))
    return bool(np.sqrt((angle**2).mean()) >= MOVING)


def _unlike(one: str, other: str, legs: bool) -> float:
    apart = limb_ratios(Mix(one, one)) - limb_ratios(Mix(other, other))
    return float(np.sqrt(np.mean(apart[: None if legs else 2] ** 2)))


def _wobbling(motion: Motion, rng: np.random.Generator) -> Motion:
    """Turn each joint but the root by some degrees about an axis of its own, the same all the time."""
    axes = rng.normal(size=(motion.rotations.shape[1], 3))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    angles = rng.normal(0, _WOBBLE_RAD, len(axes))
    angles[0] = 0
    off = turn.matrices(turn.about(axes, angles))
    return replace(motion, rotations=(motion.rotations @ off).astype(np.float32))
