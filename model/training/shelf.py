"""A shelf: many equal things that cost time to make, made once, in shards, and then read by number.

Rendered clips and cached latents lie on shelves. A shard is one safetensors file, written under a temporary name and
published whole, so that filling may be killed at any moment and goes on where it was; several processes may fill one
shelf side by side. A shelf belongs to one digest: what it holds is a pure function of that.
"""

import functools
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from manifests.errors import UserError

Arrays = Mapping[str, NDArray[np.generic]]
Make = Callable[[Sequence[int]], tuple[Arrays, Sequence[str]]]
"""Numbers of things to their arrays, the first axis of each counting things, and one note (a text) for each thing."""


class ShelfError(UserError):
    """A shelf that holds something else, or is damaged."""


@dataclass(frozen=True)
class Shelf:
    """Shards of equal things.

    Attributes:
        folder: Where the shards lie.
        digest: Of everything that what lies here depends on.
        count: How many things there are.
        shard: How many of them a file holds.
    """

    folder: Path
    digest: str
    count: int
    shard: int = 64

    def path(self, number: int) -> Path:
        """Return the file of shard `number`."""
        return self.folder / f"{number:05d}.safetensors"

    def shards(self) -> int:
        """Return how many shards there are when all are made."""
        return -(-self.count // self.shard)

    def missing(self) -> list[int]:
        """Return the shards that are not made yet.

        Raises:
            ShelfError: The folder holds shards of something else.
        """
        have = [n for n in range(self.shards()) if self.path(n).exists()]
        if have and (found := _header(self.path(have[0]))["digest"]) != self.digest:
            raise ShelfError(
                f"{self.folder} holds what was made from another recipe ({found[:12]}, wanted {self.digest[:12]}): "
                "remove that folder, or name another one"
            )
        return sorted(set(range(self.shards())) - set(have))

    def fill(self, make: Make, *, part: int = 0, parts: int = 1) -> Iterator[int]:
        """Make the missing shards, yield how many things each added; of `parts` processes this one is `part`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for number in self.missing():
            if number % parts != part:
                continue
            numbers = range(number * self.shard, min((number + 1) * self.shard, self.count))
            arrays, notes = make(numbers)
            self._write(number, arrays, notes)
            yield len(numbers)

    def _write(self, number: int, arrays: Arrays, notes: Sequence[str]) -> None:
        half = self.path(number).with_suffix(f".{os.getpid()}.tmp")
        whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
        save_file(whole, half, metadata={"digest": self.digest, "notes": json.dumps(list(notes))})
        half.replace(self.path(number))

    def read(self, numbers: Sequence[int], names: Sequence[str]) -> tuple[list[NDArray[np.generic]], list[str]]:
        """Return the named arrays of these things, stacked in their order, and the notes.

        Raises:
            ShelfError: One of them is not made yet, or its file is damaged.
            IndexError: A number is outside the shelf.
        """
        rows, notes = [], []
        for number in numbers:
            if not 0 <= number < self.count:
                raise IndexError(f"the shelf {self.folder} has {self.count} things, number {number} is not among them")
            shard, offset = divmod(number, self.shard)
            stored, texts = _opened(self.path(shard), self.digest)
            rows.append([stored.get_slice(name)[offset : offset + 1] for name in names])
            notes.append(texts[offset])
        return [np.concatenate(column) for column in zip(*rows, strict=True)], notes


def _header(path: Path) -> dict[str, str]:
    try:
        with safe_open(path, framework="numpy") as stored:
            header = dict(stored.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise ShelfError(f"{path} cannot be read ({error}): remove it, and it is made again") from error
    if not header.keys() >= {"digest", "notes"}:
        raise ShelfError(f"{path} is no shard of a shelf: remove it, or name another folder")
    return header


@functools.lru_cache(maxsize=512)
def _opened(path: Path, digest: str) -> tuple[Any, list[str]]:
    """Open a shard once a process: it is mapped, not loaded."""
    if not path.exists():
        raise ShelfError(f"{path} is not there yet: fill the shelf first")
    header = _header(path)
    if header["digest"] != digest:
        raise ShelfError(f"{path} was made from another recipe: remove {path.parent}, or name another folder")
    return safe_open(path, framework="numpy"), json.loads(header["notes"])
