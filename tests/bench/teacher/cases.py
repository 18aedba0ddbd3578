"""Cross-identity cases of theatre's held-out split, each with its truth: figure, motion and background are unseen.

A case is a take and another figure that drives it. The true answer is the take itself, rendered.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from manifests.theatre import figures, motions
from manifests.theatre.cast import describe, draw, recast
from manifests.theatre.names import seeded
from manifests.theatre.planted.mixing import Mix, limb_ratios
from manifests.theatre.scene import Rendered, Take, render, scenery
from model.driving import blank_prefix
from model.geometry import Geometry
from model.skeleton import Pixels
from model.training.examples import driving_frames, pixels

SPLIT, SEED = "held_out", 7001
WORLDS = ("easy", "turns", "clutter")
PEOPLE = 2


@dataclass(frozen=True)
class Case:
    """What is to be made, and who drives it: as many figures as the take has."""

    take: Take
    drivers: tuple[str, ...]

    @property
    def prompt(self) -> str:
        """The text of the pair: the character's look, the source's motion."""
        return describe(self.take)


def crossing(count: int, creatures: bool = False) -> list[Case]:
    """Return cases with one figure, through `WORLDS` in turn; the reference is in another pose."""
    cases = []
    for number in range(count):
        rng = seeded("teacher", "crossing", number, creatures)
        take = draw(SEED, number, SPLIT, WORLDS[number % len(WORLDS)], creature_share=float(creatures))
        cases.append(Case(_with_lead_in(take, rng), (_other(rng, take.figures[0]),)))
    return cases


def doubles(count: int) -> list[Case]:
    """Return cases with two figures side by side, driven by two others."""
    cases: list[Case] = []
    number = 0
    while len(cases) < count:
        take = draw(SEED, number, SPLIT, "two")
        rng = seeded("teacher", "two", number)
        number += 1
        if take.layout == "side" and take.motions[0] != take.motions[1]:
            cases.append(Case(_with_lead_in(take, rng), tuple(_other(rng, each) for each in take.figures)))
    return cases


def unlike(count: int) -> list[Case]:
    """Return cases whose driver's limbs, over its trunk, are clearly others: by 20 % or more in one at least."""
    cases: list[Case] = []
    number = 0
    while len(cases) < count:
        take = replace(draw(SEED, number, SPLIT, "easy"), lead_in=None)
        rng = seeded("teacher", "unlike", number)
        number += 1
        driver = _other(rng, take.figures[0])
        apart = np.abs(limb_ratios(Mix(take.figures[0], driver)) - limb_ratios(Mix(driver, driver))).max()
        if apart >= np.log(1.2):
            cases.append(Case(take, (driver,)))
    return cases


def rendered(take: Take, size: Geometry) -> Rendered:
    """Return the truth of a take."""
    return render(take, size.frames, size.fps, size.height_px, size.width_px, lead_in_frames=size.prefix_frames)


def background(take: Take, size: Geometry) -> Pixels:
    """Return the take's picture without its figures."""
    return scenery(take, size.frames, size.fps, size.height_px, size.width_px, lead_in_frames=size.prefix_frames)


def driving_of(case: Case, size: Geometry, own: bool = False) -> Tensor:
    """Return the driving video `[1, 3, T, H, W]` of a case: by its drivers, or (`own`) by the figures themselves."""
    take = case.take if own else replace(case.take, figures=case.drivers)
    seen = rendered(take, size)
    skeleton = np.zeros((size.frames, PEOPLE, *seen.skeleton.shape[2:]), np.float32)
    skeleton[:, : seen.skeleton.shape[1]] = seen.skeleton
    return blank_prefix(pixels(driving_frames(skeleton, size)), size.prefix_frames)


def other_motions(case: Case, count: int) -> list[Take]:
    """Return the take in `count` other motions."""
    rng = seeded("teacher", "motions", case.take.key)
    names = [name for name in motions.names(SPLIT) if name != case.take.motions[0]]
    return [recast(case.take, motion=names[i]) for i in rng.choice(len(names), count, replace=False)]


def other_figures(case: Case, count: int) -> list[Take]:
    """Return the take with `count` other people."""
    rng = seeded("teacher", "figures", case.take.key)
    names = [name for name in figures.names(SPLIT) if name != case.take.figures[0]]
    return [recast(case.take, figure=names[i]) for i in rng.choice(len(names), count, replace=False)]


def to_frames(video: Tensor) -> NDArray[np.uint8]:
    """Return `[3, T, H, W]` in [-1, 1] as uint8 `[T, H, W, 3]`."""
    return ((video.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(1, 2, 3, 0).numpy()


def _with_lead_in(take: Take, rng: np.random.Generator) -> Take:
    names = motions.names(SPLIT, easy=True)
    return replace(take, lead_in=take.lead_in or names[int(rng.integers(len(names)))])


def _other(rng: np.random.Generator, figure: str) -> str:
    names = [name for name in figures.names(SPLIT) if name != figure]
    return names[int(rng.integers(len(names)))]
