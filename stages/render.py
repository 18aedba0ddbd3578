"""Skeleton and character to pseudo video: V_o = M_pose(P_src, I_o), Eq. 3 of the method.

A teacher is a backbone (`model/backbone.py`: `tiny`, `wan-i2v`, or `my_package.mine:Backbone`) with weights. The pseudo
video has exactly the source's frames and rate: the skeleton is followed at the teacher's rate, in windows where it is
longer than one, and what was on screen then is shown. Rows of one length and size go through the teacher together.
"""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from manifests.errors import UserError
from manifests.keys import digest
from manifests.media import Video
from manifests.synthetic import comment_of
from stages.reference_figures import ReferenceFigures
from stages.stage import Reject, Row, Stage, StageConfig

_FLAT_LEVELS = 1.0  # a video whose levels deviate by less shows nothing


class RenderError(UserError):
    """What the teacher made shows nothing; the row is quarantined under this name."""


class RenderConfig(StageConfig):
    """Which teacher draws, and how."""

    batch_size: int = Field(8, ge=1, description="pairs drawn together, where length and size agree")
    timeout_s: float = Field(3600.0, gt=0, le=1e6, description="seconds for a row, on average over its batch")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, ...")
    teacher: str = Field("tiny", description="a backbone: tiny, wan-i2v, or my_package.mine:Backbone")
    weights: str | None = Field(None, description="folder of its weights, in diffusers' layout; null: those that ship")
    weights_digest: str | None = Field(None, description="theirs, if reading them for each plan would take too long")
    loras: tuple[str, ...] = Field((), description="files or folders of LoRAs, laid over the weights in this order")
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="auto: bf16 on cuda, fp32 on a CPU")
    size_px: tuple[int, int] | None = Field(None, description="width and height that are drawn; null: the teacher's")
    window_frames: int | None = Field(None, ge=1, description="frames drawn at once; null: the teacher's")
    people: int = Field(1, ge=1, description="how many of the source's people drive, the main one first")
    character_pose: str = Field("mediapipe", description="what finds the figure in a picture, if the teacher aligns")
    steps: int = Field(30, ge=1, description="of the sampler")
    text_guidance: float = Field(1.0, ge=0, description="away from an empty prompt; 1 is off")
    driving_guidance: float = Field(1.0, ge=0, description="away from a blank driving video; 1 is off")

    HOW: ClassVar[frozenset[str]] = StageConfig.HOW | {"device", "weights", "weights_digest", "loras"}  # their digests


@dataclass(frozen=True)
class _Drawing:
    """One row, ready to be drawn."""

    row: int
    geometry: Any
    framing: Any
    reference: Any  # uint8 [H, W, 3]
    driving: Any  # uint8 [N, H, W, 3], at the teacher's rate

    @property
    def shape(self) -> tuple[Any, int]:
        return self.geometry, len(self.driving)


class Render(Stage[RenderConfig]):
    """Pairs to pseudo videos, by a teacher."""

    Config: ClassVar[type[StageConfig]] = RenderConfig
    needs = ("source", "character", "skeleton", "prompt", "key")
    makes = ("pseudo", "seed")
    version = 2

    def __init__(self, config: RenderConfig) -> None:
        """Load the teacher.

        Raises:
            UserError: there are no such weights, LoRAs or device.
        """
        super().__init__(config)
        from model.loading import loaded
        from model.sampler import Guidance

        loras = [Path(path) for path in config.loras]
        self.teacher = loaded(config.teacher, _weights(config), loras, config.device, config.precision)
        self.guidance = Guidance(config.text_guidance, config.driving_guidance)
        self.figures = None
        if self.teacher.spec.placement == "aligned":
            self.figures = ReferenceFigures(config.character_pose, config.people)

    def __call__(self, rows: Sequence[Row]) -> list[Row | Reject]:
        """Give for each row:

        pseudo   video of the character, with the frames and the rate of the source, framed as its picture
        seed     whole number from the row's key: all noise follows from it

        Or a Reject: no_person, if the skeleton has nobody; too_short, if it is less than two frames at the teacher's
        rate.

        Raises:
            SamplerError: what is drawn is no number any more.
            RenderError: what was drawn shows nothing.
        """
        made: dict[int, Row | Reject] = {}
        together: dict[Any, list[_Drawing]] = defaultdict(list)
        for number, row in enumerate(rows):
            drawing = self._prepared(number, row)
            if isinstance(drawing, Reject):
                made[number] = drawing
            else:
                together[drawing.shape].append(drawing)
        for drawings in together.values():
            videos = self._drawn(drawings, rows)
            made |= {
                each.row: self._row(each, video, rows[each.row]) for each, video in zip(drawings, videos, strict=True)
            }
        return [made[number] for number in range(len(rows))]

    @classmethod
    def digests(cls, config: Any) -> dict[str, str]:
        """Return digests of the teacher's weights and of each LoRA.

        Raises:
            UserError: there are none.
        """
        found = {"teacher": config.weights_digest or _digest_of(_weights(config))}
        return found | {f"lora{n}": _digest_of(Path(path)) for n, path in enumerate(config.loras)}

    def _prepared(self, number: int, row: Row) -> "_Drawing | Reject":
        from model.framing import framing_of
        from model.pacing import paced
        from model.training.examples import driving_frames

        people = row["skeleton"][:, : self.config.people]
        if not (people.size and (people[..., 2] > 0).any()):
            return Reject("no_person", "the skeleton has nobody to follow")
        spec = self.teacher.spec
        skeleton = paced(people, row["source"].fps, spec.fps)
        if len(skeleton) < 2:
            return Reject(
                "too_short", f"{len(people)} frames are {len(skeleton)} at the teacher's {spec.fps:g} a second"
            )
        picture = row["character"].rgb()
        width, height = self.config.size_px or (spec.width_px, spec.height_px)
        if (
            self.config.size_px is None
            and width != height
            and (picture.shape[0] > picture.shape[1]) != (height > width)
        ):
            width, height = height, width
        geometry = self.teacher.geometry(height, width, self.config.window_frames or spec.frames)
        framing = framing_of(picture, height, width)
        stands = self.figures(row["character"], framing) if self.figures else None
        driving = driving_frames(skeleton, geometry, stands)
        return _Drawing(number, geometry, framing, framing.fitted(picture), driving)

    def _drawn(self, drawings: Sequence[_Drawing], rows: Sequence[Row]) -> Any:
        """Return uint8 `[B, N, H, W, 3]`: rows of one geometry and length, drawn together."""
        from model.windows import animate_windows

        blocks = animate_windows(
            self.teacher, drawings[0].geometry, np.stack([each.reference for each in drawings]),
            np.stack([each.driving for each in drawings]), [rows[each.row]["prompt"] for each in drawings],
            seeds=[seed_of(rows[each.row]["key"]) for each in drawings], steps=self.config.steps,
            guidance=self.guidance,
        )  # fmt: skip
        return np.concatenate(list(blocks), axis=1)

    def _row(self, drawing: _Drawing, frames: Any, row: Row) -> Row:
        from model.pacing import shown

        source, cut = row["source"], drawing.framing.cut(frames)
        if cut.std() < _FLAT_LEVELS:
            raise RenderError(f"all {len(cut)} frames have one colour, {cut.mean():.0f} of 255: look at the weights")
        at = shown(len(cut), self.teacher.spec.fps, source.frames, source.fps)
        about = {
            "made_by": "bodydouble render", "teacher": self.config.teacher, "digest": self.teacher.digest,
            "key": row["key"], "seed": seed_of(row["key"]), "steps": self.config.steps, "prompt": row["prompt"],
        }  # fmt: skip
        return {"pseudo": Video(cut[at], source.fps, comment_of(about)), "seed": seed_of(row["key"])}


def seed_of(key: str) -> int:
    """Return the seed of a row, from 0 to 2^52 - 1, which JSON holds exactly."""
    return int(key[:13], 16)


def _weights(config: RenderConfig) -> Path:
    from model.loading import weights_of

    return weights_of(config.teacher, None if config.weights is None else Path(config.weights))


@cache
def _digest_of(place: Path) -> str:
    """Return the digest of a file, or of all files of a folder by their names, read once a process."""
    files = sorted(path for path in place.rglob("*") if path.is_file()) if place.is_dir() else [place]
    if not files or not files[0].exists():
        return digest(str(place))  # of a backbone from elsewhere, which knows no files
    sums = {}
    for path in files:
        with open(path, "rb") as file:
            sums[str(path.relative_to(place) if path != place else path.name)] = hashlib.file_digest(
                file, "sha256"
            ).hexdigest()
    return digest(sums)
