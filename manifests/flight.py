"""Which items are in the workers' hands: a note that outlives a driver only if it did not end in good order.

An item that takes the whole machine down leaves no outcome and no last words. What it leaves is this note: whatever was
in flight then is suspect, and is tried alone next time, each written down in the ledger before it starts.
"""

import contextlib
import json
import os
from collections.abc import Iterable
from typing import Final

import fsspec

from manifests.tables import root_of

FOLDER: Final = "flights"


class FlightNote:
    """The note of one driver; `epoch` is that of its lease."""

    def __init__(self, root: str, epoch: int) -> None:
        self._fs, base = fsspec.core.url_to_fs(root_of(root), use_listings_cache=False)
        self._folder = f"{base}/{FOLDER}"
        self._path = f"{self._folder}/{epoch:08d}.json"

    def left_behind(self) -> set[str]:
        """Return the keys that were in flight when earlier drivers died."""
        keys: set[str] = set()
        for path in self._notes():
            with contextlib.suppress(ValueError):  # a note that was cut short names nothing
                keys.update(json.loads(self._fs.cat_file(path)))
        return keys

    def write(self, keys: Iterable[str]) -> None:
        """Say what is in flight now, in place of what was said before."""
        text = json.dumps(sorted(keys)).encode()
        if "file" not in self._fs.protocol:
            self._fs.pipe_file(self._path, text)
            return
        os.makedirs(self._folder, exist_ok=True)
        with open(f"{self._path}.part", "wb") as file:
            file.write(text)
        os.replace(f"{self._path}.part", self._path)

    def clear(self) -> None:
        """Remove all notes: this driver ends in good order."""
        for path in self._notes():
            self._fs.rm_file(path)

    def _notes(self) -> list[str]:
        try:
            return [path for path in self._fs.ls(self._folder, detail=False) if path.endswith(".json")]
        except FileNotFoundError:
            return []
