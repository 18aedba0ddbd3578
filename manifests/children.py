"""A child process that serves one function, one item at a time, over a pipe of its own.

Since no two children share a pipe or a lock, a death is charged to exactly the item that the child was on, and breaks
nothing else, also if the child was idle. What is run must be importable by name; items and results are ours, and travel
between processes of this one program only.
"""

import contextlib
import ctypes
import faulthandler
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from multiprocessing import get_context, resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

_SPAWN: Final = get_context("spawn")  # a forked child would inherit locks held by other threads (Lance, decoders)
_WORDS: Final = 2000  # characters of last words that are kept
_LAST_BYTES: Final = 1 << 16
_PR_SET_PDEATHSIG: Final = 1


class ChildDied(Exception):
    """The child ended while it had an item, or before; `code` as of `Process.exitcode`, and its last words."""

    def __init__(self, pid: int | None, code: int | None, words: str) -> None:
        super().__init__(f"process {pid} ended with {how_it_ended(code)}; its last words: {words or 'none'}")
        self.pid, self.code, self.words = pid, code, words


def how_it_ended(code: int | None) -> str:
    """Return an exit code as a person reads it: SIGSEGV, or status 1."""
    return signal.Signals(-code).name if code is not None and code < 0 else f"status {code}"


class Child:
    """One child. It writes its output to `log`, ignores Ctrl-C (the parent ends it), and dies with its parent.

    `setup(*arguments)` runs in it before the first item. `pipe` can be waited for with `multiprocessing.connection`.
    """

    def __init__(
        self, function: Callable[[Any], Any], log: Path, setup: Callable[..., None], arguments: tuple[Any, ...] = ()
    ) -> None:
        self._log, self._ready = log, False
        self.pipe, far = _SPAWN.Pipe()
        self._process = _SPAWN.Process(
            target=_serve, args=(far, function, str(log), os.getpid(), setup, arguments), daemon=True
        )
        try:
            with _interrupt_held_back():
                self._process.start()
        except KeyboardInterrupt:
            if self.pid is not None:
                self.end()  # nobody else knows of it yet
            raise
        finally:
            far.close()

    @property
    def pid(self) -> int | None:
        """The child's process number."""
        return self._process.pid

    def wait_until_ready(self, timeout_s: float) -> bool:
        """Wait until it has set itself up; False if it died, or was not ready in time."""
        if not self._ready and self.pipe.poll(timeout_s):
            with contextlib.suppress(EOFError, OSError):
                self._ready = self.pipe.recv() is True
        return self._ready

    def begin(self, item: Any) -> None:
        """Hand it an item. It may have died while it was idle: `answer` finds that out."""
        with contextlib.suppress(OSError):
            self.pipe.send(item)

    def has_news(self) -> bool:
        """Say whether `answer` would come at once; reads over the word that it is ready."""
        if not self._ready and self.pipe.poll():
            return not self.wait_until_ready(0) or self.pipe.poll()
        return self.pipe.poll()

    def answer(self) -> Any:
        """Return what the function gave for the item.

        Raises:
            ChildDied: the child ended instead.
        """
        try:
            if not self._ready and self.pipe.recv() is True:
                self._ready = True
            return self.pipe.recv()
        except (EOFError, OSError):
            self._process.join(10)
            raise ChildDied(self.pid, self._process.exitcode, self.last_words()) from None

    def alive(self) -> bool:
        """Say whether the process lives."""
        return self._process.is_alive()

    def end(self) -> None:
        """End it at once; its log goes too."""
        self._process.kill()
        self._process.join()
        self.pipe.close()
        self._log.unlink(missing_ok=True)

    def last_words(self) -> str:
        """Return the end of what it wrote to its standard output and error since it got its item."""
        try:
            with self._log.open("rb") as log:
                log.seek(max(0, os.fstat(log.fileno()).st_size - _LAST_BYTES))
                said = log.read().decode(errors="replace").splitlines()
        except OSError:
            return ""
        # faulthandler ends with a page of names of extension modules, which would be all that is left
        return "\n".join(line for line in said if not line.startswith("Extension modules:"))[-_WORDS:].strip()


@contextlib.contextmanager
def _interrupt_held_back() -> Iterator[None]:
    """Hold SIGINT back while a child is started, so that it is born with SIGINT blocked, and is born whole.

    Ctrl-C goes to the whole process group, and a child can ignore it only once it has imported our modules.
    """
    resource_tracker.ensure_running()  # else `start` does so, and unblocks SIGINT on its way
    held: list[int] = []
    # another thread, which does not block it, may receive it; Python then interrupts the main thread, mask or no mask
    handler = signal.getsignal(signal.SIGINT) if threading.current_thread() is threading.main_thread() else None
    if handler is not None:
        signal.signal(signal.SIGINT, lambda number, _frame: held.append(number))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        if handler is not None:
            signal.signal(signal.SIGINT, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if held:
            signal.raise_signal(signal.SIGINT)


def _serve(
    pipe: Connection,
    function: Callable[[Any], Any],
    log: str,
    parent: int,
    setup: Callable[..., None],
    arguments: tuple[Any, ...],
) -> None:  # pragma: no cover - in the child
    _die_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # blocked since before it was born, until here
    words = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(words, 1)
    os.dup2(words, 2)
    os.close(words)
    faulthandler.enable(file=sys.stderr)
    setup(*arguments)
    pipe.send(True)
    while True:
        try:
            item = pipe.recv()
        except EOFError:
            return
        os.ftruncate(2, 0)  # last words are of this item
        pipe.send(function(item))


def _die_with(parent: int) -> None:  # pragma: no cover - in the child
    """Ask the kernel to end this process when its parent ends (Linux; elsewhere it ends when its pipe closes)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before we asked to die with it
        os._exit(0)
