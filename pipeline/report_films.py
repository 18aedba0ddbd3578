"""Small films and pictures of a pair, as bytes that stand in a page: source, skeleton and pseudo video in step."""

import base64
import io
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
from PIL import Image

from manifests.media import Clip, MediaError, Picture, Video
from manifests.store import ArtifactDamaged, Store
from model.skeleton import Pixels, Points, draw
from pipeline.report_pairs import Shown

HEIGHT_PX: Final = 192
LONGEST: Final = 240  # frames of a film; what comes after is cut off, and that is said
_X264: Final = {"crf": "27", "preset": "veryfast", "threads": "1", "bf": "0", "x264-params": "mbtree=0"}
_SUPERSAMPLED: Final = 2  # skeletons are drawn larger and made smaller, so that thin limbs stay whole


@dataclass(frozen=True)
class Part:
    """One part of a pair as it stands in the page; `problem` says why there is none."""

    name: str  # reference, source, skeleton, pseudo
    kind: str = ""  # media type
    data: bytes = b""
    width: int = 0
    height: int = 0
    frames: int = 1
    problem: str = ""

    @property
    def url(self) -> str:
        """The bytes as a data URI."""
        return f"data:{self.kind};base64,{base64.b64encode(self.data).decode()}"


def parts_of(shown: Shown, store: Store) -> list[Part]:
    """Return the four parts of a pair; what is gone or damaged says so in its place."""
    makers = {"reference": _reference, "source": _source, "skeleton": _skeleton, "pseudo": _pseudo}
    parts = []
    for name, maker in makers.items():
        try:
            parts.append(maker(shown, store))
        except (MediaError, ArtifactDamaged) as error:
            parts.append(Part(name, problem=str(error)))
    return parts


def _artifact(shown: Shown, column: str, store: Store) -> Any:
    if column not in shown.artifacts:
        raise ArtifactDamaged(column, "is made by no stage of this run")
    return store.get(shown.artifacts[column])


def _reference(shown: Shown, store: Store) -> Part:
    row = shown.character
    picture = Picture(store.fetch(row["file"]), _crop(row)).rgb()
    return still("reference", Image.fromarray(picture), HEIGHT_PX)


def _source(shown: Shown, store: Store) -> Part:
    row = shown.source
    clip = Clip(store.fetch(row["file"]), row["start_s"], row["fps"], min(row["frames"], LONGEST), _crop(row))
    return film("source", (frame for chunk in clip.chunks() for frame in chunk), row["fps"])


def _skeleton(shown: Shown, store: Store) -> Part:
    row = shown.source
    points: Points = _artifact(shown, "skeleton", store)
    crop = _crop(row)
    width, height = (crop[2], crop[3]) if crop else (row["width"], row["height"])
    return film("skeleton", _drawn(points[:LONGEST], height, width), row["fps"])


def _drawn(points: Points, height: int, width: int) -> Iterator[Pixels]:
    scale = min(1.0, _SUPERSAMPLED * HEIGHT_PX / height)
    size = round(height * scale), round(width * scale)
    for people in points:
        smaller = people.copy()
        smaller[..., :2] *= scale
        yield draw(smaller, *size)


def _pseudo(shown: Shown, store: Store) -> Part:
    video: Video = _artifact(shown, "pseudo", store)
    return film("pseudo", iter(video.frames[:LONGEST]), video.fps or shown.source["fps"])


def _crop(row: dict[str, Any]) -> tuple[int, int, int, int] | None:
    return tuple(row["crop"]) if row["crop"] else None


def film(name: str, frames: Iterator[Pixels], fps: float) -> Part:
    """Encode uint8 [H, W, 3] frames as H.264, `HEIGHT_PX` high at most, index first, each frame on time: frame i stands
    from i / fps on, so that films of one rate can be moved together."""
    count, size = 0, (0, 0)
    rate = Fraction(fps).limit_denominator(1001)
    options = {"movflags": "+faststart", "fflags": "+bitexact"}
    with tempfile.NamedTemporaryFile(suffix=".mp4") as out:
        with av.open(out.name, "w", options=options) as file:
            stream: Any = None
            for count, frame in enumerate(frames, 1):
                if stream is None:
                    size = _small(frame.shape[1], frame.shape[0], HEIGHT_PX)
                    stream = _stream(file, size, rate)
                small = np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BICUBIC))
                picture = av.VideoFrame.from_ndarray(small, format="rgb24")
                picture.pts, picture.time_base = count - 1, 1 / rate
                file.mux(stream.encode(picture))
            if stream is not None:
                file.mux(stream.encode(None))
        data = Path(out.name).read_bytes()
    return Part(name, "video/mp4", data, *size, count)


def _stream(file: Any, size: tuple[int, int], rate: Fraction) -> Any:
    stream = file.add_stream("libx264", rate=rate, options=_X264)
    stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
    stream.codec_context.gop_size = max(1, round(rate / 2))  # near key frames make scrubbing quick
    stream.codec_context.time_base = 1 / rate
    return stream


def still(name: str, picture: Image.Image, height_px: int, width_px: int | None = None) -> Part:
    """Encode a picture as JPEG, no higher than `height_px` and no wider than `width_px`."""
    scale = min(1.0, height_px / picture.height, (width_px or picture.width) / picture.width)
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    out = io.BytesIO()
    picture.convert("RGB").resize(size, Image.Resampling.LANCZOS).save(out, "JPEG", quality=82, optimize=True)
    return Part(name, "image/jpeg", out.getvalue(), *size)


def _small(width: int, height: int, height_px: int) -> tuple[int, int]:
    """Return an even size of the same form, no higher than `height_px`: 4:2:0 knows no odd ones."""
    scale = min(1.0, height_px / height)
    return max(2, round(width * scale / 2) * 2), max(2, round(height * scale / 2) * 2)
