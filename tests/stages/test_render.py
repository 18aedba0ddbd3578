"""The stage that renders pairs: length, rate, framing and motion against a teacher that loses nothing, and a real Wan.

`tests.model.lossless` always arrives at the driving video, so what comes out is known to the last bit.
"""

import json
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from manifests.errors import UserError
from manifests.media import Clip, Picture, Video, write_mp4
from manifests.theatre import cast, scene
from model import loading
from model.framing import framing_of
from model.geometry import Geometry
from model.placement import laid_on
from model.sampler import SamplerError
from model.skeleton import frames_of
from model.training.examples import driving_frames
from stages.render import Render, RenderConfig, RenderError, seed_of
from stages.stage import Reject, Row
from tests.model.small import tiny
from tests.pipeline.test_animate import picture, walker

LOSSLESS = {"teacher": "tests.model.lossless:Lossless", "weights": "none", "steps": 2}


def row(tmp_path: Path, number: int = 1, frames: int = 12, fps: float = 12.0, people: int = 1, **fields: object) -> Row:
    colour = (40 + 50 * number % 200, 120, 200 - 30 * number % 200)
    character = Picture(str(picture(tmp_path / f"{number}.png", colour=colour)))
    source = Clip("not read.mp4", 0.0, fps, frames, None)
    given: Row = {
        "source": source,
        "character": character,
        "skeleton": walker(frames, people),
        "prompt": "a toy, waving",
    }
    return given | {"key": f"{number:032x}"[::-1]} | fields


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("weights") / "model"
    tiny().save(folder)
    return str(folder)


@pytest.mark.parametrize(("frames", "fps"), [(12, 12.0), (50, 25.0), (40, 10.0)])
def test_a_pseudo_video_has_the_frames_and_the_rate_of_its_source_and_its_motion(
    tmp_path: Path, frames: int, fps: float
):
    given = row(tmp_path, frames=frames, fps=fps)
    (made,) = Render(RenderConfig(**LOSSLESS))([given])
    video = made["pseudo"]
    assert (len(video.frames), video.fps) == (frames, fps)
    at = [min(int(i / 12 * fps + 1e-6), frames - 1) for i in range(-(-frames * 12 // int(fps)))]
    geometry = Geometry(24, 24, 21, 4, 12, spatial_stride=1, patch=(1, 1, 1))
    driving = driving_frames(given["skeleton"][at], geometry)
    wanted = driving[[int(j / fps * 12 + 1e-6) for j in range(frames)]]
    np.testing.assert_array_equal(video.frames, wanted)


def test_rows_drawn_together_are_what_each_is_alone(tmp_path: Path, small: str) -> None:
    stage = Render(RenderConfig(weights=small, steps=2))
    rows = [row(tmp_path, n, frames) for n, frames in ((1, 5), (2, 5), (3, 8), (4, 5))]
    together = stage(rows)
    for given, made in zip(rows, together, strict=True):
        (alone,) = stage([given])
        assert np.abs(alone["pseudo"].frames.astype(int) - made["pseudo"].frames).max() <= 1  # of 255 levels
        assert made["seed"] == seed_of(given["key"])
    assert not np.array_equal(together[0]["pseudo"].frames, together[1]["pseudo"].frames)


def test_the_seed_follows_from_the_key_alone(tmp_path: Path, small: str) -> None:
    stage = Render(RenderConfig(weights=small, steps=2))
    (first,), (again,) = (stage([row(tmp_path, frames=5)]) for _ in range(2))
    (other,) = stage([row(tmp_path, frames=5, key="f" * 32)])
    assert np.array_equal(first["pseudo"].frames, again["pseudo"].frames)
    assert not np.array_equal(first["pseudo"].frames, other["pseudo"].frames)


def test_the_file_says_that_it_is_synthetic_and_how_it_was_made(tmp_path: Path) -> None:
    given = row(tmp_path)
    (made,) = Render(RenderConfig(**LOSSLESS))([given])
    write_mp4(made["pseudo"], tmp_path / "pseudo.mp4")
    with av.open(str(tmp_path / "pseudo.mp4")) as file:
        said = json.loads(file.metadata["comment"])
    assert said["synthetic"] is True
    assert said["key"] == given["key"]
    assert said["seed"] == made["seed"] == int(given["key"][:13], 16)


def test_a_picture_that_lies_on_its_side_stays_so(tmp_path: Path) -> None:
    character = Picture(str(picture(tmp_path / "wide.png", 48, 24)))
    (made,) = Render(RenderConfig(**LOSSLESS))([row(tmp_path, character=character)])
    assert made["pseudo"].frames.shape[1:3] == (12, 24)


def test_only_as_many_people_drive_as_the_config_says(tmp_path: Path) -> None:
    one, two = (Render(RenderConfig(**LOSSLESS, people=n))([row(tmp_path, people=2)])[0] for n in (1, 2))
    assert (two["pseudo"].frames > 0).sum() != (one["pseudo"].frames > 0).sum()


def test_who_has_nobody_to_follow_is_rejected_and_its_neighbours_are_drawn(tmp_path: Path) -> None:
    empty = np.zeros((12, 0, 133, 3), np.float32)
    unseen = np.zeros((12, 1, 133, 3), np.float32)
    short = row(tmp_path, 3, frames=1, fps=24.0)
    rows = [row(tmp_path), row(tmp_path, skeleton=empty), row(tmp_path, skeleton=unseen), short]
    first, second, third, fourth = Render(RenderConfig(**LOSSLESS))(rows)
    assert isinstance(first["pseudo"], Video)
    assert [each.reason for each in (second, third, fourth) if isinstance(each, Reject)] == [
        "no_person", "no_person", "too_short"
    ]  # fmt: skip


def test_a_teacher_whose_weights_are_no_numbers_is_named(tmp_path: Path, small: str) -> None:
    stage = Render(RenderConfig(weights=small, steps=2))
    with torch.no_grad():
        next(stage.teacher.transformer.parameters()).fill_(float("nan"))
    with pytest.raises(SamplerError, match="NaN or infinity"):
        stage([row(tmp_path, frames=5)])


def test_a_video_of_one_colour_is_no_result(tmp_path: Path) -> None:
    stage = Render(RenderConfig(**LOSSLESS))
    blind = stage.teacher
    blind.decode = lambda latents: torch.full((len(latents), 3, 21, 24, 48), -1.0)  # type: ignore[method-assign]
    with pytest.raises(RenderError, match="have one colour, 0 of 255"):
        stage([row(tmp_path)])


@pytest.mark.parametrize(
    ("decoded", "said"),
    [
        (
            torch.full((1, 3, 21, 24, 48), float("nan")),
            "the decoded video has NaN or infinity in 36288 of 36288 elements",
        ),
        (torch.zeros(1, 3, 21, 12, 24), "made frames of 12 x 12 px where the reference has 24 x 24"),
    ],
)
def test_a_decoder_that_gives_no_numbers_or_another_size_is_named(tmp_path: Path, decoded: torch.Tensor, said: str):
    stage = Render(RenderConfig(**LOSSLESS))
    stage.teacher.decode = lambda latents: decoded  # type: ignore[method-assign]
    with pytest.raises(SamplerError, match=said):
        stage([row(tmp_path)])


def test_missing_weights_are_said_before_anything_is_planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "SHIPPED", tmp_path / "none")
    with pytest.raises(UserError, match="no weights ship with this version"):
        Render.digests(RenderConfig())
    with pytest.raises(UserError, match="no folder of weights at"):
        Render.digests(RenderConfig(weights=str(tmp_path / "gone")))


def test_other_weights_are_another_recipe_and_another_place_is_not(tmp_path: Path, small: str) -> None:
    same, other = tmp_path / "same", tmp_path / "other"
    tiny().save(same)
    tiny(seed=1).save(other)
    found = [Render.digests(RenderConfig(weights=str(place)))["teacher"] for place in (small, same, other)]
    assert found[0] == found[1] != found[2]


def test_a_teacher_that_aligns_is_given_the_skeleton_on_the_figure_of_the_picture_and_fitted_where_there_is_none(
    tmp_path: Path,
):
    take = replace(cast.draw(3, 1, "train", "easy"), lead_in=None)
    seen = scene.render(take, 1, 12.0, 256, 192)
    Image.fromarray(seen.frames[0]).save(tmp_path / "figure.png")
    pictures = {"figure": Picture(str(tmp_path / "figure.png")), "none": row(tmp_path)["character"]}
    made = Render(RenderConfig(**LOSSLESS | {"teacher": "tests.model.lossless:Aligned"}))
    shown = {}
    for name, picture_ in pictures.items():
        (drawn,) = made([row(tmp_path) | {"character": picture_}])
        shown[name] = drawn["pseudo"].frames
    skeleton, size = walker(12, 1), Geometry(48, 48, 21, 4, 12, spatial_stride=1, patch=(1, 1, 1))
    np.testing.assert_array_equal(
        shown["none"], framing_of(pictures["none"].rgb(), 48, 48).cut(driving_frames(skeleton, size))
    )
    truth = framing_of(seen.frames[0], 48, 48).points(seen.skeleton[0, :1], 256, 192)
    wanted = framing_of(seen.frames[0], 48, 48).cut(frames_of(laid_on(skeleton, truth), 48, 48))
    apart = [
        np.abs(_middle(ours) - _middle(theirs)).max() for ours, theirs in zip(shown["figure"], wanted, strict=True)
    ]
    assert max(apart) < 4  # px: MediaPipe's shoulders and hips are not theatre's to the pixel


def _middle(frame):
    rows, columns = np.nonzero(frame.any(axis=2))
    return np.array([rows.min() + rows.max(), columns.min() + columns.max()]) / 2
