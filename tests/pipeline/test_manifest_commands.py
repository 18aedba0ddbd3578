"""The commands that look at manifests, on tables whose rows are known, against counts made by hand."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from click.testing import CliRunner, Result

from manifests.schema import CHARACTERS, SOURCES, TABLES
from manifests.tables import Tables
from pipeline.__main__ import main


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(main, ["manifest", *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def as_json(*arguments: object) -> Any:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def source(number: int, **fields: Any) -> dict[str, Any]:
    row = {
        **{"id": f"src_{number:032x}", "file": f"/clips/{number} [b].mp4", "file_sha256": f"{number:064x}"},
        **{"file_bytes": 1000 * number, "licence": "MIT", "licences": ["MIT"], "consent": "granted", "tags": []},
        **{"start_s": 0.0, "fps": 25.0, "frames": 50 * number, "width": 640, "height": 480},
    }
    return {**row, **fields}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Write three versions: two rows tagged `frozen`; then one more and one changed; then one removed."""
    tables = Tables(tmp_path)
    rows = [source(1, tags=["dance", "indoor"]), source(2, licence=None, licences=[])]
    tables.upsert("sources", pa.Table.from_pylist(rows, schema=SOURCES))
    tables.tag("sources", "frozen")
    rows = [
        source(2, licence="CC-BY-4.0", licences=["CC-BY-4.0"]),
        source(3, consent="refused", tags=["dance"], file_sha256=f"{1:064x}", file_bytes=1000),
        source(4, reject="missing", reject_detail="there is no file", frames=None, fps=None, file_sha256=None),
    ]
    tables.upsert("sources", pa.Table.from_pylist(rows, schema=SOURCES))
    tables.delete("sources", f"id = 'src_{1:032x}'")
    return tmp_path


def test_list_shows_full_ids_and_brackets_in_names_as_they_are(root: Path) -> None:
    shown = run("list", "--root", root).stdout
    assert all(f"src_{number:032x}" in shown for number in (2, 3, 4))
    assert "/clips/2 [b].mp4" in shown


def test_a_narrow_terminal_folds_text_but_never_an_id(root: Path) -> None:
    script = "from pipeline import manifest_commands as m; m.NARROW_WIDTH = 80; m.manifest()"
    command = [sys.executable, "-c", script, "list", "--root", str(root)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert max(map(len, shown.splitlines())) <= 80
    assert all(f"src_{number:032x}" in shown for number in (2, 3, 4))


def test_list_takes_a_subset_by_sql_version_limit_and_columns(root: Path) -> None:
    ids = as_json("list", "--root", root, "--where", "array_has(tags, 'dance')", "--columns", "id,tags")
    assert ids == [{"id": f"src_{3:032x}", "tags": ["dance"]}]
    assert len(as_json("list", "--root", root, "--version", "frozen")) == 2
    assert len(as_json("list", "--root", root, "--version", "2")) == 4
    assert len(as_json("list", "--root", root, "--limit", "1")) == 1
    assert set(as_json("list", "--root", root)[0]) == set(SOURCES.names)


def test_ids_are_one_a_line_for_pipes(root: Path) -> None:
    lines = run("list", "--root", root, "--ids", "--where", "reject is null").stdout.splitlines()
    assert sorted(lines) == [f"src_{2:032x}", f"src_{3:032x}"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("list", "--where", "fram > 3"), "Did you mean 'frames'"),
        (("list", "--where", "frames >"), "does not fit table sources"),
        (("list", "--columns", "id,licens"), "did you mean 'licences'"),
        (("list", "--version", "99"), "has no version or tag 99"),
        (("diff", "frozen", "thawed"), "has no version or tag 'thawed'"),
        (("diff", "1", "--table", "outcomes"), "a log without ids"),
        (("tag", "frozen"), "--move moves it"),
        (("tag", "12"), "is no name for a tag"),
        (("tag", "a/b"), "is no name for a tag"),
        (("tag", "new", "99"), "99"),
        (("tag", "new", "--table", "pairs"), "was never written"),
    ],
)
def test_what_is_wrong_is_one_line_on_stderr(root: Path, arguments: tuple[str, ...], says: str) -> None:
    result = run(*arguments, "--root", root)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert says in result.stderr


def test_stats_count_and_measure_what_a_person_would(root: Path) -> None:
    found = as_json("stats", "--root", root)
    assert (found["rows"], found["usable"], found["version"]) == (3, 2, 3)
    assert found["totals"] == {"seconds": 10.0, "frames": 250.0, "files": 2, "file_bytes": 3000}
    assert found["counts"]["licence"] == {"MIT": 2, "CC-BY-4.0": 1}
    assert found["counts"]["consent"] == {"granted": 2, "refused": 1}
    assert found["counts"]["tags"] == {"-": 2, "dance": 1}
    assert found["counts"]["reject"] == {"-": 2, "missing": 1}
    assert found["quantiles"]["frames"] == [100.0, 112.5, 125.0, 137.5, 150.0]
    assert as_json("stats", "--root", root, "--version", "frozen")["totals"]["frames"] == 150.0
    assert as_json("stats", "--root", root, "--where", "consent = 'refused'")["rows"] == 1
    shown = run("stats", "--root", root).stdout
    assert "3 rows, 2 usable" in shown
    assert "missing" in shown


@pytest.mark.parametrize("table", list(TABLES))
def test_stats_and_list_of_a_table_that_was_never_written_are_empty(table: str, tmp_path: Path) -> None:
    assert as_json("stats", "--root", tmp_path, "--table", table)["rows"] == 0
    assert as_json("list", "--root", tmp_path, "--table", table) == []
    assert run("stats", "--root", tmp_path, "--table", table).exit_code == 0
    assert run("list", "--root", tmp_path, "--table", table).exit_code == 0


def test_characters_have_stats_of_their_own(tmp_path: Path) -> None:
    row = {"id": "chr_1", "file": "/a.png", "file_sha256": "0", "file_bytes": 7, "domain": "cartoon", "width": 9}
    Tables(tmp_path).upsert("characters", pa.Table.from_pylist([row], schema=CHARACTERS))
    found = as_json("stats", "--root", tmp_path, "--table", "characters")
    assert found["counts"]["domain"] == {"cartoon": 1}
    assert found["totals"] == {"files": 1, "file_bytes": 7}


def test_diff_says_what_was_added_removed_and_changed_in_which_fields(root: Path) -> None:
    found = as_json("diff", "frozen", "--root", root)
    assert (found["old"], found["new"]) == (1, 3)
    assert [row["id"] for row in found["added"]] == [f"src_{3:032x}", f"src_{4:032x}"]
    assert [row["id"] for row in found["removed"]] == [f"src_{1:032x}"]
    (changed,) = found["changed"]
    assert changed["id"] == f"src_{2:032x}"
    assert changed["fields"] == {"licence": [None, "CC-BY-4.0"], "licences": [[], ["CC-BY-4.0"]]}
    shown = run("diff", "1", "3", "--root", root).stdout
    assert "licence: - -> CC-BY-4.0" in shown
    assert "version 1 to 3: 2 added, 1 removed, 1 changed" in shown


def test_a_diff_of_a_version_with_itself_is_empty_and_one_turned_round_is_turned_round(root: Path) -> None:
    same = as_json("diff", "2", "2", "--root", root)
    assert (same["added"], same["removed"], same["changed"]) == ([], [], [])
    there, back = as_json("diff", "1", "3", "--root", root), as_json("diff", "3", "1", "--root", root)
    assert (there["added"], there["removed"]) == (back["removed"], back["added"])


def test_a_tag_is_set_listed_and_moved_only_on_purpose(root: Path) -> None:
    assert as_json("tag", "--root", root) == {"table": "sources", "newest": 3, "tags": {"frozen": 1}}
    assert as_json("tag", "paper-v1", "--root", root)["tags"] == {"frozen": 1, "paper-v1": 3}
    assert run("tag", "frozen", "1", "--root", root).exit_code == 0, "naming the same version again changes nothing"
    assert run("tag", "frozen", "2", "--root", root).exit_code == 2
    assert run("tag", "frozen", "2", "--root", root, "--move").stdout == "frozen  version 2 of sources\n"
    assert Tables(root).tags("sources") == {"frozen": 2, "paper-v1": 3}
    assert "no tags" in run("tag", "--root", root, "--table", "characters").stdout


def test_columns_say_what_they_mean() -> None:
    found = as_json("columns", "--table", "sources")
    assert [row["column"] for row in found] == SOURCES.names
    assert all(row["comment"] for row in found)
    assert len(as_json("columns")) == sum(len(schema) for schema in TABLES.values())
    assert "frames a second" in run("columns").stdout


def test_the_commands_know_all_tables_without_loading_them() -> None:
    from pipeline import manifest_commands

    assert set(manifest_commands.TABLES) == set(manifest_commands.SHOWN) == set(TABLES)
    assert all(set(shown) <= set(TABLES[name].names) for name, shown in manifest_commands.SHOWN.items())
    for command in ("list", "stats", "diff", "tag", "columns"):
        assert f"bodydouble manifest {command}" in run(command, "--help").stdout
