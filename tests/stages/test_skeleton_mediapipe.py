"""What MediaPipe sees, on pictures of people with labels (skipped where they are absent) and on pictures of nobody."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

pytest.importorskip("mediapipe", reason="mediapipe is not installed")

from model.skeleton import BODY, FACE, FEET, LEFT_HAND, POINTS, RIGHT_HAND, Pixels
from stages.skeleton import Skeleton, SkeletonConfig
from stages.skeleton_mediapipe import BODY_FROM, FACE_FROM, FEET_FROM, SMALL_TOES, MediaPipe, squares, to_wholebody
from stages.skeleton_mediapipe_graphs import Region, Seen
from stages.stage import Reject
from tests.bench import accuracy

ROOT = Path(__file__).parents[2]
labelled = pytest.mark.skipif(not accuracy.FOLDER.is_dir(), reason="../shared/wholebody is not here")


@dataclass(frozen=True)
class Film:
    """Frames in memory, with what the stage asks of a clip."""

    frames: Pixels
    fps: float = 15.0

    def chunks(self, size: int) -> list[Pixels]:
        return [self.frames[i : i + size] for i in range(0, len(self.frames), size)]


def skier(frames: int, step_px: int = 3) -> Pixels:
    """A picture of one skier, moved to the left from frame to frame: a person whose motion is known."""
    picture = np.asarray(Image.open(accuracy.FOLDER / "000000000785.jpg").convert("RGB"))
    return np.stack([picture[:, 150 + step_px * i : 150 + step_px * i + 420] for i in range(frames)])


def grey(frames: int) -> Pixels:
    return np.full((frames, 240, 320, 3), 120, np.uint8)


@pytest.fixture(scope="module")
def stage() -> Skeleton:
    return Skeleton(SkeletonConfig())


def test_the_correspondence_is_the_checked_one() -> None:
    if not accuracy.FOLDER.is_dir():
        pytest.skip("../shared/wholebody is not here")
    table = json.loads((accuracy.FOLDER / "mediapipe_to_133.json").read_text())
    assert (list(BODY_FROM), list(FEET_FROM), list(FACE_FROM)) == (table["body"], table["feet"], table["face"])


@labelled
def test_the_targets_of_accuracy_hold() -> None:
    figures = {figure["name"]: figure for figure in accuracy.measure()}
    promised = [name for name, figure in figures.items() if figure["target"]]
    assert len(promised) == 2
    assert [figures[name] for name in promised if not figures[name]["holds"]] == []
    assert figures["accuracy on COCO-WholeBody crops, people found"]["value"] == 100


@labelled
def test_a_moved_picture_moves_the_points_by_as_much(stage: Skeleton) -> None:
    (row,) = stage([{"source": Film(skier(12))}])
    assert not isinstance(row, Reject)
    assert (row["people"], row["seen_share"]) == (1, [1.0])
    skeleton = row["skeleton"][:, 0]
    moved = np.median(skeleton[1:, BODY, 0] - skeleton[:-1, BODY, 0], axis=1)
    np.testing.assert_allclose(moved, -3, atol=1.5)
    np.testing.assert_allclose(np.diff(skeleton[:, BODY, 1], axis=0).mean(), 0, atol=0.5)


@labelled
def test_rows_together_give_what_each_gives_alone(stage: Skeleton) -> None:
    films = [Film(skier(3)), Film(grey(2)), Film(skier(3)[:, :, ::-1].copy())]
    together = stage([{"source": film} for film in films])
    again = stage([{"source": films[0]}])[0]
    alone = [Skeleton(SkeletonConfig())([{"source": film}])[0] for film in films]
    for one, other in [*zip(together, alone, strict=True), (again, together[0])]:
        if isinstance(one, Reject):
            assert one == other
        else:
            np.testing.assert_array_equal(one["skeleton"], other["skeleton"])
    assert [isinstance(row, Reject) for row in together] == [False, True, False]


@labelled
def test_a_mirrored_person_has_left_and_right_exchanged(stage: Skeleton) -> None:
    frames = skier(1)
    plain, mirrored = (stage([{"source": Film(f)}])[0] for f in (frames, frames[:, :, ::-1].copy()))
    assert not isinstance(plain, Reject)
    assert not isinstance(mirrored, Reject)
    swap = [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]
    back = mirrored["skeleton"][0, 0, :17][swap]
    back[:, 0] = frames.shape[2] - 1 - back[:, 0]
    size = plain["person_px"][0]
    assert np.hypot(*(back[:, :2] - plain["skeleton"][0, 0, :17, :2]).T).mean() / size < 0.04


@labelled
def test_people_side_by_side_are_all_found_and_kept_apart() -> None:
    """The skier beside a mirrored copy: two people, each in his own half."""
    one = skier(1)[0]
    both = np.concatenate([one, one[:, ::-1]], axis=1)
    found = MediaPipe(SkeletonConfig()).people(both[None])[0]
    assert len(found) == 2
    assert sorted((box[0] + box[2]) / 2 > one.shape[1] for box in found) == [False, True]


@pytest.mark.parametrize("kind", ["grey", "noise", "stripes"])
def test_nobody_is_found_where_nobody_is(stage: Skeleton, kind: str) -> None:
    frames = grey(3)
    if kind == "noise":
        frames = np.random.default_rng(0).integers(0, 255, frames.shape, dtype=np.uint8)
    if kind == "stripes":
        frames[:, :, ::16] = 250
    assert stage([{"source": Film(frames)}])[0] == Reject("no_person", "No person was found in any of the 3 frames.")


@labelled
def test_the_terminal_stays_clean() -> None:
    code = (
        "import numpy as np; from tests.stages.test_skeleton_mediapipe import Film, skier\n"
        "from stages.skeleton import Skeleton, SkeletonConfig\n"
        "print(Skeleton(SkeletonConfig())([{'source': Film(skier(2))}])[0]['people'])"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "1", "")


def seen(places: NDArray[np.float32], visibility: float = 1.0, presence: float = 1.0, **more: object) -> Seen:
    pose = np.concatenate([places, np.tile([visibility, presence], (33, 1))], axis=1).astype(np.float32)
    return Seen(presence=0.9, pose=pose, **more)  # type: ignore[arg-type]


def test_scores_are_the_models_own_and_half_for_the_small_toe() -> None:
    points = to_wholebody(seen(np.full((33, 2), 50, np.float32), 0.8, 0.5), 100, 100)
    np.testing.assert_allclose(points[BODY, 2], 0.8 * 0.5 * 0.9, rtol=1e-6)
    toes = np.isin(np.arange(POINTS)[FEET], SMALL_TOES)
    np.testing.assert_allclose(points[FEET][toes, 2], 0.18, rtol=1e-6)
    np.testing.assert_allclose(points[FEET][~toes, 2], 0.36, rtol=1e-6)
    assert not points[FEET.stop :].any()  # no face, no hands


def test_points_outside_the_picture_were_not_seen() -> None:
    places = np.full((33, 2), 50, np.float32)
    places[0], places[15] = (-1, 50), (50, 100)  # nose, left wrist
    points = to_wholebody(seen(places), 100, 100)
    assert not points[[0, 9]].any()
    assert (points[BODY, 2] > 0).sum() == 15


def hand(x: float, y: float) -> NDArray[np.float32]:
    return (np.array([x, y]) + np.linspace(0, 20, 21)[:, None]).astype(np.float32)


def arms(left: tuple[float, float], right: tuple[float, float]) -> NDArray[np.float32]:
    places = np.full((33, 2), 100, np.float32)
    places[15], places[16] = left, right
    return places


def test_a_hand_has_the_presence_of_the_hand_and_hangs_on_its_arm() -> None:
    body = arms((50, 50), (150, 50))
    points = to_wholebody(
        seen(body, left_hand=hand(52, 52), right_hand=hand(150, 52), left_presence=0.7, right_presence=0.95), 200, 200
    )
    np.testing.assert_allclose(points[LEFT_HAND, 2], 0.7)
    np.testing.assert_allclose(points[RIGHT_HAND, 2], 0.95)


def test_a_hand_far_from_its_arm_is_dropped() -> None:
    points = to_wholebody(seen(arms((50, 50), (150, 50)), left_hand=hand(120, 50), left_presence=0.9), 200, 200)
    assert not points[LEFT_HAND].any()


def test_one_hand_found_for_both_arms_belongs_to_the_nearer() -> None:
    body = arms((60, 50), (50, 50))
    both = seen(body, left_hand=hand(51, 50), right_hand=hand(50, 50), left_presence=0.9, right_presence=0.9)
    points = to_wholebody(both, 200, 200)
    assert not points[LEFT_HAND].any()
    assert (points[RIGHT_HAND, 2] > 0).all()


def test_the_face_takes_the_68_of_the_mesh() -> None:
    mesh = np.stack([np.arange(478), np.arange(478) / 2], axis=1).astype(np.float32)
    points = to_wholebody(seen(np.full((33, 2), 5, np.float32), face=mesh, face_presence=0.8), 1000, 1000)
    np.testing.assert_array_equal(points[FACE, 0], FACE_FROM)
    np.testing.assert_allclose(points[FACE, 2], 0.8)


def test_a_face_away_from_the_nose_is_dropped() -> None:
    mesh = np.random.default_rng(0).uniform(100, 150, (478, 2)).astype(np.float32)
    near, far = np.full((33, 2), 125, np.float32), np.full((33, 2), 250, np.float32)
    assert (to_wholebody(seen(near, face=mesh, face_presence=0.8), 1000, 1000)[FACE, 2] > 0).all()
    assert not to_wholebody(seen(far, face=mesh, face_presence=0.8), 1000, 1000)[FACE].any()


def test_squares_cover_the_picture_and_stay_inside_it() -> None:
    for height, width in ((1920, 1080), (994, 1768), (500, 500), (333, 500)):
        for share in (0.0, 0.6):
            covered = np.zeros((height, width), bool)
            tiles = squares(height, width, share)
            for x, y, w, h in tiles[1:]:
                assert min(x, y) >= 0
                assert (x + w <= width, y + h <= height) == (True, True)
                covered[y : y + h, x : x + w] = True
            assert tiles[0] == (0, 0, width, height)
            assert covered.all() or len(tiles) == 1


@pytest.mark.parametrize(("rim", "angle"), [((100, 0), 0.0), ((200, 100), np.pi / 2), ((0, 100), -np.pi / 2)])
def test_the_region_is_turned_so_that_the_head_is_above(rim: tuple[float, float], angle: float) -> None:
    region = Region.around(np.array([100, 100], np.float32), np.array(rim, np.float32))
    assert (region.x, region.y, region.side) == (100, 100, 250)
    assert region.angle == pytest.approx(angle, abs=1e-6)
