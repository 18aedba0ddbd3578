"""What a take shows, in words: plain and true, since they come from the paints and the names themselves."""

from functools import lru_cache
from typing import Final

import numpy as np

from manifests.theatre import figures, motions
from manifests.theatre.motion import Figure, Paint
from manifests.theatre.scene import Take

COLOURS: Final = {
    "red": (0.8, 0.1, 0.1), "orange": (0.95, 0.5, 0.1), "yellow": (0.95, 0.85, 0.15), "green": (0.15, 0.6, 0.2),
    "lime": (0.5, 0.9, 0.2), "teal": (0.1, 0.6, 0.6), "cyan": (0.2, 0.85, 0.95), "blue": (0.15, 0.25, 0.85),
    "purple": (0.5, 0.15, 0.7), "magenta": (0.85, 0.15, 0.8), "pink": (0.95, 0.55, 0.7), "brown": (0.4, 0.25, 0.12),
    "beige": (0.85, 0.72, 0.55), "black": (0.08, 0.08, 0.08), "grey": (0.5, 0.5, 0.5), "white": (0.95, 0.95, 0.95),
}  # fmt: skip
"""Colours that have a name, RGB 0..1; any other is called by the nearest of them."""
_PATTERNS: Final = {"stripes": "striped", "hoops": "striped", "dots": "dotted", "checks": "checked"}
_KINDS: Final = {"quadruped": "four-legged animal"}  # other kinds are called by their own names
_DOING: Final = {
    "backflip": "doing a backflip", "bob": "bobbing up and down", "bow": "bowing", "box": "boxing",
    "cartwheel": "turning a cartwheel", "circle": "circling the arms", "clap": "clapping", "combo": "moving about",
    "conduct": "conducting", "crawl": "crawling", "dance": "dancing", "dance_a": "dancing", "dance_b": "dancing",
    "flap": "flapping the arms", "getup_facedown": "getting up", "getup_faceup": "getting up",
    "jack": "doing jumping jacks", "jump": "jumping", "kick": "kicking", "lunge": "lunging",
    "march": "marching on the spot", "point": "pointing", "pose": "striking poses", "punch": "punching",
    "reach": "reaching out", "roll": "rolling over", "run": "running", "sidestep": "stepping from side to side",
    "sit": "sitting down and getting up", "spin": "spinning", "spinkick": "doing a spin kick", "squat": "squatting",
    "stretch": "stretching", "sway": "swaying", "talk": "talking with the hands", "turn": "turning round",
    "turn_left0": "turning left", "turn_left1": "turning left", "turn_right0": "turning right",
    "turn_right1": "turning right", "twist": "twisting", "walk": "walking", "walk_forward": "walking", "wave": "waving",
}  # fmt: skip
# bands of a person at rest, in leg lengths above the ground, in which a garment covers most
_SHIRT: Final = (1.0, 1.75)
_THIGH: Final = (0.62, 0.92)
_SHIN: Final = (0.2, 0.45)


def describe(take: Take) -> str:
    """Say what is seen: the look of each figure and what it does, such as "a person in a red shirt and blue and white
    striped trousers, waving"."""
    said = [f"{look(name)}, {doing(motion)}" for name, motion in zip(take.figures, take.motions, strict=True)]
    return " and ".join(said)


@lru_cache(maxsize=4096)
def look(name: str) -> str:
    """Say what a figure looks like.

    Raises:
        UnknownName: There is no such figure.
    """
    return worn(figures.figure(name))


def worn(figure: Figure) -> str:
    """Say what a figure looks like, by its paints and where on it they are."""
    if figure.kind != "human":
        return _a(f"{colour(_widest(figure, (-np.inf, np.inf)))} {_KINDS.get(figure.kind, figure.kind)}")
    thigh, shin = _widest(figure, _THIGH), _widest(figure, _SHIN)
    shirt = _widest(figure, _SHIRT, but=thigh)  # the hips, which begin higher in some than in others, wear the trousers
    return f"a person in {_a(colour(shirt))} shirt and {colour(thigh)} {'trousers' if thigh == shin else 'shorts'}"


def _a(words: str) -> str:
    """Return the words behind their article."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def doing(motion: str) -> str:
    """Say what somebody in a motion does.

    Raises:
        MotionNameError: There is no such motion.
    """
    base = motions.parse(motion).base.partition("-")[0]
    return _DOING.get(base, base.replace("_", " "))


def colour(paint: Paint) -> str:
    """Name a paint: `red`, or `red and white striped`; two shades of one colour are called `red striped`."""
    first, second = nearest(paint.first), nearest(paint.second)
    if paint.pattern == "plain":
        return first
    both = first if first == second else f"{first} and {second}"
    return f"{both} {_PATTERNS[paint.pattern]}"


def nearest(rgb: tuple[float, float, float]) -> str:
    """Return the name of the named colour that is nearest in RGB."""
    return min(COLOURS, key=lambda name: sum((a - b) ** 2 for a, b in zip(rgb, COLOURS[name], strict=True)))


def _widest(figure: Figure, band: tuple[float, float], but: Paint | None = None) -> Paint:
    """Return the paint that covers most of a figure at rest between two heights, arms and the paint `but` left out."""
    corners = figure.vertices[figure.faces]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    middle = corners.mean(axis=1)
    inside = (middle[:, 1] >= band[0] * figure.leg_m) & (middle[:, 1] <= band[1] * figure.leg_m)
    if np.isfinite(band).all():
        inside &= np.abs(middle[:, 0]) < 0.25 * figure.leg_m
    if but is not None:
        inside &= figure.part != figure.paints.index(but)
    return figure.paints[int(np.bincount(figure.part[inside], area[inside]).argmax())]
