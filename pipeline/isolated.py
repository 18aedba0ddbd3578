"""Stages in a process of their own: whatever a row does to that process, its neighbours and the caller live on."""

import signal
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from manifests.children import Child, ChildDied, how_it_ended
from pipeline import worker
from pipeline.config import StageSpec


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
        self, spec: StageSpec, items: Sequence[worker.Item]
    ) -> list[worker.Result] | worker.NoSpace | worker.CannotStart | Death:
        """Run a batch through its stage, and wait for what becomes of it."""
        child = self.ready()
        child.begin(worker.Job(spec.name, spec.use, spec.config.model_dump_json(), spec.digest, tuple(items)))
        try:
            answer: list[worker.Result] | worker.NoSpace | worker.CannotStart = child.answer()
        except ChildDied as died:
            self.end()
            return death_of(died, spec)
        return answer

    def ready(self) -> Child:
        """Return a child that has set itself up."""
        if self._child is None or not self._child.alive():
            self.end()
            self._started += 1
            log = Path(self._folder.name, f"{self._started}.log")
            self._child = Child(worker.work, log, worker.begin, (self._root,))
            self._child.wait_until_ready(worker.LOAD_TIMEOUT_S)
        return self._child

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
