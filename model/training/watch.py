"""Who keeps the others waiting: each process says where it stands, and one that stands still is named, not waited for.

A collective waits for the slowest without knowing which it is. So a thread of each process writes its place every
second to the store at which the processes met: step, what it does there, and since when. A process that has waited in
one place for longer than its patience looks at the others. To blame is who does not even write any more (killed,
stopped, or its machine gone), or else who is behind. The first to find out says so in one sentence, and all end; what
starts them again goes on from the newest checkpoint.
"""

import contextlib
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Self, TypeVar

import torch.distributed as dist

from manifests.errors import UserError

Doing = Literal[
    "begins", "reads its samples", "learns", "validates", "draws samples", "saves a checkpoint", "waits for rank 0"
]
_ORDER: Final[Sequence[Doing]] = (
    "begins", "reads its samples", "learns", "validates", "draws samples", "saves a checkpoint", "waits for rank 0",
)  # fmt: skip
_ALONE: Final = {"reads its samples", "draws samples"}  # in these nobody waits for others
_BEAT_S: Final = 1.0
_SILENT_S: Final = 6.0  # without a sign of life; a busy machine may lose a beat or two
_ANSWER_S: Final = 10.0  # within which a store answers
_EXIT_CODE: Final = 1

Answer = TypeVar("Answer")


class RankLostError(UserError):
    """Another process of the training is gone."""

    exit_code = _EXIT_CODE


@dataclass(frozen=True)
class Stand:
    """Where a process stands; times are seconds since the epoch, by its own clock."""

    rank: int
    name: str
    step: int
    doing: Doing
    since_s: float
    seen_s: float

    @property
    def place(self) -> tuple[int, int]:
        """Of two processes the one with the smaller place keeps the other waiting."""
        return self.step, _ORDER.index(self.doing)

    def told(self) -> str:
        """Return where this process stands, for a sentence."""
        return (
            f"rank {self.rank} ({self.name}) at step {self.step}, where it {self.doing}, since {_clock(self.since_s)}"
        )


class Watch:
    """One process's own place, and its eye on the others; a context manager.

    Args:
        rank: Of this process.
        world: Number of processes.
        patience_s: Seconds to wait in one place before the others are looked at.
        store: At which the processes met (torch's `Store`); for this watch alone.
        tell: Takes the sentence, in the thread that found out, before this process ends.
    """

    def __init__(
        self, rank: int, world: int, patience_s: float, store: Any, tell: Callable[[str], None] | None = None
    ) -> None:
        self._rank, self._world, self._patience_s, self._store = rank, world, patience_s, store
        self._tell = tell or (lambda said: print(f"bodydouble: {said}", file=sys.stderr, flush=True))
        self._name = f"process {os.getpid()} on {socket.gethostname()}"
        self._here: tuple[int, Doing, float] = (0, "begins", time.time())
        self._ended, self._thread = threading.Event(), threading.Thread(target=self._run, daemon=True)
        self._lock = threading.Lock()  # a store answers one question at a time

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(_ANSWER_S)  # it may be waiting for a store that is gone

    def at(self, step: int, doing: Doing) -> None:
        """Say where this process stands from now on; steps count from 1."""
        self._here = (step, doing, time.time())

    def lost(self) -> str | None:
        """Return a sentence about the processes that give no sign of life any more; None where all do."""
        silent = self._silent()
        return None if silent == [] else self._sentence(silent, [])

    def first_to_say(self) -> bool:
        """Say whether no other process has told the user; a store that is gone cannot know."""
        return self._ask(lambda: self._store.add("spoken", 1)) in {1, None}

    def _run(self) -> None:
        while not self._ended.wait(min(_BEAT_S, self._patience_s / 4)):
            self._write()
            if self._waits_too_long():
                said = self._blame()
                if said is not None and not self._ended.is_set():
                    if self.first_to_say():
                        self._tell(said)
                    else:
                        time.sleep(2 * _BEAT_S)  # who starts processes again may ask the first for its reasons
                    os._exit(_EXIT_CODE)  # the main thread may be in a collective, where nothing reaches it

    def _waits_too_long(self, times: int = 1) -> bool:
        _, doing, since_s = self._here
        return doing not in _ALONE and time.time() - since_s > times * self._patience_s

    def _write(self) -> None:
        step, doing, since_s = self._here
        here = json.dumps([self._name, step, doing, since_s, time.time()])
        self._ask(lambda: self._store.set(str(self._rank), here))

    def _blame(self) -> str | None:
        before = self._here
        silent = self._silent()
        if self._here is not before:  # it went on meanwhile
            return None
        if silent is None:
            return self._sentence(None, [])
        stands = self._stands() or []
        mine = next((stand for stand in stands if stand.rank == self._rank), None)
        behind = [stand for stand in stands if mine is not None and stand.place < mine.place]
        if silent or behind or self._waits_too_long(2):
            return self._sentence(silent, behind)
        return None

    def _silent(self) -> list[Stand] | None:
        """Return who wrote nothing while this process looked; None where there is no store to look at any more."""
        if (first := self._stands()) is None:
            return None
        time.sleep(_SILENT_S)
        if (second := self._stands()) is None:
            return None
        seen = {stand.rank: stand.seen_s for stand in first}
        return [stand for stand in second if stand.seen_s == seen.get(stand.rank) and stand.rank != self._rank]

    def _stands(self) -> list[Stand] | None:
        def every() -> list[Stand]:
            there = [rank for rank in range(self._world) if self._store.check([str(rank)])]
            return [Stand(rank, *json.loads(self._store.get(str(rank)))) for rank in there]

        return self._ask(every)

    def _ask(self, question: Callable[[], Answer]) -> Answer | None:
        """Return what the store answers; None where it is gone, or stands still with the process that keeps it: of
        that a client of torch's is never told."""
        answers: list[Answer] = []

        def ask() -> None:
            with contextlib.suppress(RuntimeError), self._lock:
                answers.append(question())

        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        asking.join(_ANSWER_S)
        return answers[0] if answers else None

    def _sentence(self, silent: Sequence[Stand] | None, behind: Sequence[Stand]) -> str:
        again = "the same command goes on from the newest checkpoint"
        if silent is None:
            return f"rank 0, or what started it, does not answer any more: see what ended it; {again}"
        if silent:
            who = "; ".join(f"{stand.told()}, last heard of at {_clock(stand.seen_s)}" for stand in silent)
            return f"no sign of life from {who}: it was killed or stopped, or its machine is gone; {again}"
        waited = f"and was waited for longer than training.parallel.patience_s ({self._patience_s:g})"
        if behind:
            who = "; ".join(stand.told() for stand in behind)
            return f"stands still: {who}, {waited}; see what holds it up there, or raise patience_s; {again}"
        step, doing, since_s = self._here
        return (
            f"all {self._world} processes have stood at step {step} ({doing}) since {_clock(since_s)}, none of them "
            f"behind the others, {waited}; raise patience_s if such a step may take so long; {again}"
        )


def meet(rank: int, world: int, patience_s: float, tell: Callable[[str], None] | None = None) -> Watch | None:
    """Return a watch over the processes that met at MASTER_ADDR; None where they met elsewhere."""
    address, port = os.environ.get("MASTER_ADDR"), os.environ.get("MASTER_PORT")
    if world == 1 or address is None or port is None:
        return None
    meeting = dist.TCPStore(address, int(port), is_master=False, wait_for_workers=False)  # type: ignore[attr-defined]
    start = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")  # torchrun keeps its store when it starts anew
    own = dist.PrefixStore(f"bodydouble/watch/{start}", meeting)  # type: ignore[attr-defined]
    return Watch(rank, world, patience_s, own, tell)


def _clock(seconds: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(seconds))
