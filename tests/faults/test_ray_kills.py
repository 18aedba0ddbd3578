"""The same promises on a Ray cluster: real drivers, and SIGKILL for each process that takes part.

After any kill: nothing lost, nothing doubled, done again at most what was in flight, and the funnel adds up.
"""

import json
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
from tests.faults.test_kills import BATCH, CHAIN, NAMES, finish, results_of
from tests.ray_processes import PATIENCE_S, head, kill_session, node, victims, wait_for
from tests.rows import go, lines_of, put_sources, run_of, write_config

pytestmark = [pytest.mark.ray, pytest.mark.faults, pytest.mark.timeout(900)]

FULL = bool(os.environ.get("BODYDOUBLE_FULL"))
SMALL = {"cpus": 0.25, "max_workers": 1}  # an actor costs seconds to start
WHO = ("driver", "the process at the step")
MATRIX = [(step, stage, who) for step in faults.STEPS for stage in CHAIN for who in WHO]
# each step and each kind of death at least once; commits happen at the desk
SOME = [MATRIX[0], MATRIX[9], MATRIX[13], MATRIX[22]]


def start(config: Path, address: str, env: dict[str, str] | None = None) -> subprocess.Popen:
    """Start a driver; `env` is for all processes of its job."""
    job = {"runtime_env": {"env_vars": env or {}}}
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline", "run", str(config), "--on", "ray", "--quiet"],
        env=os.environ
        | {"OMP_NUM_THREADS": "1", "RAY_ADDRESS": address, "RAY_AUTH_MODE": "disabled"}
        | {"RAY_JOB_CONFIG_JSON_ENV_VAR": json.dumps(job)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def end(process: subprocess.Popen) -> int:
    return finish(process, PATIENCE_S)


def begun_in(log: Path) -> int:
    return log.read_text().count("\n") if log.exists() else 0


def done_in(root: Path) -> int:
    tables = Tables(root)
    return tables.read("outcomes", columns=["key"], where="state = 'done'").num_rows


@pytest.fixture(scope="module")
def cluster():
    with head() as (process, address):
        yield process.pid, address


def chain(log: Path) -> dict:
    return {stage: (cls, SMALL | {"batch_size": BATCH, "log": str(log)}) for stage, cls in CHAIN.items()}


@pytest.fixture(scope="module")
def truth(tmp_path_factory):
    """What an uninterrupted run makes here, without Ray."""
    folder = tmp_path_factory.mktemp("truth")
    put_sources(folder, NAMES)
    go(run_of(folder, chain(folder / "log")))
    return results_of(folder)


@pytest.mark.parametrize(("step", "stage", "who"), MATRIX if FULL else SOME)
def test_a_run_killed_at_a_step_loses_nothing_and_doubles_nothing(tmp_path, cluster, truth, step, stage, who):
    root = tmp_path / "root"
    put_sources(root, NAMES)
    config = write_config(tmp_path / "run.yaml", root, chain(tmp_path / "log"), commit_every=5)
    fault = {
        "BODYDOUBLE_FAULT": f"{step}:{stage}:{1 if 'commit' in step else 2}",
        "BODYDOUBLE_FAULT_MARK": str(tmp_path / "died"),
    }
    driver = start(config, cluster[1], fault)
    wait_for((tmp_path / "died").exists, driver)
    if who == "driver":  # dies with the process at the step
        driver.kill()
        assert end(driver) == -signal.SIGKILL
        assert end(start(config, cluster[1])) == 0
    else:
        assert end(driver) == 0  # a worker's death ends no run, nor does the desk's
    assert results_of(root) == truth
    assert fold(Tables(root)).state == {key: state for key, (state, _, _) in truth.items()}
    assert find_damaged(Tables(root)) == []
    again = len((tmp_path / "log").read_text().splitlines()) - len(truth)
    rejected = 1  # leaves no artifact to adopt, so it is judged again if its outcome had not been committed
    assert 0 <= again <= BATCH + rejected
    lines_of(load(config))  # adds up
    doubled = Counter(row["key"] for row in Tables(root).read("outcomes").to_pylist() if row["state"] == "done")
    assert max(doubled.values()) == 1


def busy(tmp_path: Path, rows: int, **config) -> tuple[Path, Path, Path]:
    """Write a run whose rows take some time; returns its root, its config and its log."""
    root, log = tmp_path / "root", tmp_path / "log"
    put_sources(root, [f"n{number}" for number in range(rows)])
    stage = {"cpus": 0.5, "batch_size": BATCH, "sleep_s": 0.05, "log": str(log)} | config
    return root, write_config(tmp_path / "run.yaml", root, {"trouble": ("Trouble", stage)}), log


def assert_whole(root: Path, config: Path, rows: int) -> None:
    """Every row done once, none charged, all artifacts there."""
    outcomes = Tables(root).read("outcomes").to_pylist()
    done = [row["item"] for row in outcomes if row["state"] == "done"]
    assert len(done) == len(set(done)) == rows
    assert not {row["state"] for row in outcomes} & {"quarantined", "rejected", "lost"}
    assert lines_of(load(config))["trouble"]["done"] == rows
    assert find_damaged(Tables(root)) == []


@pytest.mark.parametrize("seed", range(6) if FULL else [1])
def test_kills_of_desks_actors_and_stages_at_random_moments_do_not_even_end_the_run(tmp_path, cluster, seed):
    rows = 400
    root, config, log = busy(tmp_path, rows, max_workers=2, min_workers=2)
    driver = start(config, cluster[1])
    chance = random.Random(seed)
    kills = ["child", "actor", "desk"]
    chance.shuffle(kills)
    for who in kills:
        before = begun_in(log)
        wait_for(lambda before=before: begun_in(log) > before + 8, driver)  # it lives: or this would prove nothing
        time.sleep(chance.uniform(0, 0.5))
        pid = chance.choice(wait_for(lambda who=who: victims(cluster[0])[who]))
        os.kill(pid, signal.SIGKILL)
    assert end(driver) == 0
    assert_whole(root, config, rows)
    again = begun_in(log) - rows
    assert again <= len(kills) * BATCH  # what the killed one had in hand


@pytest.mark.parametrize("kills", [5 if FULL else 2])
def test_a_driver_killed_again_and_again_at_random_moments_ends_with_every_row_done_once(tmp_path, cluster, kills):
    rows = 400
    root, config, log = busy(tmp_path, rows, max_workers=2, min_workers=2)
    chance = random.Random(kills)
    for _ in range(kills):
        before = begun_in(log)
        driver = start(config, cluster[1])
        wait_for(lambda before=before: begun_in(log) > before + 8, driver)
        time.sleep(chance.uniform(0, 1.0))
        assert driver.poll() is None
        driver.kill()
        driver.communicate()
        wait_for(
            lambda: not any(victims(cluster[0]).values()), timeout_s=30
        )  # the desk and the workers end with their driver
    assert end(start(config, cluster[1])) == 0
    assert_whole(root, config, rows)
    assert begun_in(log) - rows <= kills * 2 * BATCH  # of two workers, a batch each


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_sigterm_end_a_run_in_good_order_and_leave_no_actor_behind(tmp_path, cluster, number):
    root, config, log = busy(tmp_path, 400, max_workers=1)
    driver = start(config, cluster[1])
    wait_for(lambda: done_in(root) > 0, driver)
    os.kill(driver.pid, number)
    started = time.monotonic()
    said = driver.communicate(timeout=60)[1].decode()
    assert driver.returncode == 130, said
    assert said.strip() == "stopped; what was finished is kept: run the same command again to go on"
    assert time.monotonic() - started < 30
    wait_for(lambda: not any(victims(cluster[0]).values()), timeout_s=30)
    states = Counter(row["state"] for row in Tables(root).read("outcomes").to_pylist())
    assert set(states) == {"done"}  # nobody was charged
    assert states["done"] < 400
    begun = begun_in(log)
    assert begun - states["done"] <= 2 * BATCH
    assert not list((root / "flights").glob("*"))


def test_a_worker_that_dies_on_one_row_of_a_batch_and_one_that_hangs_cost_their_neighbours_nothing(tmp_path, cluster):
    root = tmp_path / "root"
    put_sources(root, ["a", "b crash", "c", "d", "e hang", "f", "g once", "h"])
    stage = SMALL | {"batch_size": 4, "timeout_s": 3.0, "log": str(tmp_path / "log")}
    config = write_config(tmp_path / "run.yaml", root, {"trouble": ("Trouble", stage)})
    assert end(start(config, cluster[1])) == 0
    line = lines_of(load(config))["trouble"]
    assert (line["done"], line["quarantined"]) == (6, {"crashed": 1, "timeout": 1})
    charged = {row["item"] for row in Tables(root).read("outcomes", where="state = 'crashed'").to_pylist()}
    assert charged <= {"src_b crash", "src_e hang", "src_g once"}  # who really took a process down, and nobody beside


def test_a_second_driver_is_kept_out_with_the_sentence_of_the_lease_and_the_first_goes_on(tmp_path, cluster):
    root, config, log = busy(tmp_path, 300, max_workers=1)
    first = start(config, cluster[1])
    wait_for(log.exists, first)
    second = start(config, cluster[1])
    said = second.communicate(timeout=PATIENCE_S)[1].decode()
    assert second.returncode == 2
    assert said.startswith(f"bodydouble: {root} is in use by `bodydouble run` (process {first.pid} on ")
    assert said.count("\n") == 1
    assert end(first) == 0
    assert_whole(root, config, 300)


def test_without_a_cluster_a_run_says_how_to_start_one(tmp_path):
    root, config, _ = busy(tmp_path, 3)
    driver = start(config, "127.0.0.1:1")
    said = driver.communicate(timeout=PATIENCE_S)[1].decode()
    assert driver.returncode == 2
    assert said.startswith("bodydouble: no Ray cluster answers at 127.0.0.1:1 (")
    assert "start one with `ray start --head`" in said
    assert said.count("\n") == 1
    assert Tables(root).count("outcomes") == 0


def test_when_the_head_dies_the_same_command_goes_on_from_the_tables_on_a_new_one(tmp_path):
    root, config, log = busy(tmp_path, 200, max_workers=1)
    with head() as (process, address):
        driver = start(config, address)
        wait_for(lambda: done_in(root) > 20, driver)
        kill_session(process)  # head, desk, workers, all at once, as when the machine is gone
        said = driver.communicate(timeout=PATIENCE_S)[1].decode()
    assert driver.returncode == 2
    assert said.startswith(f"bodydouble: the head of the Ray cluster at {address} does not answer any more (")
    assert said.count("\n") == 1
    assert "trouble" in lines_of(load(config))  # adds up
    with head() as (_, address):
        assert end(start(config, address)) == 0
    assert_whole(root, config, 200)
    assert begun_in(log) - 200 <= BATCH


def test_a_node_of_three_that_is_removed_costs_what_it_had_in_hand(tmp_path):
    rows = 300
    root, config, log = busy(tmp_path, rows, cpus=1.0, min_workers=3)
    with head(cpus=1) as (_, address), node(address) as removed, node(address) as other:
        driver = start(config, address)
        wait_for(lambda: all(victims(each.pid)["child"] for each in (removed, other)), driver)
        before = begun_in(log)
        wait_for(lambda: begun_in(log) > before + 12, driver)
        kill_session(removed)
        assert end(driver) == 0
    assert_whole(root, config, rows)
    assert begun_in(log) - rows <= BATCH
