"""A picture in square tiles, each encoded and decoded by itself: what a VAE trained on crops of one size asks for.

A Wan decoder doubles pictures by repeating pixels, so that nothing inside a picture says which of two neighbours is
the left one; the zeros around its border do. A small VAE learns to read them, and then works at the size of its crops.
diffusers' own tiling (`AutoencoderKLWan.enable_tiling`) with tiles that do not overlap gives the same; of a VAE with
patches (0.42) it takes the tile's side for one in patches when it encodes, and in pixels when it decodes.
"""

from torch import Tensor


def cut(video: Tensor, side: int) -> Tensor:
    """Return videos `[B, C, T, H, W]` as tiles `[B * rows * columns, C, T, side, side]`; whole if `side` is 0."""
    if not side:
        return video
    batch, channels, frames, height, width = video.shape
    parted = video.reshape(batch, channels, frames, height // side, side, width // side, side)
    return parted.permute(0, 3, 5, 1, 2, 4, 6).flatten(0, 2)


def join(tiles: Tensor, batch: int, width: int) -> Tensor:
    """Return tiles of `batch` videos as these videos, `width` wide: the inverse of `cut`."""
    number, channels, frames, side, tile_width = tiles.shape
    columns = width // tile_width
    rows = number // (batch * columns)
    parted = tiles.reshape(batch, rows, columns, channels, frames, side, tile_width)
    return parted.permute(0, 3, 4, 1, 5, 2, 6).reshape(batch, channels, frames, rows * side, width)
