"""Lists of inputs in every form, and what is wrong with them: one bad row is a reason, a bad list is one sentence."""

import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manifests.entries import Entry
from manifests.lists import ListError, open_list


def entries(path: Path | str, kind: str = "sources", **options: object) -> list[Entry]:
    found = open_list(str(path), kind, **options)  # type: ignore[arg-type]
    listed = list(found)
    assert len(listed) == found.size
    return listed


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def problem(path: Path, **options: object) -> str:
    with pytest.raises(ListError) as caught:
        entries(path, **options)  # type: ignore[arg-type]
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)
    return str(caught.value)


ODD_NAMES = [
    "a b.mp4",
    "Tänzer – größer.mp4",
    'it\'s "quoted".mp4',
    "日本語.mp4",
    "comma, semi; #1 100%.mp4",
    " led.mp4",
]


def test_a_folder_gives_its_media_files_in_order_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ["z.mp4", "sub/A.MOV", "notes.txt", ".hidden.mp4", "sub/p.png", *ODD_NAMES]:
        (tmp_path / name).touch()
    found = [os.path.relpath(entry.location, tmp_path) for entry in entries(tmp_path)]
    assert found == [*sorted([*ODD_NAMES, "z.mp4"]), "sub/A.MOV"]
    assert [Path(entry.location).name for entry in entries(tmp_path, "characters")] == ["p.png"]


def test_a_glob_gives_what_it_matches(tmp_path: Path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    for name in ["a.mp4", "b.mp4", "deep/c.mp4", "deep/er/d.mp4", "deep/e.txt"]:
        (tmp_path / name).touch()
    assert [Path(e.location).name for e in entries(f"{tmp_path}/*.mp4")] == ["a.mp4", "b.mp4"]
    assert [Path(e.location).name for e in entries(f"{tmp_path}/**/*")] == ["a.mp4", "b.mp4", "c.mp4", "d.mp4"]
    assert entries(f"{tmp_path}/none*.mp4") == []


def test_a_file_whose_name_looks_like_a_glob_is_found_as_a_file(tmp_path: Path) -> None:
    assert len(entries(write(tmp_path / "list[1].csv", "path\na.mp4\n"))) == 1


ROW = {
    "path": "a b.mp4",
    "licence": "CC-BY-4.0",
    "consent": "granted",
    "origin": "https://example.org/page",
    "identity": "anna",
    "domain": "human",
    "tags": ["dance", "indoor"],
    "start_s": 1.5,
    "end_s": 4.0,
    "fps": 15,
    "crop": [10, 20, 300, 400],
}


def test_all_forms_of_a_list_say_the_same(tmp_path: Path) -> None:
    flat = {**ROW, "tags": "dance; indoor ;", "crop": "10, 20,300,400"}
    line = ",".join(f'"{value}"' for value in flat.values())
    write(tmp_path / "a.csv", ",".join(flat) + "\n" + line + "\n")
    write(tmp_path / "a.tsv", "\t".join(flat) + "\n" + "\t".join(map(str, flat.values())) + "\n")
    write(
        tmp_path / "b.csv",
        ";".join(flat) + "\n" + line.replace(",", ";").replace('"10; 20;300;400"', '"10, 20,300,400"'),
    )
    write(tmp_path / "a.jsonl", json.dumps(ROW) + "\n")
    pq.write_table(pa.Table.from_pylist([ROW]), tmp_path / "a.parquet")
    rest = {name: value for name, value in ROW.items() if name not in ("licence", "consent")}
    curated = {"about": "x", "defaults": {"license": "CC-BY-4.0", "consent": "granted"}, "files": [rest]}
    write(tmp_path / "a.yaml", json.dumps(curated))  # JSON is YAML
    lists = [entries(tmp_path / name) for name in ("a.csv", "a.tsv", "b.csv", "a.jsonl", "a.parquet", "a.yaml")]
    assert all(len(found) == 1 for found in lists)
    (first, *_) = lists[0]
    assert first.location == str(tmp_path / "a b.mp4")
    assert first.reject is None
    assert (first.given.licence, first.given.tags, first.span.crop) == (
        "CC-BY-4.0",
        ("dance", "indoor"),
        (10, 20, 300, 400),
    )
    assert (first.span.start_s, first.span.end_s, first.span.fps, first.span.frames) == (1.5, 4.0, 15.0, None)
    assert all(
        (found[0].location, found[0].given, found[0].span) == (first.location, first.given, first.span)
        for found in lists
    )


@settings(max_examples=60, deadline=None)
@given(
    names=st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0/"), min_size=1, max_size=20), min_size=1)
)
def test_any_name_survives_csv_and_jsonl(names: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    import csv

    folder = Path(os.path.realpath(tmp_path_factory.mktemp("names")))
    with open(folder / "a.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        writer.writerows([["path", "tags"], *([name, "t"] for name in names)])
    (folder / "a.jsonl").write_text("".join(json.dumps({"path": name, "tags": "t"}) + "\n" for name in names))
    usable = [name for name in names if name.strip() and not name.lower().startswith("file:") and name != ".."]
    wanted = [os.path.realpath(folder / name) for name in usable]
    for form in ("a.csv", "a.jsonl"):
        assert [entry.location for entry in entries(folder / form) if entry.reject is None] == wanted


def test_bom_crlf_empty_lines_and_newlines_in_quotes_are_read_with_their_true_line_numbers(tmp_path: Path) -> None:
    text = b'\xef\xbb\xbfpath,origin,start_s\r\n\r\na.mp4,"two\r\nlines",0\r\n , ,\r\nb.mp4,x,minus\r\n'
    first, second = entries(write(tmp_path / "a.csv", text))
    assert (first.line, first.given.origin) == (3, "two\r\nlines")
    assert (second.line, second.reject) == (6, "bad_value")
    assert second.location == f"{tmp_path / 'a.csv'}#6"
    assert second.reject_detail == "line 6 of a.csv: start_s is 'minus', wanted a number"
    bom = write(tmp_path / "a.jsonl", b'\xef\xbb\xbf{"path": "a.mp4"}\r\n\r\n{"path": "b.mp4"}\r\n')
    assert [entry.line for entry in entries(bom)] == [1, 3]


@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        ("start_s", "-1", "start_s is '-1', wanted a number from 0"),
        ("start_s", "nan!", "wanted a number"),
        ("start_s", "inf", "wanted a number from 0"),
        ("end_s", "0", "end_s is 0, wanted more than start_s"),
        ("frames", "2.5", "wanted a whole number"),
        ("frames", "0", "wanted a number from 1"),
        ("fps", "0", "wanted a number from 0.1"),
        ("fps", "1,5", "wanted a number"),
        ("crop", "left half", "wanted four whole numbers"),
        ("crop", "1,2,3", "wanted four whole numbers"),
        ("crop", "0,0,0,10", "width and height from 1"),
        ("crop", "-1,0,10,10", "x and y from 0"),
        ("domain", "robot", "wanted one of human, cartoon"),
        ("path", "a\0b.mp4", "zero byte"),
    ],
)
def test_a_bad_value_is_the_reason_of_its_row_alone(column: str, value: str, says: str, tmp_path: Path) -> None:
    rows = [{"path": "good.mp4"}, {"path": "bad.mp4", column: value}, {"path": "also good.mp4"}]
    listed = entries(write(tmp_path / "a.jsonl", "\n".join(json.dumps(row) for row in rows)))
    assert [entry.reject is None for entry in listed] == [True, False, True]
    assert listed[1].reject in ("bad_value", "bad_name")
    assert says in (listed[1].reject_detail or "")


@pytest.mark.parametrize(
    "row", [{"tags": {"a": 1}}, {"tags": [1]}, {"crop": [1.5, 0, 2, 2]}, {"licence": ["MIT"]}, {"fps": True}]
)
def test_a_value_of_the_wrong_type_is_a_reason(row: dict[str, object], tmp_path: Path) -> None:
    (entry,) = entries(write(tmp_path / "a.jsonl", json.dumps({"path": "a.mp4", **row})))
    assert entry.reject == "bad_value"


def test_both_an_end_and_a_number_of_frames_are_too_much(tmp_path: Path) -> None:
    (entry,) = entries(write(tmp_path / "a.csv", "path,end_s,frames\na.mp4,3,10\n"))
    assert "both end_s and frames" in (entry.reject_detail or "")


def test_missing_values_of_pandas_are_missing(tmp_path: Path) -> None:
    table = pa.table({"path": ["a.mp4", "b.mp4"], "start_s": [float("nan"), 2.0], "licence": [None, "MIT"]})
    pq.write_table(table, tmp_path / "a.parquet")
    first, second = entries(tmp_path / "a.parquet")
    assert (first.span.start_s, first.given.licence, first.reject) == (None, None, None)
    assert (second.span.start_s, second.given.licence) == (2.0, "MIT")


def test_broken_lines_of_jsonl_are_entries_with_their_line_number(tmp_path: Path) -> None:
    text = b'{"path": "a.mp4"}\n{"path": "b.mp4"\n[1]\n\xff\xfe\nnull\n'
    text += b'{"path": "\\ud800.mp4"}\n{"path": " "}\n{"path": "z.mp4"}\n'
    listed = entries(write(tmp_path / "a.jsonl", text))
    assert [entry.reject for entry in listed] == [None, *["bad_line"] * 4, "bad_name", "no_path", None]
    assert [entry.line for entry in listed] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert "line 2 of a.jsonl: it is not JSON" in (listed[1].reject_detail or "")


def test_a_csv_row_with_too_many_or_too_few_fields_or_wrong_quotes_is_a_reason_and_shifts_no_values(
    tmp_path: Path,
) -> None:
    listed = entries(write(tmp_path / "a.csv", 'path,licence\na.mp4,MIT\nb, c.mp4,MIT\nd.mp4\n"e"e.mp4,MIT\nf.mp4,\n'))
    assert [entry.reject for entry in listed] == [None, "bad_line", "bad_line", "bad_line", None]
    assert "3 fields" in (listed[1].reject_detail or "")


@pytest.mark.parametrize(
    "path",
    ["../outside.mp4", "sub/../../outside.mp4", "/etc/passwd", "link-out.mp4", "linked-folder/x.mp4"],
)
def test_a_path_that_leaves_its_base_is_rejected(path: str, tmp_path: Path) -> None:
    base, outside = tmp_path / "base", tmp_path / "elsewhere"
    (base / "sub").mkdir(parents=True)
    outside.mkdir()
    (outside / "x.mp4").touch()
    (base / "link-out.mp4").symlink_to(outside / "x.mp4")
    (base / "linked-folder").symlink_to(outside)
    listed = entries(write(base / "a.jsonl", json.dumps({"path": path}) + '\n{"path": "sub/../inside.mp4"}\n'))
    assert [entry.reject for entry in listed] == ["outside_base", None]
    assert listed[1].location == str(base / "inside.mp4")


def test_a_base_that_only_begins_alike_is_outside(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base-2").mkdir()
    (entry,) = entries(write(tmp_path / "base" / "a.csv", "path\n../base-2/a.mp4\n"))
    assert entry.reject == "outside_base"


def test_a_wider_base_may_be_named(tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    listed = write(tmp_path / "lists" / "a.csv", "path\n../clips/a.mp4\n")
    (entry,) = entries(listed, base=str(tmp_path))
    assert (entry.location, entry.reject) == (str(tmp_path / "clips/a.mp4"), None)
    assert "no folder" in problem(listed, base=str(tmp_path / "nowhere"))


def test_links_in_a_folder_are_followed_inside_reported_outside_and_circles_end(tmp_path: Path) -> None:
    base, outside = tmp_path / "base", tmp_path / "outside"
    (base / "real").mkdir(parents=True)
    outside.mkdir()
    (base / "real" / "a.mp4").touch()
    (outside / "b.mp4").touch()
    (base / "real" / "circle").symlink_to(base)
    (base / "out").symlink_to(outside)
    (base / "c.mp4").symlink_to(outside / "b.mp4")
    listed = entries(base)
    assert [(Path(entry.location).name, entry.reject) for entry in listed] == [
        ("c.mp4", "outside_base"),
        ("out", "outside_base"),
        ("a.mp4", None),
    ]


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "file:/etc/passwd",
        "FILE:///a.mp4",
        "local:///a",
        "ftp://a.example/b",
        "simplecache::s3://b/c",
    ],
)
def test_urls_that_reach_into_this_machine_are_forbidden_in_lists(url: str, tmp_path: Path) -> None:
    (entry,) = entries(write(tmp_path / "a.jsonl", json.dumps({"path": url})))
    assert entry.reject == "forbidden_url"


def test_urls_are_kept_without_credentials_and_fetched_with_them(tmp_path: Path) -> None:
    urls = ["https://anna:pw@a.example/x y.mp4?v=2", "s3://key:secret@bucket/a@b.mp4", "gs://bucket/c.mp4", "http:///x"]
    web, store, plain, bad = entries(write(tmp_path / "a.jsonl", "\n".join(json.dumps({"path": url}) for url in urls)))
    assert (web.location, web.url, web.had_secret) == ("https://a.example/x y.mp4?v=2", urls[0], True)
    assert (store.location, store.url, store.had_secret) == ("s3://bucket/a@b.mp4", urls[1], True)
    assert (plain.location, plain.had_secret) == ("gs://bucket/c.mp4", False)
    assert bad.reject is None, "the download says that it names no host"


def test_unknown_columns_are_one_sentence_with_the_nearest_name(tmp_path: Path) -> None:
    listed = write(tmp_path / "a.csv", "path,licens,camera\na.mp4,MIT,3\n")
    said = problem(listed)
    assert "'licens', 'camera'" in said
    assert "did you mean 'licence'?" in said
    assert "Known columns: path, licence, consent" in said
    (entry,) = entries(listed, ignore_unknown_columns=True)
    assert entry.reject is None
    late = write(tmp_path / "a.jsonl", '{"path": "a.mp4"}\n' * 50 + '{"path": "b.mp4", "startS": 3}\n')
    assert "did you mean 'start_s'?" in problem(late), "a strange key in line 51 is found before anything is imported"


def test_segments_are_no_columns_of_characters(tmp_path: Path) -> None:
    listed = write(tmp_path / "a.csv", "path,start_s\na.png,1\n")
    assert len(entries(listed)) == 1
    assert "'start_s'" in problem(listed, kind="characters")


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.csv", "", "is empty"),
        ("a.csv", "file,licence\n", "unknown columns 'file'"),
        ("a.csv", "licence\nMIT\n", "no column 'path'"),
        ("a.csv", "path,path\na,b\n", "names a column twice: path"),
        ("a.csv", "path\na.mp4\n" + '"b.mp4\n' + "c.mp4\n" * 30_000, "line 3: a quote begins that is never closed"),
        ("a.csv", 'path\n"a.mp4\nb.mp4\n', "line 2: a quote begins that is never closed"),
        ("a.csv", b"path\n\xe4.mp4\n", "not UTF-8"),
        ("a.jsonl", '{"licence": "MIT"}', "no column 'path'"),
        ("a.parquet", b"PAR1 no parquet", "no Parquet file"),
        ("a.yaml", "files: [", "is not YAML"),
        ("a.yaml", "- a.mp4", "wanted a mapping with `files`"),
        ("a.yaml", "files: []\nfles: 1", "found fles"),
        ("a.xlsx", "x", "wanted one of .csv"),
        ("a.mp4", "x", "wanted one of .csv"),
    ],
)
def test_a_list_that_is_wrong_as_a_whole_is_one_sentence(
    name: str, content: str | bytes, says: str, tmp_path: Path
) -> None:
    assert says in problem(write(tmp_path / name, content))


def test_a_list_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    assert "there is no list" in problem(tmp_path / "nothing.csv")


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.yaml", "a.parquet"])
def test_an_empty_list_has_no_entries(name: str, tmp_path: Path) -> None:
    content: dict[str, str] = {"a.csv": "path\n", "a.jsonl": "\n\n", "a.yaml": "files: []"}
    if name in content:
        write(tmp_path / name, content[name])
    else:
        pq.write_table(pa.table({"path": pa.array([], pa.string())}), tmp_path / name)
    assert entries(tmp_path / name) == []


def test_file_names_that_are_no_utf8_are_entries_with_a_reason(tmp_path: Path) -> None:
    with open(os.path.join(os.fsencode(tmp_path), b"caf\xe9.mp4"), "wb"):
        (entry,) = entries(tmp_path)
    assert entry.reject == "bad_name"
    entry.location.encode()
    (entry.reject_detail or "").encode()
