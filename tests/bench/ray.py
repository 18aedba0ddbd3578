"""The engine's own cost on a Ray cluster of this machine, start-up apart: no-op items, idle workers, look-ups."""

import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from manifests import ledger
from manifests.ledger import Committer
from manifests.tables import Tables
from pipeline.config import build
from pipeline.desk import Desk
from pipeline.errands import Errand, Packed
from pipeline.progress import Progress
from pipeline.run import execute
from pipeline.worker import Result
from tests.rows import config_of, put_sources, run_of

Measured = dict[str, Any]
ITEMS = 10_000
SLEEPS, SLEEP_S, WORKERS = 600, 0.1, 2
KEYS, KNOWN = 1000, 100_000


class Stopwatch(Progress):
    """Says when the first results came, and how many they were."""

    def __init__(self) -> None:
        super().__init__(quiet=True)
        self.first_s, self.first = 0.0, 0

    def count(self, track: str, stage: str, result: Result) -> None:
        """Take the time of what comes in the first pulse."""
        now = time.monotonic()
        self.first_s = self.first_s or now
        self.first += now - self.first_s < 0.1
        super().count(track, stage, result)


def measure() -> list[Measured]:
    """Measure all parts on one cluster."""
    os.environ.setdefault("RAY_worker_niceness", "0")
    from tests.ray_cluster import cluster

    with cluster(cpus=os.cpu_count() or 2):
        return [no_op(), busy(), lookup()]


def no_op() -> Measured:
    """Milliseconds an item through plan, desk, Ray Data and one worker, from the first results to the last commit."""
    values = []
    for _ in range(3):
        with tempfile.TemporaryDirectory() as folder:
            put_sources(Path(folder), [f"n{number}" for number in range(ITEMS)])
            run, watch = run_of(Path(folder), {"noop": ("NoOp", {"max_workers": 1})}), Stopwatch()
            execute(run, None, None, watch, on="ray")
            values.append((time.monotonic() - watch.first_s) / (ITEMS - watch.first) * 1000)
    return _row(f"on Ray: no-op stage over {ITEMS:,} items, an item, start-up apart", values, "ms", 5.0)


def busy() -> Measured:
    """Wall time from when both workers work to the last commit, over the ideal for the rows that are then left."""
    values = []
    for _ in range(3):
        with tempfile.TemporaryDirectory() as folder:
            put_sources(Path(folder), [f"n{number}" for number in range(SLEEPS)])
            log = Path(folder, "log")
            config = config_of(Path(folder), {})
            stage = {"use": "tests.ray_samples:Sleep", "sleep_s": SLEEP_S, "log": str(log)}
            config["stages"]["sources"]["sleep"] = stage | {"min_workers": WORKERS, "max_workers": WORKERS, "cpus": 0.5}
            execute(build(config), None, None, Progress(quiet=True), on="ray")
            ended_s = time.monotonic()
            begun = [(pid, float(at)) for pid, at in map(str.split, log.read_text().splitlines())]
            both_s = min(at for pid, at in begun if pid != begun[0][0])
            left = sum(at >= both_s for _, at in begun)
            values.append((ended_s - both_s) / (left * SLEEP_S / WORKERS))
    return _row(f"on Ray: {SLEEPS} items of 100 ms on two workers, wall time over the ideal", values, "", 1.08)


def lookup() -> Measured:
    """Milliseconds for a worker to learn of a thousand keys what to do, at a desk that knows a hundred thousand."""
    import ray

    errands = Packed(Errand("sources", "noop", f"src_{number}", f"key of {number}") for number in range(KNOWN))
    with tempfile.TemporaryDirectory() as folder:
        committer = Committer(Tables(folder), 1, every=KNOWN)
        for errand in errands[KEYS // 2 :]:  # half of what is asked for is done
            committer.add(errand.outcome(ledger.DONE, made={"number": 7}))
        committer.flush()
        desk = ray.remote(Desk).options(num_cpus=0).remote(folder, 2, 200, 2.0, 20)
        values = []
        for _ in range(20):
            started = time.perf_counter()
            ray.get(desk.ask.remote("bench", Packed(errands[:KEYS])))
            values.append((time.perf_counter() - started) * 1000)
        ray.kill(desk)
    return _row(f"on Ray: look-up of {KEYS:,} keys at the desk", values, "ms", 20.0)


def _row(name: str, values: list[float], unit: str, limit: float) -> Measured:
    value = statistics.median(values)
    return {"name": name, "value": value, "unit": unit, "target": f"<= {limit:g}", "holds": value <= limit}


if __name__ == "__main__":
    for each in measure():
        print(each)
