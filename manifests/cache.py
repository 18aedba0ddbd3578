"""Files from elsewhere, kept on this machine: the least recently used go when a limit is reached.

Any number of processes share one folder. Each file lies in a folder named by where it comes from, under the name of its
own SHA-256, and is published by a rename; it is read whole and checked when a process first uses it, so that a damaged
one (a power cut, a full disk) is fetched anew. What a process used last is held by a shared lock, which ends with the
process, and is not evicted under its reader.
"""

import contextlib
import fcntl
import os
import tempfile
import threading
import time
import uuid
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from manifests.errors import RootError
from manifests.files import PART
from manifests.keys import digest, sha256_of_file

LIMIT_GB: Final = 20.0
HELD: Final = 64  # files that a process used last: more than one batch of rows
_CLEAR_TO: Final = 0.9  # of the limit, so that not every file that comes pushes one out
_LOOK_EVERY: Final = 0.02  # of the limit: what a process adds before it counts again, and so oversteps by at most
_DEAD_PART_S: Final = 3600.0  # a part that did not grow for so long belongs to nobody


class CacheDamaged(Exception):
    """What was fetched is not what was wanted."""


class Cache:
    """Files from elsewhere in one folder, at most about `limit_bytes` of them; for one process, any of its threads."""

    def __init__(self, folder: str | os.PathLike[str] | None = None, limit_bytes: int | None = None) -> None:
        own = os.path.join(tempfile.gettempdir(), f"bodydouble-cache-{os.getuid()}")
        self.folder = Path(folder or os.environ.get("BODYDOUBLE_CACHE") or own)
        self.limit_bytes = _limit_bytes() if limit_bytes is None else limit_bytes
        self._held: OrderedDict[Path, int] = OrderedDict()  # checked, and locked against eviction
        weakref.finalize(self, _close, self._held)
        self._added_bytes: int | None = None  # since this process last counted
        self._lock = threading.Lock()

    def path_of(self, place: str, fetch: Callable[[Path], None], sha256: str | None = None) -> Path:
        """Return the path of a copy of what lies at `place` (an address or URL), fetching it if need be.

        `fetch` writes it to the path that it is given. The path stays good while it is among the last `HELD` that this
        process asked for, and these are no more than half the limit.

        Raises:
            CacheDamaged: what was fetched does not have the SHA-256 that was wanted.
            OSError: the disk is full, or what `fetch` raises.
        """
        folder = self.folder / digest(place)
        with self._lock:
            for path in self._copies(folder, sha256):
                if self._hold(path):
                    return path
        while True:
            path = self._fetched(folder, Path(place).suffix, fetch, sha256)
            with self._lock:
                if self._hold(path, checked=True):  # else it was evicted within this instant
                    self._make_room(path.stat().st_size)
                    return path

    def drop(self, path: Path) -> None:
        """Remove a copy that turned out to be damaged after it was checked."""
        with self._lock:
            if path in self._held:
                os.close(self._held.pop(path))
            path.unlink(missing_ok=True)

    def _copies(self, folder: Path, sha256: str | None) -> Iterator[Path]:
        with contextlib.suppress(FileNotFoundError):
            yield from (path for path in folder.iterdir() if sha256 is None or path.stem == sha256)

    def _fetched(self, folder: Path, suffix: str, fetch: Callable[[Path], None], sha256: str | None) -> Path:
        self._make_folder()
        part = self.folder / f"{uuid.uuid4().hex}{PART}"
        try:
            fetch(part)
            found = sha256_of_file(part)
            if sha256 is not None and found != sha256:
                raise CacheDamaged(f"{part.stat().st_size} bytes with another SHA-256 than was written down")
            path = folder / f"{found}{suffix}"
            while True:
                folder.mkdir(exist_ok=True)
                with contextlib.suppress(FileNotFoundError):  # the folder was empty, and evicted just now
                    os.replace(part, path)
                    return path
        finally:
            part.unlink(missing_ok=True)

    def _make_folder(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self.folder.stat().st_uid != os.getuid():
            raise RootError(f"{self.folder} belongs to another user; name a folder of your own in BODYDOUBLE_CACHE")

    def _hold(self, path: Path, checked: bool = False) -> bool:
        """Lock a copy against eviction, and say whether it is there and whole; a damaged one is removed."""
        if path not in self._held:
            try:
                file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                return False
            fcntl.flock(file, fcntl.LOCK_SH)
            gone = not os.fstat(file).st_nlink
            if gone or not (checked or sha256_of_file(path) == path.stem):
                os.close(file)
                if not gone:
                    path.unlink(missing_ok=True)
                return False
            self._held[path] = file
        elif not path.exists():  # somebody cleared the folder by hand
            os.close(self._held.pop(path))
            return False
        self._held.move_to_end(path)
        os.utime(path)
        while len(self._held) > HELD or (len(self._held) > 1 and self._held_bytes() > self.limit_bytes / 2):
            os.close(self._held.popitem(last=False)[1])  # large files may be the limit before they are many
        return True

    def _held_bytes(self) -> int:
        return sum(os.fstat(file).st_size for file in self._held.values())

    def _make_room(self, added_bytes: int) -> None:
        """Evict, if this process has added so much since it last counted that the limit may be reached."""
        if self._added_bytes is not None:
            self._added_bytes += added_bytes
            if self._added_bytes < _LOOK_EVERY * self.limit_bytes:
                return
        with open(self.folder / ".evicting", "wb") as turn:
            try:
                fcntl.flock(turn, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return  # another process is at it
            self._added_bytes = 0
            self._evict()

    def _evict(self) -> None:
        copies = sorted(self._all(), key=lambda each: each[1].st_mtime)
        total = sum(about.st_size for _, about in copies)
        if total <= self.limit_bytes:
            return
        for path, about in copies:
            if total <= _CLEAR_TO * self.limit_bytes:
                return
            with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    continue  # in use
                path.unlink()
                total -= about.st_size
                with contextlib.suppress(OSError):  # another copy lies there
                    path.parent.rmdir()

    def _all(self) -> Iterator[tuple[Path, os.stat_result]]:
        """Give all copies, and remove parts that killed processes left."""
        for entry in os.scandir(self.folder):
            with contextlib.suppress(FileNotFoundError):
                if entry.is_dir():
                    yield from ((Path(each.path), each.stat()) for each in os.scandir(entry.path))
                elif entry.name.endswith(PART) and time.time() - entry.stat().st_mtime > _DEAD_PART_S:
                    os.unlink(entry.path)


def _close(held: OrderedDict[Path, int]) -> None:
    for file in held.values():
        os.close(file)


def _limit_bytes() -> int:
    given = os.environ.get("BODYDOUBLE_CACHE_GB", "")
    try:
        gigabytes = float(given or LIMIT_GB)
    except ValueError:
        gigabytes = -1.0
    if not 0 < gigabytes < float("inf"):
        raise RootError(f"BODYDOUBLE_CACHE_GB is {given!r}; wanted how many GB may be kept, for example 20")
    return int(gigabytes * 1e9)
