"""From clips and pictures to shards and out again, by the commands alone: every stage is a real one."""

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("mannequin", reason="the figures of theatre are not installed")
from manifests.media import read_mp4
from tests.pair_track import FRAMES, MEMBERS, call, prepare
from tests.pipeline.test_packing import read_by_webdataset
from tests.pipeline.test_takedown import bytes_left

pytestmark = pytest.mark.faults  # it takes a minute


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = prepare(tmp_path_factory.mktemp("whole"))
    call("pair", config)
    call("run", config, "--quiet")
    call("pack", config, "--quiet")
    return config


def test_every_pair_goes_through_every_stage_and_who_did_not_consent_through_none(run: Path) -> None:
    told = json.loads(call("funnel", run, "--json").stdout)
    stages = {line["stage"]: line for line in told["tables"]["pairs"]}
    assert [stages[name]["done"] for name in ("prompt", "render", "measure", "judge")] == [4, 4, 4, 4]
    assert told["kept_out"] == {"sources": {"no_consent": 1}}
    assert "in no pair, by what was said of them: sources no_consent 1" in call("funnel", run).stdout
    assert json.loads(call("pair", run, "--dry-run", "--json").stdout)["left_out"]["sources"] == {"no_consent": 1}


def test_plain_webdataset_reads_every_sample_with_its_provenance(run: Path, tmp_path: Path) -> None:
    found = read_by_webdataset(run.parent / "root")
    kinds = [json.loads(each["json"])["kind"] for each in found.values()]
    assert sorted(kinds) == ["forward"] * 4 + ["reverse"] * 4 + ["self"] * 2
    for sample in found.values():
        about = json.loads(sample["json"])
        assert about["source"]["licence"] == "CC-BY-4.0"
        assert about["source"]["consent"] == "granted"
        if about["kind"] == "self":
            continue
        pseudo = "driving.mp4" if about["kind"] == "reverse" else "target.mp4"
        (tmp_path / "a.mp4").write_bytes(sample[pseudo])
        film = read_mp4(tmp_path / "a.mp4")
        assert len(film.frames) == FRAMES
        assert b'"synthetic":true' in sample[pseudo]
        assert np.load(_file(tmp_path, sample["skeleton.npy"]), allow_pickle=False).shape == (FRAMES, 1, 133, 3)
        assert about["prompt"]


def _file(folder: Path, data: bytes) -> Path:
    (folder / "a.npy").write_bytes(data)
    return folder / "a.npy"


def test_doing_all_of_it_again_writes_nothing(run: Path) -> None:
    root = run.parent / "root"
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*.tar")}
    assert json.loads(call("pair", run, "--json").stdout)["new"] == 0
    call("run", run, "--quiet")
    packed = json.loads(call("pack", run, "--quiet", "--json").stdout)
    assert packed["written"] == 0
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*.tar")} == before
    call("verify", "--root", run)


def test_one_who_is_forgotten_is_gone_from_every_byte_and_does_not_come_back(run: Path) -> None:
    root, name = run.parent / "root", MEMBERS["sources"][0]
    rows = json.loads(call("manifest", "list", "--root", run, "--json").stdout)
    (gone,) = [row for row in rows if row["identity"] == name]
    words = [gone["id"].encode(), gone["file_sha256"].encode(), f"{name}.mp4".encode(), f"page of {name}".encode()]
    assert bytes_left(root, words)
    call("forget", gone["id"], "--root", run, "--reason", "asked for by the person")
    assert bytes_left(root, words) == []
    call("verify", "--root", run)
    found = read_by_webdataset(root)
    assert sorted(json.loads(each["json"])["kind"] for each in found.values()) == ["forward"] * 2 + ["reverse"] * 2 + [
        "self"
    ]
    told = call("import", "sources", run.parent / "files/sources.csv", "--root", run)
    assert "forgotten" in told.output
    assert json.loads(call("pack", run, "--quiet", "--json").stdout)["written"] == 0
