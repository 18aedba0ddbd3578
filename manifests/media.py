"""Video and picture files <-> uint8 [T, H, W, 3] RGB.

Time zero of a file is its first picture, whatever number its clock starts from. A picture is on screen from its own
presentation time until that of the next; the last one stays for the mean interval of the file.
"""

import os
import re
import struct
import warnings
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np
from numpy.typing import NDArray

from manifests.decoding import REASONS, FileReader, MediaError, Pixels, frames_on_screen

__all__ = ["REASONS", "Clip", "MediaError", "Picture", "Pixels", "Video", "read_mp4", "read_rgba", "write_mp4"]

Crop = tuple[int, int, int, int]

# Quality (crf, 0 lossless to 51): artefacts of storing must stay far below those of a model. x264's macroblock tree
# with B-frames depends on what free memory holds (seen at 64 x 64: equal frames, other bytes), so neither is used.
_X264: Final = {"crf": "12", "threads": "1", "bf": "0", "x264-params": "mbtree=0"}
_BT601: Final = 5  # the matrix of the conversion, written into the file so that players turn it back with the same one
_TRUE_SIZE: Final = re.compile(r"picture (\d+)x(\d+) px")
# what Pillow may open: no format that starts a program (EPS) or is no picture (PDF)
PICTURE_FORMATS: Final = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "AVIF")
PILLOW_ERRORS: Final = (  # what its plugins raise on damaged files, by fuzzing
    OSError, SyntaxError, ValueError, EOFError, LookupError, OverflowError, TypeError, struct.error, zlib.error
)  # fmt: skip


@dataclass(frozen=True)
class Clip:
    """A segment of a video on this machine: frame i is the file's picture on screen at `start_s + i / fps`.

    `crop` is x, y, width, height in px of the upright picture.
    """

    path: str
    start_s: float
    fps: float
    frames: int
    crop: Crop | None = None

    def __post_init__(self) -> None:
        if not (self.frames >= 1 and 0 < self.fps < float("inf") and abs(self.start_s) < float("inf")):
            raise ValueError(
                f"a clip of {self.frames} frames at {self.fps} a second from {self.start_s} s: wanted at least "
                "1 frame, a rate above 0 and a finite start"
            )

    def chunks(self, size: int = 16) -> Iterator[Pixels]:
        """Give the frames in order, upright and cropped, as uint8 [t, H, W, 3] with t = `size` but for the last.

        At most one chunk (and decord's own small queue) stands in memory. A file with open groups of pictures is
        decoded from its beginning, however late the segment starts.

        Raises:
            MediaError: missing, not_media, damaged, segment_outside_file, crop_outside_picture.
        """
        reader = FileReader(self.path)
        wanted = frames_on_screen(reader.times_s, reader.end_s, self.start_s, self.fps, self.frames)
        last: Pixels | None = None  # the picture with which the chunk before ended, if this one begins with it
        for start in range(0, self.frames, size):
            indices = wanted[start : start + size]
            chunk = _pictures(reader, indices, last)
            stays = start + size < self.frames and wanted[start + size] == indices[-1]
            last = chunk[-1:].copy() if stays else None
            chunk = _cropped(chunk, self.crop)
            yield chunk
            del chunk  # so that its memory can serve the next

    def read(self) -> Pixels:
        """Return all frames, uint8 [frames, H, W, 3]; raises as `chunks` does."""
        chunks = self.chunks()
        first = next(chunks)
        out = np.empty((self.frames, *first.shape[1:]), np.uint8)
        out[: len(first)], at = first, len(first)
        for chunk in chunks:
            out[at : at + len(chunk)] = chunk
            at += len(chunk)
        return out


@dataclass(frozen=True)
class Picture:
    """A picture on this machine; `crop` is x, y, width, height in px of the upright picture."""

    path: str
    crop: Crop | None = None

    def rgba(self) -> Pixels:
        """Return uint8 [H, W, 4], upright (EXIF orientation) and cropped; alpha is 255 where there is none.

        Raises:
            MediaError: missing, not_picture, damaged, too_many_pixels, crop_outside_picture.
        """
        pixels: Pixels = _cropped(read_rgba(self.path)[None], self.crop)[0]
        return pixels

    def rgb(self) -> Pixels:
        """Return uint8 [H, W, 3]: as `rgba`, what is transparent laid on mid-grey (128).

        Mid-grey is 0.0 in [-1, 1], the value of "nothing" in the model's own input.
        """
        pixels = self.rgba()
        alpha = pixels[..., 3:].astype(np.uint16)
        laid = (pixels[..., :3] * alpha + 128 * (255 - alpha) + 127) // 255
        return np.asarray(laid, dtype=np.uint8)


@dataclass(frozen=True, eq=False)
class Video:
    """What a stage makes: uint8 [T, H, W, 3] RGB, frames a second, and what is to be written into its file."""

    frames: Pixels
    fps: float
    comment: str | None = None


def read_rgba(path: str) -> Pixels:
    """Return a whole picture file, upright, as uint8 [H, W, 4]; of an animation the first picture.

    16 bits a channel become 8 by division by 257. Raises as `Picture.rgba`.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    if not os.path.isfile(path):
        raise MediaError("missing", f"there is no file {path!r}")
    name = os.path.basename(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of what the inspection judges: bombs, odd EXIF
        try:
            with Image.open(path, formats=PICTURE_FORMATS) as image:
                upright = ImageOps.exif_transpose(image)
                if upright.mode.startswith("I"):
                    grey = np.clip(np.asarray(upright, np.float64) / 257, 0, 255).round().astype(np.uint8)
                    upright = Image.fromarray(grey)
                return np.array(upright.convert("RGBA"))
        except UnidentifiedImageError:
            raise MediaError("not_picture", f"{name!r} is none of {', '.join(PICTURE_FORMATS)}") from None
        except Image.DecompressionBombError as error:
            raise MediaError("too_many_pixels", f"{name!r}: {error}") from None
        except PILLOW_ERRORS as error:
            raise MediaError("damaged", f"{name!r} cannot be decoded: {error}") from None


def _pictures(reader: FileReader, indices: NDArray[np.int64], last: Pixels | None) -> Pixels:
    """Decode the pictures of never decreasing `indices`, each but once; `last` is the first of them if it is there."""
    unique, places = np.unique(indices, return_inverse=True)
    if last is None:
        pictures = reader.frames(unique)
    else:
        pictures = np.concatenate([last, reader.frames(unique[1:])]) if len(unique) > 1 else last
    return pictures if len(unique) == len(indices) else pictures[places]


def _cropped(pixels: Pixels, crop: Crop | None) -> Pixels:
    if crop is None:
        return pixels
    x, y, width, height = crop
    if x < 0 or y < 0 or width < 1 or height < 1 or x + width > pixels.shape[2] or y + height > pixels.shape[1]:
        raise MediaError(
            "crop_outside_picture",
            f"the crop x {x}, y {y}, {width} x {height} px does not lie in a picture of "
            f"{pixels.shape[2]} x {pixels.shape[1]} px",
        )
    return np.ascontiguousarray(pixels[:, y : y + height, x : x + width])


def write_mp4(video: Video, path: str | os.PathLike[str], comment: str | None = None) -> None:
    """Write H.264 in 4:2:0 (it plays everywhere), index first; equal input gives equal bytes (one thread).

    4:2:0 has no odd sizes: an odd width or height is stored with its last column or row twice, and its true size is
    noted in the file, so that `read_mp4` gives back exactly the shape that was written. `fps` is stored as the nearest
    fraction with a denominator of at most 1001, which holds 23.976, 29.97 and the like exactly.

    Raises:
        ValueError: no frames, not uint8 [T, H, W, 3], or a rate that is not above 0.
    """
    import av

    frames = video.frames
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or 0 in frames.shape:
        raise ValueError(f"wanted uint8 [T, H, W, 3] with at least one frame, found {frames.dtype} {frames.shape}")
    if not 0 < video.fps < float("inf"):
        raise ValueError(f"wanted a rate above 0 frames a second, found {video.fps}")
    height, width = frames.shape[1:3]
    options = {"movflags": "+faststart", "fflags": "+bitexact"}
    with av.open(os.fspath(path), "w", format="mp4", options=options) as file:
        if (comment := comment or video.comment) is not None:
            file.metadata["comment"] = comment
        if width % 2 or height % 2:
            file.metadata["description"] = f"picture {width}x{height} px"
        rate = Fraction(video.fps).limit_denominator(1001)
        stream = file.add_stream("libx264", rate=rate, options=_X264)
        stream.width, stream.height, stream.pix_fmt = width + width % 2, height + height % 2, "yuv420p"
        context = stream.codec_context
        context.thread_count, context.time_base = 1, 1 / rate
        context.colorspace, context.color_range = _BT601, 1
        for i, picture in enumerate(frames):
            even = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
            frame = av.VideoFrame.from_ndarray(_yuv420(even), format="yuv420p")
            frame.pts, frame.time_base = i, 1 / rate
            frame.colorspace, frame.color_range = _BT601, 1
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))


def _yuv420(picture: Pixels) -> Pixels:
    """Turn uint8 [H, W, 3] of even size into the planes Y, Cb, Cr, uint8 [1.5 H, W]: ITU-R BT.601, video range.

    In whole numbers, so that every machine gives the same bytes. The colour of a cell is the mean of its four pixels;
    FFmpeg's own conversion takes samples, with four times the error at sharp edges of colour.
    """
    height, width = picture.shape[:2]
    red, green, blue = np.moveaxis(picture.astype(np.int32), -1, 0)
    luma = (16829 * red + 33039 * green + 6416 * blue + (16 << 16) + (1 << 15)) >> 16
    cells = picture.reshape(height // 2, 2, width // 2, 2, 3).sum(axis=(1, 3), dtype=np.int32)
    red, green, blue = np.moveaxis(cells, -1, 0)
    cb = (-9714 * red - 19070 * green + 28784 * blue + (128 << 18) + (1 << 17)) >> 18
    cr = (28784 * red - 24103 * green - 4681 * blue + (128 << 18) + (1 << 17)) >> 18
    return np.concatenate([luma.ravel(), cb.ravel(), cr.ravel()]).astype(np.uint8).reshape(height * 3 // 2, width)


def read_mp4(path: str | os.PathLike[str]) -> Video:
    """Read back what `write_mp4` wrote, whole.

    Raises:
        MediaError: missing, not_media, damaged.
    """
    import av

    reader = FileReader(os.fspath(path))
    frames = reader.frames(np.arange(len(reader.times_s)))
    with av.open(os.path.abspath(path), metadata_errors="replace") as file:
        true = _TRUE_SIZE.fullmatch(file.metadata.get("description", ""))
        rate = file.streams.video[0].average_rate
    if true is not None:
        frames = np.ascontiguousarray(frames[:, : int(true[2]), : int(true[1])])
    return Video(frames, float(rate) if rate else 0.0)
