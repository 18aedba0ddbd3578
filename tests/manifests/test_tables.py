from datetime import timedelta

import pyarrow as pa
import pytest

from manifests.schema import OUTCOMES, PAIRS, TABLES, comment_of
from manifests.tables import TableError, Tables


def pairs(*rows):
    return pa.Table.from_pylist([{"id": i, "source": s, "character": "c"} for i, s in rows], schema=PAIRS)


def outcome(key, seq):
    row = {"key": key, "track": "sources", "item": key, "stage": "probe", "state": "done", "epoch": 1, "seq": seq}
    return pa.Table.from_pylist([row], schema=OUTCOMES)


@pytest.fixture
def tables(tmp_path):
    return Tables(tmp_path / "root")


@pytest.mark.parametrize("name", TABLES)
def test_every_column_has_a_comment(name):
    assert all(len(comment_of(field)) > 10 for field in TABLES[name])


def test_a_table_that_was_never_written_reads_as_empty(tables):
    assert tables.read("pairs").schema.names == PAIRS.names
    assert (tables.count("pairs"), tables.version("pairs"), tables.tags("pairs")) == (0, 0, {})


def test_an_upsert_replaces_rows_of_the_same_id_and_adds_the_others(tables):
    tables.upsert("pairs", pairs(("a", "old"), ("b", "old")))
    tables.upsert("pairs", pairs(("b", "new"), ("c", "new")))
    found = {row["id"]: row["source"] for row in tables.read("pairs").to_pylist()}
    assert found == {"a": "old", "b": "new", "c": "new"}


def test_a_tag_keeps_its_version_through_changes_and_clean_up(tables):
    tables.upsert("pairs", pairs(("a", "old")))
    tables.tag("pairs", "frozen")
    for number in range(5):
        tables.upsert("pairs", pairs(("a", f"new {number}")))
    tables.compact("pairs", keep=timedelta(0))
    assert tables.read("pairs", version="frozen")["source"].to_pylist() == ["old"]
    assert tables.read("pairs")["source"].to_pylist() == ["new 4"]


def test_compaction_joins_appends_and_loses_no_row(tables):
    for number in range(50):
        tables.append("outcomes", outcome(f"k{number}", number))
    tables.compact("outcomes", keep=timedelta(0))
    dataset = tables.open("outcomes")
    assert sorted(tables.read("outcomes")["seq"].to_pylist()) == list(range(50))
    assert len(dataset.get_fragments()) == 1


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        ({"where": "sorce = 'x'"}, "Did you mean 'source'"),
        ({"where": "source ="}, "does not fit table pairs"),
        ({"columns": ["sorce"]}, "did you mean 'source'"),
        ({"version": "nowhere"}, "no version or tag 'nowhere': newest version is 1"),
        ({"version": 99}, "no version or tag 99"),
    ],
)
def test_a_question_with_a_mistake_gets_one_sentence(tables, ask, said):
    tables.upsert("pairs", pairs(("a", "s")))
    with pytest.raises(TableError, match=said) as error:
        tables.read("pairs", **ask)
    assert "\n" not in str(error.value)
    assert ".rs:" not in str(error.value)


def test_a_table_that_does_not_exist_is_named_with_those_that_do(tables):
    with pytest.raises(TableError, match="no table 'pears'; the tables are sources, characters"):
        tables.read("pears")
