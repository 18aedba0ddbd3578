"""The motion that drives: the people of a clip as the `skeleton` stage sees them, or points that were made elsewhere.

A motion is sampled at the backbone's rate: frame i is what the clip shows at i / fps, as a segment's frames are.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from manifests.decoding import MediaError
from manifests.errors import UserError
from manifests.facts import FilmFacts, facts_of_film
from manifests.inspection import Limits
from manifests.media import Clip, Picture
from manifests.sandbox import Sandbox
from manifests.segments import frames_in, rate_of
from model.pacing import paced, shown
from model.skeleton import POINTS, Pixels, Points
from pipeline.strict_yaml import validate
from stages.skeleton import CharacterSkeleton, CharacterSkeletonConfig, Skeleton, SkeletonConfig
from stages.stage import Reject

MOST_PEOPLE: Final = 16
INSPECT_TIMEOUT_S: Final = 600.0
People = int | Literal["all"] | None
Told = Callable[[str, int, int], None]
"""What is being done, how much of it is, and how much there is."""


class MotionError(UserError):
    """Nothing can be driven by this clip or file."""


@dataclass(frozen=True)
class Motion:
    """Skeletons at the backbone's rate.

    Attributes:
        skeleton: float32 `[N, P, 133, 3]`, the main person first.
        fps: Frames a second of it.
        own_frames: Frames of what it was taken from.
        own_fps: And its rate.
        name: And what that is called.
    """

    skeleton: Points
    fps: float
    own_frames: int
    own_fps: float
    name: str

    @property
    def people(self) -> int:
        """P."""
        return int(self.skeleton.shape[1])

    def shown(self) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """Return `[own_frames]` which frame of `skeleton` is on screen at each frame of what it was taken from."""
        return shown(len(self.skeleton), self.fps, self.own_frames, self.own_fps)


@dataclass(frozen=True)
class _Watched:
    """A clip that says how far it was read."""

    clip: Clip
    told: Told

    @property
    def fps(self) -> float:
        return self.clip.fps

    def chunks(self, size: int) -> Iterator[Pixels]:
        done = 0
        for chunk in self.clip.chunks(size):
            yield chunk
            done += len(chunk)
            self.told("look for people", done, self.clip.frames)


def read_clip(clip: Clip) -> Iterator[Pixels]:
    """Give the frames of a clip in order, uint8 `[t, h, w, 3]`.

    Raises:
        MotionError: they cannot be decoded.
    """
    try:
        yield from clip.chunks()
    except MediaError as error:
        raise MotionError(f"{clip.path} cannot drive anything: {error.detail}") from error


def facts_of(path: Path) -> FilmFacts:
    """Return what a clip is, found in a process of its own: a decoder may crash.

    Raises:
        MotionError: it cannot be used.
    """
    with Sandbox[tuple[str, Limits], FilmFacts](1, timeout_s=INSPECT_TIMEOUT_S) as box:
        ((_, found),) = box.map(facts_of_film, [(str(path), Limits())])
    if isinstance(found, MediaError):
        raise MotionError(f"{path} cannot drive anything: {found.detail}")
    return found


def skeleton_config(adapter: str, sets: Mapping[str, Any], people: People) -> SkeletonConfig:
    """Return the config of the `skeleton` stage for one clip.

    As many people are kept as are to be followed; where that is not said, two, so that it is found out if there are.

    Raises:
        ConfigError: there is no such field, or a value does not fit.
    """
    most = 2 if people is None else MOST_PEOPLE if people == "all" else people
    config: SkeletonConfig = validate(
        SkeletonConfig,
        {"max_people": most, **sets, "adapter": adapter, "no_person": "reject"},
        "--skeleton-set ",
    )
    return config


def motion_of_clip(path: Path, facts: FilmFacts, fps: float, config: SkeletonConfig, told: Told) -> Motion:
    """Return the motion of the people in a clip.

    Raises:
        MotionError: it is a clip of one frame, nobody can be followed in it, or the adapter cannot be had.
    """
    own_fps = rate_of(facts)
    frames = frames_in(0.0, facts.file_duration_s, fps)
    check_length(path, frames, facts.file_duration_s, fps)
    stage = _made(Skeleton, config)
    try:
        (row,) = stage([{"source": _Watched(Clip(str(path), 0.0, fps, frames), told)}])
    except MediaError as error:
        raise MotionError(f"{path} cannot drive anything: {error.detail}") from error
    if isinstance(row, Reject):
        hint = "" if row.reason == "no_person" else "; what is asked for can be changed by --skeleton-set"
        raise MotionError(f"nobody can be followed in {path}: {row.detail.rstrip('.')}{hint}")
    own_frames = max(1, frames_in(0.0, facts.file_duration_s, own_fps))
    return Motion(row["skeleton"], fps, own_frames, own_fps, path.name)


def motion_of_file(path: Path, own_fps: float, fps: float) -> Motion:
    """Return the motion in a `.npy` file of points `[T, P, 133, 3]`: x px, y px, score 0..1, at `own_fps` a second.

    Raises:
        MotionError: it is no such file, or nobody is seen in it.
    """
    try:
        points = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise MotionError(f"{path} cannot be read as a .npy file: {' '.join(str(error).split())}") from error
    wanted = f"wanted numbers [T, P, {POINTS}, 3]: x px, y px, score 0..1 of each point of COCO-WholeBody"
    if not isinstance(points, np.ndarray) or points.ndim != 4 or points.shape[2:] != (POINTS, 3) or not points.size:
        raise MotionError(f"{path} holds {getattr(points, 'shape', 'several arrays')}; {wanted}")
    if not np.issubdtype(points.dtype, np.number) or not np.isfinite(points := points.astype(np.float32)).all():
        raise MotionError(f"{path} holds values that are no finite numbers; {wanted}")
    if not (points[..., 2] > 0).any():
        raise MotionError(f"nobody can be followed in {path}: all scores are 0")
    duration_s = len(points) / own_fps
    frames = frames_in(0.0, duration_s, fps)
    check_length(path, frames, duration_s, fps)
    return Motion(paced(points, own_fps, fps), fps, len(points), own_fps, path.name)


def following(motion: Motion, people: People, figures: int | None, picture: Path, look: Callable[[], int]) -> Motion:
    """Return the motion of those who are to be followed: the first of the tracks, the main person first.

    Args:
        motion: Of all who were found.
        people: How many are followed; None: one, and it is an error if there are more.
        figures: How many figures the picture shows, if that is known.
        picture: Its path, for what is said.
        look: Finds out how many figures the picture shows; 0: it cannot be told. Called only if it matters.

    Raises:
        MotionError: nothing says who is followed, or there are fewer people or figures than that.
    """
    if people is None and figures is None and motion.people > 1:
        raise MotionError(
            f"more than one person moves in {motion.name}, and nothing says how many {picture.name} shows: --people 1 "
            "follows the main one (the largest, and longest seen), --people 2 the first two, --people all everybody"
        )
    wanted = figures or 1 if people is None else motion.people if people == "all" else people
    if wanted > motion.people:
        raise MotionError(f"{wanted} people are to be followed, and in {motion.name} there is {motion.people}")
    shown = (figures if figures is not None else look()) if wanted > 1 else 0
    if 0 < shown < wanted:
        raise MotionError(
            f"{wanted} people are to be followed, and {picture.name} shows {shown} figure{'s' if shown > 1 else ''}: "
            f"follow fewer (--people {shown}), take another picture, or say how many it shows (--figures {wanted})"
        )
    return replace(motion, skeleton=np.ascontiguousarray(motion.skeleton[:, :wanted]))


def figures_in(picture: Path, adapter: str, sets: Mapping[str, Any]) -> int:
    """Return how many people an adapter finds in a picture; 0 where it finds none, as in many cartoons."""
    fields: dict[str, Any] = {"max_people": MOST_PEOPLE, **sets, "adapter": adapter}
    config: CharacterSkeletonConfig = validate(CharacterSkeletonConfig, fields, "--skeleton-set ")
    (row,) = _made(CharacterSkeleton, config)([{"character": Picture(str(picture))}])
    return 0 if isinstance(row, Reject) else int(row["people"])


def _made(stage: type[Skeleton], config: SkeletonConfig) -> Skeleton:
    try:
        return stage(config)
    except ValueError as error:
        raise MotionError(str(error)) from error


def check_length(path: Path, frames: int, duration_s: float, fps: float) -> None:
    """Refuse what has no two frames at a backbone's rate.

    Raises:
        MotionError: with its length.
    """
    if frames < 2:
        raise MotionError(
            f"{path} lasts {duration_s:.3f} s, {frames} frame at the backbone's {fps:g} a second, and one frame is no "
            "motion: give a longer clip"
        )
