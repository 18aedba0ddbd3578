"""The desk at which all workers of a cluster ask and report: what is done, who has what, who is suspect.

It is the one writer of the ledger there. A worker asks before it takes rows, and is told for each whether to go on, to
try it alone, or to leave it. What was begun and never reported when the same row is asked for again, went down with
its worker: from then on it is tried alone, each attempt written down before it starts, and a row that takes its worker
down a second time is quarantined. So Ray may repeat a block as often as it likes: no row pays for its neighbours, and
none is done twice.

This file knows nothing of Ray; `ray_runner` puts a desk into an actor.
"""

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow.compute as pc

from manifests import ledger
from manifests.errors import UserError, is_full
from manifests.flight import FlightNote
from manifests.ledger import Committer
from manifests.tables import Tables
from pipeline.errands import Answer, Errand, Packed
from pipeline.worker import Result

DEATHS_OF_POISON: Final = 2  # of a worker that had one row alone
LONE_ATTEMPTS: Final = 3  # that ended the whole run: one more than workers' deaths, since a person may have ended two
REMAKES: Final = 2  # an artifact that is damaged more often than this in one run has a cause that remaking cannot mend
_SEQUENCES_OF_A_LIFE: Final = 1_000_000  # what a desk that died may still have had on its way is numbered below
_SHARE_FOR_NOTES: Final = 0.1  # of the desk's time: on a store they are slow, and workers wait


class RunStopped(UserError):
    """The run ended early; the message says why and what to do. All that was finished is in the ledger."""

    exit_code = 1


@dataclass
class _Flight:
    errand: Errand
    worker: str
    begun_s: float | None = None
    alone: bool = False


@dataclass(frozen=True)
class Pulse:
    """What happened since the last one, and what stands still.

    Attributes:
        results: (track, stage, state, seconds) of each result.
        in_flight: (track, stage) -> rows in workers' hands.
        asked: (track, stage) -> rows that workers ever asked for.
        oldest: What has been worked on for longest: (errand, worker, seconds), or None.
        stop: Why the run must end, or None.
        no_space: Whether that is for want of space.
    """

    results: list[tuple[str, str, str, float]]
    in_flight: dict[tuple[str, str], int]
    asked: dict[tuple[str, str], int]
    oldest: tuple[Errand, str, float] | None
    stop: str | None
    no_space: bool


class Desk:
    """See the module's docstring. Calls come one at a time.

    Args:
        root: Of the run.
        epoch: Of the driver's lease.
        commit_every: Outcomes in one commit, at most.
        commit_every_s: Seconds until an outcome is committed, at most.
        stop_after_errors: Errors of one class in a row that end the run.
    """

    def __init__(self, root: str, epoch: int, commit_every: int, commit_every_s: float, stop_after_errors: int) -> None:
        self._tables, self._stop_after = Tables(root), stop_after_errors
        written = self._tables.read("outcomes", columns=["seq"], where=f"epoch = {epoch}")["seq"]
        after = int(pc.max(written).as_py()) + _SEQUENCES_OF_A_LIFE if len(written) else 0
        self._committer = Committer(self._tables, epoch, commit_every, commit_every_s, after)
        folded = ledger.fold(self._tables)
        self._state, self._attempts = folded.state, folded.attempts
        self._note = FlightNote(root, epoch)
        self._suspects = self._note.left_behind()
        self._noted: set[str] = set()
        self._next_note_s = 0.0
        self._results: dict[str, tuple[dict[str, Any], Sequence[dict[str, Any]]]] = {}  # of keys that ended here
        self._flying: dict[str, _Flight] = {}
        self._deaths: Counter[str] = Counter()
        self._remakes: Counter[str] = Counter()
        self._errors: dict[tuple[str, str], tuple[str, int]] = {}  # stage -> class, how many in a row
        self._told: list[tuple[str, str, str, float]] = []
        self._asked: Counter[tuple[str, str]] = Counter()
        self._stop: str | None = None
        self._no_space = False

    def ask(self, worker: str, errands: Sequence[Errand]) -> Packed[Answer]:
        """Say what to do with each of some rows; those that are to be worked on are then in this worker's hands."""
        self._asked.update((each.track, each.stage) for each in errands if each.key not in self._flying)
        self._recall(errands)
        return Packed(self._answer(worker, errand) for errand in errands)

    def begin(self, worker: str, errands: Sequence[Errand]) -> bool:
        """Hear that rows are about to be handed to their stage, and note it; False if they must not: the run ends."""
        if self._stop is not None:
            return False
        now = time.monotonic()
        for errand in errands:  # a desk that took over hears of them here first
            self._flying.setdefault(errand.key, _Flight(errand, worker)).begun_s = now
        if now >= self._next_note_s:
            self._take_note()
        return True

    def begin_alone(self, worker: str, errand: Errand) -> bool:
        """Hear that a suspect starts; when this returns True, that is in the ledger."""
        if not self.begin(worker, [errand]):
            return False
        self._flying[errand.key].alone = True
        self._committer.add(errand.outcome(ledger.STARTED))
        self._flush()
        return self._stop is None

    def died(self, errand: Errand, reason: str, detail: str) -> int:
        """Hear that a stage's process died with one row alone in its hands; returns how often it did."""
        self._deaths[errand.key] += 1
        if self._deaths[errand.key] < DEATHS_OF_POISON:
            self._committer.add(errand.outcome(ledger.CRASHED, reason=reason, detail=detail))
        return self._deaths[errand.key]

    def take(self, results: Sequence[tuple[Errand, Result, Errand | None]]) -> None:
        """Take what became of rows. Beside the result of one whose input is lost stands the errand of who makes it."""
        for errand, result, maker in results:
            self._flying.pop(errand.key, None)
            if self._state.get(errand.key) in ledger.SETTLED:
                continue  # told twice: the desk that heard it first wrote it down, and died before it said so
            if result.state == ledger.LOST and maker is not None:
                self._lost(result, maker)
            else:
                self._record(errand, result)
        if self._committer.due():
            self._flush()

    def stop(self, why: str, no_space: bool = False) -> None:
        """End the run: whoever asks from now on is told to leave its rows for another time. The first reason counts."""
        if self._stop is None:
            self._stop, self._no_space = why, no_space

    def pulse(self) -> Pulse:
        """Say what happened since this was last asked, and commit what is due."""
        if self._committer.due():
            self._flush()
        told, self._told = self._told, []
        now = time.monotonic()
        flying = Counter((each.errand.track, each.errand.stage) for each in self._flying.values())
        begun = [(each.begun_s, each) for each in self._flying.values() if each.begun_s is not None]
        since_s, first = min(begun, key=lambda pair: pair[0], default=(now, None))
        oldest = None if first is None else (first.errand, first.worker, now - since_s)
        return Pulse(told, dict(flying), dict(self._asked), oldest, self._stop, self._no_space)

    def end_wave(self) -> None:
        """Commit everything, and forget what only this wave's rows could ask for again."""
        self._flush()
        self._results.clear()
        self._flying.clear()

    def close(self) -> None:
        """End in good order: commit everything, charge nobody who is in flight, and leave no note."""
        for flight in self._flying.values():
            if flight.alone:
                self._committer.add(flight.errand.outcome(ledger.REQUEUED, reason="run_stopped"))
        self._flying.clear()
        self._committer.flush()
        self._note.clear()

    def _answer(self, worker: str, errand: Errand) -> Answer:
        key, state = errand.key, self._state.get(errand.key)
        flight = self._flying.get(key)
        if self._stop is not None or (flight is not None and flight.errand.id != errand.id):
            return Answer("later")
        if state == ledger.DONE:
            made, artifacts = self._results[key]
            return Answer("done", made=made, artifacts=artifacts)
        if state in ledger.SETTLED:
            return Answer("over")
        if flight is not None and flight.alone:  # its worker is gone, and it was alone there
            words = f"worker {flight.worker} was lost while it had this row alone, and said nothing"
            if self.died(errand, "crashed", words) >= DEATHS_OF_POISON:
                self._record(errand, Result(ledger.QUARANTINED, "crashed", words))
                return Answer("over")
        attempts = self._attempts.get(key, 0)
        if attempts >= LONE_ATTEMPTS:
            words = f"{attempts} runs ended while this row was alone in a worker; nothing of their last words is left"
            self._record(errand, Result(ledger.QUARANTINED, "crashed", words))
            return Answer("over")
        # one that was asked for and not begun cannot have been what took its worker down
        suspect = (flight is not None and flight.begun_s is not None) or attempts or key in self._suspects
        if suspect:
            self._suspects.add(key)
        self._flying[key] = _Flight(errand, worker)
        return Answer("alone" if suspect else "go")

    def _recall(self, errands: Iterable[Errand]) -> None:
        """Fetch from the ledger what is done and not at hand: it ended in an earlier wave, or at a desk that died."""
        asked = {each.key for each in errands if self._state.get(each.key) == ledger.DONE} - self._results.keys()
        if asked:
            self._flush()
        if asked and self._stop is None:
            found = ledger.Results(self._tables, asked)
            self._results |= {key: found[key] for key in asked}

    def _record(self, errand: Errand, result: Result) -> None:
        self._committer.add(errand.outcome(**vars(result)))
        self._state[errand.key] = result.state
        self._flying.pop(errand.key, None)
        self._told.append((errand.track, errand.stage, result.state, result.seconds))
        stage = (errand.track, errand.stage)
        if result.state == ledger.QUARANTINED:
            self._count_error(stage, result.reason or "", result.detail or "")
            return
        self._errors.pop(stage, None)
        if result.state == ledger.DONE:
            self._results[errand.key] = (result.made or {}, result.artifacts)

    def _lost(self, result: Result, maker: Errand) -> None:
        """An input is missing or damaged: who makes it does so again, in the next round."""
        if self._state.get(maker.key) == ledger.LOST:
            return  # another row that needs it said so before
        self._remakes[maker.key] += 1
        if self._remakes[maker.key] > REMAKES:
            self._record(maker, Result(ledger.QUARANTINED, "artifact_damaged", result.detail))
            return
        self._committer.add(maker.outcome(ledger.LOST, reason=result.reason, detail=result.detail))
        self._state[maker.key] = ledger.LOST
        self._results.pop(maker.key, None)

    def _count_error(self, stage: tuple[str, str], reason: str, detail: str) -> None:
        last, count = self._errors.get(stage, (reason, 0))
        count = count + 1 if last == reason else 1
        self._errors[stage] = (reason, count)
        if count >= self._stop_after:
            self.stop(too_many(stage, count, reason, detail, self._tables.root))

    def _flush(self) -> None:
        """Commit; where that is not possible, the run ends, and what waits is tried once more at its end."""
        try:
            self._committer.flush()
        except OSError as error:
            self.stop(f"the ledger under {self._tables.root} cannot be written: {error}", is_full(error))
        except UserError as error:
            self.stop(str(error))

    def _take_note(self) -> None:
        """Note what is in its stage's hands: whatever takes this machine down is found there."""
        begun = {key for key, flight in self._flying.items() if flight.begun_s is not None}
        if self._noted != begun:
            started_s = time.monotonic()
            self._note.write(begun)
            self._noted, ended_s = begun, time.monotonic()
            self._next_note_s = ended_s + (ended_s - started_s) / _SHARE_FOR_NOTES


def too_many(stage: Iterable[str], count: int, reason: str, detail: str, root: str) -> str:
    """Return the sentence that ends a run in which one class of error came too often in a row."""
    last_line = detail.strip().splitlines()[-1] if detail.strip() else "no detail"
    return (
        f"stage {'.'.join(stage)} failed {count} times in a row with {reason} ({last_line}); mend the cause, "
        f"then `bodydouble requeue --root {root} --where \"reason = '{reason}'\"` and run again"
    )
