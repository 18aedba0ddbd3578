"""Origin words to part words: what was source, character, skeleton and pseudo becomes driving, reference and target.

This is the one file that translates. A sample of each kind holds:

    kind      driving.mp4          target.mp4   reference.png          skeleton.npy
    reverse   the pseudo video     the source   a frame of the source  of the source   (Eq. 4 of the method)
    forward   the source           the pseudo   the character          of the source
    self      -                    the source   a frame of the source  of the source, which drives (stage one)

and `json`, which says what it was made of. Films of sources are cut to exactly the segment's frames and encoded anew
with fixed settings; what is an artifact already is copied byte for byte. So equal samples have equal bytes.
"""

import hashlib
import io
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator

from manifests.files import files_of
from manifests.keys import sha256_of_file
from manifests.media import Clip, MediaError, Picture, Pixels, Video, write_mp4
from manifests.shards.index import CUT_NAME
from manifests.shards.plan import places_of
from manifests.store import Artifact, ArtifactDamaged, Store

VERSION: Final = 1  # raise it when the bytes of a sample change
Kind = Literal["reverse", "forward", "self"]
PREFIX: Final[dict[Kind, str]] = {"reverse": "", "forward": "fwd_", "self": ""}
_COMPRESSION: Final = 6  # of PNG: more costs much time for few bytes
_RATE_SLACK: Final = 1e-3  # share by which the rate of a pseudo video may differ from its source's


class PackConfig(BaseModel):
    """How kept pairs are cut into shards."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    cut: str = Field("main", description="name of the cut: its folder under ROOT/shards")
    kinds: tuple[Kind, ...] = Field(
        ("reverse",), min_length=1, description="reverse, forward, self: which samples; each kind has shards of its own"
    )
    samples_per_shard: int = Field(128, ge=1, le=100_000, description="samples in a shard, at most on average")
    reference_frame: Literal["first", "other"] = Field(
        "first", description="which frame of the source is the reference: the first, or another, chosen by the key"
    )

    HOW: ClassVar[frozenset[str]] = frozenset({"cut", "kinds", "samples_per_shard"})  # shape no sample's bytes

    @field_validator("cut")
    @classmethod
    def _is_a_folder(cls, name: str) -> str:
        if not CUT_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is no folder's name: wanted letters, digits, - and _, at most 64")
        return name

    @property
    def recipe(self) -> dict[str, Any]:
        """All of it that shapes the bytes of a sample."""
        return {"version": VERSION, "config": self.model_dump(mode="json", exclude=set(self.HOW))}


@dataclass(frozen=True)
class Origins:
    """One sample in words of origin, with all that is needed to make its files; `about` becomes its `json`."""

    kind: Kind
    key: str
    row: str
    digest: str
    source: Clip
    source_sha256: str | None
    skeleton: Artifact | None
    pseudo: Artifact | None
    character: Picture | None
    character_sha256: str | None
    about: Mapping[str, Any]


class Unfit(Exception):
    """A sample cannot be packed: `reason` is a short name, `address` that of the artifact that is to blame, if one."""

    def __init__(self, reason: str, detail: str, address: str | None = None) -> None:
        super().__init__(detail)
        self.reason, self.detail, self.address = reason, detail, address


class Packer:
    """Makes the files of samples; neighbours with one source share its film."""

    def __init__(self, root: str, reference_frame: Literal["first", "other"]) -> None:
        self._files, self._store = files_of(root), Store(root)
        self._reference_frame = reference_frame
        self._film: tuple[Clip, bytes, Pixels] | None = None  # of the source before
        self._checked: tuple[str, str] | None = None  # the file that was hashed last, and its SHA-256

    def parts(self, sample: Origins) -> list[tuple[str, bytes]]:
        """Return the files of a sample as (ending, bytes), in the order in which they stand in a tar.

        Raises:
            Unfit: an artifact or a file is missing or has changed, or the pseudo video does not fit its source.
        """
        film, frames = self._source(sample)
        reference: dict[str, Any] = {"of": "source", "frame": self._frame(sample)}
        picture = frames[reference["frame"]]
        if sample.kind == "forward":
            reference, picture = {"of": "character"}, self._character(sample)
        parts: list[tuple[str, bytes]]
        said: dict[str, Any] = {"target": "source", "reference": reference, "skeleton": "source"}
        if sample.kind != "self":
            pseudo, size_px = self._pseudo(sample)
            driving, target = (pseudo, film) if sample.kind == "reverse" else (film, pseudo)
            said |= {"driving": "pseudo", "pseudo_px": list(size_px)}
            if sample.kind == "forward":
                said |= {"driving": "source", "target": "pseudo"}
            parts = [("driving.mp4", driving), ("target.mp4", target)]
        else:
            said["driving"] = "skeleton"
            parts = [("target.mp4", film)]
        parts.append(("reference.png", _png(picture)))
        if sample.skeleton is not None:
            parts.append(("skeleton.npy", self.bytes_of(sample.skeleton)))
        about = {**sample.about, "key": sample.key, "kind": sample.kind, "parts": said}
        text = json.dumps(about, sort_keys=True, ensure_ascii=False, allow_nan=False)
        return [*parts, ("json", text.encode())]

    def check(self, sample: Origins) -> None:
        """Raise Unfit if an artifact of a sample is missing or has changed; no film is cut."""
        for artifact in (sample.skeleton, sample.pseudo):
            if artifact is not None:
                self.bytes_of(artifact)

    def bytes_of(self, artifact: Artifact) -> bytes:
        """Return an artifact's bytes as they lie there, checked."""
        try:
            data = self._files.read(artifact.address, artifact.bytes)
        except FileNotFoundError:
            raise Unfit("artifact_lost", f"artifact {artifact.address} is missing", artifact.address) from None
        if hashlib.sha256(data).hexdigest() != artifact.sha256:
            damaged = ArtifactDamaged(
                artifact.address, f"has changed: {len(data)} bytes, {artifact.bytes} were written"
            )
            raise Unfit("artifact_lost", str(damaged), artifact.address)
        return data

    def _source(self, sample: Origins) -> tuple[bytes, Pixels]:
        """Return the film of a source, as mp4, and its frames."""
        if self._film is None or self._film[0] != sample.source:
            self._film = None  # two at once would double the memory
            path = self._file(sample.source.path, sample.source_sha256)
            try:
                frames = Clip(**{**vars(sample.source), "path": path}).read()
            except MediaError as error:
                raise Unfit(error.reason, error.detail) from error
            with tempfile.TemporaryDirectory() as folder:
                mp4 = os.path.join(folder, "source.mp4")
                write_mp4(Video(frames, sample.source.fps), mp4)
                with open(mp4, "rb") as file:
                    self._film = sample.source, file.read(), frames
        return self._film[1:]

    def _file(self, place: str, sha256: str | None) -> str:
        """Return a path to a file of the manifest, if its bytes are those that were imported."""
        try:
            path = self._store.fetch(place)
            if self._checked is None or self._checked[0] != path:
                self._checked = path, sha256_of_file(path)
        except MediaError as error:
            raise Unfit(error.reason, error.detail) from error
        except FileNotFoundError as error:
            raise Unfit("missing", f"there is no file {place}; put it back, or forget its row") from error
        if sha256 is not None and self._checked[1] != sha256:
            raise Unfit("changed", f"{place} is not the file that was imported: put that back, or import this one anew")
        return path

    def _character(self, sample: Origins) -> Pixels:
        assert sample.character is not None
        path = self._file(sample.character.path, sample.character_sha256)
        try:
            return Picture(path, sample.character.crop).rgb()
        except MediaError as error:
            raise Unfit(error.reason, error.detail) from error

    def _pseudo(self, sample: Origins) -> tuple[bytes, tuple[int, int]]:
        """Return the pseudo video as it lies there, and its width and height, px."""
        import av

        assert sample.pseudo is not None
        data = self.bytes_of(sample.pseudo)
        try:
            with av.open(io.BytesIO(data), metadata_errors="replace") as file:
                stream = file.streams.video[0]
                frames, fps, size = stream.frames, float(stream.average_rate or 0), (stream.width, stream.height)
        except (av.error.FFmpegError, IndexError) as error:
            raise Unfit("pseudo_unreadable", f"{sample.pseudo.address} is no video ({error})") from error
        wanted = sample.source
        if frames != wanted.frames or abs(fps - wanted.fps) > _RATE_SLACK * wanted.fps:
            raise Unfit(
                "pseudo_does_not_fit",
                f"the pseudo video of {sample.row} has {frames} frames at {fps:.6g} a second, its source "
                f"{wanted.frames} at {wanted.fps:.6g}; the stage that renders must keep both",
            )
        return data, size

    def _frame(self, sample: Origins) -> int:
        """Return which frame of the source is the reference."""
        frames = sample.source.frames
        if self._reference_frame == "first" or frames == 1:
            return 0
        return 1 + int(places_of([f"reference {sample.key}"])[0] % np.uint64(frames - 1))


def _png(picture: Pixels) -> bytes:
    """Return uint8 [H, W, 3] as PNG without a clock."""
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(picture).save(out, "png", compress_level=_COMPRESSION)
    return out.getvalue()
