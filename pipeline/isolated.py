"""Stages in a process of their own: whatever a row does to that process, its neighbours and the caller live on."""

import signal
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from manifests.children import Child, ChildDied, how_it_ended
from pipeline import worker
from pipeline.config import StageSpec

_STARTS: Final = 3  # one may have ended by somebody else's hand


@dataclass(frozen=True)
class Death:
    """The process died with rows in its hands: `reason` is `crashed` or `timeout`, `detail` holds its last words."""

    reason: str
    detail: str


class Isolated:
    """A child process that runs batches, made anew when it dies; a context manager that ends it."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._folder = tempfile.TemporaryDirectory(prefix="bodydouble-words-")
        self._child: Child | None = None
        self._started = 0

    def run(
        self, spec: StageSpec, items: Sequence[worker.Item], begin: Callable[[], bool] = lambda: True
    ) -> list[worker.Result] | worker.NoSpace | worker.CannotStart | Death | None:
        """Run a batch through its stage, and wait for what becomes of it.

        `begin` is called when the child is ready, so that a kill while it starts does not count as an attempt; if that
        gives False, the batch is left as it is, and the answer is None.
        """
        child = self._ready()
        if isinstance(child, worker.CannotStart):
            return child
        if not begin():
            return None
        child.begin(worker.Job(spec.name, spec.use, spec.config.model_dump_json(), spec.digest, tuple(items)))
        try:
            answer: list[worker.Result] | worker.NoSpace | worker.CannotStart = child.answer()
        except ChildDied as died:
            self.end()
            return death_of(died, spec)
        return answer

    def _ready(self) -> Child | worker.CannotStart:
        """Return a child that has set itself up; no row is charged with one that cannot."""
        words = ""
        for _ in range(_STARTS):
            if self._child is None or not self._child.alive():
                self.end()
                self._started += 1
                log = Path(self._folder.name, f"{self._started}.log")
                self._child = Child(worker.work, log, worker.begin, (self._root,))
            if self._child.wait_until_ready(worker.LOAD_TIMEOUT_S):
                return self._child
            words = self._child.last_words()
            self.end()
        last_line = words.splitlines()[-1] if words else "it said nothing"
        return worker.CannotStart(f"no worker can start: {_STARTS} processes ended before any row ({last_line})")

    def end(self) -> None:
        """End the child, if there is one."""
        if self._child is not None:
            self._child.end()
            self._child = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()
        self._folder.cleanup()


def death_of(died: ChildDied, spec: StageSpec) -> Death:
    """Say in a row's words how its worker died."""
    hung = died.code == -signal.SIGALRM
    what = f"it ended with {how_it_ended(died.code)}"
    if hung:
        what = f"it took longer than timeout_s = {spec.config.timeout_s:g}"
    words = f"; its last words:\n{died.words}" if died.words else "; it said nothing"
    return Death("timeout" if hung else "crashed", f"worker {died.pid} died: {what}{words}")
