"""The bytes of a list's files: where they lie on this machine, their SHA-256, and what kept them from being read.

A file of a list stays where it is. What lies behind a URL is fetched once, to `<root>/downloads/<sha256>`, an address
by content, so that nothing changes under a run; it is published there only when it turned out to be usable.
"""

import contextlib
import errno
import os
import re
import shutil
import stat
import sys
import tempfile
import threading
import uuid
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, Final
from urllib.parse import urlsplit

import fsspec

from manifests.download import DownloadError, DownloadLimits, download
from manifests.entries import WEB, Entry
from manifests.keys import sha256_of_file
from manifests.rows import Found
from manifests.tables import root_of

_CHUNK_BYTES: Final = 1 << 20
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
        self._fs, base = fsspec.core.url_to_fs(self.root, use_listings_cache=False)
        self._is_local = "file" in self._fs.protocol
        self._base = f"{base}/downloads"
        self._parts: str | None = None
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

    def known(self, file: str, sha256: str, size: int) -> Fetched | None:
        """Return a file that an earlier import fetched, if it is still there and can be read on this machine."""
        if "://" in file or not os.path.isfile(file):
            return None
        return Fetched(file, Found(file, sha256, size))

    def exists(self, file: str) -> bool:
        """Say whether the file of a row is still there."""
        if "://" not in file:
            return os.path.isfile(file)
        return bool(self._fs.exists(file)) if file.startswith(self.root) else True

    def publish(self, fetched: Fetched) -> Found:
        """Put a fetched file at its address for good; a file of the list stays where it is."""
        assert fetched.found is not None
        if not fetched.temporary or fetched.path is None:
            return fetched.found
        place = self._place(fetched.found)
        if self._fs.exists(place):
            os.unlink(fetched.path)
        elif self._is_local:
            os.replace(fetched.path, place)
        else:
            self._fs.put_file(fetched.path, place)
            os.unlink(fetched.path)
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
        shown, limit, size = entry.location, self._limits.max_bytes, 0
        try:
            with _opened(entry.url) as far, open(part, "wb") as near:
                while piece := far.read(_CHUNK_BYTES):
                    size += near.write(piece)
                    if size > limit:
                        raise DownloadError("too_large", _too_large(shown, size, limit))
        except DownloadError:
            Path(part).unlink(missing_ok=True)
            raise
        return size

    def _folder(self) -> str:
        """Return the folder for what is being fetched: beside the address on a local disk, so that a rename does it."""
        with self._lock:
            if self._parts is None:
                if self._is_local:
                    os.makedirs(self._base, exist_ok=True)
                self._parts = tempfile.mkdtemp(prefix=_PART, dir=self._base if self._is_local else None)
            return self._parts

    def _place(self, found: Found) -> str:
        return f"{self._base}/{found.file.rpartition('/')[2]}"


def clean(root: str) -> None:
    """Remove what an import that was killed left half-fetched; under the lease only."""
    for folder in Path(root_of(root), "downloads").glob(_PART + "*"):
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _opened(url: str | None) -> Any:
    """Open an object; what its driver raises becomes a reason."""
    shown = str(url).rpartition("@")[2]
    try:
        with fsspec.open(url, "rb") as file:
            yield file
    except FileNotFoundError as error:
        raise DownloadError("missing", f"there is no object {shown}") from error
    except PermissionError as error:
        raise DownloadError("forbidden", f"{shown} may not be read with the credentials of this machine") from error
    except ImportError as error:
        raise DownloadError("no_driver", f"{shown} needs a package that is not installed: {error}") from error
    except _errors_of_drivers() as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DownloadError("unreachable", f"{shown} cannot be read: {str(error).splitlines()[:1]}") from error


def _errors_of_drivers() -> tuple[type[Exception], ...]:
    """Return what an object store may raise; with the bases of what s3fs, gcsfs and adlfs let through, if loaded."""
    names = (
        ("botocore.exceptions", "BotoCoreError"),
        ("aiohttp", "ClientError"),
        ("azure.core.exceptions", "AzureError"),
    )
    loaded = ((sys.modules.get(module), name) for module, name in names)
    return OSError, ValueError, *(getattr(module, name) for module, name in loaded if module is not None)


def _too_large(place: str, size: int, limit: int) -> str:
    return f"{place} has {size} bytes, the limit is {limit}"
