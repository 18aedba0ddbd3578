"""The bytes of a list's files: where they lie on this machine, their SHA-256, and what kept them from being read.

A file of a list stays where it is. What lies behind a URL is fetched once, to `<root>/downloads/<sha256>`, an address
by content, so that nothing changes under a run; it is published there only when it turned out to be usable.
"""

import contextlib
import os
import re
import shutil
import stat
import tempfile
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Final
from urllib.parse import urlsplit

from manifests.download import DownloadError, DownloadLimits, download
from manifests.entries import WEB, Entry
from manifests.errors import RootError, is_full
from manifests.files import files_of, root_of
from manifests.keys import sha256_of_file
from manifests.patience import errors_of_drivers, told
from manifests.remote import RemoteFiles
from manifests.rows import Found
from manifests.tables import Tables
from manifests.tombstones import REASON, refused

_PART: Final = ".part-"


@dataclass(frozen=True)
class Fetched:
    """What became of one place: either a file on this machine at `path`, or a reason."""

    path: str | None = None
    found: Found | None = None
    temporary: bool = False  # it was fetched, and goes unless it is published
    reject: str | None = None
    reject_detail: str | None = None

    def with_true_name(self, detail: str, location: str) -> str:
        """Return a sentence of a decoder with the file's temporary name replaced by where it came from."""
        return detail.replace(os.path.basename(self.path), location) if self.temporary and self.path else detail


class Fetcher:
    """Reads files and fetches URLs for the import into one root; safe to use from several threads."""

    def __init__(self, root: str, limits: DownloadLimits, allow_private_hosts: bool = False) -> None:
        self.root = root_of(root)
        self._limits, self._allow_private_hosts = limits, allow_private_hosts
        self._files = files_of(self.root)
        self._parts: str | None = None
        self._refused: frozenset[str] | None = None  # SHA-256 of files that were taken down
        self._lock = threading.Lock()

    def __enter__(self) -> "Fetcher":
        return self

    def __exit__(self, *_: object) -> None:
        if self._parts is not None:
            shutil.rmtree(self._parts, ignore_errors=True)

    def fetch(self, entry: Entry) -> Fetched:
        """Read the file of an entry, or fetch it if it lies behind a URL."""
        try:
            if entry.url is None:
                return self._read(entry.location)
            return self._download(entry)
        except DownloadError as error:
            return Fetched(reject=error.reason, reject_detail=error.detail)

    def unless_forgotten(self, fetched: Fetched) -> Fetched:
        """Return a file as it was fetched, or why it is refused: its bytes were taken down (`bodydouble forget`)."""
        if self._refused is None:
            self._refused = refused(Tables(self.root))
        if fetched.found is None or fetched.found.sha256 not in self._refused:
            return fetched
        self.drop(fetched)
        detail = "these bytes were taken down, and a tombstone keeps them out: see `manifest list --table tombstones`"
        return Fetched(reject=REASON, reject_detail=detail)

    def known(self, file: str, sha256: str, size: int) -> Fetched | None:
        """Return a file that an earlier import fetched, if it is still there (under a URL: its URL)."""
        if not (file.startswith(f"{self.root}/") and self.exists(file)):
            return None
        return Fetched(file, Found(file, sha256, size))

    def exists(self, file: str) -> bool:
        """Say whether the file of a row is still there."""
        if "://" not in file:
            return os.path.isfile(file)
        own = f"{self.root}/"
        return self._files.exists(file.removeprefix(own)) if file.startswith(own) else True

    def publish(self, fetched: Fetched) -> Found:
        """Put a fetched file at its address for good; a file of the list stays where it is."""
        assert fetched.found is not None
        if not fetched.temporary or fetched.path is None:
            return fetched.found
        name = fetched.found.file.removeprefix(f"{self.root}/")
        if self._files.exists(name):
            os.unlink(fetched.path)
        else:
            self._files.upload(Path(fetched.path), name)
        return fetched.found

    def drop(self, fetched: Fetched) -> None:
        """Remove a fetched file that is of no use."""
        if fetched.temporary and fetched.path is not None:
            Path(fetched.path).unlink(missing_ok=True)

    def _read(self, path: str) -> Fetched:
        try:
            about = os.stat(path)
            if not stat.S_ISREG(about.st_mode):
                return Fetched(reject="not_a_file", reject_detail=f"{path} is a folder or a device, wanted a file")
            if about.st_size > self._limits.max_bytes:
                return Fetched(
                    reject="too_large", reject_detail=_too_large(path, about.st_size, self._limits.max_bytes)
                )
            sha256 = sha256_of_file(path)
        except (FileNotFoundError, NotADirectoryError):
            return Fetched(reject="missing", reject_detail=f"there is no file {path}")
        except OSError as error:
            return Fetched(reject="unreadable", reject_detail=f"{path} cannot be read: {error.strerror}")
        return Fetched(path, Found(path, sha256, about.st_size))

    def _download(self, entry: Entry) -> Fetched:
        assert entry.url is not None
        part = os.path.join(self._folder(), _PART + uuid.uuid4().hex)
        if urlsplit(entry.url).scheme.lower() in WEB:
            size = download(entry.url, part, self._limits, allow_private_hosts=self._allow_private_hosts)
        else:
            size = self._copy(entry, part)
        sha256 = sha256_of_file(part)
        found = Found("", sha256, size, entry.location)
        suffix = PurePosixPath(urlsplit(entry.location).path).suffix.lower()
        name = sha256 + (suffix if re.fullmatch(r"\.[a-z0-9]{1,5}", suffix) else "")
        return Fetched(part, replace(found, file=f"{self.root}/downloads/{name}"), temporary=True)

    def _copy(self, entry: Entry, part: str) -> int:
        """Copy from an object store, with the same cap on the size as for a download."""
        shown, limit = entry.location, self._limits.max_bytes
        folder, _, name = (entry.url or "").rpartition("/")
        with _reasons(shown):
            files = RemoteFiles(folder)
            size = files.size_bytes(name)
            if size > limit:
                raise DownloadError("too_large", _too_large(shown, size, limit))
            files.download(name, Path(part))
        return size

    def _folder(self) -> str:
        """Return the folder for what is being fetched: beside the address on a local disk, so that a rename does it."""
        with self._lock:
            if self._parts is None:
                beside = f"{self.root}/downloads" if self._files.is_local else None
                if beside is not None:
                    os.makedirs(beside, exist_ok=True)
                self._parts = tempfile.mkdtemp(prefix=_PART, dir=beside)
            return self._parts


def clean(root: str) -> None:
    """Remove what an import that was killed left half-fetched; under the lease only. Stores never hold such."""
    if "://" in root_of(root):
        return
    for folder in Path(root_of(root), "downloads").glob(_PART + "*"):
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _reasons(shown: str) -> Iterator[None]:
    """Turn what a store says of one object into a reason; what goes wrong on this machine's disk is not caught here."""
    try:
        yield
    except FileNotFoundError as error:
        raise DownloadError("missing", f"there is no object {shown}") from error
    except RootError as error:
        if isinstance(error.__cause__, ImportError):
            raise DownloadError("no_driver", f"{shown} needs a package that is not installed: {error}") from error
        reason = "forbidden" if isinstance(error.__cause__, PermissionError) else "unreachable"
        raise DownloadError(reason, f"{shown} cannot be read: {error}") from error
    except errors_of_drivers() as error:
        if isinstance(error, OSError) and is_full(error):
            raise
        raise DownloadError("unreachable", f"{shown} cannot be read: {told(error)}") from error


def _too_large(place: str, size: int, limit: int) -> str:
    return f"{place} has {size} bytes, the limit is {limit}"
