"""A picture and a clip become a video: the picture's figure, moving as the clip's person does (V_o of Eq. 3).

The driver's skeleton is treated as in the training of stage one (METHOD section 2): it is placed ONCE for the whole
clip, by the box of all its points or, for a base that wants it so, on the reference's figure (`model/placement.py`),
whatever windows that is made in, so that the figure neither jumps nor grows from one window to the next; and its bones
keep their lengths. Fitting them to the reference's was left out: a picture shows
limbs foreshortened, cartoons and animals have no bones to measure, and a model that was trained with scaled bones takes
the build from the reference (METHOD section 5).
"""

import importlib.metadata
import io
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from manifests.decoding import MediaError
from manifests.errors import UserError
from manifests.facts import FilmFacts
from manifests.files import LocalFiles
from manifests.film import check_sound, not_written, write_film
from manifests.keys import sha256_of_file
from manifests.media import Picture, Video
from manifests.segments import frames_in, rate_of
from manifests.synthetic import TITLE, comment_of
from model.backbone import Backbone
from model.framing import framing_of
from model.geometry import Geometry
from model.loading import Precision, loaded, weights_of
from model.lora_file import DIFFUSERS_FILE
from model.sampler import Guidance
from model.skeleton import Pixels
from model.training.examples import driving_frames
from model.windows import animate_windows, windows_of
from pipeline.driving_motion import (
    Motion,
    People,
    Told,
    facts_of,
    figures_in,
    following,
    motion_of_clip,
    motion_of_file,
    skeleton_config,
)
from pipeline.filmstrip import filmstrip
from stages.reference_figures import ReferenceFigures


class AnimateError(UserError):
    """Nothing can be made of what was given; nothing was written."""


@dataclass(frozen=True)
class Order:
    """What is to be made, of what, and how; `pipeline.animate_commands` says what each field means to a user."""

    reference: Path
    out: Path
    driving: Path | None = None
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


@dataclass(frozen=True)
class Made:
    """What was written: frames and rate of the file, its size, windows, and seconds by what they were spent on."""

    out: Path
    frames: int
    fps: float
    width_px: int
    height_px: int
    windows: int
    seconds: Mapping[str, float]


class Stopwatch:
    """Seconds by what they were spent on."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        """Charge the time since the last lap to `name`."""
        now = time.perf_counter()
        self.seconds[name] = round(self.seconds.get(name, 0.0) + now - self._last, 3)
        self._last = now


def animate_files(order: Order, told: Told = lambda *_: None) -> Made:
    """Make a video and write it, whole or not at all.

    What can be found out without computing is found out first.

    Raises:
        UserError: something that was given cannot be used, the sampling fails, or the disk is full.
    """
    watch = Stopwatch()
    _check_places(order)
    picture = _picture(order.reference)
    facts = None if order.driving is None else facts_of(order.driving)
    if order.audio and order.driving is not None:
        check_sound(order.driving)
    weights = weights_of(order.backbone, order.weights)
    watch.lap("look at the files")
    backbone = loaded(order.backbone, weights, order.loras, order.device, order.precision)
    geometry = geometry_of(backbone, picture, order)
    watch.lap("load weights")
    motion = _motion(order, facts, backbone.spec.fps, told)
    watch.lap("look for people")
    framing = framing_of(picture, geometry.height_px, geometry.width_px)
    reference, stands = framing.fitted(picture), None
    if geometry.placement == "aligned":
        figures = ReferenceFigures(order.skeleton, motion.people, **order.skeleton_sets)
        stands = figures(Picture(str(order.reference)), framing)
    driving = driving_frames(motion.skeleton, geometry, stands)
    frames = framing.cut(_computed(backbone, geometry, reference, driving, order, told))
    watch.lap("backbone and VAE")
    tags = _tags(order, backbone, geometry, motion)
    video = Video(frames, motion.fps) if order.rate == "backbone" else Video(frames[motion.shown()], motion.own_fps)
    write_film(video, order.out, tags, order.driving if order.audio else None)
    if order.sheet is not None:
        strip = filmstrip(framing.cut(reference[None])[0], driving, frames, motion.fps)
        _write_png(strip, order.sheet, tags)
    watch.lap("write")
    height, width = frames.shape[1:3]
    windows = len(windows_of(len(frames), geometry).starts)
    return Made(order.out, len(video.frames), video.fps, width, height, windows, watch.seconds)


def geometry_of(backbone: Backbone, picture: Pixels, order: Order) -> Geometry:
    """Return the size that is computed: the backbone's own, on its side if the picture is, or the one asked for.

    Raises:
        UserError: the size asked for does not fit the backbone.
    """
    spec = backbone.spec
    width, height = order.size_px or (spec.width_px, spec.height_px)
    upright = picture.shape[0] > picture.shape[1]
    if order.size_px is None and width != height and upright != (height > width):
        width, height = height, width
    return backbone.geometry(height, width, order.window_frames or spec.frames)


def _check_places(order: Order) -> None:
    if order.driving is None and (order.skeleton_file is None or order.audio):
        what = "--audio takes the sound of the driving clip" if order.audio else "nothing says what drives"
        raise AnimateError(f"{what}: name a clip by --driving" + ("" if order.audio else ", or --skeleton-file"))
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


def _picture(path: Path) -> Pixels:
    try:
        return Picture(str(path)).rgb()
    except MediaError as error:
        raise AnimateError(f"{path} cannot be the reference: {error.detail}") from error


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


def _computed(
    backbone: Backbone, geometry: Geometry, reference: Pixels, driving: Pixels, order: Order, told: Told
) -> Pixels:
    """Return what the model makes of the driving video, uint8 `[N, H, W, 3]`."""
    total = len(windows_of(len(driving), geometry).starts) * order.steps
    blocks = animate_windows(
        backbone, geometry, reference[None], driving[None], [order.prompt], seeds=[order.seed], steps=order.steps,
        guidance=order.guidance, on_step=lambda window, step: told("sample", window * order.steps + step, total),
    )  # fmt: skip
    return np.concatenate([block[0] for block in blocks])


def _tags(order: Order, backbone: Backbone, geometry: Geometry, motion: Motion) -> dict[str, str]:
    """Return what is written into the file: that it is synthetic, by which model it was made, of what, and how."""
    drives = order.skeleton_file or order.driving
    assert drives is not None
    made = {
        "made_by": f"bodydouble {importlib.metadata.version('bodydouble')} animate",
        "backbone": order.backbone,
        "digest": backbone.digest,
        "vae_digest": backbone.vae_digest,
        "loras_sha256": [sha256_of_file(path / DIFFUSERS_FILE if path.is_dir() else path) for path in order.loras],
        "reference_sha256": sha256_of_file(order.reference),
        "driving_sha256": sha256_of_file(drives),
        "people": motion.people,
        "prompt": order.prompt,
        "seed": order.seed,
        "steps": order.steps,
        "guidance": {"text": order.guidance.text, "driving": order.guidance.driving},
        "size_px": [geometry.width_px, geometry.height_px],
        "window_frames": geometry.frames,
        "model_fps": motion.fps,
    }
    return {"title": TITLE, "comment": comment_of(made)}


def _write_png(picture: Image.Image, path: Path, tags: Mapping[str, str]) -> None:
    info = PngInfo()
    for name, text in tags.items():
        info.add_itxt(name.title(), text)
    data = io.BytesIO()
    picture.save(data, format="png", pnginfo=info)
    try:
        LocalFiles(str(path.absolute().parent)).write(path.name, data.getvalue())
    except OSError as error:
        raise not_written(path, error) from error
