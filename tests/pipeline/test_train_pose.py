"""The pose estimator from its YAML: trained, measured as it was written, accepted or not."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from model.skeleton import BODY
from model.tiny_pose import TinyPose, points_of
from pipeline.__main__ import main
from pipeline.train_pose import PoseTraining, load
from tests.pipeline.small_runs import HELD_OUT, WORLDS, write


def pose_run(folder: Path, **pose: Any) -> dict[str, Any]:
    return {
        "folder": str(folder), "accept": 0.0, "size": {"height_px": 64, "width_px": 64, "frames": 9},
        "data": {"worlds": WORLDS, "held_out": HELD_OUT},
        "pose": {"sizes": {"channels": [8, 8, 16], "blocks": 1}, "steps": 3, "clips": 2, "frames": 2, **pose},
    }  # fmt: skip


def test_what_is_written_is_what_was_measured(tmp_path: Path) -> None:
    training = PoseTraining(load(write(tmp_path / "pose.yaml", pose_run(tmp_path / "run")), []))
    told: list[int] = []
    verdict = training.start(lambda step, loss: told.append(step))
    assert told == [1, 2, 3]
    pose = TinyPose.load(tmp_path / "run/pose")
    near = []
    for number in range(len(training.held_out)):
        clip = training.held_out.clip(number)
        with torch.no_grad():
            found = points_of(*pose(torch.from_numpy(clip.frames[::4]).permute(0, 3, 1, 2).float() / 127.5 - 1)).numpy()
        truth = clip.skeleton[::4, 0, BODY]
        trunk = np.hypot(*(truth[:, 5:7, :2].mean(1) - truth[:, 11:13, :2].mean(1)).T)
        apart = np.hypot(*np.moveaxis(found[..., :2] - truth[..., :2], -1, 0)) / trunk[:, None]
        near.append((apart[truth[..., 2] > 0] < 0.2).mean())
    said = json.loads((tmp_path / "run/measured.json").read_text())
    assert said["pck"] == pytest.approx(near)
    assert said["pck_trunk_0.2"] == pytest.approx(np.mean(near), abs=1e-3)
    assert said["accepted"] is verdict.accepted is True
    with Image.open(tmp_path / "run/sheet.png") as sheet:
        assert sheet.width == 6 * 256


def test_the_command_says_whether_it_is_good_enough_and_goes_on_from_what_is_there(tmp_path: Path) -> None:
    config = write(tmp_path / "pose.yaml", pose_run(tmp_path / "run"))
    first = CliRunner().invoke(main, ["train-pose", str(config), "--set", "accept=1"])
    assert first.exit_code == 1
    assert "wanted 1: NOT accepted" in first.stdout
    second = CliRunner().invoke(main, ["train-pose", str(config), "--json"])
    assert second.exit_code == 0
    (verdict,) = [json.loads(line) for line in second.stdout.splitlines()]  # no step was left to do
    assert verdict["accepted"] is True


def test_a_mistake_in_the_config_is_named_with_its_place(tmp_path: Path) -> None:
    config = write(tmp_path / "pose.yaml", pose_run(tmp_path / "run", stepz=3))
    told = CliRunner().invoke(main, ["train-pose", str(config)])
    assert told.exit_code == 2
    assert "pose.stepz: unknown field; did you mean 'steps'?" in told.stderr
