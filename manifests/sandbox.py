"""Runs a function in child processes with limits: a crash, a hang or hunger for memory is an outcome, not an end.

One parent thread hands each child one item at a time, so a death is charged to exactly the item that the child was on.
A child lives for many items; one that died, hung or ran out of memory is replaced.
"""

import resource
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import wait
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Generic, TypeVar

from manifests.children import Child, ChildDied, how_it_ended
from manifests.decoding import MediaError

Item = TypeVar("Item")
Result = TypeVar("Result")

START_S: Final = 120.0  # a new process must be ready (imports done) by then, on a machine that is busy
_WRITES: Final = 1 << 24  # bytes a child may write to a file: its log, and nothing else
_BUG: Final = 1  # exit status of a Python process that ends by an exception


class Sandbox(Generic[Item, Result]):
    """Up to `workers` child processes, started on first use and ended by `close` or at the end of a `with`.

    `memory_bytes` bounds a child's address space (about 0.4 GB of it are Python and the decoders), `timeout_s` one
    item. Children write no core files, ignore Ctrl-C (the parent ends them) and die with the parent, even by SIGKILL.
    """

    def __init__(self, workers: int = 2, memory_bytes: int = 4 << 30, timeout_s: float = 120.0) -> None:
        self.workers, self.memory_bytes, self.timeout_s = workers, memory_bytes, timeout_s
        self._folder = tempfile.TemporaryDirectory(prefix="sandbox-")
        self._idle: list[_Worker] = []
        self._started = 0

    def __enter__(self) -> "Sandbox[Item, Result]":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all children at once."""
        while self._idle:
            self._idle.pop().end()
        self._folder.cleanup()

    def map(
        self, function: Callable[[Item], Result], items: Iterable[Item]
    ) -> Iterator[tuple[Item, Result | MediaError]]:
        """Give each item with its result, or with the MediaError that it earned, in the order of `items`.

        Beside what `function` raises, the reasons are timeout, decoder_crashed and out_of_memory, with the child's
        last words. At most a few items a worker are taken from `items` ahead of what has been given.

        Raises:
            RuntimeError: `function` raised something else: a bug, with the child's traceback.
        """
        coming = enumerate(items)
        waiting: dict[int, tuple[Item, Result | MediaError]] = {}
        busy: dict[_Worker, tuple[int, Item]] = {}
        given, taken, more = 0, 0, True
        try:
            while more or busy or waiting:
                while more and len(busy) < self.workers and taken - given < 4 * self.workers:
                    number, item = next(coming, (-1, None))
                    more = number >= 0
                    if more:
                        worker = self._worker(function)
                        worker.begin(item)
                        busy[worker] = (number, item)  # type: ignore[assignment]
                        taken += 1
                for worker in _ready(busy, self.timeout_s):
                    number, item = busy.pop(worker)
                    waiting[number] = (item, worker.finish(self.timeout_s))
                    if worker.usable:
                        self._idle.append(worker)
                while given in waiting:
                    yield waiting.pop(given)
                    given += 1
        finally:
            for worker in busy:
                worker.end()

    def _worker(self, function: Callable[[Item], Result]) -> "_Worker":
        while self._idle:
            worker = self._idle.pop()
            if worker.function is function and worker.child.alive():
                return worker
            worker.end()
        self._started += 1
        return _Worker(function, self.memory_bytes, Path(self._folder.name, f"{self._started}.log"))


class _Worker:
    """One child, and the time it has had for its item."""

    def __init__(self, function: Callable[[Any], Any], memory_bytes: int, log: Path) -> None:
        self.function, self.usable = function, True
        self._memory_bytes = memory_bytes
        self.child = Child(_Served(function, memory_bytes), log, _confine, (memory_bytes,))
        if not self.child.wait_until_ready(START_S):
            words = self.child.last_words()
            self.end()
            raise RuntimeError(f"a child process did not start within {START_S:.0f} s: {words or 'it said nothing'}")
        self.since = time.monotonic()

    def begin(self, item: Any) -> None:
        self.since = time.monotonic()
        self.child.begin(item)

    def end(self) -> None:
        self.usable = False
        self.child.end()

    def finish(self, timeout_s: float) -> Any:
        """Return the result or the MediaError of the item that was begun; called when there is news or time is up."""
        if not self.child.has_news() and time.monotonic() - self.since >= timeout_s and self.child.alive():
            self.end()
            return MediaError("timeout", f"not done after {timeout_s:g} s")
        try:
            result, usable = self.child.answer()
        except ChildDied as died:
            self.end()
            return self._why(died)
        if not usable:
            self.end()
        return result

    def _why(self, died: ChildDied) -> MediaError:
        if died.code == _BUG:
            raise RuntimeError(f"a bug in {self.function.__module__}.{self.function.__qualname__}:\n{died.words}")
        if any(sign in died.words for sign in ("bad_alloc", "Cannot allocate memory", "MemoryError")):
            return MediaError("out_of_memory", f"needed more than {self._memory_bytes} bytes of memory: {died.words}")
        how, words = how_it_ended(died.code), died.words or "none"
        return MediaError("decoder_crashed", f"the process that read it ended by {how}; its last words: {words}")


def _ready(busy: Iterable[_Worker], timeout_s: float) -> list[_Worker]:
    """Wait until a worker has answered, died or run out of time; returns all those."""
    workers = list(busy)
    if not workers:
        return []
    first_end = min(worker.since for worker in workers) + timeout_s
    news = wait([worker.child.pipe for worker in workers], max(0.0, first_end - time.monotonic()))
    now = time.monotonic()
    return [worker for worker in workers if worker.child.pipe in news or now - worker.since >= timeout_s]


class _Served:
    """What runs in the child: the function, with the errors that are outcomes; says whether the child is still fit."""

    def __init__(self, function: Callable[[Any], Any], memory_bytes: int) -> None:
        self._function, self._memory_bytes = function, memory_bytes

    def __call__(self, item: Any) -> tuple[Any, bool]:
        try:
            return self._function(item), True
        except MediaError as error:
            return error, True
        except MemoryError as error:
            words = str(error) or "no more is known"
            return MediaError("out_of_memory", f"needed more than {self._memory_bytes} bytes of memory: {words}"), False


def _confine(memory_bytes: int) -> None:  # pragma: no cover - in the child
    """Set the limits of this process; from here on it can only get smaller."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_WRITES, _WRITES))
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
