"""Stages in processes of their own: real ones, that crash, hang, are killed, and cannot start."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from manifests import ledger
from pipeline import worker
from pipeline.isolated import Death, Isolated
from tests.rows import run_of


@pytest.fixture(scope="module")
def box(tmp_path_factory):
    with Isolated(str(tmp_path_factory.mktemp("root"))) as box:  # shared: a new process costs a second
        yield box


def trouble(root, **config):
    return run_of(root, {"trouble": ("Trouble", config)}).tracks["sources"][0]


def items(*names):
    return [worker.Item(f"src_{name}", f"key-{name}", {"file": name, "frames": 5}) for name in names]


def pid_of(box):
    return box._child.pid


def children():
    return {int(pid) for pid in Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text().split()}


def states(results):
    return [result.state for result in results]


def test_one_process_serves_batch_after_batch_and_ends_with_its_box(tmp_path):
    with Isolated(str(tmp_path)) as box:
        pids = set()
        for name in "abc":
            assert states(box.run(trouble(tmp_path), items(name))) == [ledger.DONE]
            pids.add(pid_of(box))
        (pid,) = pids
        assert pid in children()
        words = Path(box._folder.name)
        assert words.is_dir()
    assert pid not in children()
    assert not words.exists()


def test_a_crash_is_told_with_its_last_words_and_the_next_batch_has_a_new_process(tmp_path, box):
    death = box.run(trouble(tmp_path), items("before", "b crash"))
    assert isinstance(death, Death)
    assert death.reason == "crashed"
    assert "SIGSEGV" in death.detail
    assert "about to read address 0 for b crash" in death.detail
    assert states(box.run(trouble(tmp_path), items("a", "c"))) == [ledger.DONE, ledger.DONE]


def test_a_batch_that_hangs_is_ended_after_its_time(tmp_path, box):
    box.run(trouble(tmp_path, timeout_s=1.0), items("a"))
    started = time.monotonic()
    death = box.run(trouble(tmp_path, timeout_s=1.0), items("b hang"))
    assert 0.9 < time.monotonic() - started < 20
    assert (death.reason, "took longer than timeout_s = 1" in death.detail) == ("timeout", True)


def test_an_exception_is_a_result_and_no_death(tmp_path, box):
    results = box.run(trouble(tmp_path), items("beside", "b raise", "c reject"))
    assert states(results) == [ledger.DONE, ledger.QUARANTINED, ledger.REJECTED]


def test_a_row_that_kills_whoever_runs_it_kills_the_process_and_not_the_caller(tmp_path, box):
    log = str(tmp_path / "log")
    death = box.run(trouble(tmp_path, log=log), items("a once"))
    assert "SIGKILL" in death.detail
    assert states(box.run(trouble(tmp_path, log=log), items("a once"))) == [ledger.DONE]


def test_a_process_that_was_killed_while_it_was_idle_costs_nothing(tmp_path, box):
    box.run(trouble(tmp_path), items("a"))
    os.kill(pid_of(box), signal.SIGKILL)
    box._child._process.join()
    assert states(box.run(trouble(tmp_path), items("b"))) == [ledger.DONE]


def test_what_begins_is_asked_when_the_process_is_ready_and_may_be_declined(tmp_path, box):
    asked = []

    def begin(answer):
        asked.append(box._child.alive() and box._child._ready)
        return answer

    log = tmp_path / "log"
    spec = trouble(tmp_path, log=str(log))
    assert box.run(spec, items("declined"), lambda: begin(False)) is None
    assert not log.exists()
    assert states(box.run(spec, items("declined"), lambda: begin(True))) == [ledger.DONE]
    assert log.read_text() == "declined\n"
    assert asked == [True, True]


def test_a_process_that_cannot_start_ends_the_run_and_charges_no_row(tmp_path):
    with Isolated("no-such-scheme://bucket/root") as box:
        asked = []
        told = box.run(trouble(tmp_path), items("a"), lambda: asked.append(1) or True)
        assert isinstance(told, worker.CannotStart)
        assert "3 processes ended before any row" in str(told)
        assert "no-such-scheme" in str(told)
        assert asked == []


def test_a_stage_that_cannot_be_set_up_says_why(tmp_path, box):
    spec = run_of(tmp_path, {"cannot": "CannotBegin"}).tracks["sources"][0]
    told = box.run(spec, items("a"))
    assert isinstance(told, worker.CannotStart)
    assert "weights.onnx is not there" in str(told)


def test_a_process_lives_as_long_as_the_thread_that_made_it(tmp_path):
    """The kernel ends a child with the THREAD that made it: on Ray, calls must come from one that lives on."""
    with Isolated(str(tmp_path)) as box:
        thread = threading.Thread(target=lambda: box.run(trouble(tmp_path), items("a")))
        thread.start()
        thread.join()
        first = box._child
        first._process.join(10)
        assert first._process.exitcode == -signal.SIGKILL
        assert states(box.run(trouble(tmp_path), items("b"))) == [ledger.DONE]  # and costs nothing but a new one
        assert pid_of(box) != first.pid
