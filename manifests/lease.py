"""One lease a root keeps a second writer out.

A lease is an object `leases/<number>.json`, made by create-if-absent, so that of any number of takers one wins, on a
local disk and on object stores alike. Its holder raises a counter in it at every `interval_s`. No clock of another
machine is trusted: a reader holds the holder for dead when the counter has not moved for some of the READER's own
intervals. Where the reader can see the holder's process (the same boot of one machine, the same pid namespace:
containers may share the name of their host, but not its process numbers) it looks instead: a process that is gone is
dead at once, and one that is there is not dead, however long its counter stands still (a suspended laptop, Ctrl-Z).

Taking over means creating the next number. A holder that was only asleep finds it at its next beat and must stop, as
must one that could not beat for so long that others hold it for dead. What it still wrote carries its epoch, which is
lower than its successor's, and the ledger lets the higher one win. So a holder whose store did not answer for a while
may go on if it then still finds nobody behind it. (The epoch stands in the object, not in its name:
takers must contend for one name, also if they know different epochs.)
"""

import contextlib
import json
import os
import re
import socket
import threading
import time
import uuid
from types import TracebackType
from typing import Any, Self

from manifests.errors import NoSpaceError, RootError, UserError, is_full
from manifests.files import PART, Files, files_of
from manifests.patience import StoreDown, give_up, patience_with

DEAD_AFTER_BEATS = 5  # a holder that misses so many of the reader's intervals is dead
KEEP_LEASES = 3
FOLDER = "leases"
_JOIN_BEATS = 6  # what a beat may take: two operations of two intervals each, and the wait before it
WRITTEN = frozenset({"who", "host", "pid", "counter"})


class LeaseTaken(UserError):
    """Another living process writes to this root; the message names it."""


class LeaseLost(UserError):
    """Another process took this lease over, because this one did not beat in time."""


class Lease:
    """The right to write under one root; a context manager that gives it back at the end."""

    def __init__(self, root: str, who: str, interval_s: float = 2.0) -> None:
        self._files = files_of(root)
        self.root = self._files.url
        self.epoch = 0
        self._number = 0
        self._who = who
        self._interval_s = interval_s
        self._beating_files = self._files.impatient(2 * interval_s)  # who missed a beat tries at the next
        self._trouble: OSError | RootError | None = None  # what kept the last beat from being heard
        self._mark = uuid.uuid4().hex
        self._counter = 0
        self._beat_at_s = 0.0  # monotonic, of this process only
        self._beating = threading.Lock()
        self._lost = threading.Event()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    @classmethod
    def take(cls, root: str, who: str, interval_s: float = 2.0, above: int = 0) -> Self:
        """Take the lease, waiting only as long as it needs to see whether another holder lives.

        The new epoch is higher than all in `leases/`, and than `above`: the highest that the ledger knows, so that what
        is written now wins also if somebody has cleaned the leases away.

        Raises:
            LeaseTaken: a living process holds it.
            RootError: the root is a file, cannot be made, cannot be reached, or is full.
            StoreDown: the store under the root does not answer; so in `check`.
        """
        lease = cls(root, who, interval_s)
        try:
            lease._take(above)
        except OSError as error:
            if is_full(error):
                raise NoSpaceError(lease.root) from error
            raise RootError(
                f"{lease.root} cannot be written to: {error.strerror or error}; a root is a folder or a URL in which "
                "this user may make files"
            ) from error
        return lease

    def check(self) -> None:
        """Raise LeaseLost if another process took the lease over, or must by now hold this one for dead."""
        if not self._lost.is_set() and self._is_late() and self._thread is not None and self._thread.is_alive():
            self._renew()  # the whole process may have stood still: what counts is whether the lease can be had now
        if self._lost.is_set():
            raise LeaseLost(
                f"another process took over {self.root} because this one stood still; nothing was lost, run again"
            )
        if isinstance(self._trouble, RootError) and self._is_late():
            raise StoreDown(self.root, self._trouble.__cause__ or self._trouble, time.monotonic() - self._beat_at_s)
        if self._thread is None or not self._thread.is_alive() or self._is_late():
            late_s = time.monotonic() - self._beat_at_s
            raise LeaseLost(
                f"the lease in {self.root}/{FOLDER} could not be renewed for {late_s:.0f} s, so another process may "
                "have taken it; nothing was lost, see that the root can be written to and run again"
            )

    def release(self) -> None:
        """Give the lease back, so that the next taker need not wait."""
        if self._ended.is_set():
            return
        self._ended.set()
        if self._thread is not None:
            self._thread.join(_JOIN_BEATS * self._interval_s)
            if self._thread.is_alive():
                return  # it hangs in the store, and may yet write over what would be written here
        if not self._lost.is_set():
            self._beating_files.write(self._name(self._number), self._text(released=True))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # where the release cannot be written the lease ends with the process, and the first error counts
        with contextlib.suppress(OSError, RootError):
            self.release()

    def _take(self, above: int) -> None:
        self._files.knock()
        while True:
            numbers = self._numbers()
            newest = max(numbers, default=0)
            if newest:
                self._wait_until_free(newest)
            self._number = newest + 1
            self.epoch = max([above, newest, *(self._read(number).get("epoch", 0) for number in numbers)]) + 1
            self._beat_at_s = time.monotonic()
            try:
                self._files.create(self._name(self._number), self._text())
            except FileExistsError:
                continue  # another taker was faster: look at its lease
            self._start()
            return

    def _start(self) -> None:
        for number in sorted(self._numbers())[:-KEEP_LEASES]:
            self._files.remove(self._name(number))
        for name in self._files.names(FOLDER):
            if name.endswith(PART):  # of a holder that was killed as it beat; one that lives has lost its lease
                self._files.remove(f"{FOLDER}/{name}")
        self._thread = threading.Thread(target=self._beat, name="lease", daemon=True)
        self._thread.start()

    def _beat(self) -> None:
        while not self._ended.wait(self._interval_s) and not self._lost.is_set():
            self._beat_now()

    def _renew(self) -> None:
        """Beat until one beat is heard, for as long as is waited for a store; a folder is asked once."""
        until_s = time.monotonic() + (0.0 if self._files.is_local else patience_with(self.root))
        while True:
            self._beat_now()
            if self._lost.is_set() or not self._is_late():
                return
            if time.monotonic() >= until_s:
                give_up(self.root)
                return
            time.sleep(min(1.0, self._interval_s))

    def _beat_now(self) -> None:
        """Look for a successor, and raise the counter; where the store fails, the next beat may succeed."""
        if not self._beating.acquire(timeout=self._interval_s):
            return  # the other thread waits for the store
        try:
            now_s = time.monotonic()  # before the write: a reader's patience begins behind it
            numbers = self._numbers(self._beating_files)
            if max(numbers, default=0) > self._number:
                self._lost.set()
                return
            if self._number not in numbers:
                raise FileNotFoundError(
                    f"{self._name(self._number)} is gone"
                )  # what somebody removed is not made again
            self._counter += 1
            self._beating_files.write(self._name(self._number), self._text())
            self._beat_at_s, self._trouble = now_s, None
        except (OSError, RootError) as error:
            self._trouble = error  # a missed beat is what the reader's patience is for; `check` counts them
        finally:
            self._beating.release()

    def _is_late(self) -> bool:
        return time.monotonic() - self._beat_at_s >= DEAD_AFTER_BEATS * self._interval_s

    def _wait_until_free(self, number: int) -> None:
        """Return when a lease may be taken over; raise LeaseTaken if its holder lives."""
        seen = self._read(number)
        for _ in range(DEAD_AFTER_BEATS):
            if seen.get("released") or process_lives(seen) is False:
                return
            time.sleep(self._interval_s)
            now = self._read(number)
            if max(self._numbers(), default=0) > number:
                return  # somebody else took it over: create-if-absent will say so
            if "who" in now and not now.get("released") and now["counter"] != seen["counter"]:
                raise LeaseTaken(
                    f"{self.root} is in use by {_name_of(now)}; wait until it ends, or end it, and start again"
                )
            seen = now
        if not seen.get("released") and process_lives(seen):
            raise LeaseTaken(
                f"{self.root} is held by {_name_of(seen)}, which lives but stands still: "
                "let it go on (`fg`, or SIGCONT), or end it, and start again"
            )

    def _read(self, number: int) -> dict[str, Any]:
        try:
            lease = json.loads(self._files.read(self._name(number)))
        except (FileNotFoundError, ValueError):
            lease = None
        # made, but not yet written, or gone, or damaged: look again at the next beat
        return lease if isinstance(lease, dict) and lease.keys() >= WRITTEN else {"counter": -1}

    def _numbers(self, files: Files | None = None) -> list[int]:
        names = (files or self._files).names(FOLDER)
        return [int(match[1]) for name in names if (match := re.fullmatch(r"(\d+)\.json", name))]

    def _name(self, number: int) -> str:
        return f"{FOLDER}/{number:08d}.json"

    def _text(self, released: bool = False) -> bytes:
        about = {
            "who": self._who,
            "mark": self._mark,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started": _start_of_process(os.getpid()),
            "epoch": self.epoch,
            "counter": self._counter,
            "released": released,
        }
        return json.dumps(about).encode()


def _name_of(lease: dict[str, Any]) -> str:
    return f"`{lease['who']}` (process {lease['pid']} on {lease['host']})"


def _start_of_process(pid: int) -> str | None:
    """Return boot, pid namespace and start time of a process, so that a number used again is not taken for the old."""
    try:
        if os.readlink("/proc/self") != str(os.getpid()):
            return None  # /proc shows another namespace: its numbers are not ours
        namespace = os.readlink("/proc/self/ns/pid")
        with open("/proc/sys/kernel/random/boot_id") as boot, open(f"/proc/{pid}/stat") as stat:
            fields = stat.read().rpartition(")")[2].split()
            start = "ended" if fields[0] in "ZX" else fields[19]
            return f"{boot.read().strip()} {namespace} {start}"
    except OSError:
        return None


def process_lives(lease: dict[str, Any]) -> bool | None:
    """Say whether the process of a holder lives; None if that cannot be seen from here."""
    mine = _start_of_process(os.getpid())
    if mine is None or lease.get("host") != socket.gethostname() or not lease.get("started"):
        return None
    if mine.rpartition(" ")[0] != lease["started"].rpartition(" ")[0]:
        return None  # another boot of a machine with this name, or a container beside this one: leave it to the counter
    there = _start_of_process(lease["pid"])
    if there is None and _answers(lease["pid"]):
        return None  # /proc hides the processes of other users
    return bool(there == lease["started"])


def _answers(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
