"""Overlay, contact sheet and video of a clip made on the spot, whose person is a drawn one."""

from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from manifests.media import Clip
from model.skeleton import Points, draw
from pipeline.look import contact_sheet, look_clip, overlay
from tests.clips import stamped, write_clip

FRAMES = 40


def walker(frames: int, width: int, height: int) -> Points:
    """A person of 17 body points who goes from left to right."""
    skeleton = np.zeros((frames, 1, 133, 3), np.float32)
    across = np.array([0.5, 0.55, 0.45, 0.6, 0.4, 0.7, 0.3, 0.8, 0.2, 0.9, 0.1, 0.6, 0.4, 0.65, 0.35, 0.7, 0.3])
    down = np.array([5, 3, 3, 4, 4, 15, 15, 30, 30, 45, 45, 50, 50, 70, 70, 95, 95]) / 100
    for t in range(frames):
        skeleton[t, 0, :17, 0] = (0.1 + 0.6 * t / frames + 0.2 * across) * width
        skeleton[t, 0, :17, 1] = (0.2 + 0.7 * down) * height
        skeleton[t, 0, :17, 2] = 0.9
    return skeleton


@pytest.fixture
def clip(tmp_path: Path) -> Clip:
    path = tmp_path / "walk.mp4"
    write_clip(path, stamped(FRAMES, 160, 120), fps=20)
    return Clip(str(path), 0.0, 20.0, FRAMES)


def test_an_overlay_is_the_picture_with_the_drawing_on_it() -> None:
    frames, skeleton = stamped(3, 160, 120), walker(3, 160, 120)
    out = overlay(frames, skeleton)
    for i in range(3):
        drawn = draw(skeleton[i], 120, 160).any(axis=2)
        np.testing.assert_array_equal(out[i][~drawn], frames[i][~drawn])
        assert (out[i] != frames[i]).any()


def test_a_box_is_drawn_where_the_person_is_seen_only() -> None:
    frames, nobody = stamped(2, 160, 120), np.zeros((2, 1, 133, 3), np.float32)
    boxes = np.zeros((2, 1, 4), np.float32)
    boxes[1] = (30, 40, 90, 110)
    out = overlay(frames, nobody, boxes)
    np.testing.assert_array_equal(out[0], frames[0])
    assert (out[1, 40, 31:90] == out[1, 40, 60]).all()
    np.testing.assert_array_equal(out[1, 60:100, 50:85], frames[1, 60:100, 50:85])


def test_the_video_has_the_clips_frames_and_the_drawing(clip: Clip, tmp_path: Path) -> None:
    skeleton = walker(FRAMES, 160, 120)
    video, sheet = look_clip(clip, skeleton, tmp_path / "out", "walk")
    assert (video, sheet) == (tmp_path / "out" / "walk.mp4", tmp_path / "out" / "walk.png")
    with av.open(str(video)) as container:
        frames = [frame.to_ndarray(format="rgb24").astype(int) for frame in container.decode(video=0)]
        assert float(container.streams.video[0].average_rate or 0) == 20
    assert len(frames) == FRAMES
    plain = clip.read()
    wanted = overlay(plain, skeleton)
    for got, want, before in zip(frames, wanted.astype(int), plain.astype(int), strict=True):
        drawn = np.abs(want - before).max(axis=2) > 60
        assert np.abs(got - want)[drawn].mean() < 0.5 * np.abs(got - before)[drawn].mean()


def test_a_large_clip_becomes_a_smaller_video_with_even_sides(tmp_path: Path) -> None:
    path = tmp_path / "large.mp4"
    write_clip(path, stamped(3, 402, 300), fps=10)
    video, _ = look_clip(Clip(str(path), 0.0, 10.0, 3), walker(3, 402, 300), tmp_path, "small", long_side_px=200)
    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height) == (200, 150)


def test_the_sheet_shows_twelve_evenly_spaced_frames_in_two_rows(clip: Clip, tmp_path: Path) -> None:
    skeleton = walker(FRAMES, 160, 120)
    _, path = look_clip(clip, skeleton, tmp_path / "out", "walk")
    sheet = np.asarray(Image.open(path).convert("RGB")).astype(int)
    assert sheet.shape == (18 + 2 * (180 + 4), 4 + 12 * (240 + 4), 3)
    chosen = np.linspace(0, FRAMES - 1, 12).round().astype(int)
    for i, frame in enumerate(chosen):
        left = 4 + i * 244
        alone = Image.fromarray(draw(skeleton[frame], 120, 160)).resize((240, 180), Image.Resampling.LANCZOS)
        np.testing.assert_array_equal(sheet[18 + 184 : 18 + 184 + 180, left : left + 240], np.asarray(alone))
        above = sheet[18 : 18 + 180, left : left + 240]
        over = Image.fromarray(overlay(clip.read()[frame][None], skeleton[frame][None])[0])
        np.testing.assert_array_equal(above, np.asarray(over.resize((240, 180), Image.Resampling.LANCZOS)))
        assert (sheet[:18, left : left + 240] > 150).any()  # a caption


def test_captions_say_frame_and_time_and_differ() -> None:
    frames, skeleton = list(stamped(2, 160, 120)), walker(2, 160, 120)
    sheets = [np.asarray(contact_sheet(frames, skeleton, [3, n], 10.0))[:18] for n in (4, 40)]
    assert (sheets[0][:, :244] == sheets[1][:, :244]).all()
    assert (sheets[0][:, 244:] != sheets[1][:, 244:]).any()


def test_the_clip_itself_is_never_written_over(clip: Clip, tmp_path: Path) -> None:
    before = Path(clip.path).read_bytes()
    with pytest.raises(ValueError, match="would be written over"):
        look_clip(clip, walker(FRAMES, 160, 120), tmp_path, "walk")
    assert Path(clip.path).read_bytes() == before


def test_a_skeleton_of_another_length_is_refused(clip: Clip, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the skeleton has 7 frames, the clip 40"):
        look_clip(clip, walker(7, 160, 120), tmp_path, "walk")
