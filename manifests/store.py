"""Artifacts by key, on any fsspec URL.

An artifact is written under a temporary name and then published at the address of its key in one step, so a reader
finds it whole or not at all. Beside the artifacts of an item, and after them, goes a record `<key>.json` with all that
the ledger will say of it: an item with a record whose files are whole is adopted, not made again.
"""

import hashlib
import io
import json
import re
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from manifests.cache import Cache, CacheDamaged
from manifests.files import PART, Files, files_of, root_of
from manifests.media import MediaError, Video, read_mp4, write_mp4


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
    """The artifacts under one root; what is read from a root that is a URL is kept in a cache on this machine."""

    def __init__(self, root: str, cache: str | None = None) -> None:
        self.root = root_of(root)
        self._files = files_of(self.root)
        self._cache = Cache(cache)
        self._elsewhere: dict[str, Files] = {}  # folders of files that are not under this root

    def put(self, stage: str, key: str, column: str, value: object) -> Artifact:
        """Publish an array (`.npy`) or a video (`.mp4`) at the address of its key.

        Raises:
            TypeError: neither an array nor a video.
            OSError: the disk is full.
            StoreDown: the store does not answer (manifests/patience.py); so in all that follows.
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
            signed = json.loads(self._files.read(_address(stage, key, "json")))
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
            page: dict[str, Any] = json.loads(self._files.read(name))
        except (FileNotFoundError, ValueError):
            return None
        return page

    def verify(self, artifact: Artifact) -> None:
        """Raise ArtifactDamaged if an artifact is missing or changed; the root itself is asked, not the cache."""
        self._read(artifact)

    def get(self, artifact: Artifact) -> Any:
        """Return an artifact as it was handed to `put`, its bytes checked.

        Raises:
            ArtifactDamaged: it is missing or changed.
        """
        data = self._read(artifact) if self._files.is_local else self._cached(artifact)
        if artifact.address.endswith(".npy"):
            return np.load(io.BytesIO(data), allow_pickle=False)
        with tempfile.NamedTemporaryFile(suffix=".mp4") as file:
            file.write(data)
            file.flush()
            return read_mp4(file.name)

    def fetch(self, url: str) -> str:
        """Return a path on this machine for a file of a manifest, copying it into the cache if it lies elsewhere.

        Raises:
            MediaError: there is no such file any more, or its bytes are not those that its name says.
        """
        if "://" not in url:
            return url
        folder, _, name = url.rpartition("/")
        stem = Path(urlsplit(url).path).stem
        known = stem if folder == f"{self.root}/downloads" and re.fullmatch(r"[0-9a-f]{64}", stem) else None
        if folder not in self._elsewhere:
            self._elsewhere[folder] = files_of(folder)
        files = self._elsewhere[folder]
        try:
            return str(self._cache.path_of(url, lambda part: files.download(name, part), known))
        except FileNotFoundError as error:
            raise MediaError("missing", f"there is no file {url!r}") from error
        except CacheDamaged as error:
            raise MediaError("damaged", f"{url} is damaged: {error}") from error

    def remove_leftovers(self) -> int:
        """Remove temporary files that killed workers left behind; only under the lease. Returns how many.

        Object stores publish in one step: nothing that has a name is ever left there. Parts of multipart uploads that
        were broken off are seen by no reader either, but are paid for: a lifecycle rule of the bucket
        (AbortIncompleteMultipartUpload) clears them away, which is not this program's matter.
        """
        if not self._files.is_local:
            return 0
        leftovers = list(Path(self.root).glob(f"artifacts/*/*/*{PART}"))
        for path in leftovers:
            path.unlink(missing_ok=True)
        return len(leftovers)

    def _read(self, artifact: Artifact) -> bytes:
        try:
            data = self._files.read(artifact.address, artifact.bytes)
        except FileNotFoundError:
            raise ArtifactDamaged(artifact.address, "is missing") from None
        if hashlib.sha256(data).hexdigest() != artifact.sha256:
            raise ArtifactDamaged(artifact.address, f"has changed: {len(data)} bytes, {artifact.bytes} were written")
        return data

    def _cached(self, artifact: Artifact) -> bytes:
        def fetch(part: Path) -> None:
            part.write_bytes(self._read(artifact))

        for _ in range(2):
            try:
                path = self._cache.path_of(f"{self.root}/{artifact.address}", fetch, artifact.sha256)
                data = path.read_bytes()
            except (FileNotFoundError, CacheDamaged):
                continue  # somebody cleared or changed the cache this very moment
            if hashlib.sha256(data).hexdigest() == artifact.sha256:
                return data
            self._cache.drop(path)
        return self._read(artifact)

    def _publish_bytes(self, address: str, column: str, data: bytes) -> Artifact:
        self._files.write(address, data)
        return Artifact(column, address, hashlib.sha256(data).hexdigest(), len(data))


def _address(stage: str, key: str, ending: str) -> str:
    return f"artifacts/{stage}/{key[:2]}/{key}.{ending}"


def _digest_of(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def as_record(artifact: Artifact) -> dict[str, Any]:
    """Return an artifact as the ledger and records write it."""
    return asdict(artifact)
