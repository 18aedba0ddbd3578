"""Small clips and pictures with known content, made on the spot: no third-party media lies in this repository.

Every frame of a stamped clip carries its own number as a row of black and white squares, which survives lossy
coding, cropping of the rest and turning, so that a test can ask a decoded frame which one it is.
"""

import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Pixels = NDArray[np.uint8]
STAMP_BITS = 8
TICKS = 30_000  # a second; divides by 24, 25, 30, 50, 60, and small enough for MPEG-4 part 2


def stamped(frames: int, width: int = 64, height: int = 48, seed: int = 0) -> Pixels:
    """Return a moving figure before a patterned background, uint8 [frames, height, width, 3], each frame stamped.

    The four corners have different colours (red, green, blue, yellow, clockwise from the top left, below the stamp),
    so that a turned or mirrored picture is not mistaken for an upright one.
    """
    cells = np.random.default_rng(seed).integers(90, 166, (8, 8, 3), dtype=np.uint8)
    back = Image.fromarray(cells).resize((width, height), Image.Resampling.BICUBIC)
    out = np.empty((frames, height, width, 3), np.uint8)
    for i in range(frames):
        picture = back.copy()
        draw = ImageDraw.Draw(picture)
        corner = max(4, min(width, height) // 6)
        top = _stamp_px(width)
        draw.rectangle((0, top, corner - 1, top + corner - 1), fill=(220, 30, 30))
        draw.rectangle((width - corner, top, width - 1, top + corner - 1), fill=(30, 200, 30))
        draw.rectangle((width - corner, height - corner, width - 1, height - 1), fill=(30, 30, 220))
        draw.rectangle((0, height - corner, corner - 1, height - 1), fill=(220, 220, 30))
        centre = width * (0.3 + 0.4 * (0.5 - 0.5 * np.cos(2 * np.pi * i / 24)))
        draw.ellipse((centre - width / 12, height * 0.35, centre + width / 12, height * 0.9), fill=(240, 235, 225))
        out[i] = picture
        out[i, :top] = 128
        out[i, :top, : STAMP_BITS * top] = np.repeat(_bits(i), top)[None, :, None]
    return out


def stamp_of(frame: Pixels) -> int:
    """Return the number that a frame of a stamped clip carries (modulo 256)."""
    side = _stamp_px(frame.shape[1])
    row = frame[side // 4 : max(1, side - side // 4), :, :].mean(axis=(0, 2))
    squares = row[: STAMP_BITS * side].reshape(STAMP_BITS, side)[:, side // 4 : max(1, side - side // 4)].mean(axis=1)
    return int(sum(1 << bit for bit, value in enumerate(squares) if value > 128))


def stamps_of(frames: Pixels) -> list[int]:
    """Return the number of each frame of `[T, H, W, 3]`."""
    return [stamp_of(frame) for frame in frames]


def _stamp_px(width: int) -> int:
    return max(1, width // STAMP_BITS)


def _bits(number: int) -> Pixels:
    return np.array([255 if number >> bit & 1 else 0 for bit in range(STAMP_BITS)], np.uint8)


def write_clip(
    path: str | Path,
    pixels: Pixels,
    *,
    fps: float = 30.0,
    times_s: Sequence[float] | None = None,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    rotation: int = 0,
    b_frames: int = 0,
    key_every: int = 12,
    audio: bool = False,
    container: str | None = None,
) -> Path:
    """Encode upright pixels `[T, H, W, 3]` to `path` and return it.

    `times_s` gives each frame its presentation time (variable frame rate, late first frame); without it frame i is
    shown at i / fps. With `rotation` (90, 180, 270) the file stores the picture turned and says so in its header, as
    a phone does: a player turns it clockwise by that many degrees to get `pixels` back. Only for mp4 and mov.
    """
    stored = np.rot90(pixels, k=rotation // 90, axes=(1, 2))
    times = [i / fps for i in range(len(pixels))] if times_s is None else list(times_s)
    with av.open(str(path), "w", format=container) as file:
        video = file.add_stream(codec, rate=Fraction(fps).limit_denominator(1001))
        video.width, video.height, video.pix_fmt = stored.shape[2], stored.shape[1], pixel_format
        video.codec_context.time_base = Fraction(1, TICKS)
        video.codec_context.gop_size = key_every
        video.codec_context.max_b_frames = b_frames
        video.codec_context.thread_count = 1
        if codec in ("libx264", "libx265"):
            quiet = {"x265-params": f"log-level=none:pools=1:frame-threads=1:bframes={b_frames}:keyint={key_every}"}
            same = {"x264-params": "mbtree=0"}  # with it, equal frames may give other bytes, and so other ids
            video.options = {"crf": "12", "preset": "veryfast", **(quiet if codec == "libx265" else same)}
        sound = file.add_stream("aac", rate=16_000, layout="mono") if audio else None
        for picture, time_s in zip(stored, times, strict=True):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts, frame.time_base = round(time_s * TICKS), Fraction(1, TICKS)
            file.mux(video.encode(frame))
        file.mux(video.encode(None))
        if sound is not None:
            _write_tone(file, sound, seconds=max(times, default=0.0) + 1 / fps)
    if rotation:
        _say_rotation(Path(path), rotation)
    return Path(path)


def write_sound(path: str | Path, seconds: float = 0.5) -> Path:
    """Write a file with a sound track and no picture."""
    with av.open(str(path), "w") as file:
        _write_tone(file, file.add_stream("aac", rate=16_000, layout="mono"), seconds)
    return Path(path)


def _write_tone(file: av.container.OutputContainer, stream: av.AudioStream, seconds: float) -> None:
    step = 1024
    for start in range(0, int(16_000 * seconds), step):
        wave = np.sin(2 * np.pi * 440 * np.arange(start, start + step) / 16_000).astype(np.float32)[None]
        frame = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 16_000, start, Fraction(1, 16_000)
        file.mux(stream.encode(frame))
    file.mux(stream.encode(None))


def _say_rotation(path: Path, rotation: int) -> None:
    """Write the turning matrix into the track header (ISO/IEC 14496-12, 8.3.2): 16.16 fixed point a, b, u, c, d, v."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4
    at += 40 if data[at] == 0 else 52  # version 0 and 1 have clocks of different width
    a, b = {90: (0, 1), 180: (-1, 0), 270: (0, -1)}[rotation]
    struct.pack_into(">6i", data, at, a << 16, b << 16, 0, -b << 16, a << 16, 0)
    path.write_bytes(data)


def figure(
    width: int = 192, height: int = 256, *, box: tuple[float, float, float, float] = (0.35, 0.08, 0.65, 0.95)
) -> tuple[Pixels, NDArray[np.bool_]]:
    """Draw a person-like figure in `box` (left, top, right, bottom as shares; may reach over the edge).

    Returns:
        the picture uint8 [H, W, 3] on plain light grey, and the true mask of the figure, bool [H, W].
    """
    mask = Image.new("L", (width, height), 0)
    left, top, right, bottom = box[0] * width, box[1] * height, box[2] * width, box[3] * height
    wide, tall = right - left, bottom - top
    draw = ImageDraw.Draw(mask)

    def part(shape: str, x0: float, y0: float, x1: float, y1: float) -> None:
        edges = (left + x0 * wide, top + y0 * tall, left + x1 * wide, top + y1 * tall)
        (draw.ellipse if shape == "ellipse" else draw.rectangle)(edges, fill=255)

    part("ellipse", 0.33, 0.0, 0.67, 0.15)  # head, of 7 heads of height
    part("rectangle", 0.43, 0.13, 0.57, 0.2)
    part("rectangle", 0.15, 0.18, 0.85, 0.52)
    part("rectangle", 0.0, 0.18, 0.15, 0.55)
    part("rectangle", 0.85, 0.18, 1.0, 0.55)
    part("rectangle", 0.2, 0.5, 0.46, 1.0)
    part("rectangle", 0.54, 0.5, 0.8, 1.0)
    inside = np.asarray(mask) > 127
    picture = np.full((height, width, 3), 215, np.uint8)
    picture[inside] = (150, 60, 50)
    return picture, inside
