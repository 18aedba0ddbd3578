"""A run on this machine: worker processes, one committer, and what happens when something dies.

The driver hands batches to workers, takes their results, and is the only writer of the ledger. A row that is done goes
straight on to its next stage. A worker that dies or hangs costs nothing but the batch it had: its rows are tried again
one by one, each written down before it starts, and the one that takes its worker down a second time is quarantined
with the worker's last words.
"""

import contextlib
import os
import signal
import tempfile
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path

from manifests import ledger
from manifests.children import Child, ChildDied, how_it_ended
from manifests.errors import UserError
from manifests.lease import Lease
from manifests.ledger import Committer, Fold
from manifests.store import Store
from manifests.tables import Tables
from pipeline import worker
from pipeline.config import Run, StageSpec
from pipeline.feed import Walk, walks
from pipeline.plan import LONE_ATTEMPTS, TrackPlan, plan_run
from pipeline.progress import Progress
from pipeline.verify import find_damaged

ENVIRONMENT_OF_WORKERS = {
    "OMP_NUM_THREADS": "1",  # workers are what runs side by side; threads of small models would fight each other
    "MALLOC_MMAP_THRESHOLD_": str(1 << 20),  # frames go back to the system when freed: 742 MB after a clip, not 1386
}
DEATHS_OF_POISON = 2
REMAKES = 2  # an artifact that is found damaged more often than this in one run has a cause that remaking does not mend


class RunStopped(UserError):
    """The run ended early; the message says why and what to do. All that was finished is in the ledger."""

    exit_code = 1


@dataclass
class _Batch:
    walks: list[Walk]
    lone: bool = False  # a suspect, alone

    @property
    def spec(self) -> StageSpec:
        return self.walks[0].spec


@dataclass
class LocalRun:
    """One run, from plan to last commit."""

    run: Run
    tables: Tables
    committer: Committer
    lease: Lease
    plans: list[TrackPlan]
    folded: Fold
    progress: Progress
    _queues: dict[tuple[str, int], deque[Walk]] = field(default_factory=dict)
    _suspects: deque[Walk] = field(default_factory=deque)
    _flying: dict[Child, _Batch] = field(default_factory=dict)
    _idle: list[Child] = field(default_factory=list)
    _started: int = 0
    _deaths: Counter[str] = field(default_factory=Counter)
    _remakes: Counter[str] = field(default_factory=Counter)
    _row_of_errors: tuple[str, str, int] = ("", "", 0)
    _words: str = ""

    def execute(self) -> None:
        """Work until every row has ended or waits for a person."""
        with tempfile.TemporaryDirectory(prefix="bodydouble-words-") as self._words:
            try:
                self._loop()
            finally:
                for child in [*self._flying, *self._idle]:
                    child.end()
                with contextlib.suppress(OSError):  # what cannot be written now was never promised
                    self.committer.flush()

    def _loop(self) -> None:
        workers = self.run.config.workers
        feed = self._feed()
        in_progress = sum(4 * workers * max((s.config.batch_size for s in p.specs), default=1) for p in self.plans)
        fed_up = False
        while True:
            while not fed_up and self._waiting() < in_progress:
                walk = next(feed, None)
                fed_up = walk is None
                if walk is not None:
                    self._admit(walk)
            while len(self._flying) < workers and (batch := self._next_batch(fed_up)) is not None:
                self._submit(batch)
            if not self._flying:
                return
            pipes = {child.pipe: child for child in self._flying}
            for pipe in wait(pipes, timeout=self.run.config.commit_every_s):
                child = pipes[pipe]  # type: ignore[index]
                if child.has_news():
                    self._end(child, self._flying.pop(child))
            self.lease.check()
            if self.committer.due():
                self.committer.flush()
            self.progress.show()

    def _feed(self) -> Iterator[Walk]:
        for plan in self.plans:
            yield from walks(plan, self.tables, self.folded)

    def _waiting(self) -> int:
        return sum(map(len, self._queues.values())) + len(self._suspects)

    def _admit(self, walk: Walk) -> None:
        """Queue a row for its next stage; a row whose lone attempts ended everything before is poison."""
        attempts = self.folded.attempts.get(walk.key, 0)
        if attempts >= LONE_ATTEMPTS:
            words = f"{attempts} runs ended while this row was alone in a worker; nothing of their last words is left"
            self._record(walk, worker.Result(ledger.QUARANTINED, "crashed", words))
        elif attempts:
            self._suspects.append(walk)
        else:
            self._queue(walk).append(walk)

    def _queue(self, walk: Walk) -> deque[Walk]:
        return self._queues.setdefault((walk.plan.track, walk.stage), deque())

    def _next_batch(self, fed_up: bool) -> _Batch | None:
        """Suspects first; then the stage furthest along that has a whole batch; then, if nothing is to come, any."""
        if self._suspects:
            return _Batch([self._suspects.popleft()], lone=True)
        waiting = [queue for _, queue in sorted(self._queues.items(), key=lambda entry: -entry[0][1]) if queue]
        idle = fed_up and len(self._flying) < self.run.config.workers
        for queue in waiting:
            size = queue[0].spec.config.batch_size
            if len(queue) >= size or idle or not self._flying:
                return _Batch([queue.popleft() for _ in range(min(size, len(queue)))])
        return None

    def _submit(self, batch: _Batch) -> None:
        spec = batch.spec
        if batch.lone:
            self.committer.add(batch.walks[0].outcome(ledger.STARTED))
            self.committer.flush()
        items = tuple(worker.Item(walk.id, walk.key, walk.inputs()) for walk in batch.walks)
        child = self._child()
        child.begin(worker.Job(spec.name, spec.use, spec.config.model_dump_json(), items))
        self._flying[child] = batch

    def _child(self) -> Child:
        """Return a living worker that has nothing to do, or a new one."""
        while self._idle:
            child = self._idle.pop()
            if child.alive():
                return child
            child.end()
        self._started += 1
        return Child(worker.work, Path(self._words, f"{self._started}.log"), worker.begin, (self.tables.root,))

    def _end(self, child: Child, batch: _Batch) -> None:
        try:
            answer = child.answer()
        except ChildDied as died:
            child.end()
            self._worker_died(died, batch)
            return
        self._idle.append(child)
        if isinstance(answer, worker.NoSpace):
            raise RunStopped(
                f"no space left under {self.tables.root}; what was finished is safe, and nothing half-written is read: "
                "free some space and run the same command again"
            )
        if isinstance(answer, worker.CannotStart):
            raise RunStopped(str(answer))
        for walk, result in zip(batch.walks, answer, strict=True):
            self._record(walk, result)

    def _worker_died(self, died: ChildDied, batch: _Batch) -> None:
        hung = died.code == -signal.SIGALRM
        reason = "timeout" if hung else "crashed"
        limit = batch.spec.config.timeout_s
        what = f"it took longer than timeout_s = {limit:g}" if hung else f"it ended with {how_it_ended(died.code)}"
        words = f"; its last words:\n{died.words}" if died.words else "; it said nothing"
        detail = f"worker {died.pid} died: {what}{words}"
        for walk in batch.walks:
            self._deaths[walk.key] += 1
            if len(batch.walks) > 1:
                self._suspects.append(walk)  # who of them it was is not known yet: none is charged
            elif self._deaths[walk.key] < DEATHS_OF_POISON:
                self.committer.add(walk.outcome(ledger.CRASHED, reason=reason, detail=detail))
                self._suspects.append(walk)
            else:
                self._record(walk, worker.Result(ledger.QUARANTINED, reason, detail))

    def _record(self, walk: Walk, result: worker.Result) -> None:
        """Write down what became of a row, and send it on."""
        if result.state == ledger.LOST:
            self._remake(walk, result)
            return
        self.committer.add(walk.outcome(**vars(result)))
        self.progress.count(walk.plan.track, walk.spec.name, result)
        if result.state == ledger.DONE:
            if walk.advance(result.made or {}, result.artifacts):
                self._admit(walk)
            self._row_of_errors = ("", "", 0)
        elif result.state == ledger.QUARANTINED:
            self._count_error(walk.spec.name, result.reason or "", result.detail or "")

    def _count_error(self, stage: str, reason: str, detail: str) -> None:
        last_stage, last_reason, count = self._row_of_errors
        count = count + 1 if (last_stage, last_reason) == (stage, reason) else 1
        self._row_of_errors = (stage, reason, count)
        if count >= self.run.config.stop_after_errors:
            last_line = detail.strip().splitlines()[-1] if detail.strip() else "no detail"
            raise RunStopped(
                f"stage {stage} failed {count} times in a row with {reason} ({last_line}); "
                f"mend the cause, then `bodydouble requeue RUN.yaml --where \"reason = '{reason}'\"` and run again"
            )

    def _remake(self, walk: Walk, result: worker.Result) -> None:
        """An input of this row is missing or damaged: write that down, and send the row back to where it is made."""
        column = result.reason or ""
        walk.back_to_maker_of(column)
        self._remakes[walk.key] += 1
        if self._remakes[walk.key] > REMAKES:
            self._record(walk, worker.Result(ledger.QUARANTINED, "artifact_damaged", result.detail))
            return
        self.committer.add(walk.outcome(ledger.LOST, reason=column, detail=result.detail))
        self._queue(walk).append(walk)


def execute(
    run: Run, limit: int | None, until: str | None, progress: Progress, verify: bool = False
) -> list[TrackPlan]:
    """Run what is left to do, under the lease of the root; returns the plan that was worked off.

    Raises:
        LeaseTaken: another driver lives.
        RunStopped: the disk is full, a stage cannot start, or one class of error came too often in a row.
    """
    for name, value in ENVIRONMENT_OF_WORKERS.items():
        os.environ.setdefault(name, value)  # read when a process starts: what the user set counts
    tables = Tables(run.config.root)
    with Lease.take(run.config.root, "bodydouble run") as lease:
        Store(run.config.root).remove_leftovers()
        committer = Committer(tables, lease.epoch, run.config.commit_every, run.config.commit_every_s)
        if verify:
            find_damaged(tables, committer)
        folded = ledger.fold(tables)
        plans = plan_run(run, tables, folded, limit, until)
        progress.begin(plans)
        LocalRun(run, tables, committer, lease, plans, folded, progress).execute()
    return plans
