"""Who plays what, where, seen how: takes drawn by number from worlds that grow harder.

    easy      one colour or two behind the figure, seen from in front, motions that stay in place
    turns     every side and framing, all motions, a floor, sun
    clutter   rooms full of things, coloured light, cameras that move
    two       two figures, side by side or crossing

A take is a pure function of (seed, index, split, world). Held-out takes are made of figures, motions, backgrounds,
cameras and lights that no train take has.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

import numpy as np

from manifests.theatre import background as backgrounds
from manifests.theatre import figures, motions
from manifests.theatre.motion import Figure, Paint
from manifests.theatre.names import UnknownName, numbers, seeded
from manifests.theatre.scene import Take

Shares = dict[str, float]
LEAD_IN_SHARE: Final = 0.5
"""Share of takes that begin in another motion's pose, so that a reference may be in any pose."""


@dataclass(frozen=True)
class _World:
    cameras: Shares
    backgrounds: Shares
    lights: Shares
    easy_motions: float
    figures: int = 1


WORLDS: Final = {
    "easy": _World(
        {"frontal": 0.7, "half": 0.3}, {"plain": 0.7, "gradient": 0.3}, {"even": 1.0}, easy_motions=1.0
    ),
    "turns": _World(
        {"full": 0.45, "half": 0.35, "portrait": 0.2}, {"plain": 0.4, "gradient": 0.3, "floor": 0.3},
        {"even": 0.4, "sun": 0.6}, easy_motions=0.5,
    ),
    "clutter": _World(
        {"full": 0.3, "half": 0.3, "portrait": 0.15, "moving": 0.25},
        {"floor": 0.25, "checker": 0.25, "clutter": 0.5}, {"even": 0.2, "sun": 0.4, "tinted": 0.4}, easy_motions=0.5,
    ),
    "two": _World(
        {"frontal": 0.5, "full": 0.3, "half": 0.2}, {"plain": 0.4, "gradient": 0.3, "floor": 0.3},
        {"even": 0.5, "sun": 0.5}, easy_motions=0.7, figures=2,
    ),
}  # fmt: skip


def draw(seed: int, index: int, split: str, world: str, creature_share: float = 0.0) -> Take:
    """Return take number `index` of a world; `creature_share` of its figures are not human.

    Raises:
        UnknownName: There is no such split or world.
    """
    if world not in WORLDS:
        raise UnknownName(f"there is no world {world!r}: give one of {', '.join(WORLDS)}")
    plan, rng = WORLDS[world], seeded("take", seed, index, split, world)
    cast, played = [], []
    for _ in range(plan.figures):
        kinds = _creatures() if rng.random() < creature_share else ("human",)
        cast.append(_one(rng, figures.names(split, kinds)))
        played.append(_one(rng, _motions(split, bool(rng.random() < plan.easy_motions))))
    lead_in = _one(rng, _motions(split, easy=True))
    return Take(
        world, tuple(cast), tuple(played),
        background=_one(rng, backgrounds.names(split, (_kind(rng, plan.backgrounds),))),
        camera=_numbered(rng, split, plan.cameras),
        light=_numbered(rng, split, plan.lights),
        lead_in=lead_in if rng.random() < LEAD_IN_SHARE else None,
        layout="crossing" if rng.random() < 0.4 else "side",
    )  # fmt: skip


def recast(
    take: Take, *, figure: str | None = None, motion: str | None = None, background: str | None = None,
    camera: str | None = None,
) -> Take:  # fmt: skip
    """Return the take with another first figure, first motion, background or camera: the true answer of a pair."""
    return replace(
        take,
        figures=(figure or take.figures[0], *take.figures[1:]),
        motions=(motion or take.motions[0], *take.motions[1:]),
        background=background or take.background,
        camera=camera or take.camera,
    )


def describe(take: Take) -> str:
    """Say what is seen: the look of each figure and what it does, such as "a person in a red top and blue trousers,
    waving". The words come from the paints and the motions' names, so they are true."""
    said = [f"{look(name)}, {doing(motion)}" for name, motion in zip(take.figures, take.motions, strict=True)]
    return " and ".join(said)


@lru_cache(maxsize=4096)
def look(name: str) -> str:
    """Say what a figure looks like."""
    figure = figures.figure(name)
    high, low = (_colour(_widest(figure, *band)) for band in ((0.5, 0.78), (0.1, 0.42)))
    if figure.kind == "human":
        return f"a person in a {high} top and {low} trousers"
    return f"a {high} {figure.kind}" if high == low else f"a {high} and {low} {figure.kind}"


def doing(motion: str) -> str:
    """Say what a motion is, from the base of its name."""
    base = motions.parse(motion).base
    word = base.partition("-")[0]
    return _DOING.get(base, _DOING.get(word, word.replace("_", " ")))


_DOING: Final = {
    "backflip": "doing a backflip", "cartwheel": "turning a cartwheel", "crawl": "crawling", "dance_a": "dancing",
    "dance_b": "dancing", "dance": "dancing", "getup_facedown": "getting up", "getup_faceup": "getting up",
    "jump": "jumping", "kick": "kicking", "punch": "punching", "roll": "rolling over", "run": "running",
    "spin": "spinning", "spinkick": "doing a spin kick", "turn_left0": "turning left", "turn_left1": "turning left",
    "turn_right0": "turning right", "turn_right1": "turning right", "walk": "walking", "walk_forward": "walking",
}  # fmt: skip

_NAMED: Final = {
    "red": (0.8, 0.1, 0.1), "orange": (0.95, 0.5, 0.1), "yellow": (0.95, 0.85, 0.15), "green": (0.15, 0.6, 0.2),
    "lime": (0.5, 0.9, 0.2), "teal": (0.1, 0.6, 0.6), "cyan": (0.2, 0.85, 0.95), "blue": (0.15, 0.25, 0.85),
    "purple": (0.5, 0.15, 0.7), "magenta": (0.85, 0.15, 0.8), "pink": (0.95, 0.55, 0.7), "brown": (0.4, 0.25, 0.12),
    "beige": (0.85, 0.72, 0.55), "black": (0.08, 0.08, 0.08), "grey": (0.5, 0.5, 0.5), "white": (0.95, 0.95, 0.95),
}  # fmt: skip


def _colour(paint: Paint) -> str:
    first = np.array(paint.first)
    name = min(_NAMED, key=lambda known: float(((first - _NAMED[known]) ** 2).sum()))
    return name if paint.pattern == "plain" else f"{name} patterned"


def _widest(figure: Figure, low: float, high: float) -> Paint:
    """Return the paint that covers most between two shares of the height."""
    corners = figure.vertices[figure.faces]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    height = corners[..., 1].mean(axis=1) / figure.height_m
    inside = (height >= low) & (height <= high)
    if not inside.any():
        inside[:] = True
    return figure.paints[int(np.bincount(figure.part[inside], area[inside]).argmax())]


@lru_cache(maxsize=8)
def _motions(split: str, easy: bool) -> tuple[str, ...]:
    return motions.names(split, easy=True) if easy else motions.names(split)


def _creatures() -> tuple[str, ...]:
    return tuple(kind for kind in figures.KINDS if kind != "human")


def _one(rng: np.random.Generator, names: tuple[str, ...]) -> str:
    return names[int(rng.integers(len(names)))]


def _kind(rng: np.random.Generator, shares: Shares) -> str:
    return str(rng.choice(list(shares), p=list(shares.values())))


def _numbered(rng: np.random.Generator, split: str, shares: Shares) -> str:
    among = numbers(split)
    return f"{_kind(rng, shares)}-{among[int(rng.integers(len(among)))]:03d}"
