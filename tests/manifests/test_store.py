import io
import os
from pathlib import Path

import fsspec
import numpy as np
import pytest

from manifests.media import Video
from manifests.store import Artifact, ArtifactDamaged, Store

KEY = "ab" + "0" * 30


@pytest.fixture(params=["folder", "memory://bucket"])
def store(request, tmp_path):
    """The same store on a local folder and on an object store."""
    if request.param == "folder":
        return Store(str(tmp_path / "root"))
    store = Store(f"{request.param}/{tmp_path.name}")
    fsspec.filesystem("memory").store.clear()
    return store


def test_an_array_comes_back_as_it_went_in(store):
    array = np.random.default_rng(0).normal(size=(3, 2, 133, 3)).astype(np.float32)
    artifact = store.put("skeleton", KEY, "skeleton", array)
    assert artifact.address == f"artifacts/skeleton/ab/{KEY}.skeleton.npy"
    back = store.get(artifact)
    assert back.dtype == array.dtype
    assert np.array_equal(back, array)


def test_the_bytes_are_plain_npy_that_needs_no_pickle(store):
    artifact = store.put("s", KEY, "c", np.arange(4))
    assert np.load(io.BytesIO(store._read(artifact)), allow_pickle=False).tolist() == [0, 1, 2, 3]
    with pytest.raises(ValueError):
        store.put("s", KEY, "c", np.array([{"an": "object"}]))


def test_a_video_comes_back_with_its_frames_and_rate(store):
    frames = np.zeros((5, 32, 48, 3), np.uint8)
    frames[:, :, :24] = 200
    back = store.get(store.put("render", KEY, "pseudo", Video(frames, 12.0)))
    assert back.frames.shape == frames.shape
    assert back.fps == 12.0
    assert np.abs(back.frames.astype(int) - frames).mean() < 4


def test_what_is_neither_is_refused_by_name(store):
    with pytest.raises(TypeError, match="column c holds a list; an artifact is a numpy array or a Video"):
        store.put("s", KEY, "c", [1, 2])


def test_a_record_is_given_only_while_all_its_artifacts_are_whole(tmp_path):
    store = Store(str(tmp_path))
    artifact = store.put("s", KEY, "c", np.arange(9))
    assert store.record("s", KEY) is None
    record = {"made": {"x": 1}, "artifacts": [vars(artifact)], "seconds": 0.1}
    store.put_record("s", KEY, record)
    assert store.record("s", KEY) == record
    (tmp_path / artifact.address).write_bytes(b"other")
    assert store.record("s", KEY) is None


def test_a_damaged_and_a_missing_artifact_are_told_apart(tmp_path):
    store = Store(str(tmp_path))
    artifact = store.put("s", KEY, "c", np.arange(9))
    path = tmp_path / artifact.address
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ArtifactDamaged, match="has changed"):
        store.get(artifact)
    path.unlink()
    with pytest.raises(ArtifactDamaged, match="is missing"):
        store.get(artifact)


def test_what_killed_workers_left_half_written_is_swept_and_was_never_at_an_address(tmp_path):
    store = Store(str(tmp_path))
    artifact = store.put("s", KEY, "c", np.arange(9))
    part = tmp_path / f"{artifact.address}.1234.part"
    part.write_bytes(b"half")
    assert store.remove_leftovers() == 1
    assert not part.exists()
    store.verify(artifact)


def test_a_file_of_this_machine_is_read_where_it_lies_and_a_remote_one_is_fetched_once(tmp_path):
    store = Store(str(tmp_path / "root"), cache=str(tmp_path / "cache"))
    assert store.fetch("/some/where.mp4") == "/some/where.mp4"
    with fsspec.open("memory://bucket/clip.mp4", "wb") as file:
        file.write(b"bytes")
    path = store.fetch("memory://bucket/clip.mp4")
    assert path.endswith(".mp4")
    assert Path(path).read_bytes() == b"bytes"
    before = os.stat(path).st_ino
    assert store.fetch("memory://bucket/clip.mp4") == path
    assert os.stat(path).st_ino == before


def test_an_address_says_nothing_of_where_the_root_lies(tmp_path):
    one = Store(str(tmp_path / "one")).put("s", KEY, "c", np.arange(3))
    two = Store(str(tmp_path / "two")).put("s", KEY, "c", np.arange(3))
    assert one == two == Artifact("c", one.address, one.sha256, one.bytes)
