"""Origin words to part words: which file is which, and that each shows what it should."""

import io
import json
import shutil

import av
import numpy as np
import pytest
from PIL import Image

from manifests.media import Clip, Picture, Video, write_mp4
from manifests.store import Store
from stages.pack import Origins, PackConfig, Packer, Unfit
from tests.clips import stamped, stamps_of, write_clip

FRAMES, FPS = 6, 10.0


@pytest.fixture
def origins(tmp_path):
    """Return kind -> a sample, whose film is four frames longer than its segment."""
    store = Store(str(tmp_path))
    film = write_clip(tmp_path / "film.mp4", stamped(FRAMES + 4, 64, 48), fps=FPS)
    Image.fromarray(stamped(1, 32, 32, seed=9)[0]).save(tmp_path / "picture.png")
    skeleton = store.put(
        "skeleton", "k" * 32, "skeleton", np.arange(FRAMES * 399, dtype=np.float32).reshape(FRAMES, 1, 133, 3)
    )
    pseudo = store.put("render", "p" * 32, "pseudo", Video(255 - stamped(FRAMES, 64, 48), FPS))

    def made(kind, **fields):
        clip = Clip(str(film), 2 / FPS, FPS, FRAMES, None)
        picture = Picture(str(tmp_path / "picture.png"))
        about = {"source": {"id": "src_1"}, "prompt": "a bird"}
        values = {
            "kind": kind,
            "key": f"{kind}_1",
            "row": "par_1",
            "digest": "d",
            "source": clip,
            "source_sha256": None,
        }
        values |= {"skeleton": skeleton, "pseudo": None if kind == "self" else pseudo, "character": picture}
        return Origins(**{**values, "source_sha256": None, "character_sha256": None, "about": about, **fields})

    return made


def parts_of(tmp_path, sample, frame="first"):
    return dict(Packer(str(tmp_path), frame).parts(sample))


def film_in(data, tmp_path):
    (tmp_path / "read.mp4").write_bytes(data)
    with av.open(str(tmp_path / "read.mp4")) as file:  # PyAV, where our own reader is decord
        return np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)])


def picture_in(data):
    return np.asarray(Image.open(io.BytesIO(data)))


def test_a_reverse_sample_is_driven_by_the_pseudo_video_towards_the_real_clip(tmp_path, origins):
    parts = parts_of(tmp_path, origins("reverse"))
    assert list(parts) == ["driving.mp4", "target.mp4", "reference.png", "skeleton.npy", "json"]
    assert parts["driving.mp4"] == (tmp_path / "artifacts/render/pp" / f"{'p' * 32}.pseudo.mp4").read_bytes()
    assert stamps_of(film_in(parts["target.mp4"], tmp_path)) == [2, 3, 4, 5, 6, 7]  # exactly the segment's frames
    truth = stamped(FRAMES + 4, 64, 48)[2]
    assert np.abs(picture_in(parts["reference.png"]).astype(int) - truth).mean() < 4
    np.testing.assert_array_equal(
        np.load(io.BytesIO(parts["skeleton.npy"]), allow_pickle=False).ravel(), np.arange(FRAMES * 399)
    )
    said = json.loads(parts["json"])
    assert (said["prompt"], said["kind"], said["key"]) == ("a bird", "reverse", "reverse_1")
    assert (said["parts"]["driving"], said["parts"]["target"]) == ("pseudo", "source")


def test_a_forward_sample_is_driven_by_the_real_clip_towards_the_pseudo_video(tmp_path, origins):
    parts, reverse = parts_of(tmp_path, origins("forward")), parts_of(tmp_path, origins("reverse"))
    assert parts["driving.mp4"] == reverse["target.mp4"]
    assert parts["target.mp4"] == reverse["driving.mp4"]
    np.testing.assert_array_equal(picture_in(parts["reference.png"]), stamped(1, 32, 32, seed=9)[0])
    assert json.loads(parts["json"])["parts"]["reference"] == {"of": "character"}


def test_a_sample_of_kind_self_is_driven_by_its_skeleton(tmp_path, origins):
    parts = parts_of(tmp_path, origins("self"))
    assert list(parts) == ["target.mp4", "reference.png", "skeleton.npy", "json"]
    assert parts["target.mp4"] == parts_of(tmp_path, origins("reverse"))["target.mp4"]


def test_the_reference_is_the_first_frame_or_another_that_the_key_chooses(tmp_path, origins):
    frames = set()
    for number in range(24):
        parts = parts_of(tmp_path, origins("self", key=f"src_{number}"), "other")
        frame = json.loads(parts["json"])["parts"]["reference"]["frame"]
        assert stamps_of(picture_in(parts["reference.png"])[None]) == [2 + frame]
        frames.add(frame)
    assert frames == set(range(1, FRAMES))
    assert parts == parts_of(tmp_path, origins("self", key="src_23"), "other")  # and always the same


def test_samples_of_one_source_are_what_they_are_alone(tmp_path, origins):
    packer = Packer(str(tmp_path), "first")
    kinds = ("reverse", "forward", "self", "reverse")
    assert [dict(packer.parts(origins(kind))) for kind in kinds] == [
        parts_of(tmp_path, origins(kind)) for kind in kinds
    ]


def test_a_crop_is_cut_out(tmp_path, origins):
    clip = Clip(str(tmp_path / "film.mp4"), 2 / FPS, FPS, FRAMES, (8, 10, 32, 24))
    parts = parts_of(tmp_path, origins("self", source=clip))
    assert film_in(parts["target.mp4"], tmp_path).shape == (FRAMES, 24, 32, 3)


def test_what_is_missing_changed_or_does_not_fit_is_said_in_a_sentence(tmp_path, origins):
    def said(sample):
        with pytest.raises(Unfit) as error:
            parts_of(tmp_path, sample)
        assert "\n" not in error.value.detail
        return error.value.reason, error.value.address is not None, error.value.detail

    store = Store(str(tmp_path))
    short = store.put("render", "s" * 32, "pseudo", Video(stamped(FRAMES - 1, 64, 48), FPS))
    reason, blamed, detail = said(origins("reverse", pseudo=short))
    assert (reason, blamed) == ("pseudo_does_not_fit", False)
    assert "has 5 frames at 10 a second, its source 6 at 10" in detail
    slow = store.put("render", "t" * 32, "pseudo", Video(stamped(FRAMES, 64, 48), FPS / 2))
    assert said(origins("reverse", pseudo=slow))[0] == "pseudo_does_not_fit"
    assert said(origins("reverse", source_sha256="0" * 64))[0] == "changed"
    (tmp_path / slow.address).write_bytes(b"no video")
    assert said(origins("reverse", pseudo=slow))[:2] == ("artifact_lost", True)
    (tmp_path / slow.address).unlink()
    assert said(origins("reverse", pseudo=slow))[:2] == ("artifact_lost", True)
    shutil.move(tmp_path / "film.mp4", tmp_path / "away.mp4")
    assert said(origins("self"))[0] == "missing"


def test_what_shapes_no_bytes_is_no_part_of_the_recipe():
    plain = PackConfig()
    assert PackConfig(cut="other", kinds=("self",), samples_per_shard=7).recipe == plain.recipe
    assert PackConfig(reference_frame="other").recipe != plain.recipe
    with pytest.raises(ValueError, match="is no folder's name"):
        PackConfig(cut="../x")


def test_targets_are_as_good_as_what_is_stored_elsewhere(tmp_path, origins):
    """The film of a source is encoded with the settings of artifacts: nearly lossless beside its file."""
    parts = parts_of(tmp_path, origins("self"))
    frames = Clip(str(tmp_path / "film.mp4"), 2 / FPS, FPS, FRAMES, None).read()
    error = np.abs(film_in(parts["target.mp4"], tmp_path).astype(int) - frames)
    assert error.mean() < 3
    write_mp4(Video(frames, FPS), tmp_path / "again.mp4")
    assert (tmp_path / "again.mp4").read_bytes() == parts["target.mp4"]
