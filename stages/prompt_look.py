"""What a character looks like, in a few plain words, by measures of its picture: no model.

The words are those in which theatre describes its figures (`manifests/theatre/words.py`), which the embedded teacher
has learnt: "a person in a red shirt and blue shorts", "a grey bird". Of a character with a skeleton, the shirt is what
lies between shoulders and hips, and the legs tell trousers from shorts; of any other, the colour of most of it counts.
"""

from collections.abc import Collection, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from manifests.media import Pixels
from model.skeleton import Points

COLOURS: Final = {
    "red": (0.8, 0.1, 0.1), "orange": (0.95, 0.5, 0.1), "yellow": (0.95, 0.85, 0.15), "green": (0.15, 0.6, 0.2),
    "lime": (0.5, 0.9, 0.2), "teal": (0.1, 0.6, 0.6), "cyan": (0.2, 0.85, 0.95), "blue": (0.15, 0.25, 0.85),
    "purple": (0.5, 0.15, 0.7), "magenta": (0.85, 0.15, 0.8), "pink": (0.95, 0.55, 0.7), "brown": (0.4, 0.25, 0.12),
    "beige": (0.85, 0.72, 0.55), "black": (0.08, 0.08, 0.08), "grey": (0.5, 0.5, 0.5), "white": (0.95, 0.95, 0.95),
}  # fmt: skip
"""As `manifests.theatre.words.COLOURS`, which needs theatre to load."""
_NAMES: Final = tuple(COLOURS)
_TABLE: Final = np.array(list(COLOURS.values()))
PEOPLE: Final = {"human": "person", "cartoon": "cartoon figure", None: "person"}
_MIN_SCORE: Final = 0.3
_SECOND: Final = 0.3  # share from which a second colour is named
_GAIN: Final = 1.2  # cloth is darker in a picture than its colour is
_ONE_HUE: Final = 0.97  # cosine of two colours from which they are shades of one
_PLAIN: Final = 24  # levels from which a pixel differs from the border


def look(pixels: Pixels, person: Points | None, domain: str | None, tags: Sequence[str], nouns: Collection[str]) -> str:
    """Say what a character looks like.

    Args:
        pixels: uint8 `[H, W, 4]`.
        person: Its points `[133, 3]`, px; None if it has none.
        domain: One of `manifests.schema.DOMAINS`, or None.
        tags: What was said of it when it was imported.
        nouns: Tags that say what it is; the first of them among `tags` is used.
    """
    noun = next((tag for tag in tags if tag in nouns), None)
    if person is not None and domain in PEOPLE:
        dressed = _dressed(pixels[..., :3], person)
        if dressed:
            return f"{with_article(noun or PEOPLE[domain])} in {dressed}"
    noun = noun or {"animal": "animal", "object": "object", "cartoon": "cartoon figure"}.get(domain or "", "figure")
    return with_article(f"{named(pixels[..., :3][foreground(pixels)])} {noun}")


def foreground(pixels: Pixels) -> NDArray[np.bool_]:
    """Return what is no background, bool `[H, W]`: the opaque part, or what differs from the border's median colour;
    the middle of the picture if that is next to nothing, or nearly all."""
    if (pixels[..., 3] < 128).mean() >= 0.01:
        return np.asarray(pixels[..., 3] >= 128)
    rgb = pixels[..., :3].astype(np.int16)
    border = np.concatenate([rgb[0], rgb[-1], rgb[:, 0], rgb[:, -1]])
    apart = np.abs(rgb - np.median(border, axis=0)).max(axis=-1) > _PLAIN
    if 0.02 < apart.mean() < 0.9:
        return np.asarray(apart)
    middle = np.zeros(apart.shape, bool)
    height, width = middle.shape
    middle[height // 4 : -(-3 * height // 4), width // 3 : -(-2 * width // 3)] = True
    return middle


def named(colours: NDArray[np.uint8]) -> str:
    """Name the one or two colours that most of the pixels `[n, 3]` have: "red", "red and white"."""
    if not len(colours):
        return "grey"
    shares = np.bincount(nearest(colours), minlength=len(_NAMES)) / len(colours)
    first, second = np.argsort(-shares, kind="stable")[:2]
    return _NAMES[first] if shares[second] < _SECOND else f"{_NAMES[first]} and {_NAMES[second]}"


def nearest(colours: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return for each pixel the place in `COLOURS` of the nearest one, light and shade set apart from hue.

    Of the distance in RGB, the part along grey counts a quarter: cloth in the shade keeps its name.
    """
    apart = colours[:, None].astype(np.float64) * _GAIN / 255 - _TABLE
    along = apart.mean(axis=2, keepdims=True)
    distance = ((apart - along) ** 2).sum(axis=2) + 0.25 * 3 * along[..., 0] ** 2
    return np.asarray(distance.argmin(axis=1), np.int64)


def with_article(words: str) -> str:
    """Return words behind their article."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _dressed(rgb: Pixels, person: Points) -> str | None:
    """Name what is worn; None if the trunk is not seen."""
    trunk = _patch(rgb, person)
    if not len(trunk):
        return None
    shirt = f"{with_article(named(trunk))} shirt"
    thighs, shins = _rods(rgb, person, ((11, 13), (12, 14))), _rods(rgb, person, ((13, 15), (14, 16)))
    if not len(thighs):
        return shirt
    legs = named(thighs)
    return f"{shirt} and {legs} {'shorts' if len(shins) and _unlike(thighs, shins) else 'trousers'}"


def _unlike(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> bool:
    """Say whether two sets of pixels are of two stuffs: another hue, or more than twice as bright."""
    first, second = (np.median(each, axis=0) + 1.0 for each in (one, other))
    sizes = float(np.linalg.norm(first)), float(np.linalg.norm(second))
    return float(first @ second) / (sizes[0] * sizes[1]) < _ONE_HUE or not 0.5 < sizes[0] / sizes[1] < 2.0


def _patch(rgb: Pixels, person: Points) -> NDArray[np.uint8]:
    """Return pixels of the trunk, from a little below the shoulders to a little above the hips."""
    if (person[[5, 6, 11, 12], 2] < _MIN_SCORE).any():
        return np.zeros((0, 3), np.uint8)
    left, right, low_left, low_right = (person[i, :2].astype(np.float64) for i in (5, 6, 11, 12))
    down, across = np.meshgrid(np.linspace(0.2, 0.75, 24), np.linspace(0.15, 0.85, 16), indexing="ij")
    top = left + across[..., None] * (right - left)
    low = low_left + across[..., None] * (low_right - low_left)
    return _at(rgb, (top + down[..., None] * (low - top)).reshape(-1, 2))


def _rods(rgb: Pixels, person: Points, segments: Sequence[tuple[int, int]]) -> NDArray[np.uint8]:
    """Return pixels along limbs, their middle halves."""
    seen = [(a, b) for a, b in segments if min(person[a, 2], person[b, 2]) >= _MIN_SCORE]
    along = np.linspace(0.3, 0.75, 32)[:, None]
    places = [person[a, :2] + along * (person[b, :2] - person[a, :2]) for a, b in seen]
    return _at(rgb, np.concatenate(places)) if places else np.zeros((0, 3), np.uint8)


def _at(rgb: Pixels, places: NDArray[np.float64]) -> NDArray[np.uint8]:
    cells = np.floor(places).astype(int)
    inside = (cells >= 0).all(axis=1) & (cells[:, 0] < rgb.shape[1]) & (cells[:, 1] < rgb.shape[0])
    return np.asarray(rgb[cells[inside, 1], cells[inside, 0]])
