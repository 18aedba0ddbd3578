"""A run on a Ray cluster: Ray Data streams blocks of tickets through a pool of workers for each stage.

The driver plans, and watches; all knowledge of what is done is at the desk, an actor that the driver owns, so that it
ends when the driver does. A track goes through its stages in waves; what a wave leaves undone (a row whose input had to
be made again, one that waited for another with the same key, what a lost desk had not yet written) the next round finds
by planning anew.
"""

import logging
import threading
from collections import Counter
from dataclasses import dataclass, field
from itertools import islice, pairwise
from typing import Any, Final

import ray
from ray.actor import ActorHandle
from ray.data import ActorPoolStrategy, DataContext, Dataset
from ray.exceptions import GetTimeoutError, RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from manifests import ledger
from manifests.errors import NoSpaceError
from manifests.lease import Lease
from manifests.tables import Tables
from pipeline import tickets
from pipeline.config import Run
from pipeline.desk import Desk, Pulse, RunStopped
from pipeline.feed import Walk, walks
from pipeline.plan import TrackPlan, plan_run
from pipeline.progress import Progress
from pipeline.ray_cluster import Head, check_room, join
from pipeline.ray_metrics import Meters
from pipeline.ray_worker import StageWorker
from pipeline.status import Stalled
from pipeline.watchdog import Watchdog
from pipeline.worker import Result

ROUNDS: Final = 5  # in which nothing is finished, although there is something to do
BLOCK_ROWS: Final = 64  # at most: what Ray repeats, and hands to a worker, at once
BLOCKS_A_WORKER: Final = 16  # at least, if there are as many rows, so that no worker is left with a long tail
_PULSE_S: Final = 0.25
_LET_GO_S: Final = 30.0


@dataclass
class RayRun:
    """One run, from plan to last commit."""

    run: Run
    tables: Tables
    lease: Lease
    plans: list[TrackPlan]
    folded: ledger.Fold
    progress: Progress
    limit: int | None = None
    until: str | None = None
    _desk: Any = None
    _head: Head = field(init=False)
    _watchdog: Watchdog = field(init=False)
    _meters: Meters = field(init=False)
    _arrived: Counter[tuple[str, str]] = field(default_factory=Counter)  # (track, stage) -> rows that reached it
    _results: int = 0  # that were ever counted
    _drain: threading.Thread | None = None

    def __post_init__(self) -> None:
        self._watchdog = Watchdog(self.run.config.stall_timeout_s)

    def execute(self) -> None:
        """Work until every row has ended or waits for a person.

        Raises:
            ClusterError: there is no cluster, or it has no room for the first workers.
            RunStopped: a stage cannot start, or one class of error came too often in a row.
        """
        join()
        self._meters = Meters()
        context = DataContext.get_current()
        context.enable_progress_bars = False  # progress is ours: it knows of rows, not of blocks
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # its errors come to us as exceptions
        context.execution_no_progress_timeout_s = -1  # a row may take hours; the watchdog tells
        for plan in self.plans:
            check_room(plan.track, plan.specs)
        self._head, self._desk = Head(), self._open_desk()
        try:
            self._work()
        except RayError as error:
            raise RunStopped(f"Ray failed ({_reason(error)}); nothing that was finished is lost: run again") from error
        finally:
            ray.kill(self._desk)

    def _work(self) -> None:
        try:
            self._rounds()
        except (RunStopped, NoSpaceError):
            self._let_go()
            raise
        finally:
            self._wind_up()

    def _rounds(self) -> None:
        idle = 0
        while left := self._left():
            if idle == ROUNDS:
                raise RunStopped(
                    f"{left} rows are left, and nothing was finished in {ROUNDS} rounds; nothing was lost: run again, "
                    "and if it comes back, see `bodydouble quarantine` and the logs of Ray"
                )
            before = self._results
            for plan in self.plans:
                self._track(plan)
            idle = idle + 1 if self._results == before else 0
            self.folded = ledger.fold(self.tables)
            self.plans[:] = plan_run(self.run, self.tables, self.folded, self.limit, self.until)

    def _left(self) -> int:
        return sum(position >= 0 for plan in self.plans for position in plan.position)

    def _track(self, plan: TrackPlan) -> None:
        waiting = walks(plan, self.tables, self.folded)
        while wave := list(islice(waiting, self.run.config.wave_rows)):
            self._wave(plan, wave)
            self._ask("end_wave")

    def _wave(self, plan: TrackPlan, wave: list[Walk]) -> None:
        """Send rows through the stages of their track, and watch."""
        dataset = self._dataset(plan, wave)
        failed: list[BaseException] = []

        def drain() -> None:
            try:
                for _ in dataset.iter_batches(batch_size=None, prefetch_batches=0, batch_format="pyarrow"):
                    pass
            except BaseException as error:
                failed.append(error)

        for walk in wave:
            self._arrived[plan.track, walk.spec.name] += 1
        self._drain = threading.Thread(target=drain, name="ray-data", daemon=True)
        self._drain.start()
        while self._drain.is_alive():
            self._drain.join(_PULSE_S)
            self._watch(plan)
        self._watch(plan)
        if failed:
            reason = _reason(failed[0])
            raise RunStopped(f"Ray ended the work on {plan.track} ({reason}); run again to go on") from failed[0]

    def _dataset(self, plan: TrackPlan, wave: list[Walk]) -> Dataset:
        size = self._block_rows(plan, len(wave))
        blocks = [tickets.write(wave[start : start + size]) for start in range(0, len(wave), size)]
        dataset = ray.data.from_arrow(blocks)
        first = min(walk.stage for walk in wave)
        for number, spec in enumerate(plan.specs):
            if number < first:
                continue
            config = spec.config
            most = config.max_workers
            dataset = dataset.map_batches(
                type(f"{plan.track}.{spec.name}", (StageWorker,), {}),  # by this name the dashboard shows the pool
                fn_constructor_args=(
                    self.run.config.model_dump(mode="json"), plan.track, number, self.tables.root, self._desk
                ),
                batch_size=None, batch_format="pyarrow", num_cpus=config.cpus, num_gpus=config.gpus,
                compute=ActorPoolStrategy(
                    min_size=config.min_workers, max_size=most, max_tasks_in_flight_per_actor=2
                ),
                udf_modifying_row_count=True,
            )  # fmt: skip
        return dataset

    def _block_rows(self, plan: TrackPlan, rows: int) -> int:
        """Return rows a block: whole batches, few enough that all workers have work to the end."""
        batch = max(spec.config.batch_size for spec in plan.specs)
        cpus = float(ray.cluster_resources().get("CPU", 1))
        fair = rows / (BLOCKS_A_WORKER * max(1, cpus))
        return batch * max(1, round(min(fair, BLOCK_ROWS) / batch))

    def _watch(self, plan: TrackPlan) -> None:
        """Count what came, and see that all is well."""
        self.lease.check()
        self._head.check()
        pulse: Pulse = self._ask("pulse")
        names = [spec.name for spec in plan.specs]
        behind = dict(pairwise(names))
        self._results += len(pulse.results)
        for track, stage, state, seconds in pulse.results:
            self.progress.count(track, stage, Result(state, seconds=seconds))
            if state == ledger.DONE and stage in behind:
                self._arrived[track, behind[stage]] += 1
        waiting = {at: max(0, self._arrived[at] - pulse.asked.get(at, 0)) for at in ((plan.track, n) for n in names)}
        self._meters.take(pulse, waiting)
        self.progress.queues(pulse.in_flight, waiting)
        if self._watchdog.look(pulse, waiting) and pulse.oldest is not None:
            errand, worker, _ = pulse.oldest
            stage = f"{errand.track}.{errand.stage}"
            self.progress.stall(Stalled(stage, errand.id, worker, self._watchdog.idle_s))
        elif pulse.results:
            self.progress.stall(None)
        self.progress.show()
        if pulse.no_space:
            raise NoSpaceError(f"{self.tables.root} or where temporary files go ({pulse.stop})")
        if pulse.stop is not None:
            raise RunStopped(pulse.stop)

    def _open_desk(self) -> ActorHandle:
        config = self.run.config
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
        actor = ray.remote(Desk).options(
            name=None, num_cpus=0, max_restarts=-1, max_task_retries=-1, scheduling_strategy=here
        )
        return actor.remote(
            self.tables.root, self.lease.epoch, config.commit_every, config.commit_every_s, config.stop_after_errors
        )

    def _let_go(self) -> None:
        """Wait a little for what is in workers' hands: everything else is left for another time."""
        if self._drain is not None:
            self._drain.join(_LET_GO_S)

    def _wind_up(self) -> None:
        """End in good order: nobody asks any more, what is finished is kept, and who was in flight is not charged."""
        self.lease.check()  # who lost the lease writes nothing more
        self._ask("stop", "the run has ended")
        self._ask("close")

    def _ask(self, what: str, *given: Any) -> Any:
        """Call the desk, and wait for its answer for as long as there is a cluster."""
        answer = getattr(self._desk, what).remote(*given)
        while True:
            try:
                return ray.get(answer, timeout=_PULSE_S)
            except GetTimeoutError:
                self._head.check()


def _reason(error: BaseException) -> str:
    """Return one line of what Ray says: the last of a traceback, the first of anything else."""
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    return lines[-1 if isinstance(error, RayTaskError) else 0] if lines else type(error).__name__
