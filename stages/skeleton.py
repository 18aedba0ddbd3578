"""Keypoints of every person: source to `skeleton`, float32 [T, P, 133, 3], the main person first (P_src of the method).

The stage finds the people now and then, follows them in between, decides who is who, and judges whether the result can
be used. What sees people and points is an adapter behind the protocol `PoseAdapter`.
"""

import functools
import importlib.util
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from manifests.keys import sha256_of_file
from model.skeleton import Pixels, Points
from stages import resolve
from stages.skeleton_people import Film, verdict
from stages.stage import Reject, Row, Stage, StageConfig
from stages.tracking import Box
from stages.weights import WeightsError, seal

ADAPTERS: Final = {
    "mediapipe": "stages.skeleton_mediapipe:MediaPipe",
    "dwpose": "stages.skeleton_dwpose:DWPose",
    "theatre": "stages.skeleton_theatre:TheatrePose",
}
_DWPOSE: Final = ("dwpose", ADAPTERS["dwpose"])
DWPOSE_WEIGHTS: Final = {  # what it is -> the fields that name the file and its SHA-256
    "detector": ("detector_weights", "detector_sha256"),
    "pose": ("pose_weights", "pose_sha256"),
}
_BATCH = 16  # frames handed to an adapter at once if people are looked for in every frame
_BLOCK = 4  # if not: frames until it is known whether somebody was lost
_WEIGHTS: Final = (  # of mediapipe 0.10.14, in its folder `modules`; the face model is named below
    "pose_detection/pose_detection.tflite",
    "pose_landmark/pose_landmark_full.tflite",
    "holistic_landmark/hand_recrop.tflite",
    "hand_landmark/hand_landmark_full.tflite",
)


class SkeletonConfig(StageConfig):
    """What to look for, and what is good enough. Shares are 0..1."""

    adapter: str = Field("mediapipe", description="name in ADAPTERS, or my_package.mine:Pose")
    max_people: int = Field(2, ge=1, le=16, description="people kept, the main one first")
    on_more_people: Literal["drop", "reject"] = Field("drop", description="what becomes of people beyond max_people")
    no_person: Literal["reject", "empty"] = Field("reject", description="without a person: reject, or give P = 0")
    min_person_share: float = Field(
        0.15, ge=0, le=1, description="long side of a person's box, as a share of the picture's long side"
    )
    min_person_px: int = Field(96, ge=0, description="long side of a person's box, px")
    min_score: float = Field(0.3, ge=0, le=1, description="score from which a point counts as seen")
    min_points: int = Field(8, ge=1, le=17, description="body points that must be seen for a person to be seen")
    min_seen_share: float = Field(0.8, ge=0, le=1, description="share of frames in which the main person must be seen")
    min_other_share: float = Field(0.3, ge=0, le=1, description="share of frames from which another person is kept")
    min_other_size: float = Field(
        0.6,
        ge=0,
        le=1,
        description="long side of another person's box / the main person's, from which that one is kept",
    )
    max_gap_s: float = Field(0.7, ge=0, description="a person unseen for longer is not looked for any more, s")
    detect_every: int = Field(
        12, ge=1, description="frames from one search for people to the next; sooner if one is lost"
    )
    mend_flips: bool = Field(True, description="put right frames in which left and right are exchanged for a moment")
    min_detection: float = Field(0.6, ge=0, le=1, description="score from which the detector's candidate is taken")
    tile_share: float = Field(
        0.6,
        ge=0,
        le=1,
        description="mediapipe: squares searched for small people: their side / the picture's short side; 0: none",
    )
    refine_face: bool = Field(True, description="mediapipe: the face model with attention to lips and eyes")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="dwpose: auto is cuda if onnxruntime offers it")
    detector_weights: str | None = Field(
        None, description="dwpose: YOLOX as ONNX: path, https URL or owner/repo/file.onnx@revision of the hub"
    )
    detector_sha256: str | None = Field(None, description="dwpose: its SHA-256; of a path, taken from the file")
    pose_weights: str | None = Field(None, description="dwpose: the points' graph (SimCC) as ONNX, likewise")
    pose_sha256: str | None = Field(None, description="dwpose: its SHA-256, likewise")

    # where weights lie, and what they run on, is no part of the key: `Skeleton.digests` says what they are
    HOW: ClassVar[frozenset[str]] = StageConfig.HOW | {"device", *(f for fs in DWPOSE_WEIGHTS.values() for f in fs)}

    @model_validator(mode="before")
    @classmethod
    def _seal_weights(cls, data: Any) -> Any:
        """Name the weights by their SHA-256, so that a worker elsewhere runs those that were planned with, or none."""
        if not isinstance(data, Mapping) or data.get("adapter") not in _DWPOSE:
            return data
        sealed = dict(data)
        for what, (place, sha256) in DWPOSE_WEIGHTS.items():
            given = data.get(place)
            if not given:
                raise WeightsError(
                    f"the pose adapter 'dwpose' needs {place}, the {what}'s ONNX file: none is shipped, for their "
                    "licence; the README says where they are had (yzd-v/DWPose on the hub)"
                )
            known = data.get(sha256)
            if isinstance(given, str) and isinstance(known, str | None):  # anything else is refused as a field
                sealed[sha256] = seal(given, known)
        return sealed


class CharacterSkeletonConfig(SkeletonConfig):
    """The same for a picture, which is one frame. Cartoons and animals need not have a human skeleton."""

    no_person: Literal["reject", "empty"] = Field("empty", description="without a person: reject, or give P = 0")
    max_people: int = Field(1, ge=1, le=16, description="people kept, the main one first")
    detect_every: int = Field(1, ge=1, description="a picture is one frame")


class PoseAdapter(Protocol):
    """What sees people. Frames are uint8 [N, H, W, 3] RGB, consecutive; coordinates are px of the whole picture."""

    def reset(self) -> None:
        """Forget everything: another clip begins."""

    def forget(self, track: int) -> None:
        """Forget what is remembered of one person."""

    def people(self, frames: Pixels) -> list[NDArray[np.float32]]:
        """Find the people of each frame on its own: N arrays [n, 5] = x0, y0, x1, y1 px, score 0..1."""

    def keypoints(self, frames: Pixels, boxes: Sequence[Mapping[int, Box]]) -> list[dict[int, Points]]:
        """Give the points of the people in `boxes` (track -> where the person is, or was a few frames ago).

        Returns for each frame track -> [133, 3]; a person who is not seen is left out; a point not seen is (0, 0, 0).
        """

    @classmethod
    def weights(cls, config: Any) -> list[Path]:
        """Return the files of weights that shape the result."""


def adapter_class(name: str) -> type[Any]:
    """Return the adapter's class for a name of the table, or for `my_package.mine:Pose`.

    Raises:
        ValueError: there is no such name, module or class, or a package that it needs is not installed.
    """
    if name not in ADAPTERS and ":" not in name:
        known = ", ".join(ADAPTERS)
        raise ValueError(f"no pose adapter {name!r}: there is {known}; or name one as my_package.mine:Pose")
    try:
        return resolve(ADAPTERS.get(name, name))  # type: ignore[no-any-return]
    except ValueError as error:
        if name not in ADAPTERS:
            raise
        raise ValueError(f"the pose adapter {name!r}: {error}; pip install 'bodydouble[{name}]'") from error


def mediapipe_weights(refine_face: bool) -> list[Path]:
    """Return the files of weights inside the installed package, found without importing it.

    Raises:
        ValueError: mediapipe is not installed, or is a version with other files.
    """
    spec = importlib.util.find_spec("mediapipe")
    if spec is None or spec.origin is None:
        raise ValueError("the pose adapter 'mediapipe' needs mediapipe==0.10.14: pip install 'bodydouble[mediapipe]'")
    face = "face_landmark/face_landmark_with_attention.tflite" if refine_face else "face_landmark/face_landmark.tflite"
    files = [Path(spec.origin).parent / "modules" / name for name in (*_WEIGHTS, face)]
    for file in files:
        if not file.is_file():
            raise ValueError(f"mediapipe has no {file}: wanted version 0.10.14; pip install 'bodydouble[mediapipe]'")
    return files


@functools.cache
def _sha256(path: Path) -> str:
    return sha256_of_file(path)


class Skeleton(Stage[SkeletonConfig]):
    """Source to skeleton."""

    Config: ClassVar[type[StageConfig]] = SkeletonConfig
    needs = ("source",)
    makes = ("skeleton", "boxes", "people", "seen_share", "mean_score", "person_px", "mended")

    def __init__(self, config: SkeletonConfig) -> None:
        super().__init__(config)
        self.adapter: PoseAdapter = adapter_class(config.adapter)(config)

    def __call__(self, rows: Sequence[Row]) -> list[Row | Reject]:
        """Give for each row:

        skeleton    float32 [T, P, 133, 3]: x px, y px, score; the main person (largest x longest) first
        boxes       float32 [T, P, 4]: x0, y0, x1, y1 px; zeros in frames where the person is not seen
        people      P
        seen_share  list of P: share of frames in which each is seen
        mean_score  list of P: mean score of the body points over the frames in which each is seen
        person_px   list of P: median long side of the box, px
        mended      list of P: frames in which left and right were exchanged, and were put right
        """
        return [self._one(self._blocks(row), row) for row in rows]

    @classmethod
    def digests(cls, config: Any) -> dict[str, str]:
        """Return file name -> SHA-256 of the adapter's weights; of dwpose, whose files may be named as one likes, what
        each is -> SHA-256."""
        if config.adapter in _DWPOSE:
            return {what: getattr(config, sha256) for what, (_, sha256) in DWPOSE_WEIGHTS.items()}
        known = config.adapter == "mediapipe"  # `plan` must not wait for its import
        files = mediapipe_weights(config.refine_face) if known else adapter_class(config.adapter).weights(config)
        return {file.name: _sha256(file) for file in files}

    def _blocks(self, row: Row) -> Iterator[Pixels]:
        every = self.config.detect_every
        return iter(row["source"].chunks(_BATCH if every == 1 else min(every, _BLOCK)))

    def _fps(self, row: Row) -> float:
        return float(row["source"].fps)

    def _one(self, blocks: Iterable[Pixels], row: Row) -> Row | Reject:
        max_gap = max(self.config.detect_every, round(self.config.max_gap_s * self._fps(row)))
        film = Film(self.config, self.adapter, max_gap)
        for block in blocks:
            film.take(block)
        return verdict(film, self.config)


class CharacterSkeleton(Skeleton):
    """Character to skeleton: a picture is a clip of one frame."""

    Config: ClassVar[type[StageConfig]] = CharacterSkeletonConfig
    needs = ("character",)

    def _blocks(self, row: Row) -> Iterator[Pixels]:
        yield row["character"].rgb()[None]

    def _fps(self, row: Row) -> float:  # noqa: ARG002 - a picture has no rate
        return 1.0
