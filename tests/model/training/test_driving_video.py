"""How the driving video is varied: what changes, by how much, and what must stay."""

import colorsys

import numpy as np
import pytest

from model.framing import framing_of
from model.training.driving_video import DrivingAugment, DrivingAugmentError, Variation, colour_matrix, drawn


def clip(height: int = 48, width: int = 64, frames: int = 3) -> np.ndarray:
    """Return a column and a row of light that move over a gradient."""
    rows, columns = np.mgrid[:height, :width]
    still = np.stack([rows * 3, columns * 3, 255 - rows - columns], axis=-1) % 256
    made = np.repeat(still[None], frames, axis=0).astype(np.uint8)
    for i in range(frames):
        made[i, :, 10 * i : 10 * i + 4] = 250
    return made


def applied(matrix: tuple[float, ...], colour: tuple[float, float, float]) -> np.ndarray:
    return np.reshape(matrix, (3, 4)) @ (*colour, 1.0)


def test_nothing_drawn_is_the_project_s_own_framing() -> None:
    frames = clip()
    framing = framing_of(frames[0], 32, 32)
    assert np.array_equal(Variation().framed(frames, 32, 32), np.stack([framing.fitted(f) for f in frames]))


def test_a_crop_shows_the_part_that_it_names_in_every_frame() -> None:
    frames = clip(40, 40)
    cropped = Variation(box=(0.25, 0.5, 0.75, 1.0)).framed(frames, 20, 20)
    assert np.array_equal(cropped, frames[:, 20:, 10:30])


@pytest.mark.parametrize(("stretch", "width", "height"), [(4.0, 64, 16), (0.25, 16, 64), (1.0, 64, 64)])
def test_a_stretch_is_a_factor_between_the_sides(stretch: float, width: int, height: int) -> None:
    frames = np.zeros((1, 32, 32, 3), np.uint8)
    frames[0, 8:24, 8:24] = 255  # a square in the middle, half as wide and high as the picture
    shown = Variation(stretch=stretch).framed(frames, 64, 64)[0, :, :, 0] > 127
    rows, columns = np.flatnonzero(shown.any(axis=1)), np.flatnonzero(shown.any(axis=0))
    assert (len(columns), len(rows)) == (width // 2, height // 2)


def test_colours_change_as_a_second_library_says() -> None:
    identity = colour_matrix(1, 1, 1, 0)
    assert np.allclose(np.reshape(identity, (3, 4)), np.eye(3, 4), atol=1e-12)
    assert np.allclose(applied(colour_matrix(1.5, 1, 1, 0), (40, 60, 80)), (60, 90, 120))
    assert np.allclose(applied(colour_matrix(1, 2, 1, 0), (127.5, 100, 150)), (127.5, 72.5, 172.5))
    grey = applied(colour_matrix(1, 1, 0, 0), (200, 10, 50))
    assert np.allclose(grey, 0.299 * 200 + 0.587 * 10 + 0.114 * 50)
    assert np.allclose(applied(colour_matrix(1, 1, 1, 120), (200, 10, 50)), (50, 200, 10))  # a third of the way round
    for degrees in (-30, 20):
        turned = applied(colour_matrix(1, 1, 1, degrees), (160, 100, 100))
        hue = colorsys.rgb_to_hsv(*(turned / 255))[0] * 360
        assert (hue - degrees + 180) % 360 - 180 == pytest.approx(0, abs=4)
        assert np.allclose(applied(colour_matrix(1, 1, 0.3, degrees), (90, 90, 90)), 90)  # greys stay


def test_draws_stay_within_their_limits_and_reach_them() -> None:
    augment = DrivingAugment(share=1.0, crop=0.2, stretch=1.3)
    many = [drawn(augment, np.random.default_rng(seed)) for seed in range(500)]
    boxes = np.array([each.box for each in many])
    sizes = boxes[:, 2:] - boxes[:, :2]
    assert boxes.min() >= 0
    assert boxes.max() <= 1
    assert 0.8 <= sizes.min() < 0.81
    assert 0.99 < sizes.max() <= 1
    stretches = np.array([each.stretch for each in many])
    assert 1 / 1.3 <= stretches.min() < 0.78
    assert 1.29 < stretches.max() <= 1.3
    assert abs(np.log(stretches).mean()) < 0.02


def test_a_share_is_left_as_it_is_and_draws_are_always_as_many() -> None:
    some, all_ = DrivingAugment(share=0.4), DrivingAugment(share=1.0)
    varied = 0
    for seed in range(500):
        one, other = np.random.default_rng(seed), np.random.default_rng(seed)
        first, second = drawn(some, one), drawn(all_, other)
        assert first in (Variation(), second)
        varied += first == second
        assert one.random() == other.random()
    assert abs(varied / 500 - 0.4) < 0.06


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("share", 1.5),
        ("crop", 0.9),
        ("crop", -0.1),
        ("stretch", 0.5),
        ("hue_deg", 200),
        ("saturation", 2),
        ("contrast", -1),
    ],
)
def test_what_leaves_nothing_of_a_video_is_refused_by_name(field: str, value: float) -> None:
    with pytest.raises(DrivingAugmentError, match=rf"^data.driving.{field}: is {value}; it must be"):
        DrivingAugment(**{field: value})
