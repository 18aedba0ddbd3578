"""The engine in this process: real workers, real crashes, a real ledger."""

import json
from collections import Counter
from pathlib import Path

import pytest

from manifests import ledger
from manifests.flight import FlightNote
from manifests.lease import Lease, LeaseTaken
from manifests.ledger import fold
from manifests.store import Artifact, Store
from manifests.tables import Tables
from pipeline.config import build
from pipeline.inspecting import requeue, trace
from pipeline.local_runner import LONE_ATTEMPTS, RunStopped
from pipeline.plan import plan_run
from pipeline.verify import find_damaged
from tests.rows import SAMPLES, config_of, go, lines_of, put_sources, run_of

CHAIN = {"first": "First", "second": "Second", "third": "Third"}


def rows_of(root, **equal):
    rows = Tables(root).read("outcomes").to_pylist()
    rows.sort(key=lambda row: (row["epoch"], row["seq"]))
    return [row for row in rows if all(row[name] == value for name, value in equal.items())]


def test_rows_go_through_all_stages_and_rejected_ones_stop_with_their_reason(tmp_path):
    put_sources(tmp_path, ["a", "b", "c", "reject me"])
    lines = go(run_of(tmp_path, CHAIN))
    assert lines["first"]["rejected"] == {"marked": 1}
    assert [lines[stage]["done"] for stage in ("import", *CHAIN)] == [4, 3, 3, 3]
    (last,) = rows_of(tmp_path, item="src_a", stage="third")
    made = Store(str(tmp_path)).get(Artifact(**last["artifacts"][0]))
    assert made.tolist() == [11.0, 11.0, 11.0]  # 5 frames, doubled, and one


def test_a_second_run_does_nothing(tmp_path):
    put_sources(tmp_path, "abc")
    go(run_of(tmp_path, CHAIN))
    before = Tables(tmp_path).count("outcomes")
    go(run_of(tmp_path, CHAIN))
    assert Tables(tmp_path).count("outcomes") == before


def test_new_rows_are_all_that_a_later_run_does(tmp_path):
    put_sources(tmp_path, "ab")
    go(run_of(tmp_path, CHAIN))
    put_sources(tmp_path, "cd")
    go(run_of(tmp_path, CHAIN))
    assert Counter(row["item"] for row in rows_of(tmp_path)) == dict.fromkeys(["src_a", "src_b", "src_c", "src_d"], 3)


def test_a_changed_field_runs_its_stage_and_those_behind_it_and_going_back_finds_the_old_results(tmp_path):
    put_sources(tmp_path, "ab")
    go(run_of(tmp_path, CHAIN))
    changed = run_of(tmp_path, CHAIN | {"second": ("Second", {"value": 7})})
    assert {stage: line["pending"] for stage, line in lines_of(changed).items()} == {
        "import": 0, "first": 0, "second": 2, "third": 0,
    }  # fmt: skip
    go(changed)
    assert Counter(row["stage"] for row in rows_of(tmp_path)) == {"first": 2, "second": 4, "third": 4}
    before = Tables(tmp_path).count("outcomes")
    go(run_of(tmp_path, CHAIN))
    assert Tables(tmp_path).count("outcomes") == before


def test_a_new_version_and_new_weights_run_a_stage_again_but_batch_size_does_not(tmp_path, monkeypatch):
    from tests import stage_samples

    run = run_of(tmp_path, CHAIN)
    put_sources(tmp_path, "a")
    go(run)
    assert lines_of(run_of(tmp_path, CHAIN | {"first": ("First", {"batch_size": 1})}))["first"]["pending"] == 0
    with monkeypatch.context() as patch:
        patch.setattr(stage_samples.First, "version", 2)
        assert lines_of(run)["first"]["pending"] == 1
    with monkeypatch.context() as patch:
        patch.setattr(stage_samples.First, "digests", classmethod(lambda cls, config: {"weights": "other"}))
        assert lines_of(run)["first"]["pending"] == 1
    assert lines_of(run)["first"]["pending"] == 0


def test_an_item_that_crashes_its_worker_twice_is_quarantined_with_its_last_words_and_its_neighbours_are_done(tmp_path):
    put_sources(tmp_path, ["a", "b crash", "c", "d", "e", "f crash"])
    lines = go(run_of(tmp_path, {"trouble": ("Trouble", {"batch_size": 4})}, workers=2))
    assert lines["trouble"]["done"] == 4
    assert lines["trouble"]["quarantined"] == {"crashed": 2}
    for row in rows_of(tmp_path, state=ledger.QUARANTINED):
        name = row["item"].removeprefix("src_")
        assert f"about to read address 0 for {name}" in row["detail"]
        assert "Segmentation fault" in row["detail"]
    assert not {row["item"] for row in rows_of(tmp_path, state=ledger.CRASHED)} - {"src_b crash", "src_f crash"}


def test_an_item_that_hangs_is_ended_and_quarantined(tmp_path):
    put_sources(tmp_path, ["a", "b hang", "c"])
    lines = go(run_of(tmp_path, {"trouble": ("Trouble", {"batch_size": 1, "timeout_s": 1.0})}))
    assert lines["trouble"]["quarantined"] == {"timeout": 1}
    assert lines["trouble"]["done"] == 2
    (row,) = rows_of(tmp_path, state=ledger.QUARANTINED)
    assert "took longer than timeout_s = 1" in row["detail"]


def test_an_exception_quarantines_its_own_row_with_the_traceback(tmp_path):
    put_sources(tmp_path, ["a", "b raise", "c"])
    lines = go(run_of(tmp_path, {"trouble": "Trouble"}))
    assert lines["trouble"]["quarantined"] == {"KeyError": 1}
    assert lines["trouble"]["done"] == 2
    (row,) = rows_of(tmp_path, state=ledger.QUARANTINED)
    assert "no such thing in b raise" in row["detail"]
    assert "stage_samples.py" in row["detail"]


def test_a_quarantined_row_stays_there_until_it_is_requeued(tmp_path):
    put_sources(tmp_path, ["a", "b raise"])
    run = run_of(tmp_path, {"trouble": "Trouble"})
    go(run)
    before = Tables(tmp_path).count("outcomes")
    go(run)
    assert Tables(tmp_path).count("outcomes") == before
    assert [row["item"] for row in requeue(str(tmp_path), "reason = 'KeyError'")] == ["src_b raise"]
    assert lines_of(run)["trouble"]["pending"] == 1
    assert go(run)["trouble"]["quarantined"] == {"KeyError": 1}
    assert [row["state"] for row in rows_of(tmp_path, item="src_b raise")] == ["quarantined", "requeued", "quarantined"]


def test_a_neighbour_of_a_crash_that_dies_once_by_somebody_elses_hand_is_not_charged(tmp_path):
    put_sources(tmp_path, ["a crash", "b once", "c"])
    trouble = ("Trouble", {"batch_size": 4, "log": str(tmp_path / "log")})
    lines = go(run_of(tmp_path, {"trouble": trouble}))
    assert lines["trouble"]["quarantined"] == {"crashed": 1}
    assert lines["trouble"]["done"] == 2


def left_in_the_middle_of_a_lone_attempt(root, run, times):
    """Write what drivers leave that are ended in the middle of a lone attempt."""
    tables = Tables(root)
    (plan,) = plan_run(run, tables, fold(tables))
    for _ in range(times):
        with Lease.take(str(root), "driver") as lease:
            committer = ledger.Committer(tables, lease.epoch)
            committer.add(ledger.Outcome(plan.keys[0][0], "sources", "src_a", "trouble", ledger.STARTED))
            committer.flush()


@pytest.mark.parametrize(("times", "state"), [(LONE_ATTEMPTS - 1, "done"), (LONE_ATTEMPTS, "quarantined")])
def test_a_row_whose_lone_attempts_ended_the_whole_run_too_often_is_poison(tmp_path, times, state):
    put_sources(tmp_path, ["a"])
    run = run_of(tmp_path, {"trouble": "Trouble"})
    left_in_the_middle_of_a_lone_attempt(tmp_path, run, times)
    assert go(run)["trouble"][state] in (1, {"crashed": 1})


def test_what_was_in_flight_when_a_driver_died_is_tried_alone_and_charged_with_nothing(tmp_path):
    put_sources(tmp_path, "abc")
    run = run_of(tmp_path, {"trouble": ("Trouble", {"batch_size": 4})})
    (plan,) = plan_run(run, Tables(tmp_path), fold(Tables(tmp_path)))
    FlightNote(str(tmp_path), 1).write(plan.keys[0][:2])
    assert go(run)["trouble"]["done"] == 3
    assert sorted(row["item"] for row in rows_of(tmp_path, state=ledger.STARTED)) == ["src_a", "src_b"]
    assert FlightNote(str(tmp_path), 1).left_behind() == set()  # a run that ended well leaves no note


def test_one_class_of_error_many_times_in_a_row_stops_the_run_in_whatever_stage(tmp_path):
    put_sources(tmp_path, [f"raise_{number}" for number in range(30)])
    stages = {"first": "First", "trouble": ("Trouble", {"batch_size": 1})}
    with pytest.raises(RunStopped, match=r"sources\.trouble failed 3 times in a row with KeyError .*requeue --root"):
        go(run_of(tmp_path, stages, stop_after_errors=3))
    assert 3 <= len(rows_of(tmp_path, state=ledger.QUARANTINED)) < 10  # what was found is kept


def test_errors_between_which_rows_are_rejected_are_not_in_a_row(tmp_path):
    names = [f"n{number:02d} {'raise' if number % 4 == 3 else 'reject'}" for number in range(24)]
    put_sources(tmp_path, names)
    lines = go(run_of(tmp_path, {"trouble": ("Trouble", {"batch_size": 1})}, stop_after_errors=3))
    assert lines["trouble"]["quarantined"] == {"KeyError": 6}


def test_rows_that_share_a_key_are_worked_on_once_and_all_go_on(tmp_path):
    put_sources(tmp_path, "abcd")
    shared = {"shared": ("Shared", {"log": str(tmp_path / "log"), "batch_size": 2}), "after": "AfterShared"}
    lines = go(run_of(tmp_path, shared, workers=2))
    assert (lines["shared"]["done"], lines["after"]["done"]) == (4, 4)
    assert (tmp_path / "log").read_text().count("\n") == 1


def test_until_leaves_out_tracks_that_have_no_such_stage(tmp_path):
    data = config_of(tmp_path, {"first": "First", "second": "Second"})
    data["stages"]["characters"] = {"other": {"use": f"{SAMPLES}:NoFrames"}}
    plans = plan_run(build(data), Tables(tmp_path), ledger.Fold(), until="first")
    assert [(plan.track, [spec.name for spec in plan.specs]) for plan in plans] == [("sources", ["first"])]


def test_the_config_of_each_result_can_be_told_from_its_outcome(tmp_path):
    put_sources(tmp_path, "a")
    for value in (1, 2):
        go(run_of(tmp_path, {"first": ("First", {"value": value})}))
    values = []
    for row in rows_of(tmp_path, stage="first"):
        made_with = json.loads(row["made_with"])
        assert made_with["libraries"]["numpy"]
        values.append(Store(str(tmp_path)).page(f"recipes/{made_with['recipe']}.json")["config"]["value"])
    assert values == [1, 2]


def test_a_stage_that_cannot_start_ends_the_run_with_its_reason_and_charges_no_row(tmp_path):
    put_sources(tmp_path, "ab")
    with pytest.raises(RunStopped, match=r"cannot start: FileNotFoundError: weights.onnx is not there"):
        go(run_of(tmp_path, {"cannot": "CannotBegin"}))
    assert rows_of(tmp_path) == []


def test_a_stage_that_reads_what_it_does_not_declare_fails_in_its_first_test(tmp_path):
    put_sources(tmp_path, "a")
    assert go(run_of(tmp_path, {"undeclared": "Undeclared"}))["undeclared"]["quarantined"] == {"KeyError": 1}


def damage(root, stage, how):
    (row,) = rows_of(root, item="src_a", stage=stage)
    path = Path(root, row["artifacts"][0]["address"])
    if how == "deleted":
        path.unlink()
    else:
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)


@pytest.mark.parametrize("how", ["deleted", "damaged"])
def test_an_artifact_that_is_gone_or_changed_is_found_by_the_stage_that_reads_it_and_made_again(tmp_path, how):
    put_sources(tmp_path, "ab")
    go(run_of(tmp_path, CHAIN), until="first")
    damage(tmp_path, "first", how)
    lines = go(run_of(tmp_path, CHAIN))
    assert lines["third"]["done"] == 2
    assert [row["state"] for row in rows_of(tmp_path, item="src_a", stage="first")] == ["done", "lost", "done"]
    assert find_damaged(Tables(tmp_path)) == []


@pytest.mark.parametrize("how", ["deleted", "damaged"])
@pytest.mark.parametrize("stage", ["first", "third"])
def test_verify_finds_what_no_stage_reads_any_more(tmp_path, how, stage):
    put_sources(tmp_path, "ab")
    run = run_of(tmp_path, CHAIN)
    go(run)
    damage(tmp_path, stage, how)
    assert len(find_damaged(Tables(tmp_path))) == 1
    go(run)
    assert len(find_damaged(Tables(tmp_path))) == 1  # without verify nobody looks
    assert go(run, verify=True)["third"]["done"] == 2
    assert find_damaged(Tables(tmp_path)) == []
    states = Counter(row["state"] for row in rows_of(tmp_path, item="src_a"))
    assert states == {"done": 4, "lost": 1}  # nothing but the one artifact was made again


def test_a_whole_artifact_without_an_outcome_is_adopted(tmp_path):
    put_sources(tmp_path, "ab")
    log = tmp_path / "log"
    run = run_of(tmp_path, {"trouble": ("Trouble", {"log": str(log)})})
    go(run)
    Tables(tmp_path).delete("outcomes", "item = 'src_a'")
    assert go(run)["trouble"]["done"] == 2
    assert Counter(log.read_text().split()) == {"a": 1, "b": 1}


def test_a_second_driver_is_kept_out(tmp_path):
    put_sources(tmp_path, "a")
    with Lease.take(str(tmp_path), "bodydouble run", interval_s=0.2), pytest.raises(LeaseTaken, match="is in use"):
        go(run_of(tmp_path, CHAIN))


def test_a_trace_tells_the_whole_history_of_a_row(tmp_path):
    put_sources(tmp_path, "ab")
    go(run_of(tmp_path, CHAIN))
    told = trace(str(tmp_path), "src_a")
    assert told["row"]["file"] == "a"
    assert [each["stage"] for each in told["outcomes"]] == ["first", "second", "third"]
    assert all(each["newest"] and each["made_with"]["libraries"]["numpy"] for each in told["outcomes"])


def test_more_workers_and_other_batches_give_the_same_keys_and_results(tmp_path):
    names = [f"n{number}" for number in range(40)] + ["reject me"]
    results = []
    for folder, workers, batch in (("one", 1, 1), ("many", 3, 16)):
        put_sources(tmp_path / folder, names)
        stages = {stage: (cls, {"batch_size": batch}) for stage, cls in CHAIN.items()}
        go(run_of(tmp_path / folder, stages, workers=workers))
        rows = rows_of(tmp_path / folder)
        results.append(sorted((r["key"], r["state"], r["made"], str(r["artifacts"]), r["reason"] or "") for r in rows))
    assert results[0] == results[1]
