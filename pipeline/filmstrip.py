"""What drove and what came of it, side by side in one picture."""

import numpy as np
from PIL import Image, ImageDraw

from model.skeleton import Pixels

_MARGIN_PX, _CAPTION_PX, _TILE_PX = 4, 18, 192


def filmstrip(reference: Pixels, driving: Pixels, made: Pixels, fps: float, tiles: int = 8) -> Image.Image:
    """Lay out some frames of a result: what drove it above, what came of it below, the reference in front.

    Args:
        reference: uint8 `[h, w, 3]`.
        driving: uint8 `[N, H, W, 3]`, as the model saw it.
        made: uint8 `[N, h, w, 3]`.
        fps: Of both.
        tiles: Frames at most, spread evenly over the clip.
    """
    chosen = sorted(set(np.linspace(0, len(made) - 1, min(tiles, len(made))).round().astype(int).tolist()))
    heights = [max(1, round(_TILE_PX * rows.shape[-3] / rows.shape[-2])) for rows in (driving, made)]
    width = _MARGIN_PX + (1 + len(chosen)) * (_TILE_PX + _MARGIN_PX)
    strip = Image.new("RGB", (width, _CAPTION_PX + sum(heights) + 2 * _MARGIN_PX), (40, 40, 40))
    pen = ImageDraw.Draw(strip)
    below = _CAPTION_PX + heights[0] + _MARGIN_PX
    pen.text((_MARGIN_PX, 3), "reference", fill=(255, 255, 255))
    strip.paste(_tile(reference, heights[1]), (_MARGIN_PX, below))
    for column, frame in enumerate(chosen, start=1):
        left = _MARGIN_PX + column * (_TILE_PX + _MARGIN_PX)
        pen.text((left, 3), f"frame {frame}  {frame / fps:.2f} s", fill=(255, 255, 255))
        strip.paste(_tile(driving[frame], heights[0]), (left, _CAPTION_PX))
        strip.paste(_tile(made[frame], heights[1]), (left, below))
    return strip


def _tile(picture: Pixels, height_px: int) -> Image.Image:
    """Return a picture in its tile; a small one in blocks, as it is."""
    smaller = picture.shape[1] < _TILE_PX
    how = Image.Resampling.NEAREST if smaller else Image.Resampling.LANCZOS
    return Image.fromarray(picture).resize((_TILE_PX, height_px), how)
