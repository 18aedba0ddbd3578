"""A worker of one stage on Ray: an actor of a Ray Data pool, with the stage in a process of its own.

The actor stays alive whatever the stage does. What can still take it down is the loss of its node, or Ray itself when
memory ends: Ray then repeats the block elsewhere, and the desk knows what was in the lost hands.
"""

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import ray
from ray.actor import ActorHandle

from manifests import ledger
from pipeline import config, tickets, worker
from pipeline.desk import DEATHS_OF_POISON
from pipeline.errands import Answer, Errand, Packed
from pipeline.feed import Walk
from pipeline.isolated import Death, Isolated
from pipeline.run import ENVIRONMENT_OF_WORKERS

Got = list[worker.Result] | worker.NoSpace | worker.CannotStart | None
Report = tuple[Errand, worker.Result, Errand | None]


class StageWorker:
    """What Ray Data calls with blocks of tickets. Rows that do not stand before this stage pass through.

    Args:
        run: The run's config, as `RunConfig.model_dump` gives it.
        track: The track of the rows.
        stage: Which of the track's stages this is.
        root: The run's root.
        desk: The actor at which to ask and report.
    """

    def __init__(self, run: dict[str, Any], track: str, stage: int, root: str, desk: ActorHandle) -> None:
        self._specs = config.build(run).tracks[track]
        self._track, self._stage, self._spec, self._desk = track, stage, self._specs[stage], desk
        context = ray.get_runtime_context()
        vars(sys.modules["__main__"]).pop("__file__", None)  # Ray's: a child would import it, and all of Ray with it
        for name, value in ENVIRONMENT_OF_WORKERS.items():
            os.environ.setdefault(name, value)
        self._name = f"{context.get_actor_id()[:8]} (process {os.getpid()} on {ray.util.get_node_ip_address()})"
        self._box = Isolated(root)
        self._begun: Any = None  # the last announcement, and
        self._told: Any = None  # the last report: neither is waited for

    def __call__(self, block: pa.Table) -> pa.Table:
        """Take a block of rows through the stage; those that go no further leave it here."""
        walks = tickets.read(block, self._track, self._specs)
        mine = [walk for walk in walks if walk.stage == self._stage]
        if not mine:
            return block
        answers: list[Answer] = self._call("ask", self._name, Packed(tickets.errand(walk) for walk in mine))
        gone = {id(walk) for walk in mine}  # until they are known to go on
        for walk, answer in zip(mine, answers, strict=True):
            if answer.word == "done" and walk.advance(answer.made or {}, answer.artifacts):
                gone.discard(id(walk))
        healthy = [walk for walk, answer in zip(mine, answers, strict=True) if answer.word == "go"]
        suspects = [walk for walk, answer in zip(mine, answers, strict=True) if answer.word == "alone"]
        size = self._spec.config.batch_size
        for start in range(0, len(healthy), size):
            suspects += self._together(healthy[start : start + size], gone)
        for walk in suspects:
            self._alone(walk, gone)
        if self._told is not None:
            ray.get(self._told)  # who takes the block from here must find that the desk knows all of it
        return tickets.write([walk for walk in walks if id(walk) not in gone])

    def _together(self, batch: list[Walk], gone: set[int]) -> list[Walk]:
        """Run a batch; returns those who are now suspect: its process died, and none is charged for it."""
        errands = Packed(tickets.errand(walk) for walk in batch)
        got = self._box.run(self._spec, _items(batch), lambda: self._begin(errands))
        if isinstance(got, Death):
            return batch
        self._report(batch, got, gone)
        return []

    def _begin(self, errands: Packed[Errand]) -> bool:
        """Say that rows start, without waiting for the desk: that the run ends is heard a batch late."""
        before, self._begun = self._begun, self._desk.begin.remote(self._name, errands)
        return before is None or bool(ray.get(before))

    def _alone(self, walk: Walk, gone: set[int]) -> None:
        """Run a suspect by itself, each attempt written down before it starts, until it ends or is quarantined."""
        errand = tickets.errand(walk)
        while True:
            got = self._box.run(self._spec, _items([walk]), lambda: self._call("begin_alone", self._name, errand))
            if not isinstance(got, Death):
                self._report([walk], got, gone)
                return
            if self._call("died", errand, got.reason, got.detail) >= DEATHS_OF_POISON:
                self._report([walk], [worker.Result(ledger.QUARANTINED, got.reason, got.detail)], gone)
                return

    def _report(self, batch: Sequence[Walk], got: Got, gone: set[int]) -> None:
        """Tell the desk what became of rows: nothing, if the run ends and they were left for another time."""
        if got is None:
            return
        if isinstance(got, (worker.NoSpace, worker.CannotStart)):
            self._call("stop", str(got), isinstance(got, worker.NoSpace))
            return
        reports: list[Report] = []
        for walk, result in zip(batch, got, strict=True):
            errand, maker = tickets.errand(walk), None
            if result.state == ledger.LOST:
                maker = walk.makers.get(result.reason or "")  # of a member: its track makes it again
                if maker is None:
                    walk.back_to_maker_of(result.reason or "")
                    maker = tickets.errand(walk)
            elif result.state == ledger.DONE and walk.advance(result.made or {}, result.artifacts):
                gone.discard(id(walk))
            reports.append((errand, result, maker))
        self._tell("take", reports)

    def _tell(self, what: str, *given: Any) -> None:
        """Call the desk without waiting: calls of one worker arrive in their order."""
        self._told = getattr(self._desk, what).remote(*given)

    def _call(self, what: str, *given: Any) -> Any:
        ask: Callable[..., Any] = getattr(self._desk, what).remote
        return ray.get(ask(*given))


def _items(batch: Sequence[Walk]) -> list[worker.Item]:
    return [worker.Item(walk.id, walk.key, walk.inputs()) for walk in batch]
