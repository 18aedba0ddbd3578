"""`animate` as a user types it.

What comes out is compared to the frame with a base that gives back what drives it (tests.model.lossless): every loss
on the way, of time, framing or order, shows. A small Wan with random weights stands for the real ones.
"""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from click.testing import CliRunner, Result
from numpy.typing import NDArray
from PIL import Image

from manifests.media import Picture, Video, read_mp4, write_mp4
from manifests.theatre import cast
from manifests.theatre.scene import render
from model import loading
from model.bones import normalise
from model.framing import framing_of
from model.geometry import Geometry
from model.skeleton import BODY, POINTS, Pixels, Points
from model.training.examples import driving_frames
from pipeline.__main__ import main
from pipeline.animate_order import Order
from pipeline.animating import geometry_of
from pipeline.driving_motion import facts_of, motion_of_clip, skeleton_config
from stages.reference_figures import ReferenceFigures
from stages.skeleton import SkeletonConfig
from stages.tracking import Box
from tests.clips import stamped, write_clip
from tests.faults.test_disk_full import needs_mount
from tests.model.lossless import SPEC, Lossless
from tests.model.small import SETTINGS, tiny
from tests.stages.test_skeleton import points_of

LOSSLESS = ("--backbone", "tests.model.lossless:Lossless", "--weights", "none")
SIDE, FPS = 24, 12  # of that base
RED, BLUE = (210, 30, 30), (30, 30, 210)


def call(*arguments: object, code: int = 0) -> Result:
    result = CliRunner().invoke(main, ["animate", *map(str, arguments)])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.stderr
    return result


def refused(folder: Path, *arguments: object, code: int = 2) -> str:
    """Return the one sentence with which a call ends; nothing has been written."""
    before = sorted(folder.iterdir())
    said = call(folder / "out.mp4", "--quiet", *arguments, code=code).stderr.strip()
    assert sorted(folder.iterdir()) == before
    assert said.startswith("bodydouble: ")
    assert "\n" not in said
    return said.removeprefix("bodydouble: ")


def picture(path: Path, width: int = 24, height: int = 24, colour: tuple[int, int, int] = (90, 120, 60)) -> Path:
    Image.new("RGB", (width, height), colour).save(path)
    return path


def walker(frames: int, people: int = 1) -> Points:
    """Return people who walk to the right and swing an arm, px of a picture of 640 x 480: no two frames are alike."""
    skeleton = np.zeros((frames, people, POINTS, 3), np.float32)
    for person in range(people):
        for i in range(frames):
            box = np.array([40 + 250 * person + 2 * i, 100, 130 + 250 * person + 2 * i, 400], np.float32)
            skeleton[i, person] = points_of(box)
            skeleton[i, person, [7, 9], 1] -= 30 + 30 * np.sin(i / 3)
    return skeleton


def saved(path: Path, skeleton: Points) -> Path:
    np.save(path, skeleton)
    return path


def stored(path: Path, frames: Pixels, fps: float) -> Pixels:
    """Return frames as they come back from a file: H.264 loses the same each time."""
    write_mp4(Video(frames, fps), path)
    return read_mp4(path).frames


def drawn(skeleton: Points, own_fps: float, width: int = SIDE, height: int = SIDE) -> Pixels:
    """Return the driving video of a skeleton, at the base's rate: frame i shows it as it is at i / 12 s."""
    own = Fraction(own_fps).limit_denominator(1001)
    instants = range(-(-len(skeleton) * FPS * own.denominator // own.numerator))
    at = [int(Fraction(i, FPS) * own) for i in instants]
    geometry = Geometry(height, width, 21, 4, FPS, spatial_stride=1, patch=(1, 1, 1))
    return driving_frames(skeleton[at], geometry)


def shown(driving: Pixels, frames: int, fps: int) -> Pixels:
    """Return the driving frame that is on screen at each frame of the result."""
    return driving[[int(Fraction(j, fps) * FPS) for j in range(frames)]]


@pytest.mark.parametrize(("frames", "fps", "width", "height"), [(60, 25, 32, 32), (30, 30, 64, 32), (9, 12, 32, 64)])
def test_a_raw_clip_drives_whole_and_frame_for_frame(
    tmp_path: Path, frames: int, fps: int, width: int, height: int
) -> None:
    film = write_clip(tmp_path / "clip.mp4", stamped(frames, width, height), fps=fps)
    call(
        tmp_path / "out.mp4", "--reference", picture(tmp_path / "a.png"), "--driving", film, "--rgb", "--steps", 2,
        "--sheet", tmp_path / "out.png", *LOSSLESS,
    )  # fmt: skip
    made = read_mp4(tmp_path / "out.mp4")
    assert (len(made.frames), made.fps) == (frames, fps)
    framing, seen = framing_of(np.zeros((height, width, 3), np.uint8), SIDE, SIDE), read_mp4(film).frames
    at = [int(Fraction(i, FPS) * fps) for i in range(-(-frames * FPS // fps))]
    wanted = shown(np.stack([framing.fitted(seen[i]) for i in at]), frames, fps)
    np.testing.assert_array_equal(made.frames, stored(tmp_path / "truth.mp4", wanted, fps))
    assert len(np.unique(wanted.reshape(frames, -1), axis=0)) > frames // 6
    comment = json.loads(av.open(str(tmp_path / "out.mp4")).metadata["comment"])
    assert (comment["driven_by"], comment["people"]) == ("video", None)


@pytest.mark.parametrize("more", [("--people", 2), ("--figures", 1), ("--skeleton-file", "pose.npy")])
def test_a_raw_clip_follows_nobody_in_particular(tmp_path: Path, more: tuple[object, ...]) -> None:
    film = write_clip(tmp_path / "clip.mp4", stamped(9, 32, 32), fps=12)
    said = refused(
        tmp_path, "--reference", picture(tmp_path / "a.png"), "--driving", film, "--rgb", *more, *LOSSLESS
    )  # fmt: skip
    assert said.startswith("--rgb lets the clip itself drive")
    assert "name a clip by --driving" in refused(tmp_path, "--reference", tmp_path / "a.png", "--rgb", *LOSSLESS)


@pytest.mark.parametrize(("frames", "fps"), [(60, 25), (30, 30), (9, 12), (20, 10), (90, 60)])
def test_the_result_follows_the_motion_frame_for_frame_and_keeps_rate_and_length(
    tmp_path: Path, frames: int, fps: int
) -> None:
    skeleton = walker(frames)
    call(
        tmp_path / "out.mp4", "--reference", picture(tmp_path / "a.png"), "--skeleton-file",
        saved(tmp_path / "pose.npy", skeleton), "--skeleton-fps", fps, "--steps", 2, *LOSSLESS,
    )  # fmt: skip
    made = read_mp4(tmp_path / "out.mp4")
    assert (len(made.frames), made.fps) == (frames, fps)
    wanted = shown(drawn(skeleton, fps), frames, fps)
    np.testing.assert_array_equal(made.frames, stored(tmp_path / "truth.mp4", wanted, fps))
    assert len(np.unique(wanted.reshape(frames, -1), axis=0)) > frames // 6  # so that a wrong frame would show


def test_just_the_frames_that_were_made_come_at_the_backbones_rate(tmp_path: Path) -> None:
    skeleton = walker(60)
    call(
        tmp_path / "out.mp4", "--reference", picture(tmp_path / "a.png"), "--skeleton-file",
        saved(tmp_path / "pose.npy", skeleton), "--skeleton-fps", 25, "--rate", "backbone", *LOSSLESS,
    )  # fmt: skip
    made = read_mp4(tmp_path / "out.mp4")
    assert (len(made.frames), made.fps) == (29, FPS)  # 60 / 25 s x 12
    np.testing.assert_array_equal(made.frames, stored(tmp_path / "truth.mp4", drawn(skeleton, 25), FPS))


def test_a_base_that_aligns_is_given_the_skeleton_where_the_figure_of_the_picture_stands(tmp_path: Path) -> None:
    take = replace(cast.draw(3, 1, "train", "easy"), lead_in=None)
    Image.fromarray(render(take, 1, 12.0, 256, 256).frames[0]).save(tmp_path / "figure.png")
    skeleton = walker(12)
    call(
        tmp_path / "out.mp4", "--reference", tmp_path / "figure.png", "--skeleton-file",
        saved(tmp_path / "pose.npy", skeleton), "--skeleton-fps", 12, "--steps", 2,
        "--backbone", "tests.model.lossless:Aligned", "--weights", "none",
    )  # fmt: skip
    geometry = Geometry(48, 48, 21, 4, FPS, spatial_stride=1, patch=(1, 1, 1), placement="aligned")
    picture_ = Picture(str(tmp_path / "figure.png"))
    stands = ReferenceFigures("mediapipe", 1)(picture_, framing_of(picture_.rgb(), 48, 48))
    assert stands is not None
    wanted = driving_frames(skeleton, geometry, stands)
    assert not np.array_equal(wanted, driving_frames(skeleton, geometry))
    np.testing.assert_array_equal(read_mp4(tmp_path / "out.mp4").frames, stored(tmp_path / "truth.mp4", wanted, FPS))


@pytest.mark.parametrize(("size", "area"), [((48, 24), (24, 12)), ((10, 30), (8, 24)), ((24, 24), (24, 24))])
def test_the_result_is_framed_as_the_picture_is(tmp_path: Path, size: tuple[int, int], area: tuple[int, int]) -> None:
    skeleton = walker(12)
    call(
        tmp_path / "out.mp4", "--reference", picture(tmp_path / "a.png", *size), "--skeleton-file",
        saved(tmp_path / "pose.npy", skeleton), *LOSSLESS,
    )  # fmt: skip
    left, top = (SIDE - area[0]) // 2, (SIDE - area[1]) // 2
    cut = drawn(skeleton, FPS)[:, top : top + area[1], left : left + area[0]]
    np.testing.assert_array_equal(
        read_mp4(tmp_path / "out.mp4").frames, stored(tmp_path / "truth.mp4", np.ascontiguousarray(cut), FPS)
    )


def test_a_picture_is_fitted_whole_and_its_edge_goes_on_beside_it() -> None:
    picture = stamped(1, 64, 32)[0]
    framing = framing_of(picture, 40, 32)
    fitted = framing.fitted(picture)
    assert fitted.shape == (40, 32, 3)
    np.testing.assert_array_equal(framing.cut(fitted[None])[0], fitted[12:28])
    np.testing.assert_allclose(fitted[12:28], picture.reshape(16, 2, 32, 2, 3).mean(axis=(1, 3)), atol=60)
    assert (fitted[:12] == fitted[12]).all()
    assert (fitted[28:] == fitted[27]).all()
    assert framing_of(np.zeros((1, 4000, 3), np.uint8), 40, 32).height_px == 1


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Wan with random weights, for windows of 5 frames."""
    folder = tmp_path_factory.mktemp("weights") / "model"
    tiny().save(folder)
    return folder


def made_small(folder: Path, small: Path, name: str = "out.mp4", *more: object) -> Path:
    """Animate a picture by a short motion with the small Wan."""
    folder.mkdir(exist_ok=True)
    call(
        folder / name, "--reference", picture(folder / "a.png", 60, 40), "--skeleton-file",
        saved(folder / "pose.npy", walker(6)), "--weights", small, "--steps", 2, "--quiet", *more,
    )  # fmt: skip
    return folder / name


def test_a_small_wan_animates_and_the_seed_decides(tmp_path: Path, small: Path) -> None:
    first, again, other = (
        made_small(tmp_path, small, f"{i}.mp4", "--seed", seed).read_bytes() for i, seed in enumerate((1, 1, 2))
    )
    assert first == again
    assert first != other
    film = read_mp4(tmp_path / "0.mp4")
    assert film.frames.shape == (6, SETTINGS.height_px, SETTINGS.width_px, 3)  # 60 x 40 fills 48 x 32
    assert film.fps == SETTINGS.fps


def test_the_file_says_that_it_is_synthetic_and_what_made_it(tmp_path: Path, small: Path) -> None:
    film = made_small(tmp_path, small, "out.mp4", "--seed", 7, "--guidance-text", 2, "--sheet", tmp_path / "out.png")
    with av.open(str(film)) as file:
        tags = dict(file.metadata)
    said = json.loads(tags["comment"])
    assert tags["title"] == "Synthetic video: made by a model, not filmed"
    assert said["synthetic"] is True
    assert (said["digest"], said["vae_digest"]) == (tiny().digest, tiny().vae_digest)
    assert (said["seed"], said["steps"], said["guidance"]) == (7, 2, {"text": 2.0, "driving": 1.0})
    with Image.open(tmp_path / "out.png") as sheet:
        assert json.loads(sheet.text["Comment"]) == said  # type: ignore[attr-defined]
        assert sheet.width > 7 * 192  # the reference and six frames


def test_a_clip_with_sound_hands_it_on(tmp_path: Path, small: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", stamped(15), fps=30, audio=True)
    call(
        tmp_path / "out.mp4", "--reference", picture(tmp_path / "a.png"), "--driving", clip, "--skeleton-file",
        saved(tmp_path / "pose.npy", walker(15)), "--audio", "--json", *LOSSLESS,
    )  # fmt: skip
    with av.open(str(tmp_path / "out.mp4")) as file:
        assert float(file.streams.audio[0].duration * file.streams.audio[0].time_base) == pytest.approx(0.5, abs=0.07)
        assert file.streams.video[0].frames == 15
        assert file.streams.video[0].average_rate == 30


class ByColour:
    """A pose adapter that truly sees people, if they are red or blue rectangles."""

    def __init__(self, config: SkeletonConfig) -> None: ...

    def reset(self) -> None: ...

    def forget(self, track: int) -> None: ...

    def people(self, frames: Pixels) -> list[NDArray[np.float32]]:
        return [np.array([[*box, 0.9] for box in boxes_in(frame)], np.float32).reshape(-1, 5) for frame in frames]

    def keypoints(self, frames: Pixels, boxes: Sequence[Mapping[int, Box]]) -> list[dict[int, Points]]:
        out = []
        for frame, wanted in zip(frames, boxes, strict=True):
            seen = boxes_in(frame)
            near = {t: min(seen, key=lambda b, box=box: np.abs(b - box).sum()) for t, box in wanted.items() if seen}
            out.append({t: points_of(b) for t, b in near.items() if np.abs(b - wanted[t]).max() < 60})
        return out

    @classmethod
    def weights(cls, config: SkeletonConfig) -> list[Path]:
        return [Path(__file__)]


def boxes_in(frame: Pixels) -> list[Box]:
    out = []
    for colour in (RED, BLUE):
        ys, xs = np.nonzero((np.abs(frame.astype(int) - colour) < 60).all(axis=2))
        if len(ys) > 50:
            out.append(np.array([xs.min(), ys.min(), xs.max(), ys.max()], np.float32))
    return out


def crowd(frames: int = 18, people: int = 2) -> Pixels:
    """A large red rectangle that sinks, and a smaller blue one that rises."""
    out = np.full((frames, 240, 320, 3), 128, np.uint8)
    for i, frame in enumerate(out):
        frame[20 + 2 * i : 200 + 2 * i, 30:110] = RED
        if people > 1:
            frame[60 - 2 * i : 200 - 2 * i, 200:260] = BLUE
    return out


def by_colour(folder: Path, people: int = 2, figures: int = 1) -> list[object]:
    clip = write_clip(folder / "clip.mp4", crowd(people=people), fps=12)
    Image.fromarray(crowd(1, people=figures)[0]).save(folder / "a.png")
    adapter = "tests.pipeline.test_animate:ByColour"
    return ["--reference", folder / "a.png", "--driving", clip, "--skeleton", adapter, *LOSSLESS]


def moves_down(made: Pixels) -> bool:
    """Say whether what is drawn sinks from the first frame to the last."""
    first, last = (np.nonzero(frame.max(axis=2) > 60)[0].mean() for frame in (made[0], made[-1]))
    return bool(last > first)


@pytest.mark.parametrize(("people", "count"), [("1", 1), ("all", 2)])
def test_people_are_followed_in_the_order_of_their_tracks(tmp_path: Path, people: str, count: int) -> None:
    arguments = by_colour(tmp_path, figures=2)
    call(tmp_path / "out.mp4", *arguments, "--people", people)
    made = read_mp4(tmp_path / "out.mp4").frames
    with av.open(str(tmp_path / "out.mp4")) as file:
        assert json.loads(file.metadata["comment"])["people"] == count
    if count == 1:
        assert moves_down(made[:, 4:20])  # the red one, larger, who sinks
    else:
        assert moves_down(made[:, 4:20, :12])
        assert not moves_down(made[:, 4:20, 12:])


def test_two_people_and_one_figure_is_said_before_anything_is_computed(tmp_path: Path) -> None:
    arguments = by_colour(tmp_path)
    said = refused(tmp_path, *arguments)
    assert said.startswith("more than one person moves in clip.mp4, and nothing says how many a.png shows: --people 1")
    said = refused(tmp_path, *arguments, "--people", 2)
    assert said.startswith("2 people are to be followed, and a.png shows 1 figure: follow fewer (--people 1)")
    call(tmp_path / "out.mp4", *arguments, "--figures", 2)  # the user knows better
    with av.open(str(tmp_path / "out.mp4")) as file:
        assert json.loads(file.metadata["comment"])["people"] == 2


def test_more_people_than_there_are_cannot_be_followed(tmp_path: Path) -> None:
    said = refused(tmp_path, *by_colour(tmp_path, people=1), "--people", 2)
    assert said == "2 people are to be followed, and in clip.mp4 there is 1"


def test_nobody_in_the_clip_is_said_in_a_sentence(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", np.full((6, 240, 320, 3), 128, np.uint8), fps=12)
    adapter = "tests.pipeline.test_animate:ByColour"
    given = ("--reference", picture(tmp_path / "a.png"), "--driving", clip, "--skeleton", adapter, *LOSSLESS)
    said = refused(tmp_path, *given)
    assert said == f"nobody can be followed in {clip}: No person was found in any of the 6 frames"


def test_a_clip_of_one_frame_is_no_motion(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", stamped(1), fps=30)
    reference = picture(tmp_path / "a.png")
    said = refused(tmp_path, "--reference", reference, "--driving", clip, *LOSSLESS)
    assert said.startswith(f"{clip} lasts 0.033 s, 1 frame at the backbone's 12 a second, and one frame is no motion")
    pose = saved(tmp_path / "pose.npy", walker(1))
    assert "one frame is no motion" in refused(tmp_path, "--reference", reference, "--skeleton-file", pose, *LOSSLESS)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"no picture", "'a.png' is none of PNG, JPEG"),
        (b"", "'a.png' is none of PNG, JPEG"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 40, "'a.png'"),
        (None, "there is no file"),
    ],
)
def test_a_reference_that_is_no_picture_is_said_in_a_sentence(tmp_path: Path, content: bytes | None, said: str) -> None:
    if content is not None:
        (tmp_path / "a.png").write_bytes(content)
    pose = saved(tmp_path / "pose.npy", walker(3))
    told = refused(tmp_path, "--reference", tmp_path / "a.png", "--skeleton-file", pose, *LOSSLESS)
    assert told.startswith(f"{tmp_path / 'a.png'} cannot be the reference: ")
    assert said in told


def test_a_clip_that_is_no_film_is_said_in_a_sentence(tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"\0" * 400)
    told = refused(tmp_path, "--reference", picture(tmp_path / "a.png"), "--driving", clip, *LOSSLESS)
    assert told.startswith(f"{clip} cannot drive anything: ")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (np.zeros((3, 17, 3), np.float32), r"holds (3, 17, 3); wanted numbers [T, P, 133, 3]"),
        (np.zeros((3, 1, 133, 3), np.float32), "nobody can be followed"),
        (np.full((3, 1, 133, 3), np.nan, np.float32), "holds values that are no finite numbers"),
        (np.full((3, 1, 133, 3), "x"), "holds values that are no finite numbers"),
        (np.array([{"a": 1}], object), "cannot be read as a .npy file"),
    ],
)
def test_a_skeleton_file_that_holds_none_is_said_in_a_sentence(
    tmp_path: Path, content: NDArray[Any], said: str
) -> None:
    np.save(tmp_path / "pose.npy", content)
    reference = picture(tmp_path / "a.png")
    assert said in refused(tmp_path, "--reference", reference, "--skeleton-file", tmp_path / "pose.npy", *LOSSLESS)


def test_a_skeleton_of_another_length_than_the_clip_is_said_in_a_sentence(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", stamped(15), fps=30)
    pose = saved(tmp_path / "pose.npy", walker(14))
    given = ("--reference", picture(tmp_path / "a.png"), "--driving", clip, "--skeleton-file", pose, *LOSSLESS)
    assert f"pose.npy has 14 frames, and {clip} has 15 at 30 a second" in refused(tmp_path, *given)


def test_missing_weights_are_said_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = (
        "--reference", picture(tmp_path / "a.png"), "--skeleton-file", saved(tmp_path / "pose.npy", walker(3)),
    )  # fmt: skip
    monkeypatch.setattr(loading, "SHIPPED", tmp_path / "not_there")
    said = refused(tmp_path, *given)
    assert said.startswith(f"no weights ship with this version ({tmp_path / 'not_there'} is missing): name a folder")
    said = refused(tmp_path, *given, "--weights", "Wan-AI/Wan2.1-I2V-14B-480P-Diffusers")
    assert "nothing is fetched, so fetch a published base first" in said
    assert "wan-i2v needs --weights" in refused(tmp_path, *given, "--backbone", "wan-i2v")
    assert "model_index" in (said := refused(tmp_path, *given, "--weights", tmp_path)) or "is missing" in said


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--device", "cuda:99"), "there is no device 'cuda:99' here"),
        (("--device", "pear"), "there is no device 'pear' here"),
        (("--size", "0x24"), "width_px is 0"),
        (("--window", "20"), "frames is 20; it must be 4k + 1"),
        (("--guidance-text", "-1"), "the guidance scale of text is -1.0"),
        (("--audio",), "--audio takes the sound of the driving clip: name a clip by --driving"),
    ],
)
def test_what_cannot_be_computed_is_said_in_a_sentence(tmp_path: Path, more: tuple[str, ...], said: str) -> None:
    pose = saved(tmp_path / "pose.npy", walker(3))
    given = ("--reference", picture(tmp_path / "a.png"), "--skeleton-file", pose, *LOSSLESS, *more)
    assert said in refused(tmp_path, *given)


def test_places_that_cannot_be_written_to_are_said_before_anything_is_read(tmp_path: Path) -> None:
    reference, pose = picture(tmp_path / "a.png"), saved(tmp_path / "pose.npy", walker(3))
    given = ("--reference", reference, "--skeleton-file", pose, *LOSSLESS)
    assert "give it that ending" in call(tmp_path / "out.avi", *given, code=2).stderr
    assert "make it first" in call(tmp_path / "nowhere" / "out.mp4", *given, code=2).stderr
    assert "give the result another name" in refused(tmp_path, *given, "--sheet", reference)
    assert "nothing says what drives" in refused(tmp_path, "--reference", reference, *LOSSLESS)


def test_a_mistake_in_the_stages_fields_is_said_with_the_nearest(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "clip.mp4", stamped(12), fps=12)
    given = ("--reference", picture(tmp_path / "a.png"), "--driving", clip, *LOSSLESS)
    assert "did you mean 'min_seen_share'?" in refused(tmp_path, *given, "--skeleton-set", "min_seen_shar=1")
    assert "no pose adapter 'openpose'" in refused(tmp_path, *given, "--skeleton", "openpose")
    assert "needs detector_weights" in refused(tmp_path, *given, "--skeleton", "dwpose")


def test_no_number_from_the_backbone_is_said_in_a_sentence(tmp_path: Path) -> None:
    pose = saved(tmp_path / "pose.npy", walker(3))
    broken = ("--backbone", "tests.model.lossless:Broken", "--weights", "none")
    said = refused(tmp_path, "--reference", picture(tmp_path / "a.png"), "--skeleton-file", pose, *broken)
    assert said.startswith("after step 1 of 30 (sigma 1.000) the latents hold NaN or infinity")


def test_a_lora_of_another_base_is_refused_and_its_own_changes_the_result(tmp_path: Path, small: Path) -> None:
    from model import lora

    backbone = tiny()
    lora.add(backbone.transformer, "pose", 2, backbone.spec.lora_targets)
    for value in lora.parameters(backbone.transformer, "pose").values():
        value.data += 0.3
    lora.export(backbone.transformer, "pose", tmp_path / "lora", backbone.digest)
    plain = made_small(tmp_path, small, "plain.mp4").read_bytes()
    with_lora = made_small(tmp_path, small, "out.mp4", "--lora", tmp_path / "lora")
    assert not np.array_equal(read_mp4(with_lora).frames, read_mp4(tmp_path / "plain.mp4").frames)
    with_lora.unlink()
    tiny(seed=3).save(tmp_path / "other")
    given = ("--reference", tmp_path / "a.png", "--skeleton-file", tmp_path / "pose.npy", "--weights")
    said = refused(tmp_path, *given, tmp_path / "other", "--lora", tmp_path / "lora")
    assert "was made for another base" in said
    assert plain == made_small(tmp_path, small, "plain.mp4").read_bytes()


def test_a_picture_is_turned_as_its_camera_says_and_what_is_transparent_lies_on_grey(tmp_path: Path) -> None:
    stored_picture = np.full((20, 30, 4), (200, 40, 40, 255), np.uint8)  # turned clockwise by 90 degrees when shown:
    stored_picture[:, 20:] = (40, 40, 200, 0)  # the right third, transparent, is below
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(stored_picture).save(tmp_path / "a.png", exif=turned)
    call(
        tmp_path / "out.mp4", "--reference", tmp_path / "a.png", "--skeleton-file",
        saved(tmp_path / "pose.npy", walker(30)), "--backbone", "tests.model.lossless:Still", "--weights", "none",
    )  # fmt: skip
    made = read_mp4(tmp_path / "out.mp4").frames
    assert made.shape == (30, 24, 16, 3)
    np.testing.assert_allclose(made[:, :14], np.broadcast_to((200, 40, 40), (30, 14, 16, 3)), atol=12)
    np.testing.assert_allclose(made[:, 18:], 128, atol=6)


def test_an_upright_picture_is_computed_upright() -> None:
    wide = Lossless(replace(SPEC, width_px=48, height_px=24))
    order = Order(reference=Path("a.png"), out=Path("out.mp4"))
    for shape, given, wanted in (
        ((40, 30, 3), None, (24, 48)),
        ((30, 40, 3), None, (48, 24)),
        ((40, 30, 3), (48, 24), (48, 24)),
    ):
        size = geometry_of(wide, np.zeros(shape, np.uint8), replace(order, size_px=given))
        assert (size.width_px, size.height_px) == wanted


def test_what_mediapipe_sees_of_a_figure_drives_as_its_true_skeleton_would(tmp_path: Path) -> None:
    pytest.importorskip("mediapipe", reason="mediapipe is not installed")
    pytest.importorskip("mannequin", reason="the figures of theatre are not installed")
    from manifests.theatre.cast import draw
    from manifests.theatre.scene import render

    seen = render(draw(0, 7, "train", "easy"), 8, FPS, 288, 288)  # a person whose arms move far
    clip = write_clip(tmp_path / "clip.mp4", seen.frames, fps=FPS)
    motion = motion_of_clip(clip, facts_of(clip), FPS, skeleton_config("mediapipe", {}, None), lambda *_: None)
    assert motion.skeleton.shape == (8, 1, POINTS, 3)
    bodies = [points.copy() for points in (motion.skeleton, seen.skeleton)]
    for points in bodies:
        points[:, :, BODY.stop :] = 0
    placed, truth = (normalise(points, 64, 64) for points in bodies)
    both = (placed[..., 2] > 0.3) & (truth[..., 2] > 0.3)
    apart_px = np.hypot(*(placed - truth)[both][:, :2].T)
    assert both[:, :, BODY].mean() > 0.8
    assert np.median(apart_px) < 2  # of 64
    assert np.median(np.hypot(*(placed - truth[::-1])[both & both[::-1]][:, :2].T)) > 1.5 * np.median(apart_px)


FULL = """
mount -t tmpfs -o size=1m tmpfs "$1/disk" || exit 99
head -c {filler} /dev/zero > "$1/disk/filler"
"{python}" -m pipeline animate "$1/disk/out.mp4" --reference "$1/a.png" --skeleton-file "$1/pose.npy" --quiet \
  --sheet "$1/disk/out.png" --backbone tests.model.lossless:Lossless --weights none >"$1/out" 2>"$1/err"
echo $? >"$1/rc"
ls -A "$1/disk" >"$1/left"
"""


@needs_mount
@pytest.mark.faults
def test_a_full_disk_is_said_in_a_sentence_and_nothing_is_half_written(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    picture(tmp_path / "a.png")
    saved(tmp_path / "pose.npy", walker(60))
    script = FULL.format(filler=(1 << 20) - 8192, python=sys.executable)
    subprocess.run(["unshare", "-rm", "bash", "-c", script, "fill", str(tmp_path)], check=True, timeout=200)
    said = (tmp_path / "err").read_text().strip()
    place = tmp_path / "disk"
    assert said == f"bodydouble: no space left in {place} for out.mp4; nothing was written: free some and try again"
    assert (tmp_path / "rc").read_text().strip() == "1"
    assert (tmp_path / "left").read_text().split() == ["filler"]
