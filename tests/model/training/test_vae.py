"""The small VAE's training: what it sees, that it goes on to the bit, and that its latents are normalised."""

import multiprocessing
import os
import re
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLWan
from torch import Tensor

from manifests.errors import UserError
from model.geometry import Geometry
from model.text import TinyText
from model.tiny import TinyTransformer, TinyVae, new_vae
from model.training.components import blocks
from model.training.crops import crops
from model.training.examples import Augment, example
from model.training.samples import to_uint8
from model.training.vae import learning_rate, set_statistics, teacher, train_vae
from model.training.vae_config import VaeConfig, VaeError
from model.wan import new_tiny
from model.wan_config import SETTINGS_OF
from model.wan_vae import decode, encode, straight
from tests.model.training.small_clips import SIZE, Walks

SIZES = TinyVae(z_dim=4, base_dim=4, dim_mult=(1, 2, 2), residual=True)
CONFIG = VaeConfig(
    sizes=SIZES, steps=5, batch=2, crop_px=16, frames=5, taught_steps=2, warmup=2, decay_steps=2, precision="bf16"
)
WIDE = Geometry(32, 48, 9, 4, 8)
CLIPS = Walks(3)


class Killed(Exception):
    """Ends a training between two steps."""


def trained(folder: Path, config: VaeConfig = CONFIG, clips: Walks = CLIPS, die_after: int = 0) -> AutoencoderKLWan:
    def on_step(step: int, loss: float) -> None:
        assert np.isfinite(loss)
        if step == die_after:
            raise Killed

    return train_vae(config, clips, clips.size, folder, save_every=2, on_step=on_step)


def same(one: AutoencoderKLWan, two: AutoencoderKLWan) -> bool:
    weights = zip(one.state_dict().values(), two.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in weights) and one.config == two.config


def test_a_killed_and_resumed_training_equals_an_uninterrupted_one_to_the_bit(tmp_path: Path) -> None:
    whole = trained(tmp_path / "whole")
    with pytest.raises(Killed):
        trained(tmp_path / "parts", die_after=1)  # before anything was saved
    with pytest.raises(Killed):
        trained(tmp_path / "parts", die_after=3)  # one step after the save
    assert same(trained(tmp_path / "parts"), whole)
    assert same(trained(tmp_path / "parts"), whole)  # nothing is left to do
    first = new_vae(SIZES, 0).state_dict()
    assert any(not torch.equal(value, first[name]) for name, value in whole.state_dict().items())


def test_steps_that_are_added_before_the_rate_falls_change_nothing_of_what_was(tmp_path: Path) -> None:
    longer = replace(CONFIG, steps=6)
    with pytest.raises(Killed):
        trained(tmp_path / "grown", CONFIG, die_after=3)
    assert same(trained(tmp_path / "grown", longer), trained(tmp_path / "whole", longer))


def _train_slowly(folder: str) -> None:
    torch.set_num_threads(1)
    train_vae(CONFIG, CLIPS, SIZE, Path(folder), save_every=1, on_step=lambda *_: time.sleep(0.2))


@pytest.mark.train
def test_a_process_that_is_killed_at_any_moment_leaves_what_can_go_on(tmp_path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=_train_slowly, args=(str(tmp_path / "killed"),))
    process.start()
    while not (tmp_path / "killed" / "state.safetensors").exists():
        time.sleep(0.01)
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    assert same(trained(tmp_path / "killed"), trained(tmp_path / "whole"))


@pytest.mark.parametrize(
    ("config", "clips", "said"),
    [
        (replace(CONFIG, lr=1e-3), CLIPS, "another config"),
        (replace(CONFIG, sizes=replace(SIZES, z_dim=8)), CLIPS, "another config"),
        (CONFIG, Walks(4, name="runs"), "other clips"),
    ],
)
def test_going_on_otherwise_than_begun_is_refused_in_a_sentence(
    tmp_path: Path, config: VaeConfig, clips: Walks, said: str
) -> None:
    with pytest.raises(Killed):
        trained(tmp_path, die_after=3)
    with pytest.raises(VaeError) as error:
        trained(tmp_path, config, clips)
    where = f"{tmp_path}/state.safetensors"
    assert str(error.value) == f"{where} was trained with {said}: train in another folder, or remove this one"
    assert isinstance(error.value, UserError)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (replace(CONFIG, crop_px=0), "crop_px is 0; it must be a multiple of 8 px, at most 16 px"),
        (replace(CONFIG, crop_px=24), "crop_px is 24; it must be a multiple of 8 px, at most 16 px"),
        (replace(CONFIG, crop_px=12), "crop_px is 12"),
        (replace(CONFIG, frames=4), "frames is 4; it must be 4k + 1, at most 9"),
        (replace(CONFIG, frames=13), "frames is 13"),
        (replace(CONFIG, precision="fp16"), "precision is 'fp16'; it must be fp32 or bf16"),
        (replace(CONFIG, sizes=replace(CONFIG.sizes, dim_mult=(1, 3, 7), residual=True)), "cannot be built"),
    ],
)
def test_crops_that_do_not_fit_are_refused_before_the_first_step(tmp_path: Path, config: VaeConfig, said: str) -> None:
    with pytest.raises(VaeError, match=re.escape(said)):
        trained(tmp_path / "new", config)
    assert not (tmp_path / "new").exists()


def test_latents_have_mean_zero_and_deviation_one_once_the_statistics_are_set(tmp_path: Path) -> None:
    vae = new_vae(replace(SIZES, z_dim=6), 3)
    set_statistics(vae, CLIPS, SIZE, CONFIG.crop_px)
    assert len(set(vae.config.latents_mean)) == 6
    settings = replace(SETTINGS_OF["tiny"], tile_px=CONFIG.crop_px)
    wan = new_tiny(vae, TinyText(16, 4, 64), TinyTransformer(1, 2, 16, 16, 32), 0, settings)
    made = [example(CLIPS.clip(n), SIZE, Augment(), np.random.default_rng(n)) for n in range(3)]
    latents = wan.encode(torch.cat([video for each in made for video in (each.wanted, each.given)]))
    by_channel = latents.transpose(0, 1).flatten(1)
    assert torch.allclose(by_channel.mean(dim=1), torch.zeros(6), atol=1e-4)
    assert torch.allclose(by_channel.std(dim=1), torch.ones(6), atol=1e-4)


@pytest.mark.train
def test_a_taught_vae_learns_the_components_and_what_they_show(tmp_path: Path) -> None:
    sizes = TinyVae(z_dim=6, base_dim=8, dim_mult=(2, 2), patch_size=4, residual=True)
    config = VaeConfig(sizes=sizes, steps=150, taught_steps=150, batch=4, crop_px=16, frames=5, decay_steps=100)
    taught = teacher(config, CLIPS, SIZE)
    vae = train_vae(config, CLIPS, SIZE, tmp_path)
    video, _ = crops(config, CLIPS, SIZE, 5000)
    code = taught.code(video)
    with torch.no_grad(), straight(vae):
        told = (encode(vae, video) - code).square().mean() / code.square().mean()
        shown = (decode(vae, code) - video).square().mean()
    plain = taught.mean + (code.permute(0, 2, 3, 4, 1) * taught.deviation) @ taught.basis.T
    least = (plain - blocks(video, 2, 8)).square().mean()  # what the components themselves leave out
    assert told < 0.3
    assert shown < 1.5 * least


def test_a_trained_vae_has_its_statistics_set(tmp_path: Path) -> None:
    vae = trained(tmp_path, replace(CONFIG, steps=1))
    before = list(vae.config.latents_mean), list(vae.config.latents_std)
    set_statistics(vae, CLIPS, SIZE, CONFIG.crop_px)
    assert before == (list(vae.config.latents_mean), list(vae.config.latents_std))
    assert all(value > 0 for value in before[1])


def lies_in(crop: Tensor, clip_frames: np.ndarray) -> bool:
    """Say whether a crop `[3, T, s, s]` is some part of these frames `[T, H, W, 3]`, found by its first row."""
    part = to_uint8(crop)
    frames, size = part.shape[:2]
    times, rows, columns = (whole - own + 1 for whole, own in zip(clip_frames.shape[:3], part.shape[:3], strict=True))
    return any(
        np.array_equal(clip_frames[t : t + frames, y : y + size, x : x + size], part)
        for t in range(times) for y in range(rows) for x in range(columns)
        if np.array_equal(clip_frames[t, y, x], part[0, 0, 0])
    )  # fmt: skip


def test_a_crop_is_a_part_of_a_clip_and_its_weights_are_where_the_figure_is() -> None:
    clips = Walks(2, WIDE)
    config = replace(CONFIG, batch=12, skeleton_share=0.0, composite_share=0.0, figure_weight=3.0)
    video, weight = crops(config, clips, WIDE, step=7)
    assert video.shape == (12, 3, 5, 16, 16)
    assert weight.shape == (12, 1, 5, 16, 16)
    assert set(weight.unique().tolist()) == {1.0, 4.0}
    assert all(lies_in(crop, np.concatenate([clips.clip(n).frames for n in (0, 1)])) for crop in video)
    weighed = torch.from_numpy(clips.clip(0).figure).float()[0]  # the same in both clips, and in every frame
    for each in weight:
        shown = each[0, 0] == 4.0
        assert shown.any()
        assert int(shown.sum()) <= int(weighed.sum())
        assert shown.any(dim=0).sum() * shown.any(dim=1).sum() == shown.sum()  # a rectangle, as the figure is


def test_crops_of_drawings_weigh_alike_and_one_of_four_begins_blank() -> None:
    video, weight = crops(replace(CONFIG, batch=40, skeleton_share=1.0, composite_share=0.0), CLIPS, SIZE, step=1)
    assert (weight == 1).all()
    assert 4 <= int((video[:, :, 0] == 0).flatten(1).all(dim=1).sum()) <= 17
    assert not (video[:, :, 1:] == 0).flatten(1).all(dim=1).any()


def test_crops_over_the_seam_show_a_clip_on_the_left_and_its_drawing_on_the_right() -> None:
    video, weight = crops(replace(CONFIG, batch=24, skeleton_share=0.0, composite_share=1.0), CLIPS, SIZE, step=1)
    plain, _ = crops(replace(CONFIG, batch=24, skeleton_share=0.0, composite_share=0.0), CLIPS, SIZE, step=1)
    assert bool((weight[..., 0] > 1).any())  # figures in the first column
    assert not bool((weight[..., -1] > 1).any())  # none in the last one: it lies behind the seam
    grounds = [int((each == -1).all(dim=0).sum()) for each in (*video, *plain)]  # black: the ground of a drawing
    assert all(ground > 20 for ground in grounds[:24])
    assert not any(ground > 20 for ground in grounds[24:])


def test_crops_follow_from_seed_and_step_alone() -> None:
    one, again = crops(CONFIG, CLIPS, SIZE, 3), crops(CONFIG, CLIPS, SIZE, 3)
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
    assert not torch.equal(one[0], crops(CONFIG, CLIPS, SIZE, 4)[0])
    assert not torch.equal(one[0], crops(replace(CONFIG, seed=1), CLIPS, SIZE, 3)[0])


def test_the_rate_rises_stays_and_falls() -> None:
    config = replace(CONFIG, lr=2.0, steps=100, warmup=10, decay_steps=20)
    rates = [learning_rate(config, step) for step in range(100)]
    assert rates[:10] == pytest.approx([0.2 * n for n in range(1, 11)])
    assert set(rates[10:80]) == {2.0}
    assert rates[80:] == pytest.approx([2.0 * ((20 - n) / 20) ** 2 for n in range(20)])
