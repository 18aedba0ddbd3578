"""Artifacts by key, on any fsspec URL.

An artifact is written under a temporary name and then published at the address of its key in one step, so a reader
finds it whole or not at all. Beside the artifacts of an item, and after them, goes a record `<key>.json` with all that
the ledger will say of it: an item with a record whose files are whole is adopted, not made again.
"""

import contextlib
import hashlib
import io
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import fsspec
import numpy as np

from manifests.media import Video, read_mp4, write_mp4
from manifests.tables import root_of


@dataclass(frozen=True)
class Artifact:
    """A file at the address of its key; the fields are those of `schema.ARTIFACT`."""

    column: str
    address: str
    sha256: str
    bytes: int


class ArtifactDamaged(Exception):
    """An artifact is missing or its bytes are not those that were written."""

    def __init__(self, address: str, what: str) -> None:
        super().__init__(f"artifact {address} {what}")
        self.address = address


class Store:
    """The artifacts under one root."""

    def __init__(self, root: str, cache: str | None = None) -> None:
        self.root = root_of(root)
        self._fs, self._base = fsspec.core.url_to_fs(self.root, use_listings_cache=False)
        self._is_local = "file" in self._fs.protocol
        self._cache = Path(cache or os.path.join(tempfile.gettempdir(), f"bodydouble-cache-{os.getuid()}"))

    def put(self, stage: str, key: str, column: str, value: object) -> Artifact:
        """Publish an array (`.npy`) or a video (`.mp4`) at the address of its key.

        Raises:
            TypeError: neither an array nor a video.
            OSError: the disk is full, or the store does not answer.
        """
        if isinstance(value, np.ndarray):
            buffer = io.BytesIO()
            np.save(buffer, value, allow_pickle=False)
            return self._publish_bytes(_address(stage, key, f"{column}.npy"), column, buffer.getvalue())
        if isinstance(value, Video):
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "video.mp4"
                write_mp4(value, str(path))
                return self._publish_bytes(_address(stage, key, f"{column}.mp4"), column, path.read_bytes())
        raise TypeError(f"column {column} holds a {type(value).__name__}; an artifact is a numpy array or a Video")

    def put_record(self, stage: str, key: str, record: Mapping[str, Any]) -> None:
        """Publish what the ledger will say of an item whose artifacts are all published."""
        signed = {"sha256": _digest_of(record), "record": record}
        self._publish_bytes(_address(stage, key, "json"), "", json.dumps(signed, sort_keys=True).encode())

    def record(self, stage: str, key: str) -> dict[str, Any] | None:
        """Return the record of an item if all its artifacts are whole, else None."""
        try:
            signed = json.loads(self._fs.cat_file(f"{self._base}/{_address(stage, key, 'json')}"))
            record: dict[str, Any] = signed["record"]
            if signed["sha256"] != _digest_of(record):
                return None
            for artifact in record["artifacts"]:
                self.verify(Artifact(**artifact))
        except (FileNotFoundError, ValueError, KeyError, TypeError, ArtifactDamaged):
            return None  # never written, or damaged in whatever way: then the item is made again
        return record

    def put_page(self, name: str, page: Mapping[str, Any]) -> None:
        """Write a page of JSON under the root, for people and programs to read later."""
        self._publish_bytes(name, "", json.dumps(page, sort_keys=True, indent=2).encode())

    def page(self, name: str) -> dict[str, Any] | None:
        """Return a page that `put_page` wrote, or None."""
        try:
            page: dict[str, Any] = json.loads(self._fs.cat_file(f"{self._base}/{name}"))
        except (FileNotFoundError, ValueError):
            return None
        return page

    def verify(self, artifact: Artifact) -> None:
        """Raise ArtifactDamaged if an artifact is missing or changed."""
        self._bytes(artifact)

    def get(self, artifact: Artifact) -> Any:
        """Return an artifact as it was handed to `put`, its bytes checked.

        Raises:
            ArtifactDamaged: it is missing or changed.
        """
        data = self._bytes(artifact)
        if artifact.address.endswith(".npy"):
            return np.load(io.BytesIO(data), allow_pickle=False)
        with tempfile.NamedTemporaryFile(suffix=".mp4") as file:
            file.write(data)
            file.flush()
            return read_mp4(file.name)

    def fetch(self, url: str) -> str:
        """Return a path on this machine for a file of a manifest, copying it into the cache if it lies elsewhere."""
        if "://" not in url:
            return url
        path = self._cache / (hashlib.sha256(url.encode()).hexdigest()[:32] + Path(url).suffix)
        if not path.exists():
            self._cache.mkdir(parents=True, exist_ok=True)
            part = path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")
            with fsspec.open(url, "rb") as remote, open(part, "wb") as local:
                shutil.copyfileobj(remote, local)
            os.replace(part, path)
        return str(path)

    def remove_leftovers(self) -> int:
        """Remove temporary files that killed workers left behind; only under the lease. Returns how many."""
        if not self._is_local:
            return 0  # object stores publish in one step: there is nothing to be left
        leftovers = list(Path(self._base).glob("artifacts/*/*/*.part"))
        for path in leftovers:
            path.unlink(missing_ok=True)
        return len(leftovers)

    def _bytes(self, artifact: Artifact) -> bytes:
        try:
            data: bytes = self._fs.cat_file(f"{self._base}/{artifact.address}")
        except FileNotFoundError:
            raise ArtifactDamaged(artifact.address, "is missing") from None
        if hashlib.sha256(data).hexdigest() != artifact.sha256:
            raise ArtifactDamaged(artifact.address, f"has changed: {len(data)} bytes, {artifact.bytes} were written")
        return data

    def _publish_bytes(self, address: str, column: str, data: bytes) -> Artifact:
        path = f"{self._base}/{address}"
        if self._is_local:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            part = f"{path}.{uuid.uuid4().hex}.part"
            try:
                Path(part).write_bytes(data)
                os.replace(part, path)
            except OSError:
                with contextlib.suppress(OSError):
                    os.unlink(part)
                raise
        else:
            self._fs.pipe_file(path, data)
        return Artifact(column, address, hashlib.sha256(data).hexdigest(), len(data))


def _address(stage: str, key: str, ending: str) -> str:
    return f"artifacts/{stage}/{key[:2]}/{key}.{ending}"


def _digest_of(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def as_record(artifact: Artifact) -> dict[str, Any]:
    """Return an artifact as the ledger and records write it."""
    return asdict(artifact)
