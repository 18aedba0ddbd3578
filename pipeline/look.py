"""Skeletons to look at: drawn over the clip as a video, and as one sheet of pictures."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from manifests.media import Clip
from model.skeleton import Pixels, Points, draw

_PERSON_COLOURS = ((255, 220, 0), (0, 220, 255), (255, 90, 200), (120, 255, 90), (255, 140, 40), (170, 140, 255))
_MARGIN_PX, _CAPTION_PX = 4, 18


def overlay(
    frames: Pixels, skeleton: Points, boxes: NDArray[np.float32] | None = None, min_score: float = 0.3
) -> Pixels:
    """Draw the people over the frames: uint8 [T, H, W, 3] with skeleton [T, P, 133, 3] and boxes [T, P, 4] px.

    A box, numbered from 1 in the order of the skeleton, is drawn where the person is seen.
    """
    height, width = frames.shape[1:3]
    out = np.empty_like(frames)
    for i, (frame, people) in enumerate(zip(frames, skeleton, strict=True)):
        drawn = draw(people, height, width, min_score, back=frame)
        out[i] = drawn if boxes is None else _with_boxes(drawn, boxes[i])
    return out


def contact_sheet(
    pictures: list[Pixels], skeleton: Points, frames: list[int], fps: float, *, tile_px: int = 240
) -> Image.Image:
    """Lay some frames of a clip side by side: drawn over the source above, the skeleton alone below.

    `pictures` are the chosen frames [H, W, 3] of the source, `skeleton` `[n, P, 133, 3]` theirs, `frames` their
    numbers. Each is `tile_px` wide, with its number and time as the caption.
    """
    height, width = pictures[0].shape[:2]
    size = (tile_px, max(1, round(tile_px * height / width)))
    sheet = Image.new(
        "RGB",
        (_MARGIN_PX + len(pictures) * (tile_px + _MARGIN_PX), _CAPTION_PX + 2 * (size[1] + _MARGIN_PX)),
        (40, 40, 40),
    )
    pen = ImageDraw.Draw(sheet)
    for i, (picture, people, frame) in enumerate(zip(pictures, skeleton, frames, strict=True)):
        left = _MARGIN_PX + i * (tile_px + _MARGIN_PX)
        pen.text((left, 3), f"frame {frame}  {frame / fps:.2f} s", fill=(255, 255, 255))
        for row, back in enumerate((picture, None)):
            drawn = Image.fromarray(draw(people, height, width, back=back))
            sheet.paste(
                drawn.resize(size, Image.Resampling.LANCZOS), (left, _CAPTION_PX + row * (size[1] + _MARGIN_PX))
            )
    return sheet


def look_clip(
    clip: Clip,
    skeleton: Points,
    out_dir: Path,
    name: str,
    *,
    boxes: NDArray[np.float32] | None = None,
    tiles: int = 12,
    long_side_px: int = 960,
) -> tuple[Path, Path]:
    """Write `name.mp4`, the clip with its skeletons drawn over it, and `name.png`, the contact sheet; return both.

    The clip goes by in chunks, so that memory does not grow with its length. The video is made smaller, to
    `long_side_px` at most.

    Raises:
        ValueError: the skeleton has another number of frames than the clip, or the video would replace the clip.
    """
    if len(skeleton) != clip.frames:
        raise ValueError(f"the skeleton has {len(skeleton)} frames, the clip {clip.frames}: made of another segment?")
    out_dir.mkdir(parents=True, exist_ok=True)
    video, sheet = out_dir / f"{name}.mp4", out_dir / f"{name}.png"
    if video.exists() and video.samefile(clip.path):
        raise ValueError(f"{video} is the clip itself and would be written over: take another folder or name")
    chosen = sorted(set(np.linspace(0, clip.frames - 1, min(tiles, clip.frames)).round().astype(int).tolist()))
    pictures: list[Pixels] = []
    _write(video, _drawn(clip, skeleton, boxes, chosen, pictures), clip.fps, long_side_px)
    contact_sheet(pictures, skeleton[chosen], chosen, clip.fps).save(sheet)
    return video, sheet


def _drawn(
    clip: Clip, skeleton: Points, boxes: NDArray[np.float32] | None, chosen: list[int], pictures: list[Pixels]
) -> Iterator[Pixels]:
    """Give the frames drawn over, one by one; the chosen ones go into `pictures` as they are."""
    first = 0
    for chunk in clip.chunks():
        here = slice(first, first + len(chunk))
        pictures.extend(chunk[i - first].copy() for i in chosen if here.start <= i < here.stop)
        yield from overlay(chunk, skeleton[here], None if boxes is None else boxes[here])
        first = here.stop


def _write(path: Path, frames: Iterator[Pixels], fps: float, long_side_px: int) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "20", "preset": "veryfast"}
        for number, frame in enumerate(frames):
            height, width = frame.shape[:2]
            scale = min(1.0, long_side_px / max(height, width))
            size = tuple(max(2, round(side * scale / 2) * 2) for side in (width, height))  # 4:2:0 wants even sides
            if number == 0:
                stream.width, stream.height = size
            small = np.asarray(Image.fromarray(frame).resize(size, Image.Resampling.BILINEAR))
            container.mux(stream.encode(av.VideoFrame.from_ndarray(small, format="rgb24")))
        container.mux(stream.encode(None))


def _with_boxes(frame: Pixels, boxes: NDArray[np.float32]) -> Pixels:
    canvas = Image.fromarray(frame)
    pen = ImageDraw.Draw(canvas)
    width = max(1, round(min(frame.shape[:2]) / 400))
    for i, box in enumerate(boxes):
        x0, y0, x1, y1 = (float(v) for v in box)
        if x1 > x0 and y1 > y0:
            colour = _PERSON_COLOURS[i % len(_PERSON_COLOURS)]
            pen.rectangle((x0, y0, x1, y1), outline=colour, width=width)
            pen.text((x0 + width + 1, y0), str(i + 1), fill=colour, font_size=max(10, width * 12))
    return np.array(canvas)
