"""The measures of the probe against clips and pictures whose answers are known."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from manifests.media import Clip, Picture, Pixels, Video, write_mp4
from stages.probe import (
    ProbeCharacter,
    ProbeCharacterConfig,
    ProbeSource,
    ProbeSourceConfig,
    extent,
    laplacian,
    lumas,
    majority,
)
from stages.stage import Reject, StageConfig
from tests.clips import figure, write_clip

SMALL = ProbeSourceConfig(min_size_px=48)
MEASURES_ONLY = ProbeSourceConfig(
    min_size_px=1, min_frames=1, min_motion=0, max_still_frames=1, min_brightness=0, max_brightness=1,
    min_sharpness=0, max_black_bars=1,
)  # fmt: skip


def scene(frames: int = 24, width: int = 128, height: int = 96, speed: int = 2, light: float = 1.0) -> Pixels:
    """A square of 24 px that goes `speed` px a frame before a sharp pattern."""
    cells = np.random.default_rng(5).integers(80, 176, (height // 4, width // 4, 1), np.uint8)
    back = np.repeat(np.kron(cells[..., 0], np.ones((4, 4), np.uint8))[..., None], 3, -1)
    out = np.repeat(back[None], frames, 0).astype(np.float64)
    for i in range(frames):
        left = (i * speed) % (width - 24)
        out[i, 30:54, left : left + 24] = 230
    return (out * light).astype(np.uint8)


def probe(tmp_path: Path, pixels: Pixels, config: ProbeSourceConfig = SMALL, fps: float = 30.0) -> Any:
    path = tmp_path / f"{len(list(tmp_path.iterdir()))}.mp4"
    write_mp4(Video(pixels, fps), path)
    return ProbeSource(config)([{"source": Clip(str(path), 0.0, fps, len(pixels))}])[0]


def test_a_clip_with_a_subject_that_moves_passes_with_all_its_measures(tmp_path: Path) -> None:
    row = probe(tmp_path, scene())

    assert tuple(row) == ProbeSource.makes
    assert all(type(value) is float for value in row.values())
    assert row["still_frames"] == 0
    assert row["black_bars"] == 0


@pytest.mark.parametrize(
    ("reason", "pixels"),
    [
        ("too_short", scene(16)),
        ("too_small", scene(width=40)),
        ("no_motion", np.repeat(scene(1, speed=0), 24, 0) + np.arange(24, dtype=np.uint8).reshape(-1, 1, 1, 1) // 2),
        ("frozen", np.repeat(scene(1), 24, 0)),
        ("too_dark", scene(light=0.08)),
        ("too_bright", 255 - scene(light=0.03)),
        ("blurred", np.stack([np.asarray(Image.fromarray(f).filter(ImageFilter.GaussianBlur(9))) for f in scene()])),
        ("black_bars", np.pad(scene(), ((0, 0), (60, 60), (0, 0), (0, 0)))),
        ("too_dark", np.zeros((24, 96, 128, 3), np.uint8)),
    ],
)
def test_what_is_obviously_unusable_is_rejected_with_its_reason_and_numbers(
    tmp_path: Path, reason: str, pixels: Pixels
) -> None:
    rejected = probe(tmp_path, pixels)

    assert isinstance(rejected, Reject)
    assert rejected.reason == reason
    assert sum(character.isdigit() for character in rejected.detail) >= 2
    assert "wanted" in rejected.detail


@pytest.mark.parametrize("speed", [1, 2, 4])
def test_motion_is_the_share_of_pixels_that_change_in_a_fifth_of_a_second(tmp_path: Path, speed: int) -> None:
    pixels = np.full((24, 96, 128, 3), 90, np.uint8)
    for i in range(24):
        pixels[i, 30:54, i * speed : i * speed + 24] = 200
    moved = min(24, 6 * speed)  # px in 6 frames: what is covered before it and laid bare behind it
    want = 2 * moved * 24 / (96 * 128)

    assert probe(tmp_path, pixels, MEASURES_ONLY)["motion"] == pytest.approx(want, rel=0.1)


def test_motion_does_not_depend_on_the_frame_rate(tmp_path: Path) -> None:
    slow = probe(tmp_path, scene(24, speed=2), MEASURES_ONLY, fps=30)["motion"]
    fast = probe(tmp_path, scene(48, speed=1), MEASURES_ONLY, fps=60)["motion"]

    assert fast == pytest.approx(slow, rel=0.1)


@pytest.mark.parametrize("repeats", [1, 2, 3])
def test_still_frames_are_the_share_of_repeats(tmp_path: Path, repeats: int) -> None:
    pixels = np.repeat(scene(24 // repeats, speed=4), repeats, 0)
    want = (24 - 24 // repeats) / 23

    assert probe(tmp_path, pixels, MEASURES_ONLY)["still_frames"] == pytest.approx(want, abs=1e-9)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(top=st.integers(0, 24), bottom=st.integers(0, 24), left=st.integers(0, 30), right=st.integers(0, 30))
def test_black_bars_are_the_share_of_the_picture_that_they_cover(
    tmp_path: Path, top: int, bottom: int, left: int, right: int
) -> None:
    pixels = scene(4)
    shut = np.zeros_like(pixels)
    shut[:, top : 96 - bottom, left : 128 - right] = pixels[:, top : 96 - bottom, left : 128 - right]
    want = 1 - (96 - top - bottom) * (128 - left - right) / (96 * 128)

    # coding may light the row beside an odd edge: one row and column on each side
    got = probe(tmp_path, shut, MEASURES_ONLY)["black_bars"]
    assert want - 2 * (1 / 96 + 1 / 128) <= got <= want + 1e-9


def test_a_dark_scene_has_no_black_bars_where_it_is_ever_lit(tmp_path: Path) -> None:
    pixels = np.zeros((8, 96, 128, 3), np.uint8)
    for i in range(8):
        pixels[i, 12 * i : 12 * i + 12] = 200  # each row is lit once

    assert probe(tmp_path, pixels, MEASURES_ONLY)["black_bars"] == 0


@pytest.mark.parametrize("level", [0, 60, 128, 255])
def test_brightness_is_the_mean_luma(tmp_path: Path, level: int) -> None:
    pixels = np.full((4, 96, 128, 3), level, np.uint8)

    assert probe(tmp_path, pixels, MEASURES_ONLY)["brightness"] == pytest.approx(level / 255, abs=0.01)


def test_luma_weighs_colours_as_bt601_does() -> None:
    for colour, want in (((255, 0, 0), 0.299), ((0, 255, 0), 0.587), ((0, 0, 255), 0.114)):
        (luma,) = lumas(np.full((1, 8, 8, 3), colour, np.uint8))
        assert luma.mean() == pytest.approx(want, abs=0.003)


def test_more_blur_is_less_sharpness(tmp_path: Path) -> None:
    def blurred(radius: float) -> Pixels:
        return np.stack(
            [np.asarray(Image.fromarray(each).filter(ImageFilter.GaussianBlur(radius))) for each in scene(4)]
        )

    values = [probe(tmp_path, blurred(radius), MEASURES_ONLY)["sharpness"] for radius in (0, 0.5, 1, 2, 4)]

    assert values == sorted(values, reverse=True)
    assert values[0] > 20 * values[-1]


def test_the_laplacian_of_a_parabola_is_constant_and_of_a_plane_nothing() -> None:
    y, x = np.mgrid[:9, :12].astype(np.float32)

    np.testing.assert_allclose(laplacian(3 * x * x + y * y), 8, atol=1e-4)  # 2 * 3 + 2 * 1
    np.testing.assert_allclose(laplacian(5 * x - 2 * y + 1), 0, atol=1e-4)


def test_large_clips_are_measured_at_a_fixed_size() -> None:
    for height, width in ((960, 540), (540, 960), (2160, 3840)):
        (luma,) = lumas(np.zeros((1, height, width, 3), np.uint8))
        assert max(luma.shape) == 320


def test_a_row_does_not_depend_on_its_neighbours(tmp_path: Path) -> None:
    rows = []
    for i, pixels in enumerate([scene(), scene(light=0.08), scene(speed=5), scene(16)]):
        write_mp4(Video(pixels, 30.0), tmp_path / f"{i}.mp4")
        rows.append({"source": Clip(str(tmp_path / f"{i}.mp4"), 0.0, 30.0, len(pixels))})
    stage = ProbeSource(SMALL)

    together = stage(rows)

    assert together == [stage([row])[0] for row in rows]
    assert together == ProbeSource(SMALL)(rows[::-1])[::-1]


def test_a_crop_is_measured_not_the_whole_picture(tmp_path: Path) -> None:
    write_clip(tmp_path / "a.mp4", np.pad(scene(), ((0, 0), (40, 40), (40, 40), (0, 0))))
    clip = Clip(str(tmp_path / "a.mp4"), 0.0, 30.0, 24, crop=(40, 40, 128, 96))

    (row,) = ProbeSource(SMALL)([{"source": clip}])

    assert isinstance(row, dict)
    assert row["black_bars"] < 0.05


@pytest.mark.parametrize("config", [ProbeSourceConfig, ProbeCharacterConfig])
def test_every_threshold_has_a_description_and_a_unit(config: type[ProbeSourceConfig]) -> None:
    own = {name: each for name, each in config.model_fields.items() if name not in StageConfig.model_fields}
    for name, each in own.items():
        assert each.description, name
        if name != "half_from":
            assert isinstance(each.json_schema_extra, dict), name
        assert isinstance(each.json_schema_extra, dict)
        assert each.json_schema_extra["unit"], name


# --- characters ---


def judge(tmp_path: Path, pixels: Pixels, domain: str | None = "human", **config: Any) -> Any:
    path = tmp_path / f"{len(list(tmp_path.iterdir()))}.png"
    Image.fromarray(pixels).save(path)
    stage = ProbeCharacter(ProbeCharacterConfig(**{"min_size_px": 64, **config}))
    return stage([{"character": Picture(str(path)), "domain": domain}])[0]


def with_alpha(pixels: Pixels, mask: np.ndarray[Any, Any]) -> Pixels:
    """The figure cut out of a wild background that must not matter."""
    wild = np.random.default_rng(1).integers(0, 255, pixels.shape, np.uint8)
    return np.dstack([np.where(mask[..., None], pixels, wild), np.where(mask, 255, 0).astype(np.uint8)])


FRAMINGS = {  # box of the whole figure: left, top, right, bottom as shares of the picture
    "full": (0.35, 0.05, 0.65, 0.95),
    "half": (0.25, 0.1, 0.75, 1.85),  # cut at the hips
    "portrait": (0.03, 0.15, 0.97, 2.9),  # cut at the chest
}


@pytest.mark.parametrize("cut_out", [True, False], ids=["cut out", "plain background"])
@pytest.mark.parametrize("framing", FRAMINGS)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shift=st.floats(-0.5, 0.5), grow=st.floats(0.93, 1.05), size=st.sampled_from([(192, 256), (384, 512), (240, 240)])
)
def test_a_person_is_found_measured_and_framed(
    tmp_path: Path, *, framing: str, cut_out: bool, shift: float, grow: float, size: tuple[int, int]
) -> None:
    left, top, right, bottom = FRAMINGS[framing]
    tall = (bottom - top) * grow * size[0] / size[1] * 256 / 192  # the figure keeps its proportions in a square
    if framing == "full":
        tall = min(tall, 0.93)
    moved = shift * min(left, 1 - right)  # it stays inside
    pixels, mask = figure(*size, box=(left + moved, top, right + moved, top + tall))

    row = judge(tmp_path, with_alpha(pixels, mask) if cut_out else pixels)

    assert row["framing"] == framing
    assert row["subject_present"] is True
    assert row["subject_share"] == pytest.approx(mask.mean(), abs=0.015)


def test_shoulders_that_reach_both_sides_are_a_portrait_if_cut_out_and_might_else_be_a_floor(tmp_path: Path) -> None:
    pixels, mask = figure(box=(-0.1, 0.1, 1.1, 4.0))

    assert judge(tmp_path, with_alpha(pixels, mask))["framing"] == "portrait"
    assert judge(tmp_path, pixels)["framing"] == "unknown"


@pytest.mark.parametrize("box", [(0.35, -0.1, 0.65, 0.9), (-0.1, 0.05, 0.2, 0.95), (0.25, -0.3, 0.75, 1.5)])
def test_a_person_cut_by_the_top_or_by_one_side_is_framed_unknown(
    tmp_path: Path, box: tuple[float, float, float, float]
) -> None:
    pixels, mask = figure(box=box)
    assert judge(tmp_path, with_alpha(pixels, mask))["framing"] == "unknown"


@pytest.mark.parametrize("domain", ["cartoon", "animal", "object", None])
def test_proportions_of_people_are_not_applied_to_others(tmp_path: Path, domain: str | None) -> None:
    cut, _ = figure(box=FRAMINGS["half"])
    whole, _ = figure()

    assert judge(tmp_path, cut, domain)["framing"] == "unknown"
    assert judge(tmp_path, whole, domain)["framing"] == "full"


def cluttered() -> Pixels:
    return np.random.default_rng(2).integers(0, 255, (256, 192, 3), np.uint8)


def gradient() -> Pixels:
    return np.repeat(np.linspace(0, 255, 192)[None, :, None], 256, 0).repeat(3, -1).astype(np.uint8)


def framed() -> Pixels:
    picture = np.full((256, 192, 3), 255, np.uint8)
    picture[20:-20, 20:-20] = cluttered()[20:-20, 20:-20] // 2
    return picture


def horizon() -> Pixels:
    picture = np.full((256, 192, 3), 230, np.uint8)
    picture[180:] = (40, 90, 40)
    return picture


@pytest.mark.parametrize("make", [cluttered, gradient, framed, horizon])
def test_what_is_no_figure_on_a_plain_background_is_unknown_not_guessed(tmp_path: Path, make: Any) -> None:
    row = judge(tmp_path, make())

    assert row == {"subject_present": None, "subject_share": None, "framing": "unknown"}


@pytest.mark.parametrize(
    ("pixels", "reason"),
    [
        (np.full((256, 192, 3), 215, np.uint8), "no_subject"),
        (np.zeros((256, 192, 4), np.uint8), "no_subject"),
        (figure(box=(0.45, 0.45, 0.52, 0.6))[0], "small_subject"),
        (figure(60, 60)[0], "too_small"),
    ],
)
def test_a_picture_without_a_subject_of_some_size_is_rejected(tmp_path: Path, pixels: Pixels, reason: str) -> None:
    rejected = judge(tmp_path, pixels)

    assert isinstance(rejected, Reject)
    assert rejected.reason == reason
    assert "wanted" in rejected.detail


def test_specks_and_noise_of_coding_are_no_subject(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pixels = (215 + rng.integers(-8, 8, (256, 192, 3))).astype(np.uint8)
    pixels[rng.random((256, 192)) < 0.02] = 0

    rejected = judge(tmp_path, pixels)

    assert isinstance(rejected, Reject)
    assert rejected.reason == "no_subject"


def test_a_domain_that_nobody_knows_is_rejected_with_those_that_are(tmp_path: Path) -> None:
    rejected = judge(tmp_path, figure()[0], "robot")

    assert rejected == Reject(
        "unknown_domain", "the domain is 'robot', wanted one of human, cartoon, animal, object, or none"
    )


def test_a_character_does_not_depend_on_its_neighbours(tmp_path: Path) -> None:
    rows = []
    for i, pixels in enumerate([figure()[0], cluttered(), figure(box=FRAMINGS["half"])[0]]):
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
        rows.append({"character": Picture(str(tmp_path / f"{i}.png")), "domain": "human"})
    stage = ProbeCharacter(ProbeCharacterConfig(min_size_px=64))

    assert stage(rows) == [stage([row])[0] for row in rows]


def test_majority_and_extent_by_hand() -> None:
    speck = np.zeros((5, 5), bool)
    speck[2, 2] = True
    assert not majority(speck).any()
    assert majority(~speck).all()
    assert extent(np.array([0, 1, 0, 1, 0], bool)) == 3
    assert extent(np.zeros(4, bool)) == 0
