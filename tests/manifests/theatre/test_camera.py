import numpy as np
import pytest
from numpy.typing import NDArray

from manifests.theatre.camera import FRAMINGS, Camera, aim, framed, yaw_of
from manifests.theatre.figures import figure
from manifests.theatre.names import UnknownName

Floats = NDArray[np.float64]

ASPECTS = (1.0, 0.5, 2.0)


def somebody(frames: int = 9, walks_m: float = 0.0, seed: int = 0) -> Floats:
    """Return points `[T, N, 3]` in a box as high and wide as a person, who walks along x."""
    rng = np.random.default_rng(seed)
    at = rng.uniform((-0.5, 0, -0.25), (0.5, 1.75, 0.25), (frames, 40, 3))
    at[..., 0] += np.linspace(-walks_m / 2, walks_m / 2, frames)[:, None]
    return at


def spans(camera: Camera, points: Floats, aspect: float) -> Floats:
    """Return `[2, 2]`, the least and the greatest place, in widths and heights of the picture."""
    px, depth = camera.project(points, 1000, round(1000 * aspect))
    assert (depth > 0).all()
    at = px.reshape(-1, 2) / (1000 * aspect, 1000)
    return np.array([at.min(axis=0), at.max(axis=0)], np.float64)


def test_points_fall_where_opencv_projects_them() -> None:
    cv2 = pytest.importorskip("cv2", reason="OpenCV comes with the extra `mediapipe`")
    points = somebody()
    for name in ("full-003", "moving-010", "portrait-500"):
        camera = aim(name, points, 0.75)
        ours, depth = camera.project(points, 320, 240)
        for t in range(len(points)):
            focal = camera.focal[t] * 320
            inner = np.array([(focal, 0, 120), (0, focal, 160), (0, 0, 1)])
            turn, _ = cv2.Rodrigues(camera.rotation[t])
            shift = -camera.rotation[t] @ camera.position[t]
            theirs, _ = cv2.projectPoints(points[t], turn, shift, inner, None)
            np.testing.assert_allclose(ours[t], theirs[:, 0], atol=1e-3)
            np.testing.assert_allclose(depth[t], (points[t] @ camera.rotation[t].T + shift)[:, 2], atol=1e-5)


@pytest.mark.parametrize("kind", FRAMINGS)
def test_a_camera_turns_without_mirroring_and_keeps_upright(kind: str) -> None:
    for number in range(0, 1000, 83):
        camera = aim(f"{kind}-{number:03d}", somebody(), 1.0)
        np.testing.assert_allclose(
            camera.rotation @ camera.rotation.transpose(0, 2, 1), np.broadcast_to(np.eye(3), (9, 3, 3)), atol=1e-12
        )
        np.testing.assert_allclose(np.linalg.det(camera.rotation), 1, atol=1e-12)
        assert (camera.rotation[:, 1, 1] < -0.9).all(), "up in the world is up in the picture"
        assert (camera.position[:, 1] > 0).all(), "a camera does not stand under the ground"


@pytest.mark.parametrize("kind", FRAMINGS)
@pytest.mark.parametrize("aspect", ASPECTS)
def test_what_is_framed_stays_in_the_picture_and_fills_it(kind: str, aspect: float) -> None:
    for number in range(0, 1000, 61):
        points = somebody(walks_m=(0.0, 0.4, 3.0)[number % 3], seed=number)
        low, high = spans(aim(f"{kind}-{number:03d}", points, aspect), points, aspect)
        assert (low >= 0).all(), (number, low)
        assert (high <= 1).all(), (number, high)
        fill = float((high - low).max())
        assert fill <= 0.98 + 1e-6
        # one that pans or zooms leaves room for where it will look
        assert fill >= (0.5 if kind == "moving" else 0.84), (number, fill)


def test_the_same_name_frames_a_child_and_a_giant_alike() -> None:
    points = somebody()
    child, giant = (spans(aim("full-012", points * size, 1.0), points * size, 1.0) for size in (0.6, 2.4))
    np.testing.assert_allclose(child, giant, atol=1e-5)


def test_a_camera_stands_on_the_side_that_its_name_says() -> None:
    widest = {"frontal": 15.0, "half": 80.0, "portrait": 50.0, "full": 180.0}
    for kind, most in widest.items():
        yaws = np.degrees([yaw_of(f"{kind}-{number:03d}") for number in range(300)])
        assert np.abs(yaws).max() <= most
        assert yaws.min() < -0.9 * most
        assert yaws.max() > 0.9 * most
    camera = aim("full-003", somebody(), 1.0)
    yaw = yaw_of("full-003")
    towards = camera.rotation[0][2] * (1, 0, 1)
    np.testing.assert_allclose(
        towards / np.linalg.norm(towards), (-np.sin(yaw), 0, -np.cos(yaw)), atol=0.12, err_msg="roll tilts it a little"
    )


def test_only_a_moving_camera_moves_unless_the_figure_walks_away() -> None:
    moved = {}
    for kind in FRAMINGS:
        for walks_m in (0.0, 4.0):
            camera = aim(f"{kind}-020", somebody(walks_m=walks_m, frames=17), 1.0)
            moved[kind, walks_m] = max(
                float(np.ptp(part, axis=0).max()) for part in (camera.rotation, camera.position, camera.focal)
            )
    assert all((moved[kind, 0.0] > 0.01) == (kind == "moving") for kind in FRAMINGS), moved
    assert all(moved[kind, 4.0] > 1 for kind in FRAMINGS), moved


def test_half_and_portrait_frame_the_upper_body_and_the_others_all_of_it() -> None:
    made = figure("human-010")
    for kind in ("frontal", "full"):
        assert framed(f"{kind}-000", made).all()
    half, portrait = framed("half-000", made), framed("portrait-000", made)
    assert made.vertices[half, 1].min() >= 0.5 * made.height_m
    assert made.vertices[portrait, 1].min() >= 0.68 * made.height_m
    assert portrait.any()
    assert not (portrait & ~half).any()
    assert {bool(framed(f"moving-{number:03d}", made).all()) for number in range(20)} == {True, False}


def test_the_same_name_is_the_same_camera_and_other_names_are_others() -> None:
    points = somebody()
    first, again = aim("moving-007", points, 1.0), aim("moving-007", points, 1.0)
    for field in ("rotation", "position", "focal"):
        assert getattr(first, field).tobytes() == getattr(again, field).tobytes()
    seen = {aim(f"full-{number:03d}", points, 1.0).position.tobytes() for number in range(40)}
    assert len(seen) == 40


def test_one_frame_is_enough() -> None:
    points = somebody(frames=1)
    for kind in FRAMINGS:
        low, high = spans(aim(f"{kind}-001", points, 1.0), points, 1.0)
        assert (low >= 0).all()
        assert (high <= 1).all()


@pytest.mark.parametrize("name", ["drone-001", "full", "full-1", "full-1000", "full-012 ", "FULL-012", ""])
def test_an_unknown_camera_is_refused_with_a_sentence_that_says_which_there_are(name: str) -> None:
    with pytest.raises(UnknownName, match=r"^there is no camera .*frontal, full, half.*000 to 999, for example"):
        aim(name, somebody(), 1.0)
