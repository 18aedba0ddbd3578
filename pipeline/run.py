"""A run: lease, plan, and the runner that works it off."""

import os

from manifests import ledger
from manifests.errors import NoSpaceError, is_full
from manifests.flight import FlightNote
from manifests.lease import Lease
from manifests.ledger import Committer
from manifests.store import Store
from manifests.tables import Tables
from pipeline.config import Run
from pipeline.local_runner import LocalRun
from pipeline.plan import TrackPlan, plan_run
from pipeline.progress import Progress
from pipeline.verify import find_damaged

PASSES = 4  # pairs become ready when their members have ended, and members' artifacts may have to be made again
ENVIRONMENT_OF_WORKERS = {
    "OMP_NUM_THREADS": "1",  # workers are what runs side by side; threads of small models would fight each other
    "MALLOC_MMAP_THRESHOLD_": str(1 << 20),  # frames go back to the system when freed: 742 MB after a clip, not 1386
}


def execute(
    run: Run, limit: int | None, until: str | None, progress: Progress, verify: bool = False, on: str = "here"
) -> list[TrackPlan]:
    """Run what is left to do, under the lease of the root; returns the plan that was worked off.

    Args:
        run: The config.
        limit: Rows of each track, or None for all.
        until: The last stage, or None.
        progress: Is told of each result.
        verify: Whether to read every artifact first.
        on: `here`, in processes of this machine, or `ray`, on a cluster.

    Raises:
        LeaseTaken: another driver lives.
        RunStopped: a stage cannot start, or one class of error came too often in a row.
        NoSpaceError: the disk is full.
    """
    for name, value in ENVIRONMENT_OF_WORKERS.items():
        os.environ.setdefault(name, value)  # read when a process starts: what the user set counts
    root, tables = run.config.root, Tables(run.config.root)
    with Lease.take(root, "bodydouble run", above=ledger.highest_epoch(tables)) as lease:
        try:
            Store(root).remove_leftovers()
            committer = Committer(tables, lease.epoch, run.config.commit_every, run.config.commit_every_s)
            if verify:
                find_damaged(tables, committer, lease.check)
            folded = ledger.fold(tables)
            plans = plan_run(run, tables, folded, limit, until)
            write_recipes(run, lease.epoch)
            progress.begin(plans)
            if on == "ray":
                from pipeline.ray_runner import RayRun

                RayRun(run, tables, lease, plans, folded, progress, limit, until).execute()
            else:
                note = FlightNote(root, lease.epoch)
                for _ in range(PASSES):
                    LocalRun(run, tables, committer, lease, note, plans, folded, progress).execute()
                    if "pairs" not in run.tracks:
                        break
                    folded = ledger.fold(tables)
                    again = plan_run(run, tables, folded, limit, until)
                    if not any(position >= 0 for plan in again for position in plan.position):
                        break
                    plans = again
                    progress.more(plans)
        except OSError as error:
            if is_full(error):
                raise NoSpaceError(root) from error
            raise
    return plans


def write_recipes(run: Run, epoch: int) -> None:
    """Keep what the keys were made of: each stage's recipe at its digest, and the whole config of this run.

    A key is a one-way hash: without these pages nobody could say later which config made which result.
    """
    store = Store(run.config.root)
    specs = [spec for listed in run.tracks.values() for spec in listed]
    for spec in specs:
        if store.page(f"recipes/{spec.digest}.json") is None:
            store.put_page(f"recipes/{spec.digest}.json", spec.recipe)
    stages = {track: {spec.name: spec.digest for spec in listed} for track, listed in run.tracks.items()}
    store.put_page(f"runs/{epoch:08d}.json", {"config": run.config.model_dump(mode="json"), "recipes": stages})
