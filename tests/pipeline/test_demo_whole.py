"""The whole demo as a new user runs it: real clips in, a model that raw video drives out."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from decord import VideoReader

from tests.webdataset_alone import plainly_read

pytestmark = [pytest.mark.train, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict:
    folder = tmp_path_factory.mktemp("demo")
    command = [sys.executable, "-m", "pipeline", "demo", "--folder", str(folder), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "cannot be downloaded" in done.stderr:
        pytest.skip(f"no package index within reach: {done.stderr.splitlines()[-1]}")
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


def test_every_row_is_accounted_for_and_most_clips_become_pairs(told: dict) -> None:
    for track, lines in told["tables"].items():
        for line in lines:
            ends = line["done"] + sum(line["rejected"].values()) + sum(line["quarantined"].values())
            assert line["in"] == ends, f"{track} {line}"
    assert told["tables"]["sources"][0]["in"] == 13  # nine real clips, four of theatre
    assert told["tables"]["pairs"][-1]["done"] >= 10


def test_its_shards_are_read_by_plain_webdataset(told: dict) -> None:
    index = Path(told["index"])
    named = json.loads(index.read_text())
    samples = plainly_read([index.parent / shard["tar"]["name"] for shard in named["shards"]])
    assert len(samples) == named["samples"] > 0
    assert all({"driving.mp4", "target.mp4", "reference.png", "skeleton.npy", "json"} <= set(each) for each in samples)


def test_the_end_to_end_video_is_in_step_with_the_clip_that_drives_it_and_says_that_it_is_synthetic(told: dict) -> None:
    driving = sorted((Path(told["folder"]) / "theatre").glob("*.mp4"))[0]
    made, drives = VideoReader(told["video"]), VideoReader(str(driving))
    assert (len(made), made.get_avg_fps()) == (len(drives), drives.get_avg_fps())
    assert b'"synthetic":true' in Path(told["video"]).read_bytes()


def test_its_report_shows_pairs_and_the_training(told: dict) -> None:
    page = Path(told["report"]).read_text()
    assert "stage two: raw video drives" in page
    assert page.count("data:video/mp4;base64,") >= 12
