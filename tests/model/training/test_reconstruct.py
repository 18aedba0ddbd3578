"""PSNR against the formula, written out with numpy."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from model.composite import join, left, right
from model.training.examples import Augment
from model.training.reconstruct import Reconstruction, interval, psnr, reconstruction
from tests.model.training.small_clips import SIZE, Walks


def by_formula(a: np.ndarray, b: np.ndarray) -> float:
    """Return the PSNR of 8-bit pictures as textbooks have it, peak 255."""
    mean = ((a.astype(np.float64) - b.astype(np.float64)) ** 2).mean()
    return 10 * math.log10(255**2 / mean)


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def floats(levels: np.ndarray) -> Tensor:
    return torch.from_numpy(levels.astype(np.float32)) / 127.5 - 1


def test_psnr_is_that_of_bytes_with_peak_255() -> None:
    a, b = noise(3, 5, 8, 8), noise(3, 5, 8, 8, seed=1)
    assert psnr(floats(a), floats(b)) == pytest.approx(by_formula(a, b), abs=1e-4)


def test_psnr_inside_counts_the_chosen_pixels_alone() -> None:
    a, b = noise(1, 3, 5, 8, 8), noise(1, 3, 5, 8, 8, seed=1)
    inside = np.zeros((5, 8, 8), bool)
    inside[1:3, 2:7, 4] = True
    truth = by_formula(a[0, :, inside], b[0, :, inside])
    assert psnr(floats(a), floats(b), torch.from_numpy(inside)[None, None]) == pytest.approx(truth, abs=1e-4)


def test_equal_pictures_are_infinitely_near_and_no_pixels_give_nan() -> None:
    a = floats(noise(1, 3, 2, 4, 4))
    assert psnr(a, a) == math.inf
    assert math.isnan(psnr(a, -a, torch.zeros(1, 1, 2, 4, 4, dtype=torch.bool)))


def test_one_level_of_error_everywhere_is_48_13_db() -> None:
    a = noise(3, 4, 4).clip(0, 254)
    assert psnr(floats(a), floats(a + 1)) == pytest.approx(48.1308, abs=1e-3)


def test_a_reconstruction_is_judged_in_the_left_half_alone_and_inside_figures() -> None:
    clips = Walks(3)

    def darker_outside_figures(video: Tensor) -> Tensor:
        got = left(video).clone()
        wrong = got - 0.1
        wrong[..., 4:12, 6:10] = got[..., 4:12, 6:10] * 0.5
        return join(wrong, torch.zeros_like(right(video)))

    measured = reconstruction(darker_outside_figures, clips, SIZE, [2, 0])
    for row, number in enumerate((2, 0)):
        clip = clips.clip(number)
        truth = clip.frames / 127.5 - 1
        got = np.where(clip.figure[..., None], truth * 0.5, np.maximum(truth - 0.1, -1))
        error = (got - truth) ** 2
        assert measured.whole_db[row] == pytest.approx(10 * math.log10(4 / error.mean()), abs=1e-3)
        assert measured.figure_db[row] == pytest.approx(10 * math.log10(4 / error[clip.figure].mean()), abs=1e-3)
    assert "n 2" in str(measured)


def test_what_comes_back_unchanged_is_infinitely_near_whatever_the_augmentations_are() -> None:
    seen: list[Tensor] = []
    measured = reconstruction(lambda video: seen.append(video) or video, Walks(2), SIZE, [0, 1])  # type: ignore[func-returns-value]
    assert np.isinf(measured.figure_db).all()
    assert Augment().drop_driving > 0  # and yet no driving half is blank
    assert all(float(right(video)[:, :, 4:].std()) > 0.1 for video in seen)


def test_the_interval_is_the_one_of_the_normal_distribution_where_there_are_many() -> None:
    values = np.random.default_rng(3).normal(25.0, 2.0, 400)
    low, high = interval(values)
    assert low == pytest.approx(values.mean() - 1.96 * values.std() / 20, abs=0.03)
    assert high == pytest.approx(values.mean() + 1.96 * values.std() / 20, abs=0.03)
    assert interval(values) == (low, high)


def test_the_interval_leaves_out_clips_without_a_figure() -> None:
    values = np.array([20.0, math.nan, 20.0, math.inf])
    assert interval(values) == (20.0, 20.0)
    assert all(math.isnan(end) for end in interval(np.array([math.nan])))
    assert "20.00 dB inside figures" in str(Reconstruction(values[:3], values[:1]))
