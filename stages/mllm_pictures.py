"""Frames and pictures as an MLLM is shown them: JPEG in a message, with a word on what each is."""

import base64
import io
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field

from manifests.media import Clip, Picture, Pixels, Video
from stages.mllm_answers import Part, words
from stages.mllm_config import MllmConfig

_KEPT: Final = 16  # sources and characters whose pictures a worker remembers, since many pairs share them


class SightConfig(MllmConfig):
    """What an MLLM is shown."""

    frames: int = Field(8, ge=1, le=64, description="frames of a clip that are shown, evenly over it")
    long_side_px: int = Field(512, ge=16, le=4096, description="what is larger is shrunk to this, long side")
    jpeg_quality: int = Field(90, ge=50, le=100, description="of what is shown")


class Sight:
    """Makes the parts of a message of what a row holds; safe to be called from several threads."""

    def __init__(self, config: SightConfig) -> None:
        self.config = config
        self._known: OrderedDict[Clip | Picture, tuple[Part, ...]] = OrderedDict()
        self._lock = threading.Lock()

    def of_clip(self, name: str, clip: Clip) -> Sequence[Part]:
        """Show frames of a clip; raises MediaError as `Clip.chunks`."""
        return self._remembered(clip, lambda: self._frames(name, chosen(clip, self.moments(clip.frames))))

    def of_picture(self, name: str, picture: Picture) -> Sequence[Part]:
        """Show a picture; raises MediaError as `Picture.rgba`."""
        return self._remembered(picture, lambda: (words(f"{name}:"), self._jpeg(picture.rgb())))

    def of_video(self, name: str, video: Video) -> Sequence[Part]:
        """Show frames of a video."""
        return self._frames(name, video.frames[self.moments(len(video.frames))])

    def moments(self, frames: int) -> NDArray[np.int64]:
        """Return the numbers of the frames that are shown, the first and the last among them."""
        return np.linspace(0, frames - 1, min(self.config.frames, frames)).round().astype(np.int64)

    def _frames(self, name: str, frames: Pixels) -> tuple[Part, ...]:
        parts: list[Part] = []
        for number, frame in enumerate(frames, 1):
            parts += [words(f"{name}, frame {number} of {len(frames)}:"), self._jpeg(frame)]
        return tuple(parts)

    def _jpeg(self, pixels: Pixels) -> Part:
        picture = Image.fromarray(np.ascontiguousarray(pixels))
        scale = min(1.0, self.config.long_side_px / max(picture.size))
        if scale < 1:
            size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
            picture = picture.resize(size, Image.Resampling.LANCZOS)
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=self.config.jpeg_quality, subsampling=0)
        coded = base64.b64encode(file.getbuffer()).decode()
        return {"type": "image_url", "image_url": {"url": f"data:image/jpeg;base64,{coded}"}}

    def _remembered(self, what: Clip | Picture, make: Callable[[], tuple[Part, ...]]) -> tuple[Part, ...]:
        with self._lock:  # held while making: two threads that want the same film decode it once
            if what not in self._known:
                self._known[what] = make()
                if len(self._known) > _KEPT:
                    self._known.popitem(last=False)
            self._known.move_to_end(what)
            return self._known[what]


def chosen(clip: Clip, wanted: NDArray[np.int64]) -> Pixels:
    """Return the frames `wanted` (rising numbers) of a clip, uint8 [n, H, W, 3], decoded a chunk at a time."""
    found: list[Pixels] = []
    start = 0
    for chunk in clip.chunks():
        found += [chunk[number - start].copy() for number in wanted.tolist() if start <= number < start + len(chunk)]
        start += len(chunk)
    return np.stack(found)
