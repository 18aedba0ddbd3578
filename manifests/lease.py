"""One lease a root keeps a second writer out.

A lease is an object `leases/<epoch>.json`, made by create-if-absent, so that of any number of takers one wins, on a
local disk and on object stores alike. Its holder raises a counter in it at every `interval_s`; a reader holds it for
dead when the counter has not moved for some of the READER's own intervals (no clock of another machine is trusted), or
at once if holder and reader are on one machine and the process is gone. Taking over means creating the next epoch. A
holder that was only asleep finds the higher epoch at its next beat and must stop; what it still wrote carries the lower
epoch, and the ledger lets the higher one win.
"""

import contextlib
import json
import os
import re
import socket
import threading
import time
from types import TracebackType
from typing import Any, Self

import fsspec

from manifests.errors import UserError
from manifests.tables import root_of

DEAD_AFTER_BEATS = 5  # a holder that misses so many of the reader's intervals is dead
KEEP_LEASES = 3


class LeaseTaken(UserError):
    """Another living process writes to this root; the message names it."""


class LeaseLost(UserError):
    """Another process took this lease over, because this one did not beat in time."""


class Lease:
    """The right to write under one root; a context manager that gives it back at the end."""

    def __init__(self, root: str, who: str, interval_s: float = 2.0, storage: dict[str, Any] | None = None) -> None:
        self.root = root_of(root)
        self.epoch = 0
        self._who = who
        self._interval_s = interval_s
        self._fs, path = fsspec.core.url_to_fs(self.root, use_listings_cache=False, **(storage or {}))
        self._folder = f"{path}/leases"
        self._counter = 0
        self._lost = threading.Event()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    @classmethod
    def take(cls, root: str, who: str, interval_s: float = 2.0, storage: dict[str, Any] | None = None) -> Self:
        """Take the lease, waiting only as long as it needs to see whether another holder lives.

        Raises:
            LeaseTaken: a living process holds it.
        """
        lease = cls(root, who, interval_s, storage)
        lease._fs.makedirs(lease._folder, exist_ok=True)
        while True:
            newest = max(lease._epochs(), default=0)
            if newest:
                lease._wait_until_free(newest)
            try:
                lease._fs.pipe_file(lease._path(newest + 1), lease._text(), mode="create")
            except FileExistsError:
                continue  # another taker was faster: look at its lease
            lease.epoch = newest + 1
            lease._start()
            return lease

    def check(self) -> None:
        """Raise LeaseLost if another process took the lease over."""
        if self._lost.is_set():
            raise LeaseLost(
                f"another process took over {self.root} because this one stood still; nothing was lost, run again"
            )

    def release(self) -> None:
        """Give the lease back, so that the next taker need not wait."""
        if self._ended.is_set():
            return
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        if not self._lost.is_set():
            self._write(self._text(released=True))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # on a full disk the release cannot be written; the lease then ends with the process, and the first error counts
        with contextlib.suppress(OSError):
            self.release()

    def _start(self) -> None:
        for epoch in sorted(self._epochs())[:-KEEP_LEASES]:
            with contextlib.suppress(FileNotFoundError):
                self._fs.rm_file(self._path(epoch))
        self._thread = threading.Thread(target=self._beat, name="lease", daemon=True)
        self._thread.start()

    def _beat(self) -> None:
        while not self._ended.wait(self._interval_s):
            if max(self._epochs(), default=0) > self.epoch:
                self._lost.set()
                return
            self._counter += 1
            with contextlib.suppress(OSError):  # a missed beat is what the reader's patience is for
                self._write(self._text())

    def _write(self, text: bytes) -> None:
        """Write the lease whole: on a local disk a reader must never see half of it."""
        path = self._path(self.epoch)
        if "file" in self._fs.protocol:
            part = f"{path}.part"
            with open(part, "wb") as file:
                file.write(text)
            os.replace(part, path)
        else:
            self._fs.pipe_file(path, text)

    def _wait_until_free(self, epoch: int) -> None:
        seen = self._read(epoch)
        for _ in range(DEAD_AFTER_BEATS):
            if seen.get("released") or _process_is_gone(seen):
                return
            time.sleep(self._interval_s)
            now = self._read(epoch)
            if max(self._epochs(), default=0) > epoch:
                return  # somebody else took it over: create-if-absent will say so
            if "who" in now and not now.get("released") and now["counter"] != seen["counter"]:
                raise LeaseTaken(
                    f"{self.root} is in use by `{now['who']}` (process {now['pid']} on {now['host']}); "
                    "wait until it ends, or end it, and start again"
                )
            seen = now

    def _read(self, epoch: int) -> dict[str, Any]:
        try:
            lease: dict[str, Any] = json.loads(self._fs.cat_file(self._path(epoch)))
        except (FileNotFoundError, json.JSONDecodeError):
            return {"counter": -1}  # made, but not yet written, or gone: look again at the next beat
        return lease

    def _epochs(self) -> list[int]:
        names = (name.rsplit("/", 1)[-1] for name in self._fs.ls(self._folder, detail=False))
        return [int(match[1]) for name in names if (match := re.fullmatch(r"(\d+)\.json", name))]

    def _path(self, epoch: int) -> str:
        return f"{self._folder}/{epoch:08d}.json"

    def _text(self, released: bool = False) -> bytes:
        about = {
            "who": self._who,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started": _start_of_process(os.getpid()),
            "counter": self._counter,
            "released": released,
        }
        return json.dumps(about).encode()


def _start_of_process(pid: int) -> str | None:
    """Return boot and start time of a process here, so that a pid that is used again is not taken for the old one."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as boot, open(f"/proc/{pid}/stat") as stat:
            fields = stat.read().rpartition(")")[2].split()
            return None if fields[0] == "Z" else f"{boot.read().strip()}:{fields[19]}"
    except OSError:
        return None


def _process_is_gone(lease: dict[str, Any]) -> bool:
    if lease.get("host") != socket.gethostname() or not lease.get("started"):
        return False
    mine = _start_of_process(os.getpid())
    if mine is None or mine.split(":")[0] != lease["started"].split(":")[0]:
        return False  # no /proc here, or another boot of a machine with this name: leave it to the counter
    return bool(_start_of_process(lease["pid"]) != lease["started"])
