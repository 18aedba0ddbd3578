"""Processes that decode samples of shards ahead of the step that learns from them, in the order in which it will.

torch's DataLoader keeps them; they are spawned, since neither Lance nor CUDA outlives a fork. What goes through its
pipes is clips in uint8, not the float videos that are made of them: those are twelve times as large.
"""

import contextlib
import signal
from collections.abc import Iterator
from typing import Final, NamedTuple

import torch
from torch.utils.data import DataLoader, Dataset

from manifests.errors import UserError
from model.training.shard_clips import Read, ShardClips

_AHEAD: Final = 2  # batches that each process keeps ready
_TIMEOUT_S: Final = 600.0  # for one batch
_DIED: Final = ("exited unexpectedly", "is killed by signal", "timed out after")  # in the words of torch's loader


class ReaderDiedError(UserError):
    """A process that decodes ahead died, does not answer, or ran into what it cannot mend."""

    exit_code = 1


class _Failed(NamedTuple):
    """What a process could not mend, in one sentence."""

    sentence: str


class _Decoded(NamedTuple):
    """A batch: the numbers that were asked for, and what was read."""

    numbers: list[int]
    read: list[Read | _Failed]


class Readers:
    """`workers` processes that read clips by number."""

    def __init__(self, clips: ShardClips, workers: int) -> None:
        self._clips, self._workers = clips, workers
        self._batches: Iterator[list[int]] = iter(())
        self._loaded: Iterator[_Decoded] | None = None
        self._next: _Decoded | None = None

    def expect(self, batches: Iterator[list[int]]) -> None:
        """Read these batches from the first `taken` on; what was read for others is dropped."""
        self._batches, self._loaded, self._next = batches, None, None

    def taken(self, numbers: list[int]) -> list[Read] | None:
        """Return the clips of these numbers if they are the batch that is expected next, else None.

        Raises:
            ReaderDiedError: a process died, gave nothing for long, or met an error that the user can mend.
        """
        if self._next is None:
            self._next = self._from_processes()
        if self._next is None or self._next.numbers != numbers:
            return None
        read, self._next = self._next.read, None
        for each in read:
            if isinstance(each, _Failed):
                raise ReaderDiedError(each.sentence)
        return [each for each in read if isinstance(each, Read)]

    def _from_processes(self) -> _Decoded | None:
        with deaths_told():
            if self._loaded is None:
                self._loaded = iter(self._loader())
            return next(self._loaded, None)

    def _loader(self) -> "DataLoader[_Decoded]":
        return DataLoader(
            _Clips(self._clips), batch_sampler=_Once(self._batches), num_workers=self._workers,  # type: ignore[arg-type]
            collate_fn=_together, multiprocessing_context="spawn", prefetch_factor=_AHEAD, timeout=_TIMEOUT_S,
            worker_init_fn=_deaf, generator=torch.Generator(),
        )  # fmt: skip


@contextlib.contextmanager
def deaths_told() -> Iterator[None]:
    """Say in a sentence that a process of `Readers` died: torch tells of it by a signal, in the midst of anything.

    Raises:
        ReaderDiedError: one died, or gave nothing for long.
    """
    try:
        yield
    except RuntimeError as error:
        if not any(words in str(error) for words in _DIED):
            raise
        raise ReaderDiedError(
            f"a process that decodes samples ahead died, or gave nothing for {_TIMEOUT_S:g} s "
            f"({str(error).splitlines()[0].strip()}); look for want of memory, lower data.workers, and start "
            "again: the training goes on from its newest checkpoint"
        ) from error


class _Clips(Dataset[tuple[int, Read | _Failed]]):
    """Clips, as torch's loader asks for them."""

    def __init__(self, clips: ShardClips) -> None:
        self._clips = clips

    def __getitem__(self, number: int) -> tuple[int, Read | _Failed]:
        try:
            return number, self._clips.read(number)
        except UserError as error:
            return number, _Failed(str(error))  # torch's loader would wrap it in a traceback


class _Once:
    """Batches that are gone through once."""

    def __init__(self, batches: Iterator[list[int]]) -> None:
        self._batches = batches

    def __iter__(self) -> Iterator[list[int]]:
        return self._batches


def _together(read: list[tuple[int, Read | _Failed]]) -> _Decoded:
    return _Decoded([number for number, _ in read], [each for _, each in read])


def _deaf(_: int) -> None:
    """Let the training alone hear what a terminal or a scheduler tells all its processes: it finishes its step, saves,
    and then ends its readers. A second SIGTERM is the training's own, for one that does not end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.signal(signal.SIGTERM, signal.SIG_DFL))
