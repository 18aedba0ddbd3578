"""Who holds the lease of a root, seen from outside: without taking it, and without waiting for its end."""

import contextlib
import json
import re
import time
from dataclasses import dataclass
from typing import Any, Literal

from manifests.errors import RootError
from manifests.files import files_of
from manifests.lease import DEAD_AFTER_BEATS, FOLDER, WRITTEN, process_lives

Life = Literal["alive", "still", "gone", "released"]


@dataclass(frozen=True)
class Holder:
    """Who took the newest lease. `life`: alive; still (it is there, and does not beat); gone; or given back."""

    who: str
    host: str
    pid: int
    epoch: int
    life: Life


class Onlooker:
    """Watches the lease of one root. No clock of another machine is trusted: whether it beats is seen by looking twice.

    `interval_s` is the reader's own: a holder whose counter stands still for `DEAD_AFTER_BEATS` of them does not beat.
    """

    def __init__(self, root: str, interval_s: float = 2.0) -> None:
        self._files = files_of(root)
        self.root = self._files.url
        self._patience_s = DEAD_AFTER_BEATS * interval_s
        self._poll_s = interval_s / 8
        self._seen: tuple[int, int] | None = None  # number of the lease, its counter
        self._since_s = 0.0  # monotonic: since when it shows that counter
        self._beats = False  # its counter was seen to move

    def look(self) -> Holder | None:
        """Return who holds, or held last; None if nobody ever did. The first look waits until it sees a beat or none.

        Raises:
            RootError: the root cannot be read.
        """
        while True:
            number, lease = self._newest()
            if not number:
                return None
            if lease is not None and (life := self._life(number, lease)) is not None:
                return Holder(lease["who"], lease["host"], lease["pid"], lease.get("epoch", 0), life)
            if lease is None and self._waited_out(number, -1):
                return Holder("unknown", "unknown", 0, 0, "gone")  # made, and never written: its taker died there
            time.sleep(self._poll_s)

    def epoch(self) -> int:
        """Return the epoch of the newest lease without a second look; 0 if there is none."""
        _, lease = self._newest()
        return 0 if lease is None else int(lease.get("epoch", 0))

    def _life(self, number: int, lease: dict[str, Any]) -> Life | None:
        """Return None as long as it cannot be said."""
        if lease.get("released"):
            return "released"
        there = process_lives(lease)
        if there is False:
            return "gone"
        if self._waited_out(number, lease["counter"]):
            return "still" if there else "gone"
        return "alive" if self._beats else None

    def _waited_out(self, number: int, counter: int) -> bool:
        now_s = time.monotonic()
        if self._seen != (number, counter):
            self._beats = self._seen is not None and self._seen[0] == number
            self._seen, self._since_s = (number, counter), now_s
        return now_s - self._since_s >= self._patience_s

    def _newest(self) -> tuple[int, dict[str, Any] | None]:
        """Return the number of the newest lease, 0 if there is none, and what it says; None if it is not whole yet."""
        try:
            names = self._files.names(FOLDER)
        except OSError as error:
            raise RootError(f"{self.root} cannot be read: {error.strerror or error}; name the root of a run") from error
        number = max((int(match[1]) for name in names if (match := re.fullmatch(r"(\d+)\.json", name))), default=0)
        lease = None
        with contextlib.suppress(FileNotFoundError, ValueError):  # taken over just now, or not yet written
            lease = json.loads(self._files.read(f"{FOLDER}/{number:08d}.json")) if number else None
        return number, lease if isinstance(lease, dict) and lease.keys() >= WRITTEN else None
