"""The engine on a real Ray cluster gives what it gives here, row for row."""

import os
import re
import time
from collections import Counter
from pathlib import Path

import pytest

from manifests import ledger
from manifests.ledger import fold
from manifests.schema import CHARACTERS
from manifests.tables import Tables
from pipeline.config import build
from pipeline.desk import RunStopped
from pipeline.plan import plan_run
from pipeline.progress import Progress
from pipeline.run import execute
from tests.rows import SAMPLES, config_of, go, lines_of, put_sources, run_of

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]

SMALL = {"cpus": 0.25, "max_workers": 1}  # an actor costs seconds to start
CHAIN = {"first": ("First", SMALL), "second": ("Second", SMALL), "third": ("Third", SMALL)}


@pytest.fixture(scope="module", autouse=True)
def _cluster():
    os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's workers are nice by 15 beside everything else
    from tests.ray_cluster import cluster

    with cluster(cpus=2):
        yield


def settled(root):
    """Return key -> what became of it; each key is settled once, whatever happened."""
    rows = Tables(root).read("outcomes").to_pylist()
    rows.sort(key=lambda row: (row["epoch"], row["seq"]))
    last = {row["key"]: row for row in rows}
    assert all(row["state"] in ledger.SETTLED for row in last.values())
    return {key: (row["stage"], row["state"], row["reason"], row["made"], shas(row)) for key, row in last.items()}


def shas(row):
    return sorted((artifact["column"], artifact["address"], artifact["sha256"]) for artifact in row["artifacts"])


def counted(root):
    return Counter((row["key"], row["state"]) for row in Tables(root).read("outcomes").to_pylist())


def on_both(tmp_path, prepare, **options):
    """Run the same here and on Ray; return the funnels and roots of both."""
    lines, roots = [], []
    for on in ("here", "ray"):
        root = tmp_path / on
        run = prepare(root)
        lines.append(go(run, on=on, **options))
        roots.append(root)
    return lines, roots


def test_here_and_on_ray_give_the_same_keys_and_outcomes(tmp_path):
    """Rejects, exceptions, crashes, hangs and shared keys, through five stages at a quarter of a CPU each."""
    names = [f"n{number:02d}" for number in range(20)] + ["reject me", "b raise", "c crash", "d hang", "e raise"]

    log = tmp_path / "log"

    def prepare(root):
        log.unlink(missing_ok=True)
        put_sources(root, names)
        stages = {
            "first": ("First", SMALL | {"batch_size": 8}),
            "shared": ("Shared", SMALL | {"batch_size": 4, "log": str(log)}),
            "trouble": ("Trouble", SMALL | {"batch_size": 4, "timeout_s": 2.0}),
            "second": ("Second", SMALL | {"batch_size": 3}),
            "third": ("Third", SMALL),
        }
        return run_of(root, stages, stop_after_errors=100)

    (here, there), roots = on_both(tmp_path, prepare)
    assert there == here
    assert settled(roots[1]) == settled(roots[0])
    assert here["trouble"]["quarantined"] == {"KeyError": 2, "crashed": 1, "timeout": 1}
    assert here["third"]["done"] == 20
    assert log.read_text() == "called\n"  # rows of one key are worked on once
    only_once = {pair: count for pair, count in counted(roots[1]).items() if pair[1] in ledger.SETTLED}
    assert set(only_once.values()) == {1}
    quarantined = Tables(roots[1]).read("outcomes", where="reason = 'crashed' and state = 'quarantined'").to_pylist()
    assert "about to read address 0 for c crash" in quarantined[0]["detail"]


def test_a_resumed_run_and_a_changed_config_do_only_what_is_missing(tmp_path):
    put_sources(tmp_path / "ray", "ab")
    run = run_of(tmp_path / "ray", CHAIN)
    assert go(run, on="ray", until="first")["first"]["done"] == 2
    put_sources(tmp_path / "ray", "cd")
    assert go(run, on="ray")["third"]["done"] == 4
    before = counted(tmp_path / "ray")
    assert set(before.values()) == {1}
    go(run, on="ray")
    assert counted(tmp_path / "ray") == before
    changed = CHAIN | {"second": ("Second", SMALL | {"value": 7})}
    go(run_of(tmp_path / "ray", changed), on="ray")
    stages = Counter(row["stage"] for row in Tables(tmp_path / "ray").read("outcomes").to_pylist())
    assert stages == {"first": 4, "second": 8, "third": 8}
    put_sources(tmp_path / "here", "abcd")
    for stages in (CHAIN, changed):
        go(run_of(tmp_path / "here", stages))
    assert settled(tmp_path / "ray") == settled(tmp_path / "here")


@pytest.mark.parametrize("how", ["deleted", "damaged"])
def test_an_artifact_that_is_gone_or_changed_is_made_again_as_it_is_here(tmp_path, how):
    def prepare(root):
        put_sources(root, "ab")
        run = run_of(root, CHAIN)
        go(run, until="first")
        (row,) = Tables(root).read("outcomes", where="item = 'src_a' and stage = 'first'").to_pylist()
        path = Path(root, row["artifacts"][0]["address"])
        if how == "deleted":
            path.unlink()
        else:
            path.write_bytes(path.read_bytes()[:-1] + b"?")
        return run

    (here, there), roots = on_both(tmp_path, prepare)
    assert there == here
    assert there["third"]["done"] == 2
    assert settled(roots[1]) == settled(roots[0])
    assert counted(roots[1]) == counted(roots[0])
    assert sorted(state for _, state in counted(roots[1])) == ["done"] * 6 + ["lost"]


def test_sources_and_characters_go_through_their_own_stages(tmp_path):
    put_sources(tmp_path, "ab")
    import pyarrow as pa

    rows = [{"id": f"chr_{name}", "file": f"{name}.png", "crop": [0, 0, 4, 4]} for name in "xyz"]
    Tables(tmp_path).upsert("characters", pa.Table.from_pylist(rows, schema=CHARACTERS))
    config = config_of(tmp_path, {"first": ("First", SMALL)})
    config["stages"]["characters"] = {"other": {"use": f"{SAMPLES}:NoFrames", **SMALL}}
    plans = execute(build(config), None, None, Progress(quiet=True), on="ray")
    assert {plan.track: plan.counts[-1].done for plan in plans} == {"sources": 2, "characters": 3}
    assert plan_run(build(config), Tables(tmp_path), fold(Tables(tmp_path)))[1].counts[-1].done == 3


def test_one_process_serves_all_blocks_of_a_worker_through_wave_after_wave(tmp_path):
    put_sources(tmp_path, [f"n{number:02d}" for number in range(24)])
    run = run_of(tmp_path, {"who": ("NoOp", SMALL)}, wave_rows=12)
    config = run.config.model_dump()
    config["stages"]["sources"]["who"] = {"use": "tests.ray_samples:Who", **SMALL}
    assert go(build(config), on="ray")["who"]["done"] == 24
    made = [made for made, _ in ledger_results(tmp_path)]
    by_worker = {(one["parent"], one["process"]) for one in made}
    assert len(by_worker) == 2  # two waves, a worker each; blocks of one row
    assert {one["threads"] for one in made} == {1}


def ledger_results(root):
    keys = fold(Tables(root)).state
    results = ledger.Results(Tables(root), keys)
    return [results[key] for key in keys]


@pytest.mark.parametrize(
    ("field", "sentence"),
    [
        ({"cpus": 3.0}, r"has 2 CPUs, and the first workers of sources want 3\.25 \(first 3 \+ second 0\.25\)"),
        ({"cpus": 0.5, "min_workers": 4}, r"want 2\.25 \(first 2 \+ second 0\.25\); add nodes, or lower min_workers"),
        ({"gpus": 0.5}, r"has 0 GPUs, and the first workers of sources want 0\.5 .*--set stages\.sources\.first\.gpus"),
    ],
)
def test_a_run_that_the_cluster_cannot_hold_is_refused_in_one_sentence_at_once(tmp_path, field, sentence):
    from pipeline.ray_cluster import ClusterError

    put_sources(tmp_path, "ab")
    stages = {"first": ("First", SMALL | {"max_workers": None} | field), "second": ("Second", SMALL)}
    started = time.monotonic()
    with pytest.raises(ClusterError, match=sentence) as told:
        go(run_of(tmp_path, stages), on="ray")
    assert time.monotonic() - started < 5
    assert "\n" not in str(told.value)
    assert Tables(tmp_path).count("outcomes") == 0


def test_a_whole_cluster_of_first_workers_finds_room(tmp_path):
    put_sources(tmp_path, "abc")
    stages = {"first": ("First", {"max_workers": 1}), "second": ("Second", {"max_workers": 1})}  # a CPU each, of two
    assert go(run_of(tmp_path, stages), on="ray")["second"]["done"] == 3


def test_one_class_of_error_many_times_in_a_row_ends_the_run_and_keeps_what_is_finished(tmp_path):
    put_sources(tmp_path, ["a"] + [f"raise_{number:03d}" for number in range(300)])
    stages = {"trouble": ("Trouble", SMALL | {"batch_size": 1, "sleep_s": 0.01})}
    with pytest.raises(RunStopped, match=r"sources\.trouble failed 3 times in a row with KeyError .*requeue --root"):
        go(run_of(tmp_path, stages, stop_after_errors=3), on="ray")
    states = Counter(state for _, state in counted(tmp_path))
    assert states["done"] == 1
    assert 3 <= states["quarantined"] < 60
    assert set(states) == {"done", "quarantined"}
    assert not list((tmp_path / "flights").glob("*"))


def test_a_stage_that_cannot_start_ends_the_run_with_its_sentence_and_charges_no_row(tmp_path):
    put_sources(tmp_path, "ab")
    with pytest.raises(RunStopped, match=r"cannot start: FileNotFoundError: weights.onnx is not there"):
        go(run_of(tmp_path, {"cannot": ("CannotBegin", SMALL)}), on="ray")
    assert Tables(tmp_path).count("outcomes") == 0


def test_the_watchdog_names_stage_row_worker_and_queues_while_a_row_hangs(tmp_path, capfd):
    put_sources(tmp_path, [f"n{number}" for number in range(6)] + ["hang"])
    stages = {"trouble": ("Trouble", SMALL | {"batch_size": 1, "timeout_s": 6.0})}
    stages["behind"] = ("NoOp", SMALL | {"batch_size": 1})
    began_s = time.monotonic()
    lines = go(run_of(tmp_path, stages, stall_timeout_s=1.5), on="ray")
    took_s = time.monotonic() - began_s
    assert lines["trouble"]["quarantined"] == {"timeout": 1}
    said = [line for line in capfd.readouterr().err.splitlines() if "has worked on src_hang" in line]
    assert re.fullmatch(
        r"bodydouble: nothing was finished for \d+ s; "
        r"sources\.trouble has worked on src_hang for \d+ s in worker \w{8} \(process \d+ on [\d.]+\); "
        r"sources\.trouble \d waiting, [12] in flight; sources\.behind 0 waiting, 0 in flight",
        said[-1],
    )
    assert 2 <= len(said) <= took_s / 1.5  # one for each stall_timeout_s


def test_a_row_that_takes_all_memory_it_is_given_is_quarantined_and_its_neighbours_are_done(tmp_path):
    put_sources(tmp_path, ["a", "b hungry", "c"])
    config = config_of(tmp_path, {"hungry": ("NoOp", SMALL)})
    config["stages"]["sources"]["hungry"] = {"use": "tests.ray_samples:Hungry", "batch_size": 3, **SMALL}
    lines = go(build(config), on="ray")
    assert (lines["hungry"]["done"], lines["hungry"]["quarantined"]) == (2, {"MemoryError": 1})
    assert lines_of(build(config)) == lines
