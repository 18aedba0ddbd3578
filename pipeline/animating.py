"""A picture and a clip become a video: the picture's figure, moving as the clip does (V_o of Eq. 3, M(D, I))."""

import importlib.metadata
import io
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from manifests.files import LocalFiles
from manifests.film import check_sound, not_written, write_film
from manifests.keys import sha256_of_file
from manifests.media import Video
from manifests.synthetic import TITLE, comment_of
from model.backbone import Backbone
from model.framing import framing_of
from model.geometry import Geometry
from model.loading import loaded, weights_of
from model.lora_file import DIFFUSERS_FILE
from model.skeleton import Pixels
from model.windows import animate_windows, windows_of
from pipeline.animate_order import Order, check_places, picture_of
from pipeline.driving_half import DrivingHalf, driving_half
from pipeline.driving_motion import Told, facts_of
from pipeline.filmstrip import filmstrip


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
    check_places(order)
    picture = picture_of(order.reference)
    facts = None if order.driving is None else facts_of(order.driving)
    if order.audio and order.driving is not None:
        check_sound(order.driving)
    weights = weights_of(order.backbone, order.weights)
    watch.lap("look at the files")
    backbone = loaded(order.backbone, weights, order.loras, order.device, order.precision)
    geometry = geometry_of(backbone, picture, order)
    watch.lap("load weights")
    framing = framing_of(picture, geometry.height_px, geometry.width_px)
    driving = driving_half(order, facts, geometry, framing, told)
    watch.lap("read the clip" if order.rgb else "look for people")
    frames = framing.cut(_computed(backbone, geometry, framing.fitted(picture), driving.frames, order, told))
    watch.lap("backbone and VAE")
    tags = _tags(order, backbone, geometry, driving)
    as_made = order.rate == "backbone"
    video = Video(frames, driving.fps) if as_made else Video(frames[driving.shown()], driving.own_fps)
    write_film(video, order.out, tags, order.driving if order.audio else None)
    if order.sheet is not None:
        still = framing.cut(framing.fitted(picture)[None])[0]
        _write_png(filmstrip(still, driving.frames, frames, driving.fps), order.sheet, tags)
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


def _tags(order: Order, backbone: Backbone, geometry: Geometry, driving: DrivingHalf) -> dict[str, str]:
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
        "driven_by": "video" if order.rgb else "skeletons",
        "people": driving.people,
        "prompt": order.prompt,
        "seed": order.seed,
        "steps": order.steps,
        "guidance": {"text": order.guidance.text, "driving": order.guidance.driving},
        "size_px": [geometry.width_px, geometry.height_px],
        "window_frames": geometry.frames,
        "model_fps": driving.fps,
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
