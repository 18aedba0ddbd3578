"""What `animate` is asked for, and what of it can be found out before anything is computed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from manifests.decoding import MediaError
from manifests.errors import UserError
from manifests.media import Picture
from model.loading import Precision
from model.sampler import Guidance
from model.skeleton import Pixels
from pipeline.driving_motion import People


class AnimateError(UserError):
    """Nothing can be made of what was given; nothing was written."""


@dataclass(frozen=True)
class Order:
    """What is to be made, of what, and how; `pipeline.animate_commands` says what each field means to a user."""

    reference: Path
    out: Path
    driving: Path | None = None
    rgb: bool = False  # the clip itself drives, not the skeletons of its people
    skeleton_file: Path | None = None
    skeleton_fps: float | None = None
    skeleton: str = "mediapipe"
    skeleton_sets: Mapping[str, Any] = field(default_factory=dict)
    people: People = None
    figures: int | None = None
    backbone: str = "tiny"
    weights: Path | None = None
    loras: tuple[Path, ...] = ()
    device: str = "auto"
    precision: Precision = "auto"
    size_px: tuple[int, int] | None = None  # width, height
    window_frames: int | None = None
    prompt: str = ""
    seed: int = 0
    steps: int = 30
    guidance: Guidance = field(default_factory=Guidance)
    rate: Literal["driving", "backbone"] = "driving"
    audio: bool = False
    sheet: Path | None = None


def check_places(order: Order) -> None:
    """Refuse what cannot drive anything, and places that cannot be written to.

    Raises:
        AnimateError: with what to do about it.
    """
    if order.driving is None and (order.skeleton_file is None or order.audio):
        what = "--audio takes the sound of the driving clip" if order.audio else "nothing says what drives"
        raise AnimateError(f"{what}: name a clip by --driving" + ("" if order.audio else ", or --skeleton-file"))
    if order.rgb and (order.driving is None or order.skeleton_file is not None or order.people or order.figures):
        raise AnimateError(
            "--rgb lets the clip itself drive, with all that is in it: give it --driving, and leave --skeleton-file, "
            "--people and --figures out"
        )
    given = [path for path in (order.reference, order.driving, order.skeleton_file) if path is not None]
    for path, ending in ((order.out, ".mp4"), (order.sheet, ".png")):
        if path is None:
            continue
        if path.suffix.lower() != ending:
            raise AnimateError(f"{path} is to be written as {ending}: give it that ending")
        if not path.absolute().parent.is_dir():
            raise AnimateError(f"there is no folder {path.absolute().parent} to write {path.name} to: make it first")
        if path.is_dir() or any(path.exists() and one.exists() and path.samefile(one) for one in given):
            raise AnimateError(f"{path} is a folder, or one of the files that are read: give the result another name")


def picture_of(path: Path) -> Pixels:
    """Return the reference, uint8 `[h, w, 3]`.

    Raises:
        AnimateError: it is no picture.
    """
    try:
        return Picture(str(path)).rgb()
    except MediaError as error:
        raise AnimateError(f"{path} cannot be the reference: {error.detail}") from error
