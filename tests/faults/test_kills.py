"""Real processes, killed at named steps and at random moments; then the same command again.

After any kill: nothing lost, nothing doubled, done again at most what was in flight, and the funnel adds up.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from manifests import faults
from manifests.ledger import fold
from manifests.tables import Tables
from pipeline.config import load
from pipeline.verify import find_damaged
from tests.rows import lines_of, put_sources, write_config

CHAIN = {"first": "First", "second": "Second", "third": "Third"}
NAMES = [f"n{number}" for number in range(12)] + ["reject me"]
WHO = ("driver and workers", "the process at the step")
MATRIX = [(step, stage, who) for step in faults.STEPS for stage in CHAIN for who in WHO]
BATCH = 4  # rows that a worker has in hand: what one kill can cost at most
# each step, each stage and each kind of death at least once
SOME = [entry for number, entry in enumerate(MATRIX) if number % 5 == 0]


def start(config: Path, **environment: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline", "run", str(config), "--quiet"],
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def finish(process: subprocess.Popen, timeout_s: float = 120) -> int:
    said = process.communicate(timeout=timeout_s)[1].decode()
    assert "Traceback" not in said, said
    return process.returncode


def chain(log: Path) -> dict:
    return {stage: (cls, {"batch_size": BATCH, "log": str(log)}) for stage, cls in CHAIN.items()}


def truth_of(tmp_path: Path, names: list[str], stages: dict) -> dict[str, tuple]:
    """What an uninterrupted run makes: key -> state and the sha256 of each artifact."""
    root = tmp_path / "uninterrupted"
    put_sources(root, names)
    assert finish(start(write_config(tmp_path / "truth.yaml", root, stages))) == 0
    return results_of(root)


def results_of(root: Path) -> dict[str, tuple]:
    rows = Tables(root).read("outcomes").to_pylist()
    rows.sort(key=lambda row: (row["epoch"], row["seq"]))
    settled = [row for row in rows if row["state"] in ("done", "rejected", "quarantined")]
    assert len({row["key"] for row in settled}) == len(settled)  # each was settled once
    return {row["key"]: (row["state"], row["made"], [a["sha256"] for a in row["artifacts"]]) for row in settled}


@pytest.fixture(scope="module")
def truth(tmp_path_factory):
    folder = tmp_path_factory.mktemp("truth")
    made = truth_of(folder, NAMES, chain(folder / "log"))
    assert len((folder / "log").read_text().splitlines()) == len(made)  # without a kill, each is worked on once
    return made


@pytest.mark.faults
@pytest.mark.parametrize(("step", "stage", "who"), MATRIX if os.environ.get("BODYDOUBLE_FULL") else SOME)
def test_a_run_killed_at_a_step_loses_nothing_and_doubles_nothing(tmp_path, truth, step, stage, who):
    root = tmp_path / "root"
    put_sources(root, NAMES)
    config = write_config(tmp_path / "run.yaml", root, chain(tmp_path / "log"), commit_every=5)
    fault = {
        "BODYDOUBLE_FAULT": f"{step}:{stage}:{1 if 'commit' in step else 2}",
        "BODYDOUBLE_FAULT_MARK": str(tmp_path / "died"),
    }
    if who == WHO[0]:
        fault["BODYDOUBLE_FAULT_GROUP"] = "1"
    code = finish(start(config, **fault))
    assert (tmp_path / "died").exists()  # or the step was never passed, and this test would prove nothing
    assert code == (-signal.SIGKILL if who == WHO[0] or "commit" in step else 0)  # a worker's death ends no run
    assert finish(start(config)) == 0
    assert results_of(root) == truth
    assert fold(Tables(root)).state == {key: state for key, (state, _, _) in truth.items()}
    assert find_damaged(Tables(root)) == []
    again = len((tmp_path / "log").read_text().splitlines()) - len(truth)
    rejected = 1  # leaves no artifact to adopt, so it is judged again if its outcome had not been committed
    assert 0 <= again <= BATCH + rejected
    assert not list(root.glob("artifacts/**/*.part"))
    lines_of(load(config))  # adds up
    doubled = Counter(row["key"] for row in Tables(root).read("outcomes").to_pylist() if row["state"] == "done")
    assert max(doubled.values()) == 1


@pytest.mark.faults
def test_twenty_random_kills_over_two_thousand_items_lose_nothing_and_repeat_only_what_was_in_flight(tmp_path):
    names = [f"n{number}" for number in range(2000)]
    sleep_s, workers = 0.05, 2
    stages = {"trouble": ("Trouble", {"sleep_s": sleep_s, "batch_size": 4, "log": str(tmp_path / "log")})}
    root = tmp_path / "root"
    put_sources(root, names)
    config = write_config(tmp_path / "run.yaml", root, stages, workers=workers)
    chance = random.Random(20)
    lives_s = [chance.uniform(1.0, 3.5) for _ in range(20)]
    # or the last lives would see suspects alone, and three kills would make poison of one and the same, as they must
    assert sum(lives_s) < 2000 * sleep_s / workers
    for life_s in lives_s:
        process = start(config)
        time.sleep(life_s)
        assert process.poll() is None
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    assert finish(start(config), 300) == 0
    outcomes = Tables(root).read("outcomes", where="state = 'done'").to_pylist()
    done = Counter(row["item"] for row in outcomes)
    assert (len(done), max(done.values())) == (2000, 1)  # all, each once
    assert len({row["key"] for row in outcomes}) == 2000
    assert lines_of(load(config))["trouble"]["done"] == 2000
    begun = Counter((tmp_path / "log").read_text().split())
    in_flight = 2 * 4  # two workers, a batch of four each: what one kill can cost at most
    assert begun.total() - 2000 <= 20 * in_flight
    assert find_damaged(Tables(root)) == []


def at_work(log: Path) -> bool:
    return log.exists() and log.read_text().count("\n") >= 30


MOMENTS = {  # how far a run has come, as seen from outside
    "libraries are imported": lambda process, root: "arrow" in Path(f"/proc/{process.pid}/maps").read_text(),
    "the lease is taken": lambda process, root: any(root.glob("leases/*.json")),
    "workers start": lambda process, root: Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(),
    "workers work": lambda process, root: at_work(root / "log"),
}


@pytest.mark.faults
@pytest.mark.parametrize("delay_s", [0.0, 0.1])
@pytest.mark.parametrize("moment", MOMENTS)
def test_ctrl_c_on_a_terminal_ends_a_run_in_good_order_at_any_moment(tmp_path, moment, delay_s):
    root = tmp_path / "root"
    put_sources(root, [f"n{number}" for number in range(500)])
    stages = {"trouble": ("Trouble", {"sleep_s": 0.02, "log": str(root / "log")})}
    config = write_config(tmp_path / "run.yaml", root, stages, workers=2)
    process = start(config)
    while not MOMENTS[moment](process, root):
        time.sleep(0.01)
    time.sleep(delay_s)
    os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to the workers too
    said = process.communicate(timeout=30)[1].decode()
    assert process.returncode == 130, said
    assert said.strip() == "stopped; what was finished is kept: run the same command again to go on"
    done = lines_of(load(config))["trouble"]["done"]
    assert done < 500
    if moment == "workers work":
        assert done > 0
    assert not Tables(root).read("outcomes", where="state = 'quarantined'").num_rows  # nobody was charged


@pytest.mark.faults
def test_workers_die_with_their_driver(tmp_path):
    root = tmp_path / "root"
    put_sources(root, [f"n{number}" for number in range(200)])
    log = tmp_path / "log"
    config = write_config(tmp_path / "run.yaml", root, {"trouble": ("Trouble", {"sleep_s": 0.2, "log": str(log)})})
    process = start(config)
    while not log.exists():
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGKILL)  # the driver alone, not its group
    process.communicate()
    time.sleep(0.5)
    size = log.stat().st_size
    time.sleep(1.0)
    assert log.stat().st_size == size
