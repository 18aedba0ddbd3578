"""The desk: who may do what, who is suspect, and what is in the ledger when."""

import copy
import time
from collections import Counter

import pytest

from manifests import ledger
from manifests.flight import FlightNote
from manifests.ledger import Committer, Outcome, fold
from manifests.tables import Tables
from pipeline.desk import DEATHS_OF_POISON, LONE_ATTEMPTS, REMAKES, Desk
from pipeline.errands import Answer, Errand, Packed
from pipeline.worker import Result

MADE = Result(ledger.DONE, made={"number": 7}, seconds=0.5)
RECORD = {"column": "array", "address": "artifacts/x.npy", "sha256": "00", "bytes": 12}


def errand(name, stage="second"):
    return Errand("sources", stage, f"src_{name}", f"key of {name} in {stage}")


def errands(names):
    return [errand(name) for name in names]


def open_desk(root, epoch=1, **options):
    given = {"commit_every": 1000, "commit_every_s": 3600.0, "stop_after_errors": 3} | options
    return Desk(str(root), epoch, **given)


def words(desk, asked, worker="one"):
    return [answer.word for answer in desk.ask(worker, asked)]


def states(root, of=None):
    rows = Tables(root).read("outcomes").to_pylist()
    rows.sort(key=lambda row: (row["epoch"], row["seq"]))
    return [row["state"] for row in rows if of is None or row["key"] == of.key]


def test_rows_are_handed_out_once_and_what_was_made_is_given_to_whoever_asks_later(tmp_path):
    desk = open_desk(tmp_path)
    assert words(desk, errands("ab")) == ["go", "go"]
    assert desk.begin("one", errands("ab"))
    desk.take([(errand("a"), MADE, None), (errand("b"), Result(ledger.REJECTED, "marked"), None)])
    answer, over = desk.ask("two", errands("ab"))
    assert (answer.word, answer.made, answer.artifacts, over.word) == ("done", {"number": 7}, (), "over")
    desk.close()
    assert states(tmp_path) == [ledger.DONE, ledger.REJECTED]


def test_of_rows_that_share_a_key_one_goes_and_the_others_come_later(tmp_path):
    desk = open_desk(tmp_path)
    first, other = errand("a"), errand("a")._replace(id="src_b")
    assert words(desk, [first, other]) == ["go", "later"]
    desk.take([(first, MADE, None)])
    assert words(desk, [other]) == ["done"]


def test_what_an_earlier_run_finished_is_not_handed_out(tmp_path):
    committer = Committer(Tables(tmp_path), 1)
    committer.add(errand("a").outcome(ledger.DONE, made={"number": 3}, artifacts=[RECORD]))
    committer.add(errand("b").outcome(ledger.QUARANTINED, reason="KeyError"))
    committer.flush()
    done, over, new = open_desk(tmp_path, epoch=2).ask("one", errands("abc"))
    assert (done.word, over.word, new.word) == ("done", "over", "go")
    assert done.made == {"number": 3}
    assert done.artifacts[0]["address"] == "artifacts/x.npy"


def test_a_row_whose_worker_was_lost_is_tried_alone_and_no_row_of_its_block_that_had_not_begun(tmp_path):
    desk = open_desk(tmp_path)
    words(desk, errands("abcd"))
    desk.begin("one", errands("ab"))
    desk.take([(errand("a"), MADE, None)])  # its worker is lost with b begun, and c and d in its hands
    assert words(desk, errands("abcd"), "two") == ["done", "alone", "go", "go"]
    assert states(tmp_path) == []  # and nobody was charged


def test_a_lone_attempt_is_in_the_ledger_before_it_starts(tmp_path):
    desk = open_desk(tmp_path)
    words(desk, [errand("a")])
    assert desk.begin_alone("one", errand("a"))
    assert states(tmp_path) == [ledger.STARTED]


def test_a_row_that_takes_two_workers_down_alone_is_quarantined_and_named_with_them(tmp_path):
    desk = open_desk(tmp_path)
    for worker, wanted in (("one", "go"), ("two", "alone"), ("three", "alone"), ("four", "over")):
        assert words(desk, [errand("a")], worker) == [wanted]
        if wanted == "go":
            desk.begin(worker, [errand("a")])
        elif wanted == "alone":
            desk.begin_alone(worker, errand("a"))
    desk.close()
    assert states(tmp_path) == [ledger.STARTED, ledger.CRASHED, ledger.STARTED, ledger.QUARANTINED]
    assert fold(Tables(tmp_path)).reason == {errand("a").key: "crashed"}
    (row,) = Tables(tmp_path).read("outcomes", where="state = 'quarantined'").to_pylist()
    assert "three" in row["detail"]


def test_deaths_of_a_stages_process_and_of_its_worker_count_together(tmp_path):
    desk = open_desk(tmp_path)
    words(desk, [errand("a")])
    desk.begin_alone("one", errand("a"))
    assert desk.died(errand("a"), "timeout", "hung") == 1  # its worker lived, tried it again, and was lost
    desk.begin_alone("one", errand("a"))
    assert words(desk, [errand("a")], "two") == ["over"]
    assert states(tmp_path, errand("a"))[:2] == [ledger.STARTED, ledger.CRASHED]


def test_a_stages_process_that_dies_with_one_row_is_counted_up_to_poison(tmp_path):
    desk = open_desk(tmp_path)
    assert [desk.died(errand("a"), "crashed", "words") for _ in range(DEATHS_OF_POISON)] == [1, 2]
    desk.close()
    assert states(tmp_path) == [ledger.CRASHED]  # the second is the worker's to report, as a quarantine


@pytest.mark.parametrize(("lives", "wanted"), [(LONE_ATTEMPTS - 1, "alone"), (LONE_ATTEMPTS, "over")])
def test_a_row_whose_lone_attempts_ended_whole_runs_is_quarantined_at_the_third(tmp_path, lives, wanted):
    for epoch in range(1, lives + 1):
        desk = open_desk(tmp_path, epoch)
        words(desk, [errand("a")])
        desk.begin_alone("one", errand("a"))
        del desk  # the machine went down: no close
    assert words(open_desk(tmp_path, lives + 1), [errand("a")]) == [wanted]


def test_what_a_machine_took_with_it_was_noted_before_it_began_and_is_tried_alone(tmp_path):
    desk = open_desk(tmp_path)
    words(desk, errands("abc"))
    desk.begin("one", errands("ab"))
    assert FlightNote(str(tmp_path), 9).left_behind() == {errand("a").key, errand("b").key}
    later = open_desk(tmp_path, epoch=2)
    assert words(later, errands("abc")) == ["alone", "alone", "go"]
    later.close()
    assert FlightNote(str(tmp_path), 9).left_behind() == set()


def test_closing_keeps_what_is_finished_and_charges_nobody_who_is_in_flight(tmp_path):
    desk = open_desk(tmp_path)
    words(desk, errands("abc"))
    desk.begin("one", errands("ab"))
    desk.begin_alone("two", errand("c"))
    desk.take([(errand("a"), MADE, None)])
    desk.close()
    assert states(tmp_path) == [ledger.STARTED, ledger.DONE, ledger.REQUEUED]
    assert fold(Tables(tmp_path)).attempts == {}
    assert FlightNote(str(tmp_path), 9).left_behind() == set()
    assert words(open_desk(tmp_path, epoch=2), errands("bc")) == ["go", "go"]


def test_a_lost_input_goes_back_to_its_maker_and_is_handed_out_again(tmp_path):
    desk = open_desk(tmp_path)
    words(desk, [errand("a", "first")])
    desk.take([(errand("a", "first"), MADE, None)])
    for reader in (errand("a"), errand("b")._replace(key="another")):  # two stages miss the same artifact
        words(desk, [reader])
        desk.take([(reader, Result(ledger.LOST, "array", "it is gone"), errand("a", "first"))])
    assert words(desk, [errand("a", "first"), errand("a")]) == ["go", "go"]
    desk.close()
    assert states(tmp_path) == [ledger.DONE, ledger.LOST]


def test_an_input_that_is_lost_again_and_again_is_quarantined_at_its_maker(tmp_path):
    desk = open_desk(tmp_path)
    maker = errand("a", "first")
    for _ in range(REMAKES + 1):
        assert words(desk, [maker]) == ["go"]
        desk.take([(maker, MADE, None)])
        desk.take([(errand("a"), Result(ledger.LOST, "array", "it is gone"), maker)])
    desk.close()
    assert Counter(states(tmp_path)) == {ledger.DONE: 3, ledger.LOST: 2, ledger.QUARANTINED: 1}
    assert fold(Tables(tmp_path)).reason == {maker.key: "artifact_damaged"}


def failed(name):
    return (errand(name), Result(ledger.QUARANTINED, "KeyError", "Traceback\nKeyError: 'x'"), None)


def test_errors_of_one_class_in_a_row_end_the_run_with_their_sentence(tmp_path):
    desk = open_desk(tmp_path, stop_after_errors=3)
    words(desk, errands("abcd"))
    desk.take([failed("a"), failed("b")])
    assert desk.pulse().stop is None
    desk.take([failed("c")])
    stop = desk.pulse().stop
    assert "stage sources.second failed 3 times in a row with KeyError (KeyError: 'x')" in stop
    assert f"requeue --root {tmp_path}" in stop
    assert words(desk, [errand("e")]) == ["later"]
    assert not desk.begin("one", [errand("d")])
    assert not desk.begin_alone("one", errand("d"))
    desk.close()
    assert states(tmp_path) == [ledger.QUARANTINED] * 3


def test_errors_between_which_a_row_is_done_are_not_in_a_row(tmp_path):
    desk = open_desk(tmp_path, stop_after_errors=3)
    desk.take([failed("a"), failed("b"), (errand("c"), MADE, None), failed("d"), failed("e")])
    assert desk.pulse().stop is None


def test_the_first_reason_to_stop_is_the_one_that_is_told(tmp_path):
    desk = open_desk(tmp_path)
    desk.stop("the disk is full", no_space=True)
    desk.stop("another")
    pulse = desk.pulse()
    assert (pulse.stop, pulse.no_space) == ("the disk is full", True)


def test_a_desk_that_takes_over_numbers_on_and_takes_nothing_for_a_repeat(tmp_path):
    first = open_desk(tmp_path)
    words(first, errands("ab"))
    first.begin("one", errands("ab"))
    first.take([(errand("a"), MADE, None), (errand("b"), Result(ledger.REJECTED, "marked"), None)])
    first._flush()
    first.take([(errand("c"), MADE, None)])  # and it dies before it has committed this
    second = open_desk(tmp_path)
    assert words(second, errands("abcd"), "two") == ["done", "over", "go", "go"]
    second.take([(errand("c"), MADE, None), (errand("d"), MADE, None)])
    second.close()
    third = open_desk(tmp_path)
    third.take([(errand("e"), MADE, None)])
    third.close()
    log = Tables(tmp_path).read("outcomes").to_pylist()
    assert len({(row["epoch"], row["seq"]) for row in log}) == len(log) == 5
    assert len(fold(Tables(tmp_path)).state) == 5


def test_a_result_that_is_told_again_to_the_desk_that_took_over_is_not_written_twice(tmp_path):
    first = open_desk(tmp_path, commit_every=1)
    words(first, [errand("a")])
    first.take([(errand("a"), MADE, None)])  # written, and it dies before it can say so: the worker tells it again
    second = open_desk(tmp_path, commit_every=1)
    second.take([(errand("a"), MADE, None)])
    assert states(tmp_path) == [ledger.DONE]
    assert second.pulse().results == []


def test_a_desk_that_took_over_knows_of_what_begins_there_and_was_asked_for_elsewhere(tmp_path):
    words(open_desk(tmp_path), errands("ab"))
    second = open_desk(tmp_path)
    second.begin("one", [errand("a")])
    second.begin_alone("one", errand("b"))  # and then the worker is lost
    assert words(second, errands("ab"), "two") == ["alone", "alone"]
    assert states(tmp_path, errand("b"))[0] == ledger.STARTED


def test_a_pulse_tells_what_ended_what_is_in_flight_and_who_works_longest(tmp_path):
    desk = open_desk(tmp_path)
    words(desk, errands("abc"), "worker 7")
    assert desk.pulse().oldest is None
    desk.begin("worker 7", [errand("b")])
    time.sleep(0.02)
    desk.begin("worker 7", [errand("a")])
    desk.take([(errand("c"), MADE, None)])
    pulse = desk.pulse()
    assert pulse.results == [("sources", "second", ledger.DONE, 0.5)]
    assert pulse.in_flight == {("sources", "second"): 2}
    assert pulse.asked == {("sources", "second"): 3}
    oldest, worker, seconds = pulse.oldest
    assert (oldest, worker) == (errand("b"), "worker 7")
    assert 0.02 <= seconds < 5
    assert desk.pulse().results == []


def test_outcomes_are_committed_in_groups_and_when_they_are_old(tmp_path):
    desk = open_desk(tmp_path, commit_every=3)
    desk.take([(errand(name), MADE, None) for name in "ab"])
    assert states(tmp_path) == []
    desk.take([(errand("c"), MADE, None)])
    assert len(states(tmp_path)) == 3
    desk = open_desk(tmp_path, epoch=2, commit_every_s=0.01)
    desk.take([(errand("d"), MADE, None)])
    time.sleep(0.02)
    desk.pulse()
    assert len(states(tmp_path)) == 4


def test_a_ledger_that_cannot_be_written_ends_the_run_and_what_waits_is_written_at_its_end(tmp_path):
    desk = open_desk(tmp_path, commit_every=1)
    desk.take([(errand("a"), MADE, None)])
    (data,) = tmp_path.glob("**/outcomes.lance/data")
    hidden = data.rename(tmp_path / "elsewhere")
    data.write_text("a file where a folder was")  # nothing can be written there now
    desk.take([(errand("b"), MADE, None)])
    pulse = desk.pulse()
    assert "Not a directory" in pulse.stop  # the system's own words
    assert not pulse.no_space
    data.unlink()
    hidden.rename(data)
    desk.close()
    assert states(tmp_path) == [ledger.DONE, ledger.DONE]


def test_a_thousand_keys_are_looked_up_within_twenty_milliseconds_in_a_ledger_of_many(tmp_path):
    committer = Committer(Tables(tmp_path), 1)
    for number in range(20_000):
        committer.add(Outcome(f"key of {number} in second", "sources", f"src_{number}", "second", ledger.DONE))
    committer.flush()
    desk = open_desk(tmp_path, epoch=2)
    for numbers, wanted in ((range(30_000, 31_000), "go"), (range(1000), "done")):
        asked = [errand(number) for number in numbers]
        assert words(desk, asked) == [wanted] * 1000
        desk.end_wave()
        seconds = []
        for _ in range(5):
            started = time.perf_counter()
            desk.ask("one", asked)
            seconds.append(time.perf_counter() - started)
        assert min(seconds) <= 0.020, wanted


def test_what_is_said_comes_out_of_its_packing_as_it_went_in():
    asked = Packed([errand("a"), errand("b")])
    answers = Packed([Answer("go"), Answer("done", made={"n": 1}, artifacts=[RECORD]), Answer("over")])
    for said in (asked, answers, Packed()):
        got = copy.copy(said)  # by the same way as pickle
        assert (type(got), got) == (Packed, said)
