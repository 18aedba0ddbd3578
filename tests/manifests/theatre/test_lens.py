"""The lens, against the same Gaussian in floating point, sample by sample."""

import numpy as np
import pytest

from manifests.theatre.lens import LENS_PX, filtered


def samples_of(seed: int, samples: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (2, 6 * samples, 5 * samples, 3)).astype(np.uint8)


def by_the_formula(canvas: np.ndarray, samples: int) -> np.ndarray:
    """Weigh every sample of the picture (its edge goes on outside) by exp(-d^2 / 2 sigma^2), d in px."""
    far = 3 * samples
    wide = np.pad(canvas.astype(np.float64), ((0, 0), (far, far), (far, far), (0, 0)), mode="edge")
    at = (np.arange(wide.shape[1]) - far + 0.5) / samples, (np.arange(wide.shape[2]) - far + 0.5) / samples
    rows, columns = canvas.shape[1] // samples, canvas.shape[2] // samples
    made = np.zeros((len(canvas), rows, columns, 3))
    for row in range(rows):
        for column in range(columns):
            down = np.exp(-(((at[0] - row - 0.5) / LENS_PX) ** 2) / 2)
            across = np.exp(-(((at[1] - column - 0.5) / LENS_PX) ** 2) / 2)
            weights = np.outer(down / down.sum(), across / across.sum())
            made[:, row, column] = np.einsum("thwc,hw->tc", wide, weights)
    return made


@pytest.mark.parametrize("samples", [1, 2, 3, 4])
def test_a_pixel_is_the_gaussian_mean_of_its_samples(samples: int) -> None:
    canvas = samples_of(samples, samples)
    # the weights end at three deviations and are whole 1024ths
    assert np.abs(filtered(canvas, samples) - by_the_formula(canvas, samples)).max() < 4.0


@pytest.mark.parametrize("samples", [1, 2, 3, 4])
@pytest.mark.parametrize("value", [0, 1, 128, 255])
def test_one_colour_stays_that_colour_to_its_edge(samples: int, value: int) -> None:
    assert (filtered(np.full((1, 4 * samples, 4 * samples, 3), value, np.uint8), samples) == value).all()


def test_a_mirrored_picture_gives_the_mirrored_pixels() -> None:
    canvas = samples_of(0, 2)
    assert (filtered(canvas[:, :, ::-1], 2) == filtered(canvas, 2)[:, :, ::-1]).all()
    assert (filtered(canvas[:, ::-1], 2) == filtered(canvas, 2)[:, ::-1]).all()
