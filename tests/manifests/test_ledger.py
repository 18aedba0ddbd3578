import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifests import ledger
from manifests.ledger import Committer, Outcome, fold, fold_rows
from manifests.schema import OUTCOMES
from manifests.tables import Tables


def log(rows):
    columns = ("key", "state", "reason", "epoch", "seq")
    schema = pa.schema([OUTCOMES.field(name) for name in columns])
    return pa.Table.from_pylist([dict(zip(columns, row, strict=True)) for row in rows], schema=schema)


rows_of_a_log = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c"]),
        st.sampled_from([*sorted(ledger.SETTLED), ledger.STARTED, ledger.CRASHED, ledger.REQUEUED, ledger.LOST]),
        st.just("why"),
        st.integers(1, 3),
        st.integers(1, 50),
    ),
    unique_by=lambda row: row[3:],
)


@given(rows_of_a_log, st.randoms())
def test_the_state_of_a_key_is_its_latest_row_by_epoch_and_sequence(rows, random):
    truth = {}
    for key, state, _, epoch, seq in rows:  # the plain definition, by the largest (epoch, seq)
        truth[key] = max(truth.get(key, (0, 0, "")), (epoch, seq, state))
    random.shuffle(rows)
    assert fold_rows(log(rows)).state == {key: newest[2] for key, newest in truth.items()}


@given(rows_of_a_log)
def test_a_commit_that_landed_twice_changes_nothing(rows):
    assert fold_rows(log([*rows, *rows])) == fold_rows(log(rows))


def test_a_driver_that_had_lost_its_lease_cannot_overrule_the_new_one():
    late = [("k", "done", None, 2, 1), ("k", "quarantined", "late", 1, 99)]
    assert fold_rows(log(late)).state == {"k": "done"}


def test_lone_attempts_that_never_ended_are_counted_until_the_row_is_requeued():
    rows = [("k", ledger.STARTED, None, 1, 1), ("k", ledger.STARTED, None, 2, 1)]
    assert fold_rows(log(rows)).attempts == {"k": 2}
    assert fold_rows(log([*rows, ("k", ledger.REQUEUED, None, 3, 1)])).attempts == {}


def outcome(number, **parts):
    return Outcome(f"key{number}", "sources", f"item{number}", "probe", parts.pop("state", ledger.DONE), **parts)


def test_what_is_committed_is_read_back(tmp_path):
    tables = Tables(tmp_path)
    committer = Committer(tables, epoch=1)
    artifact = {"column": "c", "address": "a", "sha256": "s", "bytes": 3}
    committer.add(outcome(1, made={"x": [1, 2.5]}, artifacts=[artifact], made_with={"numpy": "2"}))
    committer.add(outcome(2, state=ledger.REJECTED, reason="dark", detail="too dark"))
    committer.flush()
    assert fold(tables).state == {"key1": "done", "key2": "rejected"}
    assert fold(tables).reason == {"key2": "dark"}
    found = ledger.Results(tables, ["key1", "key2"])
    assert found["key1"] == ({"x": [1, 2.5]}, [artifact])
    assert "key2" not in found


def test_a_group_is_due_when_it_is_full_or_old(tmp_path):
    committer = Committer(Tables(tmp_path), epoch=1, every=3, every_s=1000)
    for number in range(3):
        assert not committer.due()
        committer.add(outcome(number))
    assert committer.due()
    patient = Committer(Tables(tmp_path), epoch=1, every=1000, every_s=0.0)
    assert not patient.due()
    patient.add(outcome(9))
    assert patient.due()


class AnswerLost(Tables):
    """Tables whose first append lands, and whose answer is lost on the way."""

    lost = False

    def append(self, name, rows, landed):
        super().append(name, rows, landed)
        if not self.lost:
            self.lost = True
            raise OSError("connection reset by peer")


class NeverLands(Tables):
    tries = 0

    def append(self, name, rows, landed):
        self.tries += 1
        raise OSError("No space left on device (os error 28)")


def test_a_commit_whose_answer_was_lost_is_looked_for_and_not_repeated(tmp_path):
    tables = AnswerLost(tmp_path)
    committer = Committer(tables, epoch=1)
    committer.add(outcome(1))
    committer.flush()
    assert tables.lost
    assert tables.count("outcomes") == 1


def test_on_a_full_disk_the_committer_does_not_try_for_long_and_keeps_what_waits(tmp_path):
    tables = NeverLands(tmp_path)
    committer = Committer(tables, epoch=1)
    committer.add(outcome(1))
    with pytest.raises(OSError, match="No space"):
        committer.flush()
    assert tables.tries == 1
    committer._tables = Tables(tmp_path)  # space was made
    committer.flush()
    assert fold(Tables(tmp_path)).state == {"key1": "done"}


def test_old_commits_are_compacted_and_none_is_lost(tmp_path):
    tables = Tables(tmp_path)
    committer = Committer(tables, epoch=1)
    for number in range(ledger.COMPACT_EVERY + 5):
        committer.add(outcome(number))
        committer.flush()
    assert len(tables.open("outcomes").get_fragments()) <= 6
    assert len(fold(tables).state) == ledger.COMPACT_EVERY + 5


def test_results_are_those_of_the_newest_done_row_and_of_the_keys_asked_for(tmp_path):
    tables = Tables(tmp_path)
    for epoch, value in ((1, "old"), (2, "new")):
        committer = Committer(tables, epoch)
        for number in range(3):
            committer.add(outcome(number, made={"x": f"{value} {number}"}))
        committer.flush()
    found = ledger.Results(tables, ["key0", "key2", "key9"])
    assert found["key2"] == ({"x": "new 2"}, [])
    assert ["key0" in found, "key1" in found, "key9" in found] == [True, False, False]


class Interrupted(Tables):
    """Tables whose first append lands, and is then interrupted as by Ctrl-C."""

    done = False

    def append(self, name, rows, landed):
        super().append(name, rows, landed)
        if not self.done:
            self.done = True
            raise KeyboardInterrupt


def test_a_commit_that_was_interrupted_after_it_landed_is_not_repeated(tmp_path):
    tables = Interrupted(tmp_path)
    committer = Committer(tables, epoch=1)
    committer.add(outcome(1))
    with pytest.raises(KeyboardInterrupt):
        committer.flush()
    committer.add(outcome(2))
    committer.flush()
    assert sorted(tables.read("outcomes")["key"].to_pylist()) == ["key1", "key2"]


def test_outcomes_count_also_after_somebody_removed_the_leases(tmp_path):
    from manifests.lease import Lease

    tables = Tables(tmp_path)
    for state in (ledger.QUARANTINED, ledger.REQUEUED):
        with Lease.take(str(tmp_path), "writer", above=ledger.highest_epoch(tables)) as lease:
            committer = Committer(tables, lease.epoch)
            committer.add(outcome(1, state=state, reason="why"))
            committer.flush()
        for path in (tmp_path / "leases").iterdir():
            path.unlink()
    assert fold(tables).state == {"key1": ledger.REQUEUED}


def test_runs_too_short_to_compact_are_tidied_up_by_the_next(tmp_path):
    tables = Tables(tmp_path)
    for epoch in range(1, 4):
        committer = Committer(tables, epoch)
        for number in range(60):
            committer.add(outcome(number))
            committer.flush()
    assert tables.fragments("outcomes") <= 61
