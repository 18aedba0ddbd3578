"""Where the driving skeleton stands: fitted into its half, or on the figure of the reference."""

import numpy as np
import pytest

from model.bones import normalise
from model.geometry import Geometry
from model.placement import laid_on, nudged, placed
from model.skeleton import POINTS

FITTED = Geometry(64, 64, 21, 4, 12)
ALIGNED = Geometry(64, 64, 21, 4, 12, placement="aligned")
STANDING = {0: (50, 20), 5: (60, 40), 6: (40, 40), 7: (66, 60), 8: (34, 60), 11: (56, 80), 12: (44, 80), 15: (56, 140)}


def walker(frames: int = 5, scale: float = 1.0, at: tuple[float, float] = (0.0, 0.0), people: int = 1) -> np.ndarray:
    """Somebody who goes 3 px to the right in each frame; a second one stands 70 px beside."""
    out = np.zeros((frames, people, POINTS, 3), np.float32)
    for person in range(people):
        for point, (x, y) in STANDING.items():
            out[:, person, point] = [(x + 70 * person + 3 * t, y, 0.9) for t in range(frames)]
    out[..., :2] = np.where(out[..., 2:] > 0, out[..., :2] * scale + np.array(at), 0)
    return out


def standing(frames: int = 5) -> np.ndarray:
    """Somebody who stands still."""
    return np.repeat(walker(1), frames, axis=0)


def test_a_bow_in_the_first_frame_does_not_move_the_rest():
    clip, bowed = standing(), standing()
    bowed[0, 0, [0, 5, 6], 1] += 40
    straight, after = (laid_on(each, standing(1)[0]) for each in (clip, bowed))
    assert straight is not None
    assert after is not None
    np.testing.assert_allclose(after[1:], straight[1:], atol=1e-4)


def test_a_skeleton_is_laid_on_the_figure_of_another_size_and_place_and_moves_on_from_there():
    clip, reference = walker(), walker(1, scale=0.5, at=(7, 3))[0]
    moved = laid_on(clip, reference)
    assert moved is not None
    np.testing.assert_allclose(moved[2], reference, atol=1e-4)  # the middle of the first frames
    np.testing.assert_allclose(moved[4, 0, 5, :2] - moved[0, 0, 5, :2], (4 * 3 * 0.5, 0), atol=1e-4)


def test_two_people_keep_their_distance():
    clip = walker(people=2)
    moved = laid_on(clip, walker(1, scale=2.0, people=2)[0])
    assert moved is not None
    np.testing.assert_allclose(moved[:, 1, 5, :2] - moved[:, 0, 5, :2], np.broadcast_to((140, 0), (5, 2)), atol=1e-3)


@pytest.mark.parametrize(("hidden", "by"), [((), "trunk"), ((11, 12), "shoulders")])
def test_the_size_is_told_by_what_both_show(hidden: tuple[int, ...], by: str):
    clip, reference = walker(), walker(1, scale=0.5)[0].copy()
    reference[:, list(hidden)] = 0
    moved = laid_on(clip, reference)
    assert moved is not None, by
    assert np.linalg.norm(moved[0, 0, 5, :2] - moved[0, 0, 6, :2]) == pytest.approx(10)


def test_who_comes_late_is_laid_on_when_first_seen():
    clip = walker()
    clip[0] = 0
    moved = laid_on(clip, walker(1)[0])
    assert moved is not None
    np.testing.assert_allclose(moved[2, 0, 5, :2] + moved[3, 0, 5, :2], (120, 80), atol=1e-4)  # seen in frames 1 to 4
    assert not moved[0].any()


@pytest.mark.parametrize("gone", [(5,), (6,), tuple(range(17))])
def test_without_shoulders_in_the_reference_the_skeleton_is_fitted(gone: tuple[int, ...]):
    reference = walker(1)[0].copy()
    reference[:, list(gone)] = 0
    assert laid_on(walker(), reference) is None
    np.testing.assert_array_equal(placed(walker(), ALIGNED, reference), normalise(walker(), 64, 64))
    np.testing.assert_array_equal(placed(walker(), ALIGNED), normalise(walker(), 64, 64))


def test_a_fitted_base_pays_the_reference_no_heed():
    np.testing.assert_array_equal(placed(walker(), FITTED, walker(1)[0]), normalise(walker(), 64, 64))


def test_a_nudge_scales_about_the_middle_and_shifts():
    given = walker()
    moved = nudged(given, 1.1, (2.0, -1.0), (100, 80))
    seen = given[..., 2] > 0
    wanted = (given[..., :2] - (50, 40)) * 1.1 + (52, 39)
    np.testing.assert_allclose(moved[..., :2][seen], wanted[seen], atol=1e-4)
    assert not moved[~seen].any()
