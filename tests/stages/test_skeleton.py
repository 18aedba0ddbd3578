"""The stage, on an adapter that truly sees people: figures of one colour each, found by their colour.

What MediaPipe sees is tested in test_skeleton_mediapipe.py; here the truth of every box and identity is known.
"""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from manifests.keys import sha256_of_file
from model.skeleton import BODY, Pixels, Points
from stages.skeleton import CharacterSkeleton, CharacterSkeletonConfig, Skeleton, SkeletonConfig
from stages.stage import Reject
from stages.tracking import Box

ROOT = Path(__file__).parents[2]
COLOURS = {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 220)}
SIZE = (240, 320)  # height, width px


class ByColour:
    """A second implementation of the adapter's protocol: a person is what has one of three colours."""

    def __init__(self, config: SkeletonConfig) -> None:
        self.config = config

    def reset(self) -> None: ...

    def forget(self, track: int) -> None: ...

    def people(self, frames: Pixels) -> list[NDArray[np.float32]]:
        return [np.array([[*box, 0.9] for box in boxes_in(frame)], np.float32).reshape(-1, 5) for frame in frames]

    def keypoints(self, frames: Pixels, boxes: Sequence[Mapping[int, Box]]) -> list[dict[int, Points]]:
        out = []
        for frame, wanted in zip(frames, boxes, strict=True):
            seen = boxes_in(frame)
            near = {t: min(seen, key=lambda b, box=box: np.abs(b - box).sum()) for t, box in wanted.items() if seen}
            out.append({t: points_of(b) for t, b in near.items() if np.abs(b - wanted[t]).max() < 60})
        return out

    @classmethod
    def weights(cls, config: SkeletonConfig) -> list[Path]:
        return [Path(__file__)]


def boxes_in(frame: Pixels) -> list[Box]:
    out = []
    for colour in COLOURS.values():
        ys, xs = np.nonzero((frame == colour).all(axis=2))
        if len(ys) > 50:
            out.append(np.array([xs.min(), ys.min(), xs.max(), ys.max()], np.float32))
    return out


def points_of(box: Box) -> Points:
    """17 body points spread over the box, its corners among them."""
    points = np.zeros((133, 3), np.float32)
    across = np.array([0.5, 0, 1, 0, 1, 0.8, 0.2, 1, 0, 1, 0, 0.7, 0.3, 0.7, 0.3, 1, 0], np.float32)
    down = np.array([0, 0, 0, 0.1, 0.1, 0.2, 0.2, 0.4, 0.4, 0.5, 0.5, 0.5, 0.5, 0.8, 0.8, 1, 1], np.float32)
    points[BODY, 0] = box[0] + across * (box[2] - box[0])
    points[BODY, 1] = box[1] + down * (box[3] - box[1])
    points[BODY, 2] = 0.9
    return points


@dataclass(frozen=True)
class Scene:
    """Frames made as they are asked for, with the two things that the stage asks of a clip."""

    places: dict[str, list[tuple[int, int, int] | None]]  # colour -> for each frame x, y, height px; None: absent
    fps: float = 15.0

    def chunks(self, size: int) -> "list[Pixels]":
        total = len(next(iter(self.places.values())))
        frames = np.zeros((total, *SIZE, 3), np.uint8)
        for colour, track in self.places.items():
            for i, place in enumerate(track):
                if place is not None:
                    x, y, height = place
                    frames[i, y : y + height, x : x + height // 2] = COLOURS[colour]
        return [frames[i : i + size] for i in range(0, total, size)]


def standing(x: int, height: int, frames: int = 30) -> list[tuple[int, int, int] | None]:
    return [(x + i // 3, 20, height) for i in range(frames)]


def result(scene: Scene, **options: object) -> dict[str, object] | Reject:
    config = SkeletonConfig(adapter="tests.stages.test_skeleton:ByColour", min_person_px=40, **options)  # type: ignore[arg-type]
    (row,) = Skeleton(config)([{"source": scene}])
    return row


@pytest.mark.parametrize("every", [1, 3, 12, 100])
def test_every_frame_has_the_points_of_its_person_however_seldom_people_are_looked_for(every: int) -> None:
    row = result(Scene({"red": standing(50, 120)}), detect_every=every)
    assert not isinstance(row, Reject)
    truth = np.stack([points_of(np.array([50 + i // 3, 20, 50 + i // 3 + 59, 139], np.float32)) for i in range(30)])
    np.testing.assert_allclose(row["skeleton"], truth[:, None])
    assert row["skeleton"].dtype == np.float32
    assert (row["people"], row["seen_share"], row["person_px"]) == (1, [1.0], [119.0])
    assert row["mean_score"] == [pytest.approx(0.9)]
    np.testing.assert_allclose(row["boxes"][7, 0], (52, 20, 111, 139))


def test_the_larger_person_comes_first_and_others_follow() -> None:
    row = result(Scene({"red": standing(20, 60), "blue": standing(150, 180)}), min_other_size=0.3)
    assert not isinstance(row, Reject)
    assert row["people"] == 2
    assert row["skeleton"][0, :, 0, 0].tolist() == pytest.approx([150 + 44.5, 20 + 14.5])


def test_a_passer_by_far_behind_the_main_person_is_left_out() -> None:
    scene = Scene({"red": standing(20, 100), "blue": standing(150, 180)})  # 99 px and 179 px long
    for share, people in ((0.54, 2), (0.57, 1)):
        row = result(scene, min_other_size=share)
        assert isinstance(row, dict)
        assert row["people"] == people


def test_the_rows_columns_are_the_declared_ones() -> None:
    row = result(Scene({"red": standing(50, 120)}))
    assert isinstance(row, dict)
    assert tuple(row) == Skeleton.makes


def test_nobody_is_a_reason_or_an_empty_skeleton() -> None:
    empty = Scene({"red": [None] * 12})
    assert result(empty) == Reject("no_person", "No person was found in any of the 12 frames.")
    row = result(empty, no_person="empty")
    assert isinstance(row, dict)
    assert row["skeleton"].shape == (12, 0, 133, 3)
    assert (row["people"], row["seen_share"]) == (0, [])


def test_a_person_too_small_is_rejected_with_both_sizes() -> None:
    row = result(Scene({"red": standing(50, 60)}), min_person_share=0.2)
    assert isinstance(row, Reject)
    assert row.reason == "person_too_small"
    assert "59 px long" in row.detail
    assert "at least 64 px" in row.detail
    assert "320 x 240" in row.detail


def test_a_person_who_leaves_half_way_is_rejected_as_lost() -> None:
    row = result(Scene({"red": [*standing(50, 120)[:15], *[None] * 15]}))
    assert isinstance(row, Reject)
    assert row.reason == "person_lost"
    assert "15 of 30 frames (50%" in row.detail


def test_a_person_who_is_away_for_a_moment_has_zeros_there() -> None:
    track = standing(50, 120)
    track[10:13] = [None] * 3
    row = result(Scene({"red": track}))
    assert isinstance(row, dict)
    seen = row["skeleton"][:, 0, 0, 2] > 0
    assert np.flatnonzero(~seen).tolist() == [10, 11, 12]
    assert not row["boxes"][10:13].any()
    assert row["seen_share"] == [0.9]


def test_more_people_than_wanted_are_dropped_or_a_reason() -> None:
    scene = Scene({"red": standing(10, 100), "green": standing(110, 110), "blue": standing(220, 120)})
    row = result(scene, max_people=1)
    assert isinstance(row, dict)
    assert row["people"] == 1
    assert row["boxes"][0, 0, 0] == 220
    rejected = result(scene, max_people=2, on_more_people="reject")
    assert rejected == Reject("too_many_people", "3 people are seen, wanted at most 2.")


def test_a_track_that_goes_over_to_another_person_is_rejected() -> None:
    """Red leaves and at once green stands where red stood, so that who follows by place alone is deceived."""
    red = [(100, 20, 150) if i < 13 else None for i in range(30)]
    green = [(104, 20, 150) if i >= 13 else None for i in range(30)]
    row = result(Scene({"red": red, "green": green}), detect_every=12, min_seen_share=0.4)
    assert isinstance(row, Reject)
    assert row.reason == "identity_switch"
    assert "from frame 1" in row.detail


def test_rows_together_give_what_each_gives_alone() -> None:
    scenes = [Scene({"red": standing(50, 120)}), Scene({"blue": [None] * 12}), Scene({"green": standing(90, 150)})]
    stage = Skeleton(SkeletonConfig(adapter="tests.stages.test_skeleton:ByColour", min_person_px=40))
    together = stage([{"source": scene} for scene in scenes])
    for scene, row in zip(scenes, together, strict=True):
        alone = result(scene)
        if isinstance(alone, Reject):
            assert row == alone
        else:
            assert not isinstance(row, Reject)
            np.testing.assert_array_equal(row["skeleton"], alone["skeleton"])


def test_a_picture_is_one_frame_and_may_be_of_nobody() -> None:
    class Character:
        def rgb(self) -> Pixels:
            return Scene({"red": [None]}).chunks(1)[0][0]

    (row,) = CharacterSkeleton(CharacterSkeletonConfig(adapter="tests.stages.test_skeleton:ByColour"))(
        [{"character": Character()}]
    )
    assert not isinstance(row, Reject)
    assert row["skeleton"].shape == (1, 0, 133, 3)


def test_digests_are_those_of_the_files_and_import_no_mediapipe() -> None:
    code = (
        "import sys; from stages.skeleton import Skeleton, SkeletonConfig, mediapipe_weights\n"
        "d = Skeleton.digests(SkeletonConfig()); assert 'mediapipe' not in sys.modules, 'imported'\n"
        "[print(p, d[p.name]) for p in mediapipe_weights(True)]; assert len(d) == 5"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    if "needs mediapipe" in done.stderr:
        pytest.skip("mediapipe is not installed")
    assert done.returncode == 0, done.stderr
    for line in done.stdout.splitlines():
        path, digest = line.rsplit(" ", 1)
        assert sha256_of_file(path) == digest


def test_digests_of_an_adapter_of_ones_own_are_those_of_its_weights() -> None:
    config = SkeletonConfig(adapter="tests.stages.test_skeleton:ByColour")
    assert Skeleton.digests(config) == {"test_skeleton.py": sha256_of_file(__file__)}


def test_an_unknown_adapter_is_named_with_those_there_are() -> None:
    with pytest.raises(ValueError, match="no pose adapter 'dwpoze': there is mediapipe"):
        Skeleton(SkeletonConfig(adapter="dwpoze"))


def test_fields_have_a_description() -> None:
    assert [name for name, field in SkeletonConfig.model_fields.items() if not field.description] == []
