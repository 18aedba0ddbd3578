"""The driving half of the composite for `animate`: the skeletons of a clip's people, or the clip itself.

Skeletons are treated as in the training of stage one (METHOD section 2): they are placed ONCE for the whole clip, by
the box of all their points or, for a base that wants it so, on the reference's figure (`model/placement.py`), whatever
windows the clip is made in, so that the figure neither jumps nor grows from one window to the next; and bones keep
their lengths. Fitting them to the reference's was left out: a picture shows limbs foreshortened, cartoons and animals
have no bones to measure, and a model that was trained with scaled bones takes the build from the reference (METHOD
section 5).

Raw video (`--rgb`, stage two) is fitted into the half whole, as in training: no pose estimator sees it, so anything may
drive, and it says nothing of who is to be followed.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from manifests.facts import FilmFacts
from manifests.media import Clip, Picture
from manifests.segments import frames_in, rate_of
from model.framing import Framing, framing_of
from model.geometry import Geometry
from model.pacing import shown
from model.skeleton import Pixels
from model.training.examples import driving_frames
from pipeline.animate_order import AnimateError, Order
from pipeline.driving_motion import (
    Motion,
    Told,
    check_length,
    figures_in,
    following,
    motion_of_clip,
    motion_of_file,
    read_clip,
    skeleton_config,
)
from stages.reference_figures import ReferenceFigures


@dataclass(frozen=True)
class DrivingHalf:
    """What stands on the right of the composite.

    Attributes:
        frames: uint8 `[N, H, W, 3]`, without a prefix, at the backbone's rate.
        fps: That rate.
        own_frames: Frames of what it was taken from.
        own_fps: And its rate.
        people: How many are followed; None: a video drives, with all that is in it.
    """

    frames: Pixels
    fps: float
    own_frames: int
    own_fps: float
    people: int | None

    def shown(self) -> NDArray[np.int64]:
        """Return `[own_frames]` which of `frames` is on screen at each frame of what it was taken from."""
        return shown(len(self.frames), self.fps, self.own_frames, self.own_fps)


def driving_half(
    order: Order, facts: FilmFacts | None, geometry: Geometry, framing: Framing, told: Told
) -> DrivingHalf:
    """Return what drives.

    Args:
        order: What was asked for.
        facts: Of the clip, if there is one.
        geometry: Size, rate, and where skeletons stand.
        framing: Where the reference lies in its half.
        told: Hears how far the clip was read.

    Raises:
        UserError: nothing, or nobody, can be followed in what was given.
    """
    if order.rgb:
        assert facts is not None
        return _video(order, facts, geometry, told)
    motion, stands = _motion(order, facts, geometry.fps, told), None
    if geometry.placement == "aligned":
        figures = ReferenceFigures(order.skeleton, motion.people, **order.skeleton_sets)
        stands = figures(Picture(str(order.reference)), framing)
    frames = driving_frames(motion.skeleton, geometry, stands)
    return DrivingHalf(frames, motion.fps, motion.own_frames, motion.own_fps, motion.people)


def _video(order: Order, facts: FilmFacts, geometry: Geometry, told: Told) -> DrivingHalf:
    """Return the clip at the backbone's rate, each frame whole in the half."""
    assert order.driving is not None
    own_fps = rate_of(facts)
    count = frames_in(0.0, facts.file_duration_s, geometry.fps)
    check_length(order.driving, count, facts.file_duration_s, geometry.fps)
    fitted: list[Pixels] = []
    for chunk in read_clip(Clip(str(order.driving), 0.0, geometry.fps, count)):
        framing = framing_of(chunk[0], geometry.height_px, geometry.width_px)
        fitted += [framing.fitted(frame) for frame in chunk]
        told("read the clip", len(fitted), count)
    own_frames = max(1, frames_in(0.0, facts.file_duration_s, own_fps))
    return DrivingHalf(np.stack(fitted), geometry.fps, own_frames, own_fps, None)


def _motion(order: Order, facts: FilmFacts | None, fps: float, told: Told) -> Motion:
    """Return the motion of those who are followed, at the backbone's rate."""
    if order.skeleton_file is not None:
        own_fps = order.skeleton_fps or (fps if facts is None else rate_of(facts))
        motion = motion_of_file(order.skeleton_file, own_fps, fps)
        seen = None if facts is None else frames_in(0.0, facts.file_duration_s, own_fps)
        if seen is not None and seen != motion.own_frames:
            raise AnimateError(
                f"{order.skeleton_file} has {motion.own_frames} frames, and {order.driving} has {seen} at {own_fps:g} "
                "a second: give the skeleton of this clip, or its rate by --skeleton-fps, or leave --driving out"
            )
    else:
        assert order.driving is not None
        assert facts is not None
        config = skeleton_config(order.skeleton, order.skeleton_sets, order.people or order.figures)
        motion = motion_of_clip(order.driving, facts, fps, config, told)
    return following(
        motion, order.people, order.figures, order.reference,
        lambda: figures_in(order.reference, order.skeleton, order.skeleton_sets),
    )  # fmt: skip
