"""Importing on a Ray cluster: files are hashed and decoded by tasks on all nodes; the driver fetches URLs and writes.

The files of a list must lie under the same paths on all nodes. A decoder that crashes or hangs is confined to a process
of its own there too (manifests/sandbox.py), and a lost node's files are read again on another.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import ray

from manifests.decoding import MediaError
from manifests.download import DownloadLimits
from manifests.entries import Entry
from manifests.sandbox import Sandbox
from pipeline.fetching import Fetched, Fetcher
from pipeline.ray_cluster import join

Item = TypeVar("Item")
Result = TypeVar("Result")

_AHEAD: Final = 4  # tasks a CPU that are on their way
_FILES: Final = 16  # in a task at most: a small file takes less time than its task does


class RayHands:
    """What reads files on a cluster, in place of this machine's threads and child processes.

    Args:
        root: Of the tables.
        limits: Of a file's size.
        timeout_s: To decode one file.
        files: About how many there will be: of few, a task takes one, so that all nodes have work.
    """

    def __init__(self, root: str, limits: DownloadLimits, timeout_s: float, files: int) -> None:
        join()
        self._tasks = max(16, _AHEAD * int(ray.cluster_resources().get("CPU", 1)))
        self._chunk = self._files_of_task(files)
        self.ahead = self._tasks * self._chunk
        self._root, self._limits, self._timeout_s = root, ray.put(limits), timeout_s
        # both take one CPU: more tasks than CPUs would have Ray start a process for each, and end it soon after
        self._read = ray.remote(_read).options(max_retries=3)
        self._inspect = ray.remote(_inspect).options(max_retries=3)
        self._gathering: _Readings | None = None

    def fetch(self, entry: Entry) -> "Reading":
        """Read the file of an entry that is no URL: how large it is, and its SHA-256."""
        if self._gathering is None or self._gathering.reference is not None:
            self._gathering = _Readings(lambda entries: self._read.remote(self._root, self._limits, entries))
        readings = self._gathering
        readings.entries.append(entry)
        if len(readings.entries) == self._chunk:
            readings.send()
        return Reading(readings, len(readings.entries) - 1)

    def map(
        self, function: Callable[[Item], Result], items: Sequence[Item]
    ) -> Iterator[tuple[Item, Result | MediaError]]:
        """Give each item with its result, or the MediaError that it earned, in the order of `items`: `Sandbox.map` on
        all nodes."""
        chunk = self._files_of_task(len(items))
        coming: deque[tuple[Sequence[Item], Any]] = deque()
        for start in range(0, len(items), chunk):
            some = items[start : start + chunk]
            coming.append((some, self._inspect.remote(function, some, self._timeout_s)))
            if len(coming) > self._tasks:
                done, reference = coming.popleft()
                yield from zip(done, ray.get(reference), strict=True)
        while coming:
            done, reference = coming.popleft()
            yield from zip(done, ray.get(reference), strict=True)

    def _files_of_task(self, files: int) -> int:
        return min(_FILES, max(1, files // self._tasks))


class _Readings:
    """Files that one task reads, sent off when they are enough, or when the first of them is wanted."""

    def __init__(self, task: Callable[[list[Entry]], Any]) -> None:
        self.entries: list[Entry] = []
        self.reference: Any = None
        self._task = task
        self._read: list[Fetched] = []

    def send(self) -> None:
        if self.reference is None:
            self.reference = self._task(self.entries)

    def results(self) -> list[Fetched]:
        self.send()
        self._read = self._read or ray.get(self.reference)
        return self._read


@dataclass(frozen=True)
class Reading:
    """A file that is being read somewhere."""

    readings: _Readings
    place: int

    def result(self) -> Fetched:
        """Wait for it."""
        return self.readings.results()[self.place]


def _read(root: str, limits: DownloadLimits, entries: list[Entry]) -> list[Fetched]:
    fetcher = Fetcher(root, limits)
    return [fetcher.fetch(entry) for entry in entries]


_boxes: dict[float, Sandbox[Any, Any]] = {}  # one a process that Ray runs tasks in, kept for its next task


def _inspect(function: Callable[[Item], Result], items: Sequence[Item], timeout_s: float) -> list[Result | MediaError]:
    box = _boxes.setdefault(timeout_s, Sandbox(1, timeout_s=timeout_s))
    return [result for _, result in box.map(function, items)]
