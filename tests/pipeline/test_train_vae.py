"""A VAE from its YAML: trained, measured as it was written, accepted or not."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLWan
from PIL import Image

from model.training.reconstruct import Reconstruction, reconstruction
from pipeline.strict_yaml import ConfigError
from pipeline.train import Share
from pipeline.train_vae import VaeTraining, Verdict, load
from tests.pipeline.small_runs import vae_run, write


def training_of(tmp_path: Path, **vae: object) -> VaeTraining:
    return VaeTraining(load(write(tmp_path / "vae.yaml", vae_run(tmp_path / "run", **vae)), []))


def test_what_is_written_is_what_was_measured(tmp_path: Path) -> None:
    training, told = training_of(tmp_path), []
    verdict = training.start(lambda step, loss: told.append((step, loss)))
    folder = tmp_path / "run"
    assert [step for step, _ in told] == [1, 2, 3]
    vae = AutoencoderKLWan.from_pretrained(folder / "vae", torch_dtype=torch.float32)

    def through(video: torch.Tensor) -> torch.Tensor:
        """Tile by tile."""
        got, side = torch.empty_like(video), training.run.vae.crop_px
        for y in range(0, video.shape[3], side):
            for x in range(0, video.shape[4], side):
                part = (..., slice(y, y + side), slice(x, x + side))
                got[part] = vae.decode(vae.encode(video[part]).latent_dist.mode()).sample
        return got

    measured = reconstruction(through, training.held_out, training.geometry, [0, 1])
    said = json.loads((folder / "measured.json").read_text())
    assert said["figure_db"] == pytest.approx(measured.figure_db, abs=2e-3)
    assert said["whole_db"] == pytest.approx(measured.whole_db, abs=2e-3)
    assert said["figure_db_mean"] == pytest.approx(measured.figure_db.mean(), abs=2e-3)
    assert said["accepted"] is verdict.accepted is True
    assert all(std > 0 for std in vae.config.latents_std)
    assert vae.config.latents_std != [1.0] * 4
    sheet = np.asarray(Image.open(folder / "sheet.png"))[::2, ::2]
    assert np.array_equal(sheet[:32, :32], training.held_out.clip(0).frames[0])


def test_a_second_start_trains_nothing_and_says_the_same(tmp_path: Path) -> None:
    first = training_of(tmp_path).start().as_json()
    told: list[int] = []
    second = training_of(tmp_path).start(lambda step, loss: told.append(step)).as_json()
    assert not told
    assert first == second


def test_preparing_renders_and_does_not_train(tmp_path: Path) -> None:
    training = training_of(tmp_path)
    training.prepare(Share())
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"clips"}
    assert training.train.clip(3).frames.shape == (9, 32, 32, 3)
    assert not training.held_out.shelf.missing()


def test_a_vae_is_accepted_by_its_mean_inside_figures() -> None:
    inside, whole = np.array([24.0, 26.0, math.nan]), np.array([40.0, 40.0, 40.0])
    assert Verdict(Reconstruction(inside, whole), 25.0).accepted
    assert not Verdict(Reconstruction(inside, whole), 25.1).accepted


def test_a_clip_without_a_figure_is_null_in_json() -> None:
    verdict = Verdict(Reconstruction(np.array([math.nan, 24.0, 26.0]), np.array([math.inf, 30.0, 30.0])), 25.0)
    said = json.loads(json.dumps(verdict.as_json(), allow_nan=False))
    assert said["figure_db_mean"] == 25.0
    assert said["whole_db_mean"] is None
    assert (said["clips"], said["wanted_db"]) == (3, 25.0)


def test_a_mistake_in_the_config_is_named_with_its_file(tmp_path: Path) -> None:
    path = write(tmp_path / "vae.yaml", vae_run(tmp_path, step=3))
    with pytest.raises(ConfigError) as error:
        load(path, [])
    assert str(error.value) == f"{path}: vae.step: unknown field; did you mean 'steps'?"
