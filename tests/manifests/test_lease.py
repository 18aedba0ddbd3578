import json
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest

from manifests.errors import RootError, is_full
from manifests.lease import DEAD_AFTER_BEATS, Lease, LeaseLost, LeaseTaken

HOLD = """
import sys, time
from manifests.lease import Lease
with Lease.take(sys.argv[1], "holder", interval_s=0.1) as lease:
    print(lease.epoch, flush=True)
    time.sleep(60)
"""
TAKE = """
import sys
from manifests.errors import UserError
from manifests.lease import Lease
try:
    print(Lease.take(sys.argv[1], "other", interval_s=0.2).epoch)
except UserError as error:
    print(type(error).__name__, error.exit_code, error)
"""


def can(*command):
    return bool(shutil.which(command[0])) and subprocess.run(command, capture_output=True, check=False).returncode == 0


needs_pid_namespaces = pytest.mark.skipif(
    not can("unshare", "-rpf", "--mount-proc", "true"), reason="needs unshare with pid namespaces"
)
needs_mounts = pytest.mark.skipif(not can("unshare", "-rm", "true"), reason="needs unshare, to mount a small disk")


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


def stop_its_heart(lease):
    """End the heartbeat, as if the process had gone, without giving the lease back."""
    lease._ended.set()
    lease._thread.join()


def rewrite(root, **changes):
    path = max((root / "leases").glob("*.json"))
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_living_holder_on_this_machine_is_not_taken_over_though_it_stands_still(tmp_path, holder):
    os.kill(holder.pid, signal.SIGSTOP)
    with pytest.raises(LeaseTaken, match=rf"held by `holder` \(process {holder.pid} .* lives but stands still"):
        Lease.take(str(tmp_path), "second", interval_s=0.1)
    os.kill(holder.pid, signal.SIGCONT)
    with pytest.raises(LeaseTaken, match="in use by `holder`"):
        Lease.take(str(tmp_path), "second", interval_s=0.2)


def test_a_pid_that_another_process_uses_now_is_not_taken_for_the_holder(tmp_path, holder):
    with Lease.take(str(tmp_path / "other"), "old") as old:
        stop_its_heart(old)
        rewrite(tmp_path / "other", pid=holder.pid)  # it lives, but it started at another time
        started = time.monotonic()
        with Lease.take(str(tmp_path / "other"), "second", interval_s=2) as second:
            assert second.epoch == 2
    assert time.monotonic() - started < 1


@needs_pid_namespaces
def test_a_living_holder_in_another_container_of_the_same_host_name_is_left_in_peace(tmp_path, holder):
    inside = ["unshare", "-rpf", "--mount-proc", sys.executable, "-c", TAKE, str(tmp_path)]
    said = subprocess.run(inside, capture_output=True, text=True, check=True, timeout=60).stdout
    assert said.startswith("LeaseTaken")
    assert f"in use by `holder` (process {holder.pid}" in said


@needs_pid_namespaces
def test_a_dead_holder_in_another_container_of_the_same_host_name_is_taken_over_by_its_counter(tmp_path):
    hold = HOLD.replace("time.sleep(60)", "__import__('os').kill(__import__('os').getpid(), 9)")
    # the holder is process 2 there, so that the kernel does not shield it from its own kill
    inside = ["unshare", "-rpf", "--mount-proc", "sh", "-c", '"$@"; true', "sh", sys.executable, "-c", hold]
    subprocess.run([*inside, str(tmp_path)], check=True, capture_output=True, timeout=60)
    held = newest(tmp_path)
    assert held["host"] == socket.gethostname()
    assert held["pid"] < 10
    assert not held["released"]
    started = time.monotonic()
    with Lease.take(str(tmp_path), "second", interval_s=0.1) as second:
        assert second.epoch == 2
    assert time.monotonic() - started >= 0.1 * DEAD_AFTER_BEATS


def test_a_listing_that_fails_now_and_then_does_not_end_the_heartbeat(tmp_path):
    with Lease.take(str(tmp_path), "driver", interval_s=0.1) as lease:
        (tmp_path / "leases").rename(tmp_path / "away")
        time.sleep(0.25)
        (tmp_path / "away").rename(tmp_path / "leases")
        before = newest(tmp_path)["counter"]
        time.sleep(0.4)
        lease.check()
        assert newest(tmp_path)["counter"] > before


def test_a_holder_whose_beats_fail_for_too_long_finds_that_it_lost_its_lease(tmp_path):
    with Lease.take(str(tmp_path), "driver", interval_s=0.1) as lease:
        shutil.rmtree(tmp_path / "leases")
        time.sleep(0.1 * DEAD_AFTER_BEATS + 0.3)
        with pytest.raises(LeaseLost, match="could not be renewed for 1 s"):
            lease.check()


def test_a_holder_whose_heartbeat_ended_finds_that_it_lost_its_lease(tmp_path):
    lease = Lease.take(str(tmp_path), "driver", interval_s=0.1)
    stop_its_heart(lease)
    with pytest.raises(LeaseLost, match="could not be renewed"):
        lease.check()


def test_a_process_that_was_stopped_and_goes_on_keeps_a_lease_that_nobody_took(tmp_path):
    program = HOLD.replace("time.sleep(60)", "input(); lease.check(); print('mine', flush=True)")
    run = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(run, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "1\n"
        os.kill(process.pid, signal.SIGSTOP)
        time.sleep(0.1 * DEAD_AFTER_BEATS + 0.5)
        process.stdin.write("go on\n")
        process.stdin.flush()  # it is read at once when the process goes on, before the next beat
        os.kill(process.pid, signal.SIGCONT)
        assert process.stdout.readline() == "mine\n"


def test_an_epoch_is_above_that_of_the_ledger_and_stays_so(tmp_path):
    with Lease.take(str(tmp_path), "first", above=7) as first:
        assert first.epoch == 8
    with Lease.take(str(tmp_path), "second", above=3) as second:
        assert second.epoch == 9
    shutil.rmtree(tmp_path / "leases")
    with Lease.take(str(tmp_path), "third", above=second.epoch) as third:
        assert third.epoch == 10


def test_takers_that_know_different_epochs_contend_for_one_lease(tmp_path):
    with Lease.take(str(tmp_path), "first", interval_s=0.1, above=40), pytest.raises(LeaseTaken, match="`first`"):
        Lease.take(str(tmp_path), "second", interval_s=0.2, above=90)
    assert len(list((tmp_path / "leases").glob("*.json"))) == 1


@pytest.mark.parametrize(
    ("root", "said"),
    [
        ("{tmp}/file", "Not a directory; a root is a folder or a URL"),
        ("/proc/nowhere", "cannot be written to: No such file or directory"),
        ("gs://bucket/root", "gcsfs.*; install the driver"),
        ("smoke://signal/root", "Protocol not known: smoke"),
    ],
)
def test_a_root_that_cannot_be_used_is_told_in_one_sentence(tmp_path, root, said):
    (tmp_path / "file").touch()
    with pytest.raises(RootError, match=said) as error:
        Lease.take(root.format(tmp=tmp_path), "driver")
    assert "\n" not in str(error.value)


@needs_mounts
def test_a_full_disk_is_told_in_one_sentence_and_nothing_is_held(tmp_path):
    script = (
        'mount -t tmpfs -o size=64k tmpfs "$1" || exit 99; cat /dev/zero >"$1/fill" 2>&1; "$2" -c "$3" "$1"; '
        'rm "$1/fill"; "$2" -c "$3" "$1"'
    )
    run = ["unshare", "-rm", "sh", "-c", script, "sh", str(tmp_path), sys.executable, TAKE]
    said = subprocess.run(run, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()
    assert said[-2].startswith(f"NoSpaceError 1 no space left under {tmp_path}; what was finished is safe")
    assert int(said[-1]) >= 1


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (OSError(28, "No space left on device"), True),
        (OSError(122, "Disk quota exceeded"), True),
        (
            OSError(
                "LanceError(IO): Generic LocalFileSystem error: Unable to copy: No space left on device (os error 28)"
            ),
            True,
        ),
        (OSError("LanceError(IO): Disk quota exceeded (os error 122)"), True),
        (OSError(2, "No such file or directory", "/data/no space left"), False),
        (OSError("LanceError(IO): connection refused (os error 111)"), False),
    ],
)
def test_a_full_disk_is_known_by_number_or_by_the_words_of_the_system(error, full):
    assert is_full(error) is full
