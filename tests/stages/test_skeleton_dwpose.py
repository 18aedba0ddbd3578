"""The adapter, and the whole stage with it, on hand-made graphs that truly see: every place and identity is known."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="onnx is not installed")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

from manifests.keys import sha256_of_file
from model.skeleton import Pixels
from pipeline.config import build
from pipeline.strict_yaml import ConfigError
from stages.skeleton import CharacterSkeleton, CharacterSkeletonConfig, Skeleton, SkeletonConfig
from stages.skeleton_dwpose import DWPose
from stages.stage import Reject
from tests.stages.onnx_graphs import detector_graph, draw_figure, pose_graph

ROOT = Path(__file__).parents[2]
HEIGHT, WIDTH = 240, 320
TALL, BROAD = 120, 50  # px of a figure
GREYS = (60, 180)  # of the two figures' clothes


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("graphs")
    detector = detector_graph(folder / "yolox.onnx", (BROAD / 2, TALL / 2))  # the input is half the picture's size
    return {"detector_weights": str(detector), "pose_weights": str(pose_graph(folder / "pose.onnx"))}


@dataclass(frozen=True)
class Film:
    """Frames in memory, with what the stage asks of a clip."""

    frames: Pixels
    fps: float = 15.0

    def chunks(self, size: int) -> list[Pixels]:
        return [self.frames[i : i + size] for i in range(0, len(self.frames), size)]


def film(*walks: tuple[tuple[int, int], tuple[int, int]], frames: int = 24) -> tuple[Film, np.ndarray]:
    """Figures that walk from one upper left corner to another, and their points [frames, figures, 133, 2]."""
    pictures = np.full((frames, HEIGHT, WIDTH, 3), 30, np.uint8)
    truth = np.zeros((frames, len(walks), 133, 2), np.float32)
    for t, picture in enumerate(pictures):
        for i, (start, end) in enumerate(walks):
            x, y = np.round(np.array(start) + (np.array(end) - start) * t / (frames - 1))
            spots = draw_figure(picture, (x, y, x + BROAD, y + TALL), GREYS[i])
            truth[t, i] = spots[np.arange(133) % 6]
    return Film(pictures), truth


def off(found: np.ndarray, truth: np.ndarray) -> float:
    return float(np.hypot(*np.moveaxis(found[..., :2] - truth, -1, 0)).max())


def adapter(graphs: dict[str, str]) -> DWPose:
    return DWPose(SkeletonConfig(adapter="dwpose", **graphs))


def result(graphs: dict[str, str], clip: Film, **options: Any) -> dict[str, Any]:
    (row,) = Skeleton(SkeletonConfig(adapter="dwpose", **graphs, **options))([{"source": clip}])
    assert not isinstance(row, Reject), row
    return row


@pytest.mark.parametrize("every", [1, 12])
def test_two_figures_that_walk_are_two_tracks_with_the_right_points(graphs: dict[str, str], every: int) -> None:
    clip, truth = film(((10, 40), (90, 60)), ((260, 80), (200, 100)))
    row = result(graphs, clip, detect_every=every)
    assert row["people"] == 2
    assert row["seen_share"] == [1.0, 1.0]
    skeleton = row["skeleton"]
    assert skeleton.shape == (24, 2, 133, 3)
    order = np.argsort(skeleton[0, :, 0, 0])  # who is first is a matter of size; from left to right here
    assert off(skeleton[:, order], truth) <= 0.5
    assert min(row["mean_score"]) > 0.6


def test_a_figure_that_runs_is_followed_between_searches(graphs: dict[str, str]) -> None:
    """Half its width a frame: from the second frame of a block on the box that is asked for is a guess."""
    clip, truth = film(((0, 60), (260, 60)), frames=12)
    row = result(graphs, clip, detect_every=12)
    assert off(row["skeleton"][:, 0], truth[:, 0]) <= 0.5


def test_a_box_of_some_frames_ago_is_enough_and_a_found_one_is_shown_as_it_is(graphs: dict[str, str]) -> None:
    clip, truth = film(((100, 60), (101, 60)), frames=2)
    sees = adapter(graphs)
    box = np.array([100, 60, 150, 180], np.float32)
    for shift in ((0, 0), (35, 0), (-30, 20), (0, -50)):
        (seen,) = sees.keypoints(clip.frames[:1], [{7: box + np.tile(shift, 2)}])
        assert off(seen[7], truth[0, 0]) <= 0.5, shift
    for shrunk in (0.8, 1.8):
        middle, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2 * shrunk
        (seen,) = sees.keypoints(clip.frames[:1], [{7: np.concatenate([middle - half, middle + half])}])
        assert off(seen[7], truth[0, 0]) <= 0.5, shrunk
    ((found,),) = sees.people(clip.frames[:1])
    first, second = (sees.keypoints(clip.frames[:1], [{7: found[:4]}])[0][7] for _ in range(2))
    alone = sees._pose([clip.frames[0]], [found[:4]])[0]
    np.testing.assert_array_equal(first, alone)
    assert (second != alone).any()  # asked a second time it is a box of some frames ago, and is grown


def test_where_nobody_is_nobody_is_seen(graphs: dict[str, str]) -> None:
    clip, _ = film(((10, 60), (10, 60)), frames=2)
    sees = adapter(graphs)
    assert [len(boxes) for boxes in sees.people(np.zeros_like(clip.frames))] == [0, 0]
    box = np.array([220, 60, 270, 180], np.float32)
    assert sees.keypoints(clip.frames, [{0: box}, {}]) == [{}, {}]


def test_frames_and_people_together_give_what_each_gives_alone(graphs: dict[str, str]) -> None:
    clip, _ = film(((10, 40), (90, 60)), ((200, 80), (260, 100)), frames=12)
    sees = adapter(graphs)
    found = sees.people(clip.frames)
    boxes = [{i: box[:4] for i, box in enumerate(each)} for each in found]
    together = sees.keypoints(clip.frames, boxes)
    assert [len(people) for people in together] == [2] * 12
    for t in range(12):
        (again,) = sees.people(clip.frames[t : t + 1])
        np.testing.assert_array_equal(again, found[t])
        for track, box in boxes[t].items():
            (alone,) = sees.keypoints(clip.frames[t : t + 1], [{track: box}])
            np.testing.assert_allclose(alone[track], together[t][track], atol=1e-4)


def test_rows_together_give_what_each_gives_alone(graphs: dict[str, str]) -> None:
    clips = [film(((10, 40), (90, 60)))[0], film(((200, 60), (150, 70)), ((20, 60), (40, 60)))[0]]
    together = Skeleton(SkeletonConfig(adapter="dwpose", **graphs))([{"source": clip} for clip in clips])
    for clip, row in zip(clips, together, strict=True):
        assert isinstance(row, dict)
        np.testing.assert_array_equal(row["skeleton"], result(graphs, clip)["skeleton"])


def test_a_character_is_a_clip_of_one_frame(graphs: dict[str, str]) -> None:
    clip, truth = film(((100, 60), (100, 60)), frames=2)

    class Character:
        def rgb(self) -> Pixels:
            return clip.frames[0]

    stage = CharacterSkeleton(CharacterSkeletonConfig(adapter="dwpose", **graphs))
    (row,) = stage([{"character": Character()}])
    assert isinstance(row, dict)
    assert off(row["skeleton"][0, 0], truth[0, 0]) <= 0.5


def spec(**fields: Any) -> Any:
    run = build({"root": "runs/x", "stages": {"sources": {"skeleton": fields}}})
    return run.tracks["sources"][0]


def test_the_key_knows_what_the_weights_are_and_not_where_they_lie(graphs: dict[str, str], tmp_path: Path) -> None:
    here = spec(adapter="dwpose", **graphs)
    shas = {name: sha256_of_file(graphs[f"{name}_weights"]) for name in ("detector", "pose")}
    assert here.cls.digests(here.config) == shas
    elsewhere = spec(
        adapter="dwpose", device="cpu", gpus=0.5,
        detector_weights="https://host.example/yolox.onnx", detector_sha256=shas["detector"],
        pose_weights="owner/repo/pose.onnx@main", pose_sha256=shas["pose"],
    )  # fmt: skip
    assert elsewhere.digest == here.digest
    other = spec(adapter="dwpose", **graphs | {"pose_weights": str(pose_graph(tmp_path / "p.onnx", points=17))})
    assert other.digest != here.digest
    assert "device" not in spec().recipe["config"]  # so that results of mediapipe keep their keys


def test_the_config_takes_along_what_the_weights_were_when_it_was_read(graphs: dict[str, str], tmp_path: Path) -> None:
    path = pose_graph(tmp_path / "p.onnx")
    read = SkeletonConfig(adapter="dwpose", **graphs | {"pose_weights": str(path)})
    sent = SkeletonConfig.model_validate_json(read.model_dump_json())
    assert sent == read
    pose_graph(path, batch=1)  # another graph at the same place, as on another machine
    with pytest.raises(ValueError, match=r"p.onnx have the SHA-256 .* wanted .*: they are others, or damaged"):
        Skeleton(sent)


def test_a_config_without_weights_says_where_they_are_had(graphs: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"^stages.sources.skeleton: .* needs detector_weights, .* README .*yzd-v/DWPose"
    ):
        spec(adapter="dwpose")
    with pytest.raises(ConfigError, match="needs pose_weights"):
        spec(adapter="dwpose", detector_weights=graphs["detector_weights"])
    with pytest.raises(ConfigError, match=r"skeleton.pose_sha256: input should be a valid string, found 12"):
        spec(adapter="dwpose", **graphs, pose_sha256=12)
    with pytest.raises(ConfigError, match="no file of weights at"):
        spec(adapter="dwpose", **graphs | {"pose_weights": str(tmp_path / "none.onnx")})


def test_planning_neither_loads_onnxruntime_nor_fetches(tmp_path: Path) -> None:
    code = (
        "import sys; from stages.skeleton import Skeleton, SkeletonConfig\n"
        "c = SkeletonConfig(adapter='dwpose', detector_weights='o/r/d.onnx@main', detector_sha256='1' * 64,\n"
        "    pose_weights='https://host.invalid/p.onnx', pose_sha256='2' * 64)\n"
        "assert Skeleton.digests(c) == {'detector': '1' * 64, 'pose': '2' * 64}\n"
        "assert not {'onnxruntime', 'huggingface_hub', 'cv2', 'http.client'} & set(sys.modules), 'imported'"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def test_without_onnxruntime_the_extra_is_named(graphs: dict[str, str]) -> None:
    code = (
        "import sys; sys.modules['onnxruntime'] = None\n"
        "from stages.skeleton import adapter_class\n"
        "try: adapter_class('dwpose')\n"
        "except ValueError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert "no module 'onnxruntime' here; pip install 'bodydouble[dwpose]'" in done.stdout
