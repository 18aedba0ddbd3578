"""Cross-identity cases of theatre's held-out split, each with its truth: figure, motion and background are unseen.

A case is a take and another figure that drives it. The true answer is the take itself, rendered.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from manifests.theatre import figures, motions
from manifests.theatre.cast import describe, draw, recast
from manifests.theatre.names import seeded
from manifests.theatre.planted.mixing import Mix, limb_ratios, picture
from manifests.theatre.scene import Rendered, Take, render, scenery
from model.driving import blank_prefix, with_prefix
from model.geometry import Geometry
from model.skeleton import Pixels, Points, frames_of
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
    """Return cases whose driver's limbs, over its trunk, are clearly others: by 20 % or more in one at least; the
    reference is in another pose."""
    cases: list[Case] = []
    number = 0
    while len(cases) < count:
        rng = seeded("teacher", "unlike", number)
        take = _with_lead_in(draw(SEED, number, SPLIT, "easy"), rng)
        number += 1
        driver = _other(rng, take.figures[0])
        apart = np.abs(limb_ratios(Mix(take.figures[0], driver)) - limb_ratios(Mix(driver, driver))).max()
        if apart >= np.log(1.2):
            cases.append(Case(take, (driver,)))
    return cases


@dataclass(frozen=True)
class Scene:
    """A case with all that is given of it, and the truth.

    Attributes:
        case: What is to be made.
        truth: The case's take.
        driving: `[1, 3, T, H, W]`, blank for the prefix.
    """

    case: Case
    truth: Rendered
    driving: Tensor


def staged(cases: Sequence[Case], size: Geometry) -> list[Scene]:
    """Render cases and their drivers."""
    return [Scene(case, rendered(case.take, size), driving_of(case, size)) for case in cases]


def rendered(take: Take, size: Geometry) -> Rendered:
    """Return the truth of a take."""
    return render(take, size.frames, size.fps, size.height_px, size.width_px, lead_in_frames=size.prefix_frames)


def background(take: Take, size: Geometry) -> Pixels:
    """Return the take's picture without its figures."""
    return scenery(take, size.frames, size.fps, size.height_px, size.width_px, lead_in_frames=size.prefix_frames)


def before(backdrop: Pixels, take: Take, size: Geometry) -> Pixels:
    """Return the figures of a take before a backdrop `[T, H, W, 3]` that is not theirs.

    A camera is aimed at what a figure does, so that another motion shows another piece of the background: takes that
    are to differ in their figures alone are laid before the same one. One sample a pixel: it is half of the time.
    """
    seen = render(
        take, size.frames, size.fps, size.height_px, size.width_px, lead_in_frames=size.prefix_frames, samples=1
    )
    return np.where(np.asarray(seen.masks.any(axis=1))[..., None], seen.frames, backdrop)


def driving_of(case: Case, size: Geometry, own: bool = False) -> Tensor:
    """Return the driving video `[1, 3, T, H, W]` of a case: by its drivers, or (`own`) by the figures themselves.

    As `animate` makes it: the skeleton of the clip that is to be followed, without what leads in to it, laid on the
    figures of the reference where the base wants that. Where those stand is known exactly here.
    """
    truth = rendered(case.take, size)
    seen = truth if own else rendered(replace(case.take, figures=case.drivers), size)
    skeleton, reference = _of_people(seen.skeleton[size.prefix_frames :]), _of_people(truth.skeleton[:1])[0]
    return with_prefix(pixels(driving_frames(skeleton, size, reference)), size.prefix_frames)


def driving_in_place(case: Case, size: Geometry) -> Tensor:
    """Return the driving video by the figures themselves, each point where it is in the truth, as in training of a base
    that wants skeletons aligned."""
    skeleton = _of_people(rendered(case.take, size).skeleton)
    return blank_prefix(pixels(frames_of(skeleton, size.height_px, size.width_px)), size.prefix_frames)


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


def bodies(case: Case, size: Geometry) -> tuple[Pixels, Pixels]:
    """Return two truths in the reference's looks: with the reference's limbs, and with the driver's."""
    take = case.take
    motion = motions.motion(take.motions[0], size.frames, size.fps)
    if take.lead_in is not None:
        before_it = motions.motion(take.lead_in, size.frames, size.fps)
        motion = motions.with_lead_in(motion, before_it, size.prefix_frames)
    own, leaked = (
        picture(Mix(take.figures[0], case.drivers[0], build=build), motion, take, size.height_px, size.width_px)
        for build in (0.0, 1.0)
    )
    return own, leaked


def swapped(case: Case) -> tuple[Take, Take]:
    """Return a take of two figures with their motions exchanged, and with the figures themselves exchanged."""
    take = case.take
    return replace(take, motions=take.motions[::-1]), replace(take, figures=take.figures[::-1])


def _of_people(skeleton: Points) -> Points:
    """Return `[T, PEOPLE, 133, 3]`: scenes with fewer figures are filled up with unseen ones."""
    people = np.zeros((len(skeleton), PEOPLE, *skeleton.shape[2:]), np.float32)
    people[:, : skeleton.shape[1]] = skeleton
    return people


def _with_lead_in(take: Take, rng: np.random.Generator) -> Take:
    names = motions.names(SPLIT, easy=True)
    return replace(take, lead_in=take.lead_in or names[int(rng.integers(len(names)))])


def _other(rng: np.random.Generator, figure: str) -> str:
    names = [name for name in figures.names(SPLIT) if name != figure]
    return names[int(rng.integers(len(names)))]
