"""A sample of a shard becomes a clip of the training's size, rate and length.

A clip is a window of T frames, the prefix among them, of the film at the backbone's rate: frame i of the film at that
rate is what the film shows at i / fps, as everywhere in the project. Where the window begins, how the driving video is
varied and which frame is the reference follow from (seed, number) alone. Every picture is brought to the model's size
by `Framing`: the whole of it, as large as fits, its edge continued; nothing of a body is cut off.

What a prompt names follows from the kind: that of a pair names the character and the source's motion, so it is the text
of a FORWARD sample. In the other kinds the target is the source, of whose look there is no text: theirs is the motion.
"""

import contextlib
import io
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from manifests.decoding import FileReader, MediaError
from manifests.errors import NoSpaceError, UserError, is_full
from manifests.media import Picture
from manifests.shards.plan import Bucket
from model.framing import Framing, framing_of
from model.geometry import Geometry
from model.pacing import frames_at
from model.skeleton import POINTS, Pixels, Points
from model.training.clips import Clip
from model.training.driving_video import DrivingAugment, Variation, drawn
from model.training.order import Mix, keyed
from model.training.shard_samples import BrokenSample, ShardSamples, Stored

VERSION: Final = "1"
"""Of how a clip is made of a sample: a new one makes all latents anew."""
TRIES: Final = 16  # substitutes that are tried for one broken sample
ReferenceFrame = Literal["first", "other"]


@dataclass(frozen=True)
class DrivenClip:
    """A clip that another video drives.

    Attributes:
        target: uint8 `[T, H, W, 3]` RGB, what is to be made.
        driving: uint8 `[T, H, W, 3]`, varied, not yet blanked.
        reference: uint8 `[H, W, 3]`.
        prompt: What is seen and what it does.
    """

    target: Pixels
    driving: Pixels
    reference: Pixels
    prompt: str


@dataclass(frozen=True)
class Window:
    """Which frames of a film a clip shows.

    Attributes:
        shown: int64 `[T]`, by their numbers in the film, never falling.
        reference: The one that is the reference.
    """

    shown: NDArray[np.int64]
    reference: int


@dataclass(frozen=True)
class Read:
    """A clip by its number, and what had to be passed over for it: a sentence for each broken sample."""

    clip: Clip | DrivenClip
    broken: tuple[str, ...] = ()


class AllBrokenError(UserError):
    """None of a broken sample's substitutes can be used either."""

    exit_code = 1


def window_of(bucket: Bucket, geometry: Geometry, reference: ReferenceFrame, rng: np.random.Generator) -> Window:
    """Draw a window of the film of a bucket: always two draws.

    `first` makes the window's first frame the reference. `other` takes one that the window does not show, or, of a film
    that has no more, one after the first.
    """
    on_screen = frames_at(bucket.frames, bucket.fps, geometry.fps)
    where, which = rng.random(2)
    start = int(where * (len(on_screen) - geometry.frames + 1))
    shown = on_screen[start : start + geometry.frames]
    if reference == "first":
        return Window(shown, int(shown[0]))
    others = np.setdiff1d(np.arange(bucket.frames), shown)
    others = others if len(others) else np.unique(shown)[1:]
    return Window(shown, int(others[int(which * len(others))]) if len(others) else int(shown[0]))


class ShardClips:
    """Clips of the samples of one or two kinds, by the numbers of a `Mix`; an object that travels.

    Args:
        main: Samples of the first kind: `reverse`, or `self`.
        aside: Samples of the second kind: `forward`.
        geometry: Size, frames and rate.
        seed: Of the draws.
        reference_frame: See `window_of`; the reference of a `forward` sample is always its character's picture.
        driving: How the driving video is varied; None: it is not.
    """

    def __init__(
        self,
        main: ShardSamples,
        aside: ShardSamples | None,
        geometry: Geometry,
        seed: int = 0,
        reference_frame: ReferenceFrame = "first",
        driving: DrivingAugment | None = None,
    ) -> None:
        self.main, self.aside, self.geometry, self.seed = main, aside, geometry, seed
        self.reference_frame, self.driving = reference_frame, driving
        of_aside = aside.shards if aside is not None else ()
        self.mix = Mix(len(main), sum(of_aside), shards=main.shards, aside_shards=of_aside)
        self.recipe: dict[str, Any] = {
            "version": VERSION, "main": main.digest, "aside": aside.digest if aside is not None else None, "seed": seed,
            "size": [geometry.height_px, geometry.width_px, geometry.frames], "fps": geometry.fps,
            "reference_frame": reference_frame, "driving": vars(driving) if driving is not None else None,
        }  # fmt: skip

    def __len__(self) -> int:
        return self.mix.main + self.mix.aside

    def read(self, number: int) -> Read:
        """Return the clip of a number, or, if its sample is broken, that of a substitute.

        Substitutes are other samples of the same kind, drawn by (seed, number) as well, each tried once.

        Raises:
            AllBrokenError: `TRIES` substitutes, or as many as there are, are broken too.
        """
        broken: list[str] = []
        for place in self._places(number):
            try:
                return Read(self._clip(number, place), tuple(broken))
            except BrokenSample as error:
                broken.append(str(error))
        raise AllBrokenError(
            f"a sample is broken, and so are {len(broken) - 1} others that were tried instead "
            f"({'; '.join(broken[:3])}); pack the cut again, or restore it from a copy"
        )

    def clip(self, number: int) -> Clip | DrivenClip:
        """Return the clip of a number; raise BrokenSample if its sample cannot be used."""
        return self._clip(number, number % len(self))

    def _places(self, number: int) -> Iterator[int]:
        place = number % len(self)
        yield place
        first, count = (0, self.mix.main) if place < self.mix.main else (self.mix.main, self.mix.aside)
        rng, tried = keyed(self.seed, "instead", number), {place}
        for _ in range(min(TRIES, count - 1)):
            place = first + int(rng.random() * count)
            while place in tried:
                place = first + (place + 1 - first) % count
            tried.add(place)
            yield place

    def _clip(self, number: int, place: int) -> Clip | DrivenClip:
        samples, place = (self.main, place) if place < self.mix.main else (self.aside, place - self.mix.main)
        assert samples is not None
        rng, kind = keyed(self.seed, "clip", number), samples.kind
        stored = samples.read(place, _ENDINGS[kind])
        window = window_of(stored.bucket, self.geometry, "first" if kind == "self" else self.reference_frame, rng)
        if kind == "self":
            return self._self_driven(stored, window)
        variation = drawn(self.driving, rng) if self.driving is not None else Variation()
        return self._driven(stored, window, variation, kind == "forward")

    def _self_driven(self, stored: Stored, window: Window) -> Clip:
        points, (frames, _) = _points(stored), _film(stored, "target.mp4", window)
        framing = self._framing(frames)
        fitted = np.stack([framing.fitted(frame) for frame in frames])
        skeleton = framing.points(points[window.shown], *frames.shape[1:3]).astype(np.float32)
        return Clip(fitted, skeleton, np.ones(fitted.shape[:3], bool), _motion(stored))

    def _driven(self, stored: Stored, window: Window, variation: Variation, forward: bool) -> DrivenClip:
        frames, frame = _film(stored, "target.mp4", window)
        driving, _ = _film(stored, "driving.mp4", window)
        picture = _picture(stored) if forward else frame
        prompt = str(stored.about.get("prompt") or "") if forward else _motion(stored)
        height, width = self.geometry.height_px, self.geometry.width_px
        return DrivenClip(
            Variation().framed(frames, height, width), variation.framed(driving, height, width),
            self._framing(picture[None]).fitted(picture), prompt,
        )  # fmt: skip

    def _framing(self, frames: Pixels) -> Framing:
        return framing_of(frames[0], self.geometry.height_px, self.geometry.width_px)


_ENDINGS: Final = {
    "self": ("target.mp4", "skeleton.npy"),
    "reverse": ("target.mp4", "driving.mp4"),
    "forward": ("target.mp4", "driving.mp4", "reference.png"),
}


def _film(stored: Stored, ending: str, window: Window) -> tuple[Pixels, Pixels]:
    """Return what a window shows of one of a sample's films, uint8 `[T, h, w, 3]`, and its reference, `[h, w, 3]`."""

    def read(path: str) -> tuple[Pixels, Pixels]:
        reader = FileReader(path)
        if len(reader.times_s) != stored.bucket.frames:
            raise MediaError("damaged", f"has {len(reader.times_s)} frames, its shard says {stored.bucket.frames}")
        wanted, places = np.unique([*window.shown, window.reference], return_inverse=True)
        pictures = reader.frames(wanted)[places]
        return pictures[:-1], pictures[-1]

    with _as_file(stored, ending) as path:
        return _tried(stored, ending, lambda: read(path), path)


def _picture(stored: Stored) -> Pixels:
    with _as_file(stored, "reference.png") as path:
        return _tried(stored, "reference.png", Picture(path).rgb, path)


@contextlib.contextmanager
def _as_file(stored: Stored, ending: str) -> Iterator[str]:
    """Give the path of one of a sample's files, since decoders read nothing else; it is named as in the sample."""
    with tempfile.TemporaryDirectory(prefix="bodydouble-sample-") as folder:
        path = Path(folder, ending)
        try:
            path.write_bytes(stored.files[ending])
        except OSError as error:
            if is_full(error):  # of this machine, and no fault of the sample
                raise NoSpaceError(tempfile.gettempdir()) from error
            raise
        yield str(path)


def _points(stored: Stored) -> Points:
    def read() -> Points:
        points: Points = np.load(io.BytesIO(stored.files["skeleton.npy"]), allow_pickle=False)
        if points.ndim != 4 or points.shape[2:] != (POINTS, 3) or len(points) != stored.bucket.frames:
            raise ValueError(f"it is {list(points.shape)}, wanted [{stored.bucket.frames}, P, {POINTS}, 3]")
        if not points.shape[1] or not np.isfinite(points).all():
            raise ValueError("it shows nobody" if not points.shape[1] else "it holds values that are no finite numbers")
        return points.astype(np.float32)

    return _tried(stored, "skeleton.npy", read)


T = TypeVar("T")


def _tried(stored: Stored, ending: str, read: Callable[[], T], path: str = "") -> T:
    """Return what `read` makes of one of a sample's files; if it fails it says so in the same words each time, without
    the folder of `path`."""
    try:
        return read()
    except (MediaError, ValueError, EOFError) as error:
        detail = error.detail if isinstance(error, MediaError) else str(error)
        said = " ".join(detail.split()).replace(f"{os.path.dirname(path)}/", "") if path else " ".join(detail.split())
        raise BrokenSample(stored.name, f"{ending}: {said}") from error


def _motion(stored: Stored) -> str:
    return str((stored.about.get("texts") or {}).get("motion_text") or "")
