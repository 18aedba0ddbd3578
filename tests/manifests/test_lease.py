import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest

from manifests.lease import DEAD_AFTER_BEATS, Lease, LeaseLost, LeaseTaken

HOLD = """
import sys, time
from manifests.lease import Lease
with Lease.take(sys.argv[1], "holder", interval_s=0.1) as lease:
    print(lease.epoch, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """A living process that holds the lease of tmp_path."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline().strip() == "1"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def newest(root):
    return json.loads(max((root / "leases").glob("*.json")).read_text())


def test_a_second_writer_is_kept_out_and_told_who_holds_it(tmp_path, holder):
    with pytest.raises(LeaseTaken, match=f"in use by `holder` \\(process {holder.pid}"):
        Lease.take(str(tmp_path), "second", interval_s=0.1)


def test_a_lease_that_was_given_back_is_taken_at_once(tmp_path):
    Lease.take(str(tmp_path), "first").release()
    started = time.monotonic()
    with Lease.take(str(tmp_path), "second") as lease:
        assert lease.epoch == 2
    assert time.monotonic() - started < 1


def test_a_killed_holder_on_this_machine_is_taken_over_at_once(tmp_path, holder):
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    started = time.monotonic()
    with Lease.take(str(tmp_path), "second", interval_s=2) as lease:
        assert lease.epoch == 2
    assert time.monotonic() - started < 1


def test_a_holder_on_another_machine_is_dead_when_its_counter_stands_still(tmp_path):
    lease = Lease.take(str(tmp_path), "far away")
    lease._ended.set()  # its heart stops, without giving the lease back
    path = max((tmp_path / "leases").glob("*.json"))
    path.write_text(json.dumps(json.loads(path.read_text()) | {"host": "another", "started": "boot:1"}))
    started = time.monotonic()
    with Lease.take(str(tmp_path), "second", interval_s=0.1) as second:
        assert second.epoch == 2
    assert time.monotonic() - started >= 0.1 * DEAD_AFTER_BEATS


def test_a_holder_that_was_only_asleep_finds_that_it_lost_its_lease(tmp_path, holder):
    mine = Lease.take(str(tmp_path / "other"), "sleeper", interval_s=0.05)
    mine.check()
    (tmp_path / "other" / "leases" / "00000002.json").write_text(json.dumps({"counter": 0, "who": "x", "pid": 1}))
    time.sleep(0.3)
    with pytest.raises(LeaseLost, match="nothing was lost"):
        mine.check()
    mine.release()
    assert newest(tmp_path / "other")["who"] == "x"  # and leaves the other's alone


def take(root, found):
    try:
        found.put(Lease.take(root, "racer", interval_s=0.2).epoch)
        time.sleep(3)
    except LeaseTaken:
        found.put(0)


def test_of_many_takers_at_once_one_wins(tmp_path):
    context = multiprocessing.get_context("spawn")
    found = context.Queue()
    racers = [context.Process(target=take, args=(str(tmp_path), found)) for _ in range(6)]
    for racer in racers:
        racer.start()
    won = sorted(found.get(timeout=60) for _ in racers)
    for racer in racers:
        racer.join()
    assert won == [0, 0, 0, 0, 0, 1]
