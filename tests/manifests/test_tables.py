import shutil
import signal
import subprocess
import sys
import time

import pyarrow as pa
import pytest

from manifests.errors import RootError
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
    tables.compact("pairs", keep=1)
    assert tables.read("pairs", version="frozen")["source"].to_pylist() == ["old"]
    assert tables.read("pairs")["source"].to_pylist() == ["new 4"]


def test_compaction_joins_appends_and_loses_no_row(tables):
    for number in range(50):
        tables.append("outcomes", outcome(f"k{number}", number))
    assert tables.fragments("outcomes") == 50
    assert tables.compact("outcomes", keep=1)
    assert sorted(tables.read("outcomes")["seq"].to_pylist()) == list(range(50))
    assert tables.fragments("outcomes") == 1


def test_a_table_that_was_never_written_has_nothing_to_compact(tables):
    assert tables.fragments("outcomes") == 0
    assert tables.compact("outcomes")


FULL = """
import sys
from manifests.tables import Tables
from tests.manifests.test_tables import outcome
tables = Tables(sys.argv[1])
for number in range(30):
    tables.append("outcomes", outcome(f"k{number}", number))
with open(sys.argv[1] + "/fill", "wb", buffering=0) as fill:
    try:
        while fill.write(bytes(4096)):
            pass
    except OSError:
        pass
print(tables.compact("outcomes"), tables.count("outcomes"), tables.fragments("outcomes"))
"""
can_mount = shutil.which("unshare") and (
    subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode == 0
)


@pytest.mark.skipif(not can_mount, reason="needs unshare with user namespaces, to mount a small disk of its own")
def test_compaction_on_a_full_disk_does_nothing_and_says_so(tmp_path):
    script = 'mount -t tmpfs -o size=4m tmpfs "$1" || exit 99; exec "$2" -c "$3" "$1"'
    run = ["unshare", "-rm", "sh", "-c", script, "sh", str(tmp_path), sys.executable, FULL]
    assert subprocess.run(run, capture_output=True, text=True, check=True, timeout=60).stdout == "False 30 30\n"


@pytest.mark.parametrize("lost", ["_versions/*.manifest", "_versions/*", "_versions"])
@pytest.mark.parametrize("writes", [1, 3])
def test_a_table_whose_versions_are_lost_is_damaged_and_not_new(tables, tmp_path, lost, writes):
    for number in range(writes):
        tables.append("outcomes", outcome(f"k{number}", number))
    for path in (tmp_path / "root/tables/outcomes.lance").glob(lost):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    for ask in (tables.read, tables.count, Tables(tables.root).fragments):
        with pytest.raises(
            TableError,
            match=r"cannot be opened \(its folder is there, but no version of it\).* restore its folder from a copy",
        ) as error:
            ask("outcomes")
        assert "\n" not in str(error.value)
    with pytest.raises(TableError, match="cannot be opened"):
        Tables(tables.root).append("outcomes", outcome("k", 99))


def test_an_empty_folder_is_a_table_that_was_never_written(tables, tmp_path):
    (tmp_path / "root/tables/outcomes.lance").mkdir(parents=True)
    assert tables.count("outcomes") == 0
    tables.append("outcomes", outcome("k", 1))
    assert tables.count("outcomes") == 1


FIRST_WRITE = """
import sys
from manifests.tables import Tables
from tests.manifests.test_tables import outcome
tables, rows = Tables(sys.argv[1]), outcome("k", 1)
print("now", flush=True)
tables.append("outcomes", rows)
"""


@pytest.mark.parametrize("after_s", [0.0, 0.002, 0.004, 0.008, 0.016])
def test_a_first_write_that_is_killed_at_any_moment_leaves_a_table_that_can_be_written(tables, after_s):
    with subprocess.Popen([sys.executable, "-c", FIRST_WRITE, tables.root], stdout=subprocess.PIPE) as writer:
        writer.stdout.readline()
        time.sleep(after_s)
        writer.send_signal(signal.SIGKILL)
    found = tables.count("outcomes")
    assert found in {0, 1}
    tables.append("outcomes", outcome("l", 2))
    assert tables.count("outcomes") == found + 1


def test_files_of_a_first_write_without_a_version_are_written_over(tables, tmp_path):
    tables.append("outcomes", outcome("k", 1))
    shutil.rmtree(tmp_path / "root/tables/outcomes.lance/_versions")  # as a kill leaves it that came before the commit
    (tmp_path / "root/tables/outcomes.beginning").touch()
    assert tables.count("outcomes") == 0
    for seq in (1, 2):
        tables.append("outcomes", outcome("k", seq))
    assert tables.read("outcomes")["seq"].to_pylist() == [1, 2]
    assert not (tmp_path / "root/tables/outcomes.beginning").exists()


def test_a_mark_left_behind_a_first_commit_goes_with_the_second(tables, tmp_path):
    tables.append("outcomes", outcome("k", 1))
    mark = tmp_path / "root/tables/outcomes.beginning"
    mark.touch()
    Tables(tables.root).append("outcomes", outcome("l", 2))
    assert not mark.exists()


def test_a_root_that_is_a_file_is_told_in_one_sentence(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RootError, match="file cannot be used: Not a directory"):
        Tables(tmp_path / "file").count("sources")


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
