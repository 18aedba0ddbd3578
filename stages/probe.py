"""Is a clip or a picture usable at all? Cheap measures, and named thresholds that say no early.

The measures are scalars by formula, made from luma alone, no model: they tell the unusable from the rest, not good
from bad. A clip is decoded once, each picture is shrunk at once to `LONG_SIDE_PX`, and three are held at a time.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field, JsonValue

from manifests.media import Clip, Picture, Pixels
from manifests.schema import DOMAINS
from stages.stage import Reject, Row, Stage, StageConfig

LONG_SIDE_PX: Final = 320  # working size: what is larger is shrunk by area means, what is smaller stays
CHANGED: Final = 12 / 255  # a pixel that differs by more has changed; above the noise of coding
MOTION_STEP_S: Final = 0.2  # motion compares pictures so far apart, so that it does not depend on the rate
SAME: Final = 0.25 / 255  # two pictures with a smaller mean difference are one picture twice
BLACK: Final = 24 / 255  # luma below which a border is black, with the ringing of coding


def unit(name: str) -> dict[str, JsonValue]:
    """Return what stands in a field's JSON schema beside its description."""
    return {"unit": name}


class ProbeSourceConfig(StageConfig):
    """Thresholds of clips; a clip beyond any of them is rejected."""

    batch_size: int = Field(1, ge=1, description="rows handed to the stage at once")
    min_frames: int = Field(17, ge=1, description="fewest frames", json_schema_extra=unit("frames"))
    min_size_px: int = Field(256, ge=1, description="shorter side after the crop", json_schema_extra=unit("px"))
    min_motion: float = Field(0.002, ge=0, le=1, description="least motion", json_schema_extra=unit("share of pixels"))
    max_still_frames: float = Field(
        0.8, ge=0, le=1, description="most repeated frames (60 from 24 a second has 0.6)",
        json_schema_extra=unit("share of frames"),
    )  # fmt: skip
    min_brightness: float = Field(0.06, ge=0, le=1, description="darkest mean luma", json_schema_extra=unit("0..1"))
    max_brightness: float = Field(0.95, ge=0, le=1, description="brightest mean luma", json_schema_extra=unit("0..1"))
    min_sharpness: float = Field(
        20.0, ge=0, description="least variance of the Laplacian", json_schema_extra=unit("squared levels of 255")
    )
    max_black_bars: float = Field(
        0.4, ge=0, le=1, description="most black border", json_schema_extra=unit("share of the picture")
    )


class ProbeSource(Stage[ProbeSourceConfig]):
    """Measures of a clip, Y being the luma (ITU-R BT.601, 0..1) of its pictures at working size.

    - `motion`, 0..1, more is more: mean over t of the share of pixels with |Y[t] - Y[t-d]| > 12/255, where d is the
      number of frames nearest to 0.2 s (at most the clip). A walker on a tripod shot has 0.01 to 0.1; camera movement
      counts as motion too.
    - `still_frames`, 0..1, less is better: share of frames t > 0 with mean |Y[t] - Y[t-1]| < 0.25/255.
    - `brightness`, 0..1: mean of Y over all pixels and frames.
    - `sharpness`, 0 and up, more is sharper: median over t of the variance of the 4-neighbour Laplacian of 255 Y
      (Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy", ICPR 2000). It depends on the content: a
      sharp film of a bare wall has little. Sharp everyday scenes have 800 to 1700; blurred with a sigma of 1.3 px at
      working size (8 px of 1920) they have 17 to 31. It tells what is out of focus, not the last bit of focus.
    - `black_bars`, 0..1, less is better: share of the picture outside the smallest rectangle that holds all rows and
      columns which are at any time brighter than 24/255 in more than 2 % of their pixels. An all black clip has 1.
    """

    Config = ProbeSourceConfig
    needs = ("source",)
    makes = ("motion", "still_frames", "brightness", "sharpness", "black_bars")

    def __call__(self, rows: Sequence[Row]) -> list[Row | Reject]:
        """Give the measures of each row, or a Reject with the first threshold that it breaks."""
        return [self._one(row["source"]) for row in rows]

    def _one(self, clip: Clip) -> Row | Reject:
        if clip.frames < self.config.min_frames:
            return Reject("too_short", f"{clip.frames} frames, wanted at least {self.config.min_frames}")
        sums = _Sums(step=max(1, min(round(MOTION_STEP_S * clip.fps), clip.frames - 1)))
        for chunk in clip.chunks():
            height, width = chunk.shape[1:3]
            if min(height, width) < self.config.min_size_px:
                wanted = f"wanted at least {self.config.min_size_px} px on the shorter side"
                return Reject("too_small", f"{width} x {height} px, {wanted}")
            for luma in lumas(chunk):
                sums.add(luma)
        row = sums.measures()
        return self._refused(row) or row

    def _refused(self, row: Row) -> Reject | None:
        """Darkness and black bars first: they explain a lack of motion or sharpness."""
        config = self.config
        rules = [
            ("too_dark", "brightness", row["brightness"] < config.min_brightness, "least", config.min_brightness),
            ("black_bars", "black_bars", row["black_bars"] > config.max_black_bars, "most", config.max_black_bars),
            ("too_bright", "brightness", row["brightness"] > config.max_brightness, "most", config.max_brightness),
            ("frozen", "still_frames", row["still_frames"] > config.max_still_frames, "most", config.max_still_frames),
            ("no_motion", "motion", row["motion"] < config.min_motion, "least", config.min_motion),
            ("blurred", "sharpness", row["sharpness"] < config.min_sharpness, "least", config.min_sharpness),
        ]
        for reason, measure, broken, bound, limit in rules:
            if broken:
                return Reject(reason, f"{measure} is {row[measure]:.4g}, wanted at {bound} {limit:g}")
        return None


@dataclass
class _Sums:
    """Measures of a stream of luma pictures, float32 [h, w] 0..1, `step` of which are held for comparison."""

    step: int
    count: int = 0
    held: list[NDArray[np.float32]] = field(default_factory=list)
    light: list[float] = field(default_factory=list)
    edges: list[float] = field(default_factory=list)
    changed: list[float] = field(default_factory=list)
    same: list[bool] = field(default_factory=list)
    rows: NDArray[np.bool_] | None = None  # [h], which were ever not black
    columns: NDArray[np.bool_] | None = None  # [w]

    def add(self, luma: NDArray[np.float32]) -> None:
        self.light.append(float(luma.mean()))
        self.edges.append(float(laplacian(255 * luma).var()))
        if self.held:
            self.same.append(float(np.abs(luma - self.held[-1]).mean()) < SAME)
        if len(self.held) == self.step:
            self.changed.append(float((np.abs(luma - self.held.pop(0)) > CHANGED).mean()))
        self.held.append(luma)
        lit = luma > BLACK
        rows, columns = lit.mean(axis=1) > 0.02, lit.mean(axis=0) > 0.02
        self.rows = rows if self.rows is None else self.rows | rows
        self.columns = columns if self.columns is None else self.columns | columns

    def measures(self) -> Row:
        assert self.rows is not None
        assert self.columns is not None
        kept = extent(self.rows) / len(self.rows) * extent(self.columns) / len(self.columns)
        return {
            "motion": float(np.mean(self.changed)) if self.changed else 0.0,
            "still_frames": float(np.mean(self.same)) if self.same else 0.0,
            "brightness": float(np.mean(self.light)),
            "sharpness": float(np.median(self.edges)),
            "black_bars": 1.0 - kept,
        }


def extent(inside: NDArray[np.bool_] | np.bool_) -> int:
    """Return the length from the first true value to the last, 0 if there is none."""
    found = np.flatnonzero(inside)
    return int(found[-1] - found[0] + 1) if len(found) else 0


def lumas(pixels: Pixels) -> Iterator[NDArray[np.float32]]:
    """Give each picture of uint8 [T, H, W, 3] as luma float32 [h, w], 0..1, at working size."""
    height, width = pixels.shape[1:3]
    scale = min(1.0, LONG_SIDE_PX / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    for picture in pixels:
        grey = Image.fromarray(picture).convert("L")  # 0.299 R + 0.587 G + 0.114 B
        small = grey if scale == 1 else grey.resize(size, Image.Resampling.BOX)
        yield np.asarray(small, np.float32) / np.float32(255)


def laplacian(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the sum of the four neighbours less four times the middle, [h - 2, w - 2]."""
    middle = picture[1:-1, 1:-1]
    return picture[:-2, 1:-1] + picture[2:, 1:-1] + picture[1:-1, :-2] + picture[1:-1, 2:] - 4 * middle


class ProbeCharacterConfig(StageConfig):
    """Thresholds of pictures; one beyond any of them is rejected."""

    min_size_px: int = Field(256, ge=1, description="shorter side after the crop", json_schema_extra=unit("px"))
    min_subject_share: float = Field(
        0.03, ge=0, le=1, description="smallest subject", json_schema_extra=unit("share of the picture")
    )
    plain_tolerance: int = Field(
        24, ge=0, le=255, description="a pixel this near to the border's median colour, in each channel, is background",
        json_schema_extra=unit("levels of 255"),
    )  # fmt: skip
    plain_border: float = Field(
        0.9, gt=0.5, le=1, description="a background is plain if so much of the top border and of the upper halves of "
        "the side borders is background", json_schema_extra=unit("share of the border"),
    )  # fmt: skip
    half_from: float = Field(
        1.35, gt=0, description="a person who is cut by the lower edge is seen half if height over width of what is "
        "seen is at least this, else as a portrait", json_schema_extra=unit("height / width"),
    )  # fmt: skip


class ProbeCharacter(Stage[ProbeCharacterConfig]):
    """Is there a subject, how large, and how is it framed: without a model, so only where that can be known.

    The foreground is the opaque part (alpha > 127) where the picture is transparent in at least 1 % of its pixels.
    Else, on a plain background, it is what differs from the border's median colour; specks are removed by a 3 x 3
    majority. On anything else (a scene, a gradient, a frame around the picture) all three are unknown, not guessed.

    - `subject_present`: true or null (unknown); without any foreground the picture is rejected.
    - `subject_share`, 0..1 or null: share of foreground pixels at working size.
    - `framing`: `full` if the foreground touches no edge of the picture; for domain `human`, if it touches the lower
      edge but not the upper: `half` or `portrait` by height over width of what is seen (a person of 7 heads, arms down,
      has about 1.7 to the hips and at most 1.2 to the chest), `portrait` if it also touches both sides; else `unknown`.

    Limits: several subjects count as one; a shadow or a floor is taken for a part of the subject; a subject in the
    colour of the background is not seen; raised arms make a half figure look like a portrait; knees-up counts as half;
    shoulders that reach both sides are not told from a floor on a plain background, only in a cut-out.
    A `domain` that is given must be one of `manifests.schema.DOMAINS`; what is seen is not compared with it.
    """

    Config = ProbeCharacterConfig
    needs = ("character", "domain")
    makes = ("subject_present", "subject_share", "framing")

    def __call__(self, rows: Sequence[Row]) -> list[Row | Reject]:
        """Give the measures of each row, or a Reject: unknown_domain, too_small, no_subject, small_subject."""
        return [self._one(row["character"], row["domain"]) for row in rows]

    def _one(self, character: Picture, domain: str | None) -> Row | Reject:
        if domain is not None and domain not in DOMAINS:
            return Reject("unknown_domain", f"the domain is {domain!r}, wanted one of {', '.join(DOMAINS)}, or none")
        pixels = character.rgba()
        height, width = pixels.shape[:2]
        if min(height, width) < self.config.min_size_px:
            wanted = f"wanted at least {self.config.min_size_px} px on the shorter side"
            return Reject("too_small", f"{width} x {height} px, {wanted}")
        subject = self._foreground(pixels)
        if subject is None:
            return {"subject_present": None, "subject_share": None, "framing": "unknown"}
        share = float(subject.mean())
        if share < self.config.min_subject_share:
            reason = "small_subject" if subject.any() else "no_subject"
            return Reject(
                reason, f"the subject has a share of {share:.4f}, wanted at least {self.config.min_subject_share:g}"
            )
        return {"subject_present": True, "subject_share": share, "framing": self._framing(subject, domain)}

    def _foreground(self, pixels: Pixels) -> NDArray[np.bool_] | None:
        """Return what is no background, bool [h, w] at working size, or None where that cannot be known."""
        height, width = pixels.shape[:2]
        scale = min(1.0, LONG_SIDE_PX / max(height, width))
        size = max(3, round(width * scale)), max(3, round(height * scale))
        if (pixels[..., 3] < 128).mean() >= 0.01:
            alpha = Image.fromarray(np.ascontiguousarray(pixels[..., 3])).resize(size, Image.Resampling.BOX)
            return majority(np.asarray(alpha) > 127)
        image = Image.fromarray(np.ascontiguousarray(pixels[..., :3])).resize(size, Image.Resampling.BOX)
        small = np.asarray(image, np.int16)
        half = small.shape[0] // 2
        # a subject may stand on the lower edge and, cut at the shoulders, reach the sides in their lower halves
        border = np.concatenate(
            [small[:2].reshape(-1, 3), small[:half, :2].reshape(-1, 3), small[:half, -2:].reshape(-1, 3)]
        )
        back = np.median(border, axis=0)
        if (np.abs(border - back).max(axis=-1) <= self.config.plain_tolerance).mean() < self.config.plain_border:
            return None
        subject = majority(np.abs(small - back).max(axis=-1) > self.config.plain_tolerance)
        return None if _is_scene(subject) else subject

    def _framing(self, subject: NDArray[np.bool_], domain: str | None) -> str:
        top, bottom, left, right = (
            bool(edge.any()) for edge in (subject[:2], subject[-2:], subject[:, :2], subject[:, -2:])
        )
        if not (top or bottom or left or right):
            return "full"
        if domain != "human" or top or not bottom or left != right:
            return "unknown"
        tall, wide = extent(subject.any(axis=1)), extent(subject.any(axis=0))
        if left and right:
            return "portrait" if tall / wide < self.config.half_from else "unknown"
        return "half" if tall / wide >= self.config.half_from else "portrait"


def _is_scene(subject: NDArray[np.bool_]) -> bool:
    """Say whether the foreground fills its box like a framed picture, or all the lower edge like a floor."""
    tall, wide = extent(subject.any(axis=1)), extent(subject.any(axis=0))
    fills = bool(subject.any()) and subject.sum() / (tall * wide) > 0.95 and tall * wide > subject.size / 4
    floor = bool(subject[-2:].mean() > 0.98) and bool(subject[-subject.shape[0] // 10 :].mean() > 0.98)
    return fills or floor


def majority(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return bool [h, w]: true where at least 5 of the 3 x 3 around are true; the edge counts itself again outside."""
    padded = np.pad(mask, 1, mode="edge").astype(np.uint8)
    rows = padded[:-2] + padded[1:-1] + padded[2:]
    found: NDArray[np.bool_] = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:] >= 5
    return found
