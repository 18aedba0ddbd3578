"""The ledger read in columns: the newest row of each key, and the artifacts that it names."""

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from manifests import ledger
from manifests.lease import LeaseLost
from manifests.ledger import Committer, Outcome
from manifests.schema import OUTCOMES
from manifests.store import Store, as_record
from manifests.tables import TableError, Tables
from pipeline.inspecting import newest, requeue, settled
from pipeline.verify import find_damaged

STATES = [*sorted(ledger.SETTLED), ledger.LOST, ledger.REQUEUED]
rows_of_a_log = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from(STATES), st.integers(1, 3), st.integers(1, 50)),
    unique_by=lambda row: row[2:],
    min_size=1,
)


def write(tables, rows):
    named = [dict(zip(("key", "state", "epoch", "seq"), row, strict=True)) | {"item": row[0]} for row in rows]
    tables.append("outcomes", pa.Table.from_pylist(named, schema=OUTCOMES))


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows_of_a_log, st.sets(st.sampled_from(STATES), min_size=1), st.randoms(), st.integers(0, 10))
def test_the_newest_row_of_a_key_is_that_with_the_largest_epoch_and_sequence(
    tmp_path_factory, rows, states, random, twice
):
    tables = Tables(tmp_path_factory.mktemp("root"))
    truth = {}
    for row in rows:  # the plain definition
        truth[row[0]] = max(truth.get(row[0], row), row, key=lambda each: each[2:])
    random.shuffle(rows)
    for group in (rows[: len(rows) // 2], rows[len(rows) // 2 :], rows[:twice]):  # some landed twice
        if group:
            write(tables, group)
    columns = ["key", "state", "epoch", "seq"]
    found = [tuple(row.values()) for some in newest(tables, tuple(states), columns) for row in some.to_pylist()]
    assert sorted(found) == sorted(row for row in truth.values() if row[1] in states)


def test_a_condition_is_asked_of_the_newest_row_only(tmp_path):
    tables = Tables(tmp_path)
    committer = Committer(tables, epoch=1)
    for reason in ("crashed", "timeout"):
        committer.add(Outcome("k", "sources", "src_a", "s", ledger.QUARANTINED, reason=reason))
    committer.flush()
    asked = [settled(tables, (ledger.QUARANTINED,), f"reason = '{reason}'") for reason in ("crashed", "timeout")]
    assert [len(rows) for rows in asked] == [0, 1]
    assert len(settled(tables, (ledger.QUARANTINED,), "stage = 's' or stage = 't' -- both")) == 1
    for wrong in ("raeson = 'x'", "cast(item as int) = 3"):
        with pytest.raises(TableError, match="does not fit table outcomes"):
            settled(tables, (ledger.QUARANTINED,), wrong)


def test_requeued_rows_win_over_a_ledger_whose_leases_were_cleaned_away(tmp_path):
    tables = Tables(tmp_path)
    committer = Committer(tables, epoch=7)
    committer.add(Outcome("k", "sources", "src_a", "s", ledger.QUARANTINED, reason="crashed"))
    committer.flush()
    assert [row["item"] for row in requeue(str(tmp_path), "true")] == ["src_a"]
    assert ledger.fold(tables).state == {"k": ledger.REQUEUED}
    assert requeue(str(tmp_path), "true") == []


def test_requeue_makes_nothing_where_there_is_no_ledger(tmp_path):
    assert requeue(str(tmp_path / "root"), "true") == []
    assert not (tmp_path / "root").exists()


@pytest.fixture
def damaged_root(tmp_path):
    """A root with three results: one whole, one deleted, and one that was made anew after damage."""
    store, committer = Store(str(tmp_path)), Committer(Tables(tmp_path), epoch=1)

    def put(key, value):
        artifact = as_record(store.put("s", key, "c", pa.array([value] * 9).to_numpy()))
        committer.add(Outcome(key, "sources", f"src_{key}", "s", ledger.DONE, artifacts=[artifact]))
        return tmp_path / artifact["address"]

    put("whole", 1)
    put("gone", 2).unlink()
    put("again", 3)
    put("again", 4)  # the first row's digest fits no file any more, and nobody asks it
    committer.add(Outcome("number", "sources", "src_number", "s", ledger.DONE, made={"n": 1}))
    committer.flush()
    return tmp_path


def test_verify_asks_the_newest_row_of_each_key_and_writes_down_what_is_lost(damaged_root):
    tables = Tables(damaged_root)
    checks = []
    found = find_damaged(tables, Committer(tables, epoch=2), lambda: checks.append(1))
    assert found == [("artifacts/s/go/gone.c.npy", "artifact artifacts/s/go/gone.c.npy is missing")]
    assert len(checks) == 3  # before each item that has artifacts
    assert ledger.fold(tables).state["gone"] == ledger.LOST
    assert find_damaged(tables) == []


def test_who_loses_the_lease_while_verifying_writes_nothing(damaged_root):
    tables = Tables(damaged_root)
    rows = tables.count("outcomes")

    def lost():
        raise LeaseLost("taken over")

    with pytest.raises(LeaseLost):
        find_damaged(tables, Committer(tables, epoch=2), lost)
    assert tables.count("outcomes") == rows
