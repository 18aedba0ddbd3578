"""The small pose estimator: its points, the pictures it learns from, and that its training goes on to the bit."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.skeleton import BODY, BODY_NAMES, POINTS
from model.tiny_pose import CELLS, JOINTS, PoseSizes, TinyPose, points_of
from model.training.clips import Clip
from model.training.pose import PoseConfig, PoseError, batch, error, train_pose
from model.training.pose_pictures import MIRRORED, varied
from tests.model.training.small_clips import Walks

SMALL = PoseConfig(sizes=PoseSizes((8, 8, 16), 1), steps=6, clips=2, frames=2, warmup=2, precision="fp32")


class Dots:
    """Clips on which each point of a body is a dot of a grey of its own, whose places are known."""

    digest = "dots"

    def __len__(self) -> int:
        return 40

    def clip(self, number: int) -> Clip:
        rng = np.random.default_rng(number)
        skeleton = np.zeros((4, 1, POINTS, 3), np.float32)
        skeleton[:, 0, BODY, :2] = rng.uniform(14, 50, (4, JOINTS, 2))
        skeleton[:, 0, BODY, 2] = 1
        frames = np.full((4, 64, 64, 3), 128, np.uint8)
        for frame, points in zip(frames, skeleton[:, 0, BODY], strict=True):
            for joint, (x, y, _) in enumerate(points):
                disc(frame, x, y, 15 * joint)
        return Clip(frames, skeleton, np.ones((4, 64, 64), bool), "")


def disc(frame: NDArray[np.uint8], x: float, y: float, value: int) -> None:
    rows, columns = np.mgrid[:64, :64]
    frame[np.hypot(columns - x, rows - y) < 2] = (value, 255 - value, value)


def peaks(x: float, y: float) -> Tensor:
    """Return maps with a peak at a cell for each joint, the same for all."""
    maps = torch.zeros(1, JOINTS, CELLS, CELLS)
    maps[:, :, int(y), int(x)] = 20.0
    return maps


def test_a_point_lies_in_the_middle_of_its_cell_and_between_two_cells_if_both_say_so() -> None:
    seen = torch.full((1, JOINTS), 9.0)
    alone = points_of(peaks(5, 20), seen)[0]
    assert torch.allclose(alone[:, :2], torch.tensor([10.5, 40.5]).expand(JOINTS, 2), atol=1e-3)  # of 2 px each
    assert (alone[:, 2] > 0.99).all()
    both = points_of(peaks(5, 20) + peaks(6, 20), seen)[0]
    assert torch.allclose(both[:, :2], torch.tensor([11.5, 40.5]).expand(JOINTS, 2), atol=1e-3)
    assert (points_of(torch.zeros(1, JOINTS, CELLS, CELLS), seen)[0, :, 2] < 0.03).all()  # nowhere in particular
    assert (points_of(peaks(5, 20), -seen)[0, :, 2] < 1e-3).all()


def test_the_error_is_least_where_the_maps_peak_at_the_points() -> None:
    points = torch.tensor([10.5, 40.5, 1.0]).expand(1, JOINTS, 3)
    seen = torch.full((1, JOINTS), 9.0)
    there, beside = error(peaks(5, 20), seen, points), error(peaks(9, 20), seen, points)
    assert there < beside
    unseen = torch.zeros(1, JOINTS, 3)
    assert error(peaks(5, 20), -seen, unseen) < 1e-3 < error(peaks(5, 20), seen, unseen)


def test_varied_pictures_show_each_point_where_it_is_said_to_be() -> None:
    """A bright dot at a point stays at that point, wherever picture and points were moved."""
    rng = np.random.default_rng(3)
    found = 0
    for _ in range(20):
        at = rng.uniform(16, 48, (1, JOINTS, 2))
        frames = np.zeros((1, 64, 64, 3), np.uint8)
        joint = int(rng.integers(JOINTS))
        disc(frames[0], *at[0, joint], 255)
        points = np.concatenate([at, np.ones((1, JOINTS, 1))], axis=2)
        pictures = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 127.5 - 1
        made, moved = varied(pictures, torch.from_numpy(points).float(), rng)
        plain = bool(torch.allclose(made.new_tensor(at), moved[..., :2], atol=0.1))
        assert not plain
        bright = made[0, 0] - made[0, 1]  # the dot is 255, 0, 255
        row, column = divmod(int(bright.argmax()), 64)
        apart = (moved[0, :, :2] - torch.tensor([column, row])).norm(dim=1)
        turned = [joint, MIRRORED[joint]]
        if moved[0, turned, 2].min() > 0:
            found += 1
            assert apart[turned].min() < 3
    assert found > 12


def test_left_becomes_right_in_a_mirrored_picture() -> None:
    names = [
        BODY_NAMES[other].replace("left", "R").replace("right", "left").replace("R", "right") for other in MIRRORED
    ]
    assert names == list(BODY_NAMES)


def test_a_batch_is_the_same_each_time_and_another_at_each_step() -> None:
    one, two, other = batch(SMALL, Dots(), 3), batch(SMALL, Dots(), 3), batch(SMALL, Dots(), 4)
    assert torch.equal(one[0], two[0])
    assert torch.equal(one[1], two[1])
    assert not torch.equal(one[0], other[0])
    assert one[0].shape == (4, 3, 64, 64)
    assert one[0].abs().max() <= 1


class Killed(Exception):
    pass


def test_a_killed_and_resumed_training_equals_an_uninterrupted_one_to_the_bit(tmp_path: Path) -> None:
    def die(step: int, loss: float) -> None:
        if step == 3:
            raise Killed

    whole = train_pose(SMALL, Dots(), tmp_path / "whole", save_every=2)
    with pytest.raises(Killed):
        train_pose(SMALL, Dots(), tmp_path / "parts", save_every=2, on_step=die)
    parts = train_pose(SMALL, Dots(), tmp_path / "parts", save_every=2)
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), parts.state_dict().values(), strict=True))
    with pytest.raises(PoseError, match="was trained with another config or other clips"):
        train_pose(replace(SMALL, lr=1.0), Dots(), tmp_path / "parts")


def test_what_is_written_is_read_again_and_what_is_none_is_refused(tmp_path: Path) -> None:
    pose = TinyPose(SMALL.sizes)
    pose.save(tmp_path)
    again = TinyPose.load(tmp_path)
    pictures = torch.rand(2, 3, 64, 64)
    for one, other in zip(pose(pictures), again(pictures), strict=True):
        assert torch.allclose(one, other, atol=2e-2)  # half precision
    (tmp_path / "config.json").write_text('{"kind": "other"}')
    with pytest.raises(Exception, match="holds no small pose estimator"):
        TinyPose.load(tmp_path)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [({"steps": 0}, "must be 1 or more"), ({"precision": "fp8"}, "fp32 or bf16"), ({"lr": -1.0}, "lr above 0")],
)
def test_what_cannot_be_trained_is_refused(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(PoseError, match=said):
        PoseConfig(**wrong)  # type: ignore[arg-type]
    with pytest.raises(PoseError, match="multiples of 8"):
        PoseConfig(sizes=PoseSizes((12, 16, 16)))


@pytest.mark.train
def test_it_learns_where_dots_are(tmp_path: Path) -> None:
    config = PoseConfig(sizes=PoseSizes((16, 16, 32), 1), steps=400, clips=8, frames=4, precision="fp32")
    pose = train_pose(config, Dots(), tmp_path)
    clip = Dots().clip(1)
    pictures = torch.from_numpy(clip.frames).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        found = points_of(*pose(pictures)).numpy()
    apart = np.linalg.norm(found[..., :2] - clip.skeleton[:, 0, BODY, :2], axis=-1)
    chance = np.linalg.norm(found[::-1, :, :2] - clip.skeleton[:, 0, BODY, :2], axis=-1)
    assert np.median(apart) < 0.5 * np.median(chance)


def test_walks_can_be_learned_from(tmp_path: Path) -> None:
    losses: list[float] = []
    train_pose(replace(SMALL, steps=2), Walks(3), tmp_path, on_step=lambda step, loss: losses.append(loss))
    assert np.isfinite(losses).all()
