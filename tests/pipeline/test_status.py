"""A live run seen from outside: real runs in processes of their own, and the page and the lease read beside them."""

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner

from manifests.holder import Onlooker
from manifests.lease import Lease, LeaseTaken
from manifests.ledger import DONE, REJECTED
from manifests.store import Store
from manifests.tables import Tables
from pipeline import status
from pipeline.__main__ import main
from pipeline.plan import plan_run
from pipeline.progress import Progress
from pipeline.status import StageStatus, Stalled, Status, StatusError
from pipeline.worker import Result
from tests.rows import fold, go, put_sources, run_of, write_config

SLOW = {"trouble": ("Trouble", {"sleep_s": 0.1, "batch_size": 1}), "noop": "NoOp"}


def call(*arguments, code=0):
    result = CliRunner().invoke(main, [str(each) for each in arguments])
    assert result.exit_code == code, result.output
    return result.stdout


def view_of(root):
    return json.loads(call("status", "--root", root, "--json"))


def start(config):
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline", "run", str(config), "--quiet"],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def until(root, fits, patience_s=60.0):
    """Wait until the page says so."""
    ends = time.monotonic() + patience_s
    while time.monotonic() < ends:
        page = status.read(Store(str(root)))
        if page is not None and fits(page):
            return page
        time.sleep(0.1)
    raise AssertionError(f"the page never said so: {page}")


@pytest.fixture
def live(tmp_path):
    """A run of 400 rows of 0.1 s, which is under way."""
    root = tmp_path / "root"
    put_sources(root, [f"{'reject ' if n % 10 == 0 else ''}n{n}" for n in range(400)])
    process = start(write_config(tmp_path / "run.yaml", root, SLOW, commit_every_s=0.2))
    until(root, lambda page: page.stages[0].done > 3)
    yield process, root
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGCONT)
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def test_a_live_run_is_read_from_outside_then_stands_still_goes_on_and_dies(live):
    process, root = live
    told = view_of(root)
    assert told["state"] == "running"
    assert (told["holder"]["pid"], told["holder"]["life"]) == (process.pid, "alive")
    assert told["page"]["epoch"] == told["holder"]["epoch"] == 1
    assert told["page"]["engine"] == "here"
    trouble, noop = told["page"]["stages"]
    assert (trouble["track"], trouble["stage"], noop["stage"]) == ("sources", "trouble", "noop")
    assert trouble["done"] + trouble["rejected"] + trouble["to_do"] == 400
    assert trouble["done"] + trouble["rejected"] > 0
    assert noop["done"] <= trouble["done"]
    assert 0.1 <= trouble["seconds_median"] < 0.5
    assert 1 < trouble["per_s"] <= 10
    text = call("status", "--root", root)
    assert "running on one machine, `bodydouble run` (process" in text
    assert "sources.trouble" in text
    with pytest.raises(LeaseTaken, match="in use by"):  # looking did not loosen it
        Lease.take(str(root), "other", interval_s=0.5)
    os.killpg(process.pid, signal.SIGSTOP)
    assert status.look(Onlooker(str(root), interval_s=0.2)).word == "standing still"
    os.killpg(process.pid, signal.SIGCONT)
    onlooker = Onlooker(str(root))
    assert status.look(onlooker).word == "running"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    view = status.look(onlooker)
    assert (view.word, view.holder.life, view.page.state) == ("died", "gone", "running")
    assert "went without a word; what was finished is kept" in call("status", "--root", root)
    assert "died" in call("status", "--root", root, "--watch")  # there is nothing to wait for


def test_watching_shows_a_run_until_it_is_interrupted_on_a_terminal_and_in_a_pipe(live):
    process, root = live
    watch = [sys.executable, "-m", "pipeline", "status", "--root", str(root), "--watch"]
    ours, theirs = pty.openpty()
    on_terminal = subprocess.Popen(watch, stdout=theirs, env=os.environ | {"TERM": "xterm", "COLUMNS": "240"})
    os.close(theirs)
    piped = subprocess.Popen([*watch, "--json"], stdout=subprocess.PIPE, text=True)
    views = [json.loads(piped.stdout.readline())]
    shown = b""
    while b"sources.trouble" not in shown:
        shown += os.read(ours, 65536)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    views += [json.loads(line) for line in piped.communicate(timeout=60)[0].splitlines()]
    with contextlib.suppress(OSError):  # the other end is closed
        while True:
            shown += os.read(ours, 65536)
    assert (on_terminal.wait(60), piped.returncode) == (0, 0)
    os.close(ours)
    assert b"running on one machine" in shown
    assert b"stopped: interrupted; what was finished is kept" in shown
    last = views[-1]
    assert (views[0]["state"], last["state"], last["page"]["why"]) == ("running", "stopped", "interrupted")
    assert last["holder"]["life"] == "released"
    states = list(fold(Tables(root)).state.values())
    for state in (DONE, REJECTED):  # the last page and the ledger say the same
        assert sum(stage[state] for stage in last["page"]["stages"]) == states.count(state)


def test_a_run_that_is_done_before_anybody_looks_has_ended(tmp_path):
    root = tmp_path / "root"
    put_sources(root, ["a", "raise"])
    config = write_config(tmp_path / "run.yaml", root, {"trouble": "Trouble"})
    call("run", config, "--quiet")
    told = json.loads(call("status", "--root", config, "--json"))  # the run.yaml names the root
    assert told["state"] == "ended"
    (stage,) = told["page"]["stages"]
    assert (stage["done"], stage["quarantined"], stage["to_do"]) == (1, 1, 0)


def test_a_stopped_run_says_why(tmp_path):
    root = tmp_path / "root"
    put_sources(root, ["raise 1", "raise 2"])
    config = write_config(tmp_path / "run.yaml", root, {"trouble": "Trouble"}, stop_after_errors=2)
    call("run", config, "--quiet", code=1)
    assert "failed 2 times in a row with KeyError" in view_of(root)["page"]["why"]


def test_another_command_that_holds_the_root_is_told_from_the_run_before(tmp_path):
    put_sources(tmp_path, "a")
    go(run_of(tmp_path, {"noop": "NoOp"}))  # whoever calls it without a page leaves none
    assert view_of(tmp_path)["state"] == "never"
    with Progress(quiet=True, root=str(tmp_path)) as progress, Lease.take(str(tmp_path), "bodydouble run"):
        progress.begin([])
    with Lease.take(str(tmp_path), "bodydouble import", interval_s=0.2):
        told = view_of(tmp_path)
        assert (told["state"], told["holder"]["who"], told["page"]["epoch"]) == ("held", "bodydouble import", 2)
        assert "what follows is of the run before" in call("status", "--root", tmp_path)
    assert view_of(tmp_path)["state"] == "ended"


def test_where_nothing_ran_status_says_so_and_makes_nothing(tmp_path):
    assert "no run has written its state here yet" in call("status", "--root", tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()
    (tmp_path / "file").touch()
    result = CliRunner().invoke(main, ["status", "--root", str(tmp_path / "file")])
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
    assert "cannot be read" in result.stderr


def test_a_page_is_read_back_as_it_was_written_and_a_strange_one_is_refused(tmp_path):
    store = Store(str(tmp_path))
    stage = StageStatus("pairs", "render", 7, 3, 1, 0, 2, 5, 12.5, 0.25)
    page = Status(4, "ray", "2026-01-01T00:00:00+00:00", "2026-01-01T00:01:00+00:00", "running", None, (stage,),
                  Stalled("pairs.render", "par_1", "4711 on node2", 300.0))  # fmt: skip
    status.write(store, page)
    assert status.read(store) == page
    store.put_page(status.PAGE, {"epoch": "x"})
    with pytest.raises(StatusError, match=r"is no page that this version can read \(epoch"):
        status.read(store)


def test_what_an_engine_says_of_its_queues_and_of_a_stall_stands_on_the_page(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.progress.PAGE_EVERY_S", 0.0)
    put_sources(tmp_path, "abcd")
    plans = plan_run(run_of(tmp_path, {"noop": "NoOp", "trouble": "Trouble"}), Tables(tmp_path), fold(Tables(tmp_path)))
    with Lease.take(str(tmp_path), "bodydouble run", interval_s=0.2):
        progress = Progress(quiet=True, root=str(tmp_path), engine="ray")
        progress.begin(plans)
        progress.count("sources", "noop", Result(DONE, seconds=2.0))
        progress.count("sources", "noop", Result(REJECTED, seconds=4.0))
        progress.queues({("sources", "noop"): 2}, {("sources", "trouble"): 1})
        progress.stall(Stalled("sources.noop", "src_c", "4711 on node2", 301.0))
        progress.show()
        page = until(tmp_path, lambda page: page.stalled is not None)
        noop, trouble = page.stages
        assert (noop.to_do, noop.in_flight, noop.waiting, noop.seconds_median) == (2, 2, 0, 3.0)
        assert (trouble.to_do, trouble.in_flight, trouble.waiting, trouble.seconds_median) == (3, 0, 1, None)
        assert page.engine == "ray"
        text = call("status", "--root", tmp_path)
        assert "nothing was finished for 301 s: sources.noop works on src_c in worker 4711 on node2" in text
        progress.end()
    assert status.read(Store(str(tmp_path))).stalled is None


def test_a_run_whose_root_another_has_taken_over_leaves_the_others_page_alone(tmp_path):
    progress = Progress(quiet=True, root=str(tmp_path))
    with Lease.take(str(tmp_path), "first"):
        progress.begin([])
        until(tmp_path, lambda page: page.epoch == 1)
    with Lease.take(str(tmp_path), "second"), Progress(quiet=True, root=str(tmp_path)) as other:
        other.begin([])
        until(tmp_path, lambda page: page.epoch == 2)
        progress.end("stopped", "its lease was lost")
        assert status.read(Store(str(tmp_path))).epoch == 2
