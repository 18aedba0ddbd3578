"""What a media file really holds: limits are checked on its header, then everything is decoded.

Two decoders look: PyAV, frame after frame, gives the facts, and decord, which the stages read with, must then show the
same frames at the same times. Meant to run in `manifests.sandbox`: a decoder may crash, hang or eat all memory.
"""

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from manifests.containers import end_of
from manifests.decoding import FileReader, MediaError, Pixels, end_of_last
from manifests.media import PICTURE_FORMATS, PILLOW_ERRORS, read_rgba

if TYPE_CHECKING:
    import av

# Containers of films; no playlists (they open other files), no pictures (they are no films), no raw streams (no times).
CONTAINERS: Final = "mov,matroska,webm,avi,mpegts,mpeg,flv,asf,ogg"
UNEVEN_S: Final = 0.0021  # intervals that differ by less are rounding to whole ms, of both their ends
DISAGREE: Final = (
    12.0  # mean difference of one picture by two decoders, in levels: they scale 10-bit chroma differently
)
_GRID: Final = 24  # so many points a side are compared
_CHUNK_BYTES: Final = 1 << 26  # pictures that decord holds at once while it is compared


@dataclass(frozen=True)
class Limits:
    """What is still decoded; one above any of them is refused by its header, or at the frame that passes it."""

    max_bytes: int = 2 << 30  # of the file
    max_pixels: int = 8192 * 4320  # width x height of one picture
    max_frames: int = 36_000
    max_duration_s: float = 1200.0


@dataclass(frozen=True, eq=False)
class VideoFacts:
    """What a film turned out to be when all of it was decoded."""

    width: int  # px, upright
    height: int  # px, upright
    rotation: int  # degrees clockwise by which a player turns the stored picture: 0, 90, 180 or 270
    file_fps: float  # mean: frames / duration_s
    frames: int  # really decoded
    duration_s: float  # from the first frame to the end of the last, which stays for the mean interval
    times_s: NDArray[np.float64]  # [frames], presentation times from the first frame, increasing
    variable_fps: bool  # intervals differ by more than a tenth of their median and by more than UNEVEN_S
    codec: str  # as FFmpeg spells it
    pixel_format: str  # as FFmpeg spells it
    has_audio: bool


@dataclass(frozen=True)
class PictureFacts:
    """What a picture turned out to be when it was decoded."""

    width: int  # px, upright
    height: int  # px, upright
    has_alpha: bool  # it is not opaque everywhere
    format: str  # as Pillow spells it: PNG, JPEG, ...


def inspect_video(path: str, limits: Limits | None = None) -> VideoFacts:
    """Decode a whole film and say what it is; a film of one frame is legal.

    Raises:
        MediaError: with any of `manifests.decoding.REASONS` that a file can earn.
    """
    import av

    limits = limits or Limits()
    name = _check_file(path, limits)
    _check_complete(path, name)
    options = {"format_whitelist": CONTAINERS, "protocol_whitelist": "file"}
    try:
        with av.open(os.path.abspath(path), options=options, metadata_errors="replace") as file:
            facts, looks = _decode(file, name, limits)
    except MemoryError:
        raise
    except (av.error.FFmpegError, UnicodeError) as error:
        raise _not_opened(path, name, error) from None
    _compare_with_decord(path, name, facts, looks)
    return facts


def inspect_picture(path: str, limits: Limits | None = None) -> PictureFacts:
    """Decode a picture and say what it is; of an animation the first picture.

    Raises:
        MediaError: missing, empty, too_large, too_many_pixels, not_picture, damaged.
    """
    from PIL import Image, UnidentifiedImageError

    limits = limits or Limits()
    name = _check_file(path, limits)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # our own limit is the one that counts, and it is checked before decoding
        try:
            with Image.open(path, formats=PICTURE_FORMATS) as image:
                kind, size = image.format or "unknown", image.size
        except UnidentifiedImageError:
            raise MediaError("not_picture", f"{name!r} is none of {', '.join(PICTURE_FORMATS)}") from None
        except Image.DecompressionBombError as error:
            raise MediaError("too_many_pixels", f"{name!r}: {error}") from None
        except PILLOW_ERRORS as error:
            raise MediaError("damaged", f"the header of {name!r} cannot be read: {error}") from None
    _check_pixels(name, *size, limits)
    pixels = read_rgba(path)
    return PictureFacts(pixels.shape[1], pixels.shape[0], bool((pixels[..., 3] < 255).any()), kind)


def _check_file(path: str, limits: Limits) -> str:
    name = os.path.basename(path)
    if not os.path.isfile(path):
        raise MediaError("missing", f"there is no file {path!r}")
    size = os.path.getsize(path)
    if size == 0:
        raise MediaError("empty", f"{name!r} has no bytes")
    if size > limits.max_bytes:
        raise MediaError("too_large", f"{name!r} has {size} bytes, the limit is {limits.max_bytes}")
    return name


def _check_pixels(name: str, width: int, height: int, limits: Limits) -> None:
    if width * height > limits.max_pixels:
        raise MediaError(
            "too_many_pixels", f"{name!r} says {width} x {height} px, the limit is {limits.max_pixels} px in all"
        )


def _check_length(name: str, frames: int, seconds: float, limits: Limits) -> None:
    if frames > limits.max_frames:
        raise MediaError("too_long", f"{name!r} has {frames} frames or more, the limit is {limits.max_frames}")
    if seconds > limits.max_duration_s:
        raise MediaError("too_long", f"{name!r} lasts {seconds:.0f} s or more, the limit is {limits.max_duration_s} s")


def _decode(file: "av.container.InputContainer", name: str, limits: Limits) -> tuple[VideoFacts, NDArray[np.uint8]]:
    """Decode all frames; returns the facts, and points of each frame, [frames, points, 3], to compare with decord."""
    import av
    from av.video.reformatter import VideoReformatter

    stream = file.streams.best("video")
    if not isinstance(stream, av.VideoStream) or stream.disposition & av.stream.Disposition.attached_pic:
        raise MediaError("no_video_stream", f"{name!r} ({file.format.name}) holds no moving picture")
    context = stream.codec_context
    if context is None:
        raise MediaError("unknown_codec", f"the video stream of {name!r} is in a coding that FFmpeg does not know")
    stream.thread_type = "NONE"
    context.options = {"max_pixels": str(limits.max_pixels)}  # also for sizes that the stream changes to later
    _check_pixels(name, context.width, context.height, limits)
    declared = stream.duration * stream.time_base if stream.duration and stream.time_base else 0
    _check_length(name, stream.frames, float(declared), limits)

    times: list[float] = []
    looks: list[Pixels] = []
    size, rotation = (context.width, context.height), 0
    converter = VideoReformatter()  # one for all: a frame of its own accord sets up one of its own, 1 ms each
    with _as_damage(name, times):
        for frame in file.decode(stream):
            if not times:
                size, rotation = (frame.width, frame.height), -frame.rotation % 360
            _check_frame(name, len(times), frame, size, rotation)
            if frame.time is None or (times and frame.time <= times[-1]):
                raise MediaError("no_timestamps", f"frame {len(times)} of {name!r} has no time after the one before")
            times.append(float(frame.time))
            _check_length(name, len(times), times[-1] - times[0], limits)
            rgb = np.asarray(converter.reformat(frame, format="rgb24").to_ndarray(), np.uint8)
            looks.append(_points(np.rot90(rgb, k=-(rotation // 90))[None])[0])
    if not times:
        raise MediaError("no_frames", f"in the video stream of {name!r} there is nothing that can be decoded")

    upright = size if rotation % 180 == 0 else size[::-1]
    rate = float(stream.average_rate) if stream.average_rate else 0.0
    times_s = np.array(times) - times[0]
    duration_s = end_of_last(times_s, rate)
    facts = VideoFacts(
        *upright, rotation, len(times) / duration_s, len(times), duration_s, times_s, _uneven(times_s),
        context.name, context.pix_fmt or "unknown", bool(file.streams.audio),
    )  # fmt: skip
    return facts, np.stack(looks)


def _check_frame(name: str, i: int, frame: "av.VideoFrame", size: tuple[int, int], rotation: int) -> None:
    if frame.is_corrupt:
        raise MediaError("damaged", f"frame {i} of {name!r} is damaged: the decoder had to invent parts of it")
    if rotation % 90:
        raise MediaError("odd_rotation", f"{name!r} is to be turned by {rotation} degrees, not by a multiple of 90")
    if (frame.width, frame.height) != size or -frame.rotation % 360 != rotation:
        raise MediaError(
            "size_changes",
            f"frame {i} of {name!r} is {frame.width} x {frame.height} px, turned by {-frame.rotation % 360}; "
            f"the first is {size[0]} x {size[1]} px, turned by {rotation}",
        )


@contextmanager
def _as_damage(name: str, times: list[float]) -> Iterator[None]:
    import av

    try:
        yield
    except MemoryError:
        raise
    except av.error.FFmpegError as error:
        raise MediaError("damaged", f"{name!r} cannot be decoded after frame {len(times)}: {error.strerror}") from None


def _uneven(times_s: NDArray[np.float64]) -> bool:
    steps = np.diff(times_s)
    if len(steps) < 2:
        return False
    usual = float(np.median(steps))
    return bool(np.abs(steps - usual).max() > max(UNEVEN_S, usual / 10))


def _points(pixels: Pixels) -> Pixels:
    """Take a grid of points of uint8 [T, H, W, 3]: uint8 [T, points, 3]."""
    height, width = pixels.shape[1:3]
    rows = (np.arange(min(_GRID, height)) + 0.5) * height / min(_GRID, height)
    columns = (np.arange(min(_GRID, width)) + 0.5) * width / min(_GRID, width)
    return pixels[:, rows.astype(int)][:, :, columns.astype(int)].reshape(len(pixels), -1, 3)


def _compare_with_decord(path: str, name: str, facts: VideoFacts, looks: Pixels) -> None:
    """Read the film once more as the stages will: it must be the same frames, at the same times, in the same order."""

    def refuse(what: str) -> MediaError:
        advice = "encode the file anew (H.264 in MP4) and import it again"
        return MediaError("decoders_disagree", f"{name!r}: {what}; {advice}")

    try:
        reader = FileReader(path)
        _compare(reader, facts, looks, refuse)
    except MediaError as error:
        if error.reason == "decoders_disagree":
            raise
        raise refuse(f"PyAV decodes it, decord does not ({error.detail})") from None


def _compare(reader: FileReader, facts: VideoFacts, looks: Pixels, refuse: Callable[[str], MediaError]) -> None:
    if len(reader.times_s) != facts.frames:
        raise refuse(f"decord counts {len(reader.times_s)} frames, PyAV decodes {facts.frames}")
    if np.abs(reader.times_s - facts.times_s).max() > 1.5e-3:
        raise refuse("decord and PyAV give the frames different times")
    step = int(np.clip(_CHUNK_BYTES // (3 * facts.width * facts.height), 1, 16))
    for start in range(0, facts.frames, step):
        pixels = reader.frames(np.arange(start, min(start + step, facts.frames)))
        if pixels.shape[1:3] != (facts.height, facts.width):
            raise refuse(f"decord sees {pixels.shape[2]} x {pixels.shape[1]} px, PyAV {facts.width} x {facts.height}")
        for i, seen in enumerate(_points(pixels), start):
            near = range(max(0, i - 1), min(facts.frames, i + 2))
            apart = {k: float(np.abs(seen.astype(np.int16) - looks[k]).mean()) for k in near}
            if apart[i] > DISAGREE or apart[i] > min(apart.values()) + 1:
                raise refuse(f"decord and PyAV see different pictures as frame {i}")


def _not_opened(path: str, name: str, error: Exception) -> MediaError:
    """Say why FFmpeg found no film in the file: a picture goes by what it is, whatever its name."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(path, formats=PICTURE_FORMATS) as image:
                return MediaError("not_video", f"{name!r} is a picture ({image.format}), no film")
        except (*PILLOW_ERRORS, Image.DecompressionBombError):
            pass
    with open(path, "rb") as file:
        known = end_of(file) is not None
    if known:
        return MediaError("damaged", f"{name!r} has the beginning of a film, but its header cannot be read: {error}")
    return MediaError("not_media", f"{name!r} is no film in a container that is read here ({CONTAINERS})")


def _check_complete(path: str, name: str) -> None:
    with open(path, "rb") as file:
        end, size = end_of(file), os.path.getsize(path)
    if end is not None and end > size:
        raise MediaError("truncated", f"{name!r} has {size} bytes, but its contents go on to byte {end}")
