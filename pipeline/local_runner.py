"""Worker processes on this machine, and what happens when something dies.

The driver hands batches to workers, takes their results, and is the only writer of the ledger. A row that is done goes
straight on to its next stage. A worker that dies or hangs costs nothing but the batch it had: its rows are tried again
one by one, each written down before it starts, and the one that takes its worker down a second time is quarantined
with the worker's last words.
"""

import contextlib
import tempfile
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path

from manifests import ledger
from manifests.children import Child, ChildDied
from manifests.errors import NoSpaceError
from manifests.flight import FlightNote
from manifests.lease import Lease
from manifests.ledger import Committer, Fold
from manifests.tables import Tables
from pipeline import worker
from pipeline.config import Run, StageSpec
from pipeline.desk import DEATHS_OF_POISON, LONE_ATTEMPTS, REMAKES, RunStopped, too_many
from pipeline.feed import Walk, walks
from pipeline.isolated import death_of
from pipeline.plan import TrackPlan
from pipeline.progress import Progress


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
    note: FlightNote
    plans: list[TrackPlan]
    folded: Fold
    progress: Progress
    _queues: dict[tuple[str, int], deque[Walk]] = field(default_factory=dict)
    _suspects: deque[Walk] = field(default_factory=deque)
    _suspected: set[str] = field(default_factory=set)  # keys that were in flight when an earlier driver died
    _sharing: dict[str, list[Walk]] = field(default_factory=dict)  # key under way -> other rows with the same key
    _flying: dict[Child, _Batch] = field(default_factory=dict)
    _idle: list[Child] = field(default_factory=list)
    _started: int = 0
    _deaths: Counter[str] = field(default_factory=Counter)
    _remakes: Counter[str] = field(default_factory=Counter)
    _errors: dict[tuple[str, str], tuple[str, int]] = field(default_factory=dict)  # stage -> class, how many in a row
    _words: str = ""

    def execute(self) -> None:
        """Work until every row has ended or waits for a person."""
        self._suspected = self.note.left_behind()
        with tempfile.TemporaryDirectory(prefix="bodydouble-words-") as self._words:
            try:
                self._loop()
            finally:
                try:
                    self._wind_up()
                finally:
                    for child in [*self._flying, *self._idle]:
                        child.end()

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
            self._show()

    def _show(self) -> None:
        flying = Counter((batch.spec.track, batch.spec.name) for batch in self._flying.values() for _ in batch.walks)
        queues = {(track, queue[0].spec.name): len(queue) for (track, _), queue in self._queues.items() if queue}
        self.progress.queues(flying, queues)
        self.progress.show()

    def _wind_up(self) -> None:
        """End in good order, also after Ctrl-C or an error: keep what is finished, charge nobody who was in flight."""
        self.lease.check()  # who lost the lease writes nothing more
        for child, batch in list(self._flying.items()):
            if child.has_news():
                del self._flying[child]
                with contextlib.suppress(RunStopped, NoSpaceError):  # it ends already
                    self._end(child, batch)
            elif batch.lone:
                self.committer.add(batch.walks[0].outcome(ledger.REQUEUED, reason="run_stopped"))
        self.committer.flush()
        self.note.clear()

    def _feed(self) -> Iterator[Walk]:
        for plan in self.plans:
            yield from walks(plan, self.tables, self.folded)

    def _waiting(self) -> int:
        """How many rows are queued; suspects apart, or many of them would keep the others out."""
        return sum(map(len, self._queues.values()))

    def _admit(self, walk: Walk) -> None:
        """Queue a row for its next stage; a row whose lone attempts ended everything before is poison."""
        if walk.key in self._sharing:
            self._sharing[walk.key].append(walk)
            return
        self._sharing[walk.key] = []
        attempts = self.folded.attempts.get(walk.key, 0)
        if attempts >= LONE_ATTEMPTS:
            words = f"{attempts} runs ended while this row was alone in a worker; nothing of their last words is left"
            self._record(walk, worker.Result(ledger.QUARANTINED, "crashed", words))
        elif attempts or walk.key in self._suspected:
            self._suspects.append(walk)
        else:
            self._queues.setdefault((walk.plan.track, walk.stage), deque()).append(walk)

    def _next_batch(self, fed_up: bool) -> _Batch | None:
        """The stage furthest along that has a whole batch; then, if nothing is to come, any; then suspects, alone."""
        waiting = [queue for _, queue in sorted(self._queues.items(), key=lambda entry: -entry[0][1]) if queue]
        idle = fed_up or not self._flying
        for queue in waiting:
            size = queue[0].spec.config.batch_size
            if len(queue) >= size or idle:
                return _Batch([queue.popleft() for _ in range(min(size, len(queue)))])
        return _Batch([self._suspects.popleft()], lone=True) if self._suspects else None

    def _submit(self, batch: _Batch) -> None:
        spec = batch.spec
        if batch.lone:
            self._make_ready(1 + len(self._suspects))
        child = self._child()
        self._flying[child] = batch
        if batch.lone:
            self.committer.add(batch.walks[0].outcome(ledger.STARTED))
            self.committer.flush()
        self.note.write(walk.key for flying in self._flying.values() for walk in flying.walks)
        items = tuple(worker.Item(walk.id, walk.key, walk.inputs()) for walk in batch.walks)
        child.begin(worker.Job(spec.name, spec.use, spec.config.model_dump_json(), spec.digest, items))

    def _make_ready(self, wanted: int) -> None:
        """Have a worker for each suspect that can fly: a kill while processes start must not count as an attempt."""
        ready = [self._child() for _ in range(min(wanted, self.run.config.workers - len(self._flying)))]
        self._idle.extend(ready)
        for child in ready:
            child.wait_until_ready(worker.LOAD_TIMEOUT_S)

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
            raise NoSpaceError(f"{self.tables.root} or where temporary files go ({answer})")
        if isinstance(answer, worker.CannotStart):
            raise RunStopped(str(answer))
        for walk, result in zip(batch.walks, answer, strict=True):
            self._record(walk, result)

    def _worker_died(self, died: ChildDied, batch: _Batch) -> None:
        if len(batch.walks) > 1:  # who of them it was is not known yet: none is charged
            self._suspects.extend(batch.walks)
            return
        (walk,) = batch.walks
        death = death_of(died, batch.spec)
        self._deaths[walk.key] += 1
        if self._deaths[walk.key] < DEATHS_OF_POISON:
            self.committer.add(walk.outcome(ledger.CRASHED, reason=death.reason, detail=death.detail))
            self._suspects.append(walk)
        else:
            self._record(walk, worker.Result(ledger.QUARANTINED, death.reason, death.detail))

    def _record(self, walk: Walk, result: worker.Result) -> None:
        """Write down what became of a row, and send it on, with the rows that share its key."""
        if result.state == ledger.LOST:
            self._remake(walk, result)
            return
        self.committer.add(walk.outcome(**vars(result)))
        self.progress.count(walk.plan.track, walk.spec.name, result)
        stage = (walk.plan.track, walk.spec.name)
        together = [walk, *self._sharing.pop(walk.key, [])]
        if result.state == ledger.QUARANTINED:
            self._count_error(stage, result.reason or "", result.detail or "")
            return
        self._errors.pop(stage, None)
        if result.state == ledger.DONE:
            for each in together:
                if each.advance(result.made or {}, result.artifacts):
                    self._admit(each)

    def _count_error(self, stage: tuple[str, str], reason: str, detail: str) -> None:
        last, count = self._errors.get(stage, (reason, 0))
        count = count + 1 if last == reason else 1
        self._errors[stage] = (reason, count)
        if count >= self.run.config.stop_after_errors:
            raise RunStopped(too_many(stage, count, reason, detail, self.tables.root))

    def _remake(self, walk: Walk, result: worker.Result) -> None:
        """An input of this row is missing or damaged: write that down, and send the row back to where it is made."""
        column = result.reason or ""
        together = [walk, *self._sharing.pop(walk.key, [])]
        if maker := walk.makers.get(column):  # its track makes it again, and this pair waits until then
            self.committer.add(maker.outcome(ledger.LOST, reason=column, detail=result.detail))
            return
        for each in together:
            each.back_to_maker_of(column)
        self._remakes[walk.key] += 1
        if self._remakes[walk.key] > REMAKES:
            self._record(walk, worker.Result(ledger.QUARANTINED, "artifact_damaged", result.detail))
            return
        self.committer.add(walk.outcome(ledger.LOST, reason=column, detail=result.detail))
        for each in together:
            self._admit(each)
