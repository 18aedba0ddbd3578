"""Frames by time, upright, never the wrong ones; stamped clips and PyAV say which picture is which."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from manifests.decoding import FileReader, frames_on_screen
from manifests.media import Clip, MediaError, Picture, Pixels, Video, read_mp4, write_mp4
from tests.clips import stamped, stamps_of, write_clip

FRAMES = 40
UNEVEN = [i * 0.1 - 0.06 * (i % 2) for i in range(FRAMES)]  # 40 ms, 160 ms, 40 ms, ...
KINDS = {
    "plain": {},
    "B-frames": {"b_frames": 3},
    "turned 90": {"rotation": 90},
    "turned 180": {"rotation": 180},
    "turned 270": {"rotation": 270},
    "10 bits": {"pixel_format": "yuv420p10le"},
    "HEVC, open groups": {"codec": "libx265", "b_frames": 3},
    "HEVC, 10 bits": {"codec": "libx265", "pixel_format": "yuv420p10le"},
    "MPEG-4, open groups": {"codec": "mpeg4", "b_frames": 2},
    "VP9 in WebM": {"codec": "libvpx-vp9", "suffix": ".webm"},
    "Matroska": {"b_frames": 2, "suffix": ".mkv"},
    "AVI": {"codec": "mpeg4", "suffix": ".avi"},
    "late first frame": {"times_s": [1.5 + i / 30 for i in range(FRAMES)], "b_frames": 2},
    "uneven times": {"times_s": UNEVEN, "b_frames": 2},
    "with sound": {"audio": True},
}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder, pixels = tmp_path_factory.mktemp("clips"), stamped(FRAMES)
    made = {}
    for name, kind in KINDS.items():
        options = dict(kind)
        path = folder / f"{name}{options.pop('suffix', '.mp4')}"
        made[name] = write_clip(path, pixels, **options)
    odd = {"pixel_format": "yuv444p"}
    made["odd size"] = write_clip(folder / "odd.mp4", stamped(FRAMES, 67, 49), **odd)
    for width in (32, 48, 96):
        made[f"{width} wide"] = write_clip(folder / f"{width}.mp4", stamped(FRAMES, width, 48))
    made["96 wide, open groups"] = write_clip(
        folder / "96 open.mp4", stamped(FRAMES, 96, 48), codec="libx265", b_frames=3
    )
    made["odd size, turned"] = write_clip(folder / "odd turned.mp4", stamped(FRAMES, 67, 49), rotation=90, **odd)
    return made


def by_pyav(path: Path) -> tuple[Pixels, list[float]]:
    """All pictures upright, and their times from the first: the independent decoder."""
    with av.open(str(path)) as file:
        frames = list(file.decode(video=0))
    pixels = np.stack([np.rot90(frame.to_ndarray(format="rgb24"), k=frame.rotation // 90) for frame in frames])
    return pixels, [float(frame.time - frames[0].time) for frame in frames]


ALL = [*KINDS, "odd size", "odd size, turned", "32 wide", "48 wide", "96 wide", "96 wide, open groups"]


@pytest.mark.parametrize("name", ALL)
def test_every_frame_is_upright_and_the_one_pyav_sees(clips: dict[str, Path], name: str) -> None:
    want, times_s = by_pyav(clips[name])
    reader = FileReader(str(clips[name]))
    got = reader.frames(np.arange(FRAMES))

    assert stamps_of(got) == list(range(FRAMES))
    np.testing.assert_allclose(reader.times_s, times_s, atol=1e-3)
    assert got.shape == want.shape
    if "10 bits" in name:  # 10 to 8 bits: the two scale chroma differently
        assert np.abs(got.astype(int) - want).mean() < 2
    else:
        np.testing.assert_array_equal(got, want)
    assert np.abs(got.astype(int) - stamped(FRAMES, got.shape[2], got.shape[1])).mean() < 12  # upright as it was drawn


@pytest.mark.parametrize("name", [name for name in ALL if name != "uneven times"])  # a test below has those
@pytest.mark.parametrize("start", [0, 1, 9, 12, 13, 23])
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_a_segment_from_anywhere_at_any_rate_shows_its_own_frames(
    clips: dict[str, Path], name: str, start: int, stride: int
) -> None:
    clip = Clip(str(clips[name]), start / 30, 30 / stride, frames=(FRAMES - 1 - start) // stride + 1)

    got = np.concatenate(list(clip.chunks(size=5)))

    assert stamps_of(got) == list(range(start, FRAMES, stride))


def test_open_groups_of_pictures_are_found_and_closed_ones_are_not(clips: dict[str, Path]) -> None:
    straight_only = {name for name in ALL if not FileReader(str(clips[name])).seeks_right()}

    assert straight_only == {"HEVC, open groups", "MPEG-4, open groups", "96 wide, open groups"}


@pytest.mark.parametrize("fps", [7.0, 10.0, 24.0, 25.0, 30.0, 60.0])
@pytest.mark.parametrize("start_s", [0.0, 0.04, 0.05, 1.23])
def test_uneven_times_show_the_picture_that_a_player_would_show(
    clips: dict[str, Path], fps: float, start_s: float
) -> None:
    def on_screen(instant: Fraction) -> int:  # the definition, picture by picture, in exact arithmetic
        shown = [k for k in range(FRAMES) if Fraction(UNEVEN[k]) <= instant + Fraction(1, 1000)]
        return max(shown)

    clip = Clip(str(clips["uneven times"]), start_s, fps, frames=int(2.4 * fps))
    want = [on_screen(Fraction(start_s) + i / Fraction(fps)) for i in range(clip.frames)]

    assert stamps_of(clip.read()) == want


def test_chunks_together_are_exactly_the_frames_whatever_their_size(clips: dict[str, Path]) -> None:
    clip = Clip(str(clips["B-frames"]), 0.1, 50.0, frames=50)  # faster than the file: pictures are shown twice
    whole = clip.read()

    assert whole.shape == (50, 48, 64, 3)
    for size in (1, 3, 16, 50, 64):
        chunks = list(clip.chunks(size))
        assert [len(chunk) for chunk in chunks[:-1]] == [size] * (len(chunks) - 1)
        np.testing.assert_array_equal(np.concatenate(chunks), whole)


@pytest.mark.parametrize("start_s", [-0.01, 1.0, 1.3])
def test_a_segment_outside_the_file_is_refused(clips: dict[str, Path], start_s: float) -> None:
    with pytest.raises(MediaError, match="segment_outside_file"):
        Clip(str(clips["plain"]), start_s, 30.0, frames=20).read()


def screen(times_s: Sequence[float], start_s: float, fps: float, frames: int) -> list[int]:
    times = np.array(times_s)
    return frames_on_screen(times, float(times[-1] + 0.1), start_s, fps, frames).tolist()


def test_rounding_at_the_edges_is_one_millisecond_in_favour_of_the_later_picture() -> None:
    assert screen([0, 0.1, 0.2], 0.0989, 1, 1) == [0]
    assert screen([0, 0.1, 0.2], 0.0991, 1, 1) == [1]  # as a Matroska file that says 0.1 for 0.0995
    assert screen([0, 0.1, 0.2], -0.0009, 1, 1) == [0]
    assert screen([0, 0.1, 0.2], 0.2999, 1, 1) == [2]
    assert screen([0, 0.033, 0.067, 0.1], 0, 30, 4) == [0, 1, 2, 3]  # whole ms for 30 a second
    with pytest.raises(MediaError, match="segment_outside_file"):
        screen([0, 0.1, 0.2], -0.0011, 1, 1)
    with pytest.raises(MediaError, match="segment_outside_file"):
        screen([0, 0.1, 0.2], 0.3011, 1, 1)


def test_a_crop_is_of_the_upright_picture(clips: dict[str, Path]) -> None:
    path = str(clips["turned 90"])
    whole = Clip(path, 0, 30, 3).read()

    got = Clip(path, 0, 30, 3, crop=(5, 7, 30, 20)).read()

    np.testing.assert_array_equal(got, whole[:, 7:27, 5:35])
    with pytest.raises(MediaError, match="crop_outside_picture"):
        Clip(path, 0, 30, 3, crop=(40, 0, 25, 10)).read()


@pytest.mark.parametrize("wrong", [{"frames": 0}, {"fps": 0.0}, {"fps": float("nan")}, {"start_s": float("inf")}])
def test_a_clip_that_cannot_be_is_refused_at_once(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="wanted at least"):
        Clip(**{"path": "x.mp4", "start_s": 0.0, "fps": 30.0, "frames": 1, **wrong})


def test_a_missing_file_and_a_text_are_media_errors(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("this is no film")
    with pytest.raises(MediaError, match="missing"):
        Clip(str(tmp_path / "none.mp4"), 0, 30, 1).read()
    with pytest.raises(MediaError, match="not_media"):
        Clip(str(tmp_path / "text.mp4"), 0, 30, 1).read()


def test_a_relative_name_that_looks_like_a_protocol_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_clip(Path("x.mp4"), stamped(3))
    Path("x.mp4").rename("concat:a|b.mp4")

    assert stamps_of(Clip("concat:a|b.mp4", 0, 30, 3).read()) == [0, 1, 2]


@pytest.mark.parametrize("size", [(64, 48), (65, 48), (64, 49), (65, 49), (16, 16)])
@pytest.mark.parametrize("fps", [30.0, 24000 / 1001, 12.5])
def test_what_is_written_is_read_back_with_its_shape_rate_and_look(
    tmp_path: Path, size: tuple[int, int], fps: float
) -> None:
    video = Video(stamped(9, *size), fps)
    write_mp4(video, tmp_path / "v.mp4", comment="who made it")

    back = read_mp4(tmp_path / "v.mp4")

    assert back.frames.shape == video.frames.shape
    assert back.fps == pytest.approx(fps, rel=1e-9)
    assert np.abs(back.frames.astype(int) - video.frames).mean() < 6  # 4:2:0 blurs the colours of so small a picture
    with av.open(str(tmp_path / "v.mp4")) as file:
        stream = file.streams.video[0]
        assert (stream.codec_context.name, stream.format.name) == ("h264", "yuv420p")
        assert (stream.width, stream.height) == (size[0] + size[0] % 2, size[1] + size[1] % 2)
        assert stream.codec_context.colorspace == 5
        assert file.metadata["comment"] == "who made it"


def by_formula(frame: av.VideoFrame) -> NDArray[np.float64]:
    """Y, Cb, Cr to RGB by ITU-R BT.601 in floating point, each colour cell for its four pixels."""
    planes, height = frame.to_ndarray().astype(float), frame.height
    quarter = height // 4
    luma = 255 / 219 * (planes[:height] - 16)
    cells = [planes[height + k * quarter : height + (k + 1) * quarter].reshape(height // 2, -1) for k in (0, 1)]
    cb, cr = (255 / 224 * (np.kron(cell, np.ones((2, 2))) - 128) for cell in cells)
    green = luma - (0.299 * 1.402 * cr + 0.114 * 1.772 * cb) / 0.587
    return np.stack([luma + 1.402 * cr, green, luma + 1.772 * cb], -1).clip(0, 255)


def test_colours_are_stored_by_the_formula_that_the_file_names(tmp_path: Path) -> None:
    patches = np.random.default_rng(0).integers(0, 256, (8, 12, 3))
    frames = np.repeat(np.kron(patches, np.ones((8, 8, 1)))[None].astype(np.uint8), 5, 0)
    write_mp4(Video(frames, 25.0), tmp_path / "v.mp4")

    with av.open(str(tmp_path / "v.mp4")) as file:
        error = by_formula(next(file.decode(video=0))) - frames[0]

    assert np.abs(error).mean() < 1
    assert np.abs(error.mean(axis=(0, 1))).max() < 0.3
    # the readers' own conversion rounds down: about one level darker, for every film alike
    read = read_mp4(tmp_path / "v.mp4").frames.astype(float) - frames
    assert np.abs(read).mean() < 2
    assert np.abs(read.mean(axis=(0, 1, 2))).max() < 2


def test_equal_videos_give_equal_bytes_and_the_index_comes_first(tmp_path: Path) -> None:
    rng, seen = np.random.default_rng(0), set()
    for i in range(12):
        junk = [rng.integers(0, 255, int(rng.integers(100, 100_000)), np.uint8) for _ in range(50)]
        del junk  # leaves other rubbish in free memory each time, which an encoder might read
        write_mp4(Video(stamped(20), 30.0), tmp_path / f"{i}.mp4")
        data = (tmp_path / f"{i}.mp4").read_bytes()
        seen.add(data)

    assert len(seen) == 1
    assert data.index(b"moov") < data.index(b"mdat")


@pytest.mark.parametrize(
    "video",
    [
        Video(np.zeros((0, 4, 4, 3), np.uint8), 30.0),
        Video(np.zeros((1, 4, 4), np.uint8), 30.0),
        Video(np.zeros((1, 4, 4, 3), np.float32), 30.0),  # type: ignore[arg-type]
        Video(np.zeros((1, 4, 4, 3), np.uint8), 0.0),
    ],
)
def test_what_is_no_video_is_not_written(tmp_path: Path, video: Video) -> None:
    with pytest.raises(ValueError, match="wanted"):
        write_mp4(video, tmp_path / "v.mp4")
    assert not (tmp_path / "v.mp4").exists()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_upright_whatever_exif_says(tmp_path: Path, orientation: int) -> None:
    upright = stamped(1)[0]
    undo = {  # how a camera with that orientation has stored it (EXIF 2.3, table of Orientation)
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1],
        5: upright.swapaxes(0, 1), 6: np.rot90(upright, 1), 7: upright[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(upright, -1),
    }  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(undo[orientation])).save(tmp_path / "p.png", exif=exif)

    np.testing.assert_array_equal(Picture(str(tmp_path / "p.png")).rgb(), upright)


def test_what_is_transparent_lies_on_mid_grey(tmp_path: Path) -> None:
    pixels = np.zeros((2, 3, 4), np.uint8)
    pixels[..., :3] = (200, 100, 0)
    pixels[..., 3] = [[0, 255, 51], [0, 255, 51]]
    Image.fromarray(pixels).save(tmp_path / "p.png")
    picture = Picture(str(tmp_path / "p.png"))

    np.testing.assert_array_equal(picture.rgba()[..., 3], pixels[..., 3])
    assert picture.rgb()[0].tolist() == [[128, 128, 128], [200, 100, 0], [142, 122, 102]]  # 0.2 c + 0.8 * 128


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_every_common_kind_of_pixel_is_read(tmp_path: Path, mode: str) -> None:
    grey = np.tile(np.arange(0, 256, 4, dtype=np.uint8), (16, 1))
    image = Image.fromarray(grey.astype(np.uint16) * 257) if mode == "I;16" else Image.fromarray(grey).convert(mode)
    image.save(tmp_path / ("p.tif" if mode == "CMYK" else "p.png"))

    got = Picture(str(next(tmp_path.iterdir()))).rgb()

    want = np.asarray(image.convert("L")) if mode in ("1", "P") else grey
    np.testing.assert_allclose(got, np.repeat(want[..., None], 3, -1), atol=1)


def test_a_crop_of_a_picture_must_lie_in_it(tmp_path: Path) -> None:
    Image.fromarray(stamped(1)[0]).save(tmp_path / "p.png")

    assert Picture(str(tmp_path / "p.png"), crop=(0, 0, 64, 48)).rgb().shape == (48, 64, 3)
    with pytest.raises(MediaError, match="crop_outside_picture"):
        Picture(str(tmp_path / "p.png"), crop=(0, 1, 64, 48)).rgb()


@pytest.mark.parametrize(("name", "reason"), [("none.png", "missing"), ("text.png", "not_picture")])
def test_what_is_no_picture_says_so(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "text.png").write_text("%!PS-Adobe-3.0 EPSF-3.0")
    with pytest.raises(MediaError, match=reason):
        Picture(str(tmp_path / name)).rgb()
