"""Importing on a Ray cluster: files are hashed and decoded by tasks on all nodes; the driver fetches URLs and writes.

The files of a list must lie under the same paths on all nodes. A decoder that crashes or hangs is confined to a process
of its own there too (manifests/sandbox.py), and a lost node's files are read again on another.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
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

_AHEAD: Final = 4  # files a CPU that are on their way
_HASHING_CPUS: Final = 0.25  # of a task that mostly waits for a disk


class RayHands:
    """What reads files on a cluster, in place of this machine's threads and child processes."""

    def __init__(self, root: str, limits: DownloadLimits, timeout_s: float) -> None:
        join()
        cpus = int(ray.cluster_resources().get("CPU", 1))
        self.ahead = max(16, _AHEAD * cpus)
        self._root, self._limits, self._timeout_s = root, ray.put(limits), timeout_s
        self._read = ray.remote(_read).options(num_cpus=_HASHING_CPUS, max_retries=3)
        self._inspect = ray.remote(_inspect).options(num_cpus=1, max_retries=3)

    def fetch(self, entry: Entry) -> Future[Fetched]:
        """Read the file of an entry that is no URL: how large it is, and its SHA-256."""
        reading: Future[Fetched] = self._read.remote(self._root, self._limits, entry).future()
        return reading

    def map(
        self, function: Callable[[Item], Result], items: Iterable[Item]
    ) -> Iterator[tuple[Item, Result | MediaError]]:
        """Give each item with its result, or the MediaError that it earned, in the order of `items`: `Sandbox.map` on
        all nodes."""
        coming: deque[tuple[Item, Any]] = deque()
        for item in items:
            coming.append((item, self._inspect.remote(function, item, self._timeout_s)))
            if len(coming) > self.ahead:
                done, reference = coming.popleft()
                yield done, ray.get(reference)
        while coming:
            done, reference = coming.popleft()
            yield done, ray.get(reference)


def _read(root: str, limits: DownloadLimits, entry: Entry) -> Fetched:
    return Fetcher(root, limits).fetch(entry)


_boxes: dict[float, Sandbox[Any, Any]] = {}  # one a process that Ray runs tasks in, kept for its next task


def _inspect(function: Callable[[Item], Result], item: Item, timeout_s: float) -> Result | MediaError:
    box = _boxes.setdefault(timeout_s, Sandbox(1, timeout_s=timeout_s))
    ((_, result),) = box.map(function, [item])
    return result
