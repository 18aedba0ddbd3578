"""Runs a function in child processes with limits: a crash, a hang or hunger for memory is an outcome, not an end.

One parent thread hands each worker one item at a time over a pipe of its own, so a death is charged to exactly the
item that the worker was on. A worker lives for many items; one that died, hung or ran out of memory is replaced.
What is run must be importable by name, takes one argument, and gives back something that can be pickled: function,
items and results are ours, and travel between processes of this one program only.
"""

import contextlib
import ctypes
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Generic, TypeVar

from manifests.decoding import MediaError

Item = TypeVar("Item")
Result = TypeVar("Result")

START_S: Final = 120.0  # a new process must be ready (imports done) by then, on a machine that is busy
_WORDS: Final = 2000  # characters of last words that are kept
_WRITES: Final = 1 << 24  # bytes a child may write to a file: its log, and nothing else
_BUG: Final = 1  # exit status of a Python process that ends by an exception
_SPAWN: Final = get_context("spawn")  # a forked child would inherit locks held by other threads (Lance, decoders)


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
            if worker.function is function and worker.alive():
                return worker
            worker.end()
        self._started += 1
        return _Worker(function, self.memory_bytes, Path(self._folder.name, f"{self._started}.log"))


class _Worker:
    """One child process, and its pipe and log."""

    def __init__(self, function: Callable[[Any], Any], memory_bytes: int, log: Path) -> None:
        self.function, self.usable = function, True
        self._memory_bytes, self._log = memory_bytes, log
        self.pipe, far = _SPAWN.Pipe()
        self._process = _SPAWN.Process(
            target=_serve, args=(far, function, memory_bytes, str(log), os.getpid()), daemon=True
        )
        self._process.start()
        far.close()
        if not self.pipe.poll(START_S) or self._received() is not True:
            words, code = self._last_words(), self._process.exitcode
            self.end()
            raise RuntimeError(f"a child process did not start within {START_S:.0f} s (exit status {code}): {words}")
        self.since = time.monotonic()

    def begin(self, item: Any) -> None:
        self.since = time.monotonic()
        with contextlib.suppress(OSError):  # it died while it was idle: `finish` finds that out
            self.pipe.send(item)

    def finish(self, timeout_s: float) -> Any:
        """Return the result or the MediaError of the item that was begun; called when there is news or time is up."""
        answer = self._received() if self.pipe.poll() else None
        if isinstance(answer, tuple):
            result, self.usable = answer
            if not self.usable:
                self.end()
            return result
        self.usable = False
        if time.monotonic() - self.since >= timeout_s and self.alive():
            self.end()
            return MediaError("timeout", f"not done after {timeout_s:g} s")
        self._process.join(10)
        code, words = self._process.exitcode, self._last_words()
        self.end()
        if code == _BUG:
            raise RuntimeError(f"a bug in {self.function.__module__}.{self.function.__qualname__}:\n{words}")
        if "bad_alloc" in words or "Cannot allocate memory" in words or "MemoryError" in words:
            return MediaError("out_of_memory", f"needed more than {self._memory_bytes} bytes of memory: {words}")
        end = signal.Signals(-code).name if code is not None and code < 0 else f"status {code}"
        return MediaError("decoder_crashed", f"the process that read it ended by {end}; its last words: {words}")

    def alive(self) -> bool:
        return self._process.is_alive()

    def end(self) -> None:
        self._process.kill()
        self._process.join()
        self.pipe.close()
        self._log.unlink(missing_ok=True)

    def _received(self) -> Any:
        try:
            return self.pipe.recv()
        except (EOFError, OSError):
            return None

    def _last_words(self) -> str:
        if not self._log.exists():
            return "none"
        with self._log.open("rb") as log:
            log.seek(max(0, self._log.stat().st_size - _WORDS))
            return log.read().decode(errors="replace").strip() or "none"


def _ready(busy: Iterable[_Worker], timeout_s: float) -> list[_Worker]:
    """Wait until a worker has answered, died or run out of time; returns all those."""
    workers = list(busy)
    if not workers:
        return []
    first_end = min(worker.since for worker in workers) + timeout_s
    news = wait([worker.pipe for worker in workers], max(0.0, first_end - time.monotonic()))
    now = time.monotonic()
    return [worker for worker in workers if worker.pipe in news or now - worker.since >= timeout_s]


def _serve(
    pipe: Connection, function: Callable[[Any], Any], memory_bytes: int, log: str, parent: int
) -> None:  # pragma: no cover - in the child
    _confine(memory_bytes, log, parent)
    pipe.send(True)
    while True:
        try:
            item = pipe.recv()
        except EOFError:
            return
        os.ftruncate(2, 0)  # last words are of this item
        try:
            answer = (function(item), True)
        except MediaError as error:
            answer = (error, True)
        except MemoryError as error:
            words = str(error) or "no more is known"
            answer = (MediaError("out_of_memory", f"needed more than {memory_bytes} bytes of memory: {words}"), False)
        pipe.send(answer)


def _confine(memory_bytes: int, log: str, parent: int) -> None:  # pragma: no cover - in the child
    """Set the limits of this process; from here on it can only get smaller."""
    import faulthandler

    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:  # it died before we asked to die with it
        os._exit(0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    words = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(words, 1)
    os.dup2(words, 2)
    os.close(words)
    faulthandler.enable(file=sys.stderr)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_WRITES, _WRITES))
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
