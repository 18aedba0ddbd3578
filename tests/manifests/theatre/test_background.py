"""Backgrounds, the ground that is seen in them, and paint."""

import numpy as np
import pytest

from manifests.theatre import background as backgrounds
from manifests.theatre.background import KINDS, behind, place
from manifests.theatre.camera import Camera, aim
from manifests.theatre.furniture import furniture
from manifests.theatre.motion import Figure, Paint
from manifests.theatre.names import UnknownName
from manifests.theatre.paint import painted
from manifests.theatre.solids import box

BODY = np.random.default_rng(0).uniform(-1, 1, (5, 60, 3)) * [0.4, 0.9, 0.3] + [0, 0.9, 0]


def seen(name: str, camera: str = "full-004", size: int = 48) -> tuple[np.ndarray, np.ndarray | None, Camera]:
    aimed = aim(camera, BODY, 1.0)
    return *behind(name, place(aimed, BODY), aimed, size, size), aimed


@pytest.mark.parametrize("kind", KINDS)
def test_a_background_is_the_same_each_time_and_unlike_others(kind: str) -> None:
    backgrounds.room.cache_clear()
    first = seen(f"{kind}-007")[0]
    backgrounds.room.cache_clear()
    np.testing.assert_array_equal(first, seen(f"{kind}-007")[0])
    assert np.abs(first.astype(int) - seen(f"{kind}-008")[0]).mean() > 3


def test_held_out_backgrounds_are_none_of_those_for_training() -> None:
    train, held_out = (set(backgrounds.names(split)) for split in ("train", "held_out"))
    assert not train & held_out
    assert len(train) == 900 * len(KINDS)
    assert len(held_out) == 100 * len(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_a_background_looks_the_same_at_every_size(kind: str) -> None:
    small, large = (seen(f"{kind}-011", size=size)[0][0].astype(float) for size in (64, 128))
    halved = large.reshape(64, 2, 64, 2, 3).mean(axis=(1, 3))
    assert np.median(np.abs(small - halved)) < 3
    assert np.abs(small - halved).mean() < 12


def test_a_plain_background_is_one_colour_and_a_gradient_is_not() -> None:
    assert len(np.unique(seen("plain-003")[0].reshape(-1, 3), axis=0)) == 1
    assert len(np.unique(seen("gradient-003")[0].reshape(-1, 3), axis=0)) > 8


def test_clutter_has_many_colours() -> None:
    assert min(len(np.unique(seen(f"clutter-{i:03d}")[0].reshape(-1, 3), axis=0)) for i in range(8)) > 12


@pytest.mark.parametrize("kind", ["floor", "checker", "clutter"])
def test_the_ground_seen_by_a_pixel_is_projected_back_onto_that_pixel(kind: str) -> None:
    for name in ("full-004", "moving-003"):
        _, ground, camera = seen(f"{kind}-020", name)
        assert ground is not None
        t = len(ground) - 1
        rows, columns = np.nonzero(np.isfinite(ground[t, ..., 0]))
        assert len(rows) > 50
        at = ground[t, rows, columns]
        points = np.stack([at[:, 0], np.zeros(len(at)), at[:, 1]], axis=1)
        px, depth = camera.project(np.broadcast_to(points, (len(camera.focal), *points.shape)), 48, 48)
        assert (depth[t] > 0).all()
        np.testing.assert_allclose(px[t], np.stack([columns, rows], axis=1) + 0.5, atol=1e-3)


def test_a_still_camera_sees_one_picture_and_a_moving_one_a_wall_that_shifts() -> None:
    assert len(seen("clutter-005")[0]) == 1
    pictures = seen("clutter-005", "moving-002")[0]
    assert len(pictures) == len(BODY)
    assert np.abs(pictures[0].astype(int) - pictures[-1]).mean() > 3


@pytest.mark.parametrize("name", ["", "plain", "plain-12", "meadow-001"])
def test_a_wrong_name_is_one_sentence_that_says_what_there_is(name: str) -> None:
    with pytest.raises(UnknownName, match=r"^there is no background .*plain, gradient, floor, checker, clutter.*$"):
        backgrounds.room(name, 32)


def test_furniture_stands_behind_the_figures_and_before_the_wall() -> None:
    aimed = aim("full-004", BODY, 1.0)
    where, (aside, onward) = place(aimed, BODY), backgrounds._axes(aimed)
    farthest = aimed.view(BODY)[..., 2].max()
    for number in range(10):
        colours = backgrounds.room(f"clutter-{number:03d}", 48).furniture
        assert 3 <= len(colours) <= 8
        things = furniture(f"clutter-{number:03d}", colours, aimed, aside, onward, where.wall_m)
        away = (things.vertices - aimed.position[0]) @ onward
        assert farthest < away.min() < away.max() < where.wall_m
        assert things.vertices[:, 1].min() == 0


def test_a_wrong_split_is_one_sentence() -> None:
    with pytest.raises(UnknownName, match=r"^there is no split 'test': give train or held_out$"):
        backgrounds.names("test")


@pytest.mark.parametrize("pattern", ["plain", "stripes", "hoops", "dots", "checks"])
def test_a_pattern_alternates_its_two_colours_with_its_period(pattern: str) -> None:
    red, blue = (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)
    pole = box((0, 1, 0), (0.2, 2, 0.1))
    one = np.zeros(len(pole.faces), np.int32)
    figure = Figure("pole", "human", pole.vertices, pole.faces, one, (Paint(red, blue, pattern, 0.4),), 1.0, 2.0)
    front = [i for i, f in enumerate(pole.faces) if (pole.vertices[f, 2] > 0).all()]
    weights = np.random.default_rng(0).dirichlet((1, 1, 1), 4000).astype(np.float32)
    face = np.random.default_rng(1).choice(front, 4000)
    at = np.einsum("nc,ncx->nx", weights, pole.vertices[pole.faces[face]])
    is_blue = painted(figure, face, weights)[:, 2] == 1
    up, across = np.floor(at[:, 1] / 0.2) % 2 == 1, np.floor((at[:, 0] + at[:, 2]) / 0.2) % 2 == 1
    sharp = np.abs(at[:, 1] / 0.2 - np.round(at[:, 1] / 0.2)) > 0.01
    expected = {"plain": np.zeros(4000, bool), "hoops": up, "stripes": across, "checks": up ^ across}
    if pattern == "dots":
        assert 0.05 < is_blue.mean() < 0.6
    else:
        assert (is_blue == expected[pattern])[sharp].all()
