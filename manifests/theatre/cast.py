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
from manifests.theatre import capture, figures, motions
from manifests.theatre.names import UnknownName, numbers, seeded
from manifests.theatre.scene import Take
from manifests.theatre.words import describe

__all__ = ["WORLDS", "describe", "draw", "recast"]

Shares = dict[str, float]
CREATURES: Final = tuple(kind for kind in figures.KINDS if kind != "human")
LEAD_IN_SHARE: Final = 0.5
"""Share of takes that begin in another motion's pose, so that a reference may be in any pose."""


WALKS: Final = ("walk", "walk_forward", "jump", "turn_right1")
"""Captured motions that go somewhere, for two figures that cross; the jump is held out, the others are trained on. They
are taken at their slowest, so that both stay in a picture that is not too wide."""


@dataclass(frozen=True)
class _World:
    cameras: Shares
    backgrounds: Shares
    lights: Shares
    motions: Shares  # of `_motions`
    figures: int = 1


WORLDS: Final = {
    "easy": _World(
        {"frontal": 0.55, "half": 0.45}, {"plain": 0.7, "gradient": 0.3}, {"even": 1.0}, {"easy": 1.0}
    ),
    "turns": _World(
        {"full": 0.3, "half": 0.45, "portrait": 0.25}, {"plain": 0.4, "gradient": 0.3, "floor": 0.3},
        {"even": 0.4, "sun": 0.6}, {"easy": 0.5, "any": 0.2, "captured": 0.3},
    ),
    "clutter": _World(
        {"full": 0.2, "half": 0.4, "portrait": 0.2, "moving": 0.2},
        {"floor": 0.25, "checker": 0.25, "clutter": 0.5}, {"even": 0.2, "sun": 0.4, "tinted": 0.4},
        {"easy": 0.5, "any": 0.2, "captured": 0.3},
    ),
    "two": _World(
        {"frontal": 0.4, "full": 0.2, "half": 0.4}, {"plain": 0.4, "gradient": 0.3, "floor": 0.3},
        {"even": 0.5, "sun": 0.5}, {"easy": 0.75, "any": 0.15, "captured": 0.1}, figures=2,
    ),
}  # fmt: skip
CROSSING_SHARE: Final = 0.3
"""Share of takes with two figures in which they walk across the picture, one before the other."""


def draw(seed: int, index: int, split: str, world: str, creature_share: float = 0.0) -> Take:
    """Return take number `index` of a world; `creature_share` of its figures are not human.

    Raises:
        UnknownName: There is no such split or world.
    """
    if world not in WORLDS:
        raise UnknownName(f"there is no world {world!r}: give one of {', '.join(WORLDS)}")
    plan, rng = WORLDS[world], seeded("take", seed, index, split, world)
    layout = "crossing" if plan.figures == 2 and rng.random() < CROSSING_SHARE else "side"
    cast, played = [], []
    for _ in range(plan.figures):
        kinds = CREATURES if rng.random() < creature_share else ("human",)
        cast.append(_one(rng, figures.names(split, kinds)))
        played.append(_one(rng, _motions(split, "walks" if layout == "crossing" else _kind(rng, plan.motions))))
    lead_in = _one(rng, _motions(split, "easy"))
    return Take(
        world, tuple(cast), tuple(played),
        background=_one(rng, backgrounds.names(split, (_kind(rng, plan.backgrounds),))),
        camera=_numbered(rng, split, plan.cameras),
        light=_numbered(rng, split, plan.lights),
        lead_in=lead_in if rng.random() < LEAD_IN_SHARE else None,
        layout=layout,
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


@lru_cache(maxsize=16)
def _motions(split: str, which: str) -> tuple[str, ...]:
    """Return the names of a split's motions: all, the easy ones, the captured ones, or those of `WALKS`."""
    if which in ("easy", "any"):
        return motions.names(split, easy=which == "easy")
    named = {name: motions.parse(name) for name in motions.names(split)}
    if which == "captured":
        return tuple(name for name, parts in named.items() if parts.base in capture.CLIPS)
    walks = {name: parts for name, parts in named.items() if parts.base in WALKS}
    slowest = min(parts.tempo for parts in walks.values())
    return tuple(name for name, parts in walks.items() if parts.tempo == slowest)


def _one(rng: np.random.Generator, names: tuple[str, ...]) -> str:
    return names[int(rng.integers(len(names)))]


def _kind(rng: np.random.Generator, shares: Shares) -> str:
    return str(rng.choice(list(shares), p=list(shares.values())))


def _numbered(rng: np.random.Generator, split: str, shares: Shares) -> str:
    among = numbers(split)
    return f"{_kind(rng, shares)}-{among[int(rng.integers(len(among)))]:03d}"
