"""Which items are in the workers' hands: a note that outlives a driver only if it did not end in good order.

An item that takes the whole machine down leaves no outcome and no last words. What it leaves is this note: whatever was
in flight then is suspect, and is tried alone next time, each written down in the ledger before it starts.
"""

import contextlib
import json
from collections.abc import Iterable
from typing import Final

from manifests.files import files_of

FOLDER: Final = "flights"


class FlightNote:
    """The note of one driver; `epoch` is that of its lease."""

    def __init__(self, root: str, epoch: int) -> None:
        self._files = files_of(root)
        self._name = f"{FOLDER}/{epoch:08d}.json"

    def left_behind(self) -> set[str]:
        """Return the keys that were in flight when earlier drivers died."""
        keys: set[str] = set()
        for name in self._notes():
            with contextlib.suppress(ValueError):  # a note that was cut short names nothing
                keys.update(json.loads(self._files.read(name)))
        return keys

    def write(self, keys: Iterable[str]) -> None:
        """Say what is in flight now, in place of what was said before."""
        self._files.write(self._name, json.dumps(sorted(keys)).encode())

    def clear(self) -> None:
        """Remove all notes: this driver ends in good order."""
        for name in self._notes():
            self._files.remove(name)

    def _notes(self) -> list[str]:
        return [f"{FOLDER}/{name}" for name in self._files.names(FOLDER) if name.endswith(".json")]
