"""Damaged, hostile and odd files, through the sandbox: facts that hold, or a reason that is known. Never a hang."""

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from manifests.decoding import REASONS
from manifests.inspection import Limits, PictureFacts, VideoFacts, inspect_picture, inspect_video
from manifests.media import Clip, MediaError, Pixels
from manifests.sandbox import Sandbox
from tests.clips import stamped, stamps_of, write_clip, write_sound

FRAMES = 12
DAMAGED = 240  # truncations and bit flips of each of the clips below


@dataclass(frozen=True)
class Read:
    """What became of a file that was accepted: its facts, and what `Clip.read` then gives."""

    facts: VideoFacts
    shape: tuple[int, ...]
    stamps: list[int]
    apart: float  # largest mean difference of a frame from PyAV's frame of the same number, levels


def inspect_and_read(path: str) -> Read:
    facts = inspect_video(path, Limits(max_bytes=1 << 20, max_pixels=1 << 20, max_frames=300, max_duration_s=60))
    whole = Clip(path, 0.0, facts.file_fps, facts.frames).read()
    with av.open(path, metadata_errors="replace") as file:
        frames = [frame.to_ndarray(format="rgb24") for frame in file.decode(file.streams.best("video"))]
    upright = np.rot90(np.stack(frames), k=-(facts.rotation // 90), axes=(1, 2))
    # at the mean rate an uneven film shows some pictures twice
    apart = 0.0 if facts.variable_fps else float(np.abs(whole.astype(int) - upright).mean(axis=(1, 2, 3)).max())
    return Read(facts, whole.shape, stamps_of(whole), apart)


@pytest.fixture(scope="module")
def box() -> "Sandbox[str, Read]":
    with Sandbox[str, Read](workers=2, memory_bytes=3 << 30, timeout_s=30) as box:
        yield box


def judged(box: "Sandbox[str, Read]", paths: list[Path]) -> dict[str, Read | MediaError]:
    outcomes = {Path(path).name: result for path, result in box.map(inspect_and_read, [str(path) for path in paths])}
    for name, result in outcomes.items():
        if isinstance(result, MediaError):
            assert result.reason in REASONS, (name, result)
            assert re.fullmatch(r"[^\n]{10,}(\n.*)*", result.detail), (name, result)
        else:
            facts = result.facts
            assert result.shape == (facts.frames, facts.height, facts.width, 3), name
            assert len(facts.times_s) == facts.frames
            assert facts.times_s[0] == 0
            assert (np.diff(facts.times_s) > 0).all()
    return outcomes


def spoilt(data: bytes, rng: np.random.Generator, header: tuple[int, int]) -> bytes:
    """Cut off, flip bits anywhere, or flip bits in the header: one in three each."""
    kind = rng.integers(3)
    if kind == 0:
        return data[: rng.integers(1, len(data))]
    spoilt = bytearray(data)
    first, last = (0, len(data)) if kind == 1 else header
    for _ in range(int(rng.integers(1, 6))):
        spoilt[int(rng.integers(first, last))] ^= 1 << int(rng.integers(8))
    return bytes(spoilt)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("index last.mp4", {"b_frames": 2, "audio": True}),
        ("a.mkv", {"b_frames": 2}),
        ("hevc.mp4", {"codec": "libx265", "b_frames": 2}),
    ],
)
def test_truncations_and_bit_flips_end_as_facts_or_a_reason(
    box: "Sandbox[str, Read]", tmp_path: Path, name: str, options: dict[str, object]
) -> None:
    whole = write_clip(tmp_path / name, stamped(FRAMES), **options)  # type: ignore[arg-type]
    data, rng = whole.read_bytes(), np.random.default_rng(len(name))
    start = data.find(b"moov")
    header = (start, len(data)) if start > 0 else (0, 600)
    paths = []
    for i in range(DAMAGED if name == "index last.mp4" else DAMAGED // 6):
        paths.append(tmp_path / f"{i} {name}")
        paths[-1].write_bytes(spoilt(data, rng, header))

    outcomes = judged(box, paths)

    refused = [result.reason for result in outcomes.values() if isinstance(result, MediaError)]
    assert len(refused) > len(paths) / 3
    assert "decoder_crashed" not in refused  # would be allowed, but FFmpeg is better than that: look closely if not
    assert "timeout" not in refused
    read = [result for result in outcomes.values() if isinstance(result, Read)]
    assert read
    assert max(each.apart for each in read) == 0  # a flipped bit may spoil a picture unseen, but moves none


def test_odd_but_sound_files_give_their_facts(box: "Sandbox[str, Read]", tmp_path: Path) -> None:
    pixels = stamped(FRAMES)
    uneven = [i * 0.1 - 0.06 * (i % 2) for i in range(FRAMES)]
    odd = stamped(FRAMES, 67, 49)
    made = {
        "plain.mp4": write_clip(tmp_path / "plain.mp4", pixels),
        "uneven.mp4": write_clip(tmp_path / "uneven.mp4", pixels, times_s=uneven),
        "90.mp4": write_clip(tmp_path / "90.mp4", odd, rotation=90, pixel_format="yuv444p"),
        "180.mp4": write_clip(tmp_path / "180.mp4", pixels, rotation=180),
        "270.mov": write_clip(tmp_path / "270.mov", pixels, rotation=270),
        "ten.mp4": write_clip(tmp_path / "ten.mp4", pixels, pixel_format="yuv420p10le"),
        "odd.mp4": write_clip(tmp_path / "odd.mp4", odd, pixel_format="yuv444p"),
        "one.mp4": write_clip(tmp_path / "one.mp4", pixels[:1]),
        "sound.mp4": write_clip(tmp_path / "sound.mp4", pixels, audio=True),
        "open.mp4": write_clip(tmp_path / "open.mp4", pixels, codec="libx265", b_frames=3, key_every=4),
        "a name with spaces.mp4": write_clip(tmp_path / "a name with spaces.mp4", pixels),
        "Zoë 舞 🕺.mkv": write_clip(tmp_path / "Zoë 舞 🕺.mkv", pixels),
        'it\'s "quoted"; $(rm -rf x) `y` %20 #1?.mp4': write_clip(
            tmp_path / 'it\'s "quoted"; $(rm -rf x) `y` %20 #1?.mp4', pixels
        ),
        "no suffix": write_clip(tmp_path / "no suffix", pixels, container="mp4"),
        "film called.png": write_clip(tmp_path / "film called.png", pixels, container="mp4"),
    }

    outcomes = judged(box, list(made.values()))

    assert {name: result.reason for name, result in outcomes.items() if isinstance(result, MediaError)} == {}
    reads = {name: result for name, result in outcomes.items() if isinstance(result, Read)}
    assert {name for name, read in reads.items() if read.apart} == {"ten.mp4"}  # 10 to 8 bits differs a little
    assert reads["ten.mp4"].apart < 3
    assert all(read.stamps == list(range(read.facts.frames)) for name, read in reads.items() if name != "uneven.mp4")
    facts = {name: read.facts for name, read in reads.items()}
    assert {name: each.rotation for name, each in facts.items() if each.rotation} == {
        "90.mp4": 90, "180.mp4": 180, "270.mov": 270,
    }  # fmt: skip
    assert {name for name, each in facts.items() if each.variable_fps} == {"uneven.mp4"}
    assert {name for name, each in facts.items() if each.has_audio} == {"sound.mp4"}
    assert (facts["90.mp4"].width, facts["90.mp4"].height) == (67, 49)
    assert facts["one.mp4"].frames == 1
    assert facts["one.mp4"].duration_s == pytest.approx(1 / 30, rel=1e-3)
    assert facts["plain.mp4"].file_fps == pytest.approx(30)
    assert facts["plain.mp4"].duration_s == pytest.approx(FRAMES / 30)
    assert (facts["ten.mp4"].codec, facts["ten.mp4"].pixel_format) == ("h264", "yuv420p10le")
    np.testing.assert_allclose(facts["uneven.mp4"].times_s, uneven, atol=1e-4)


def bytes_at(data: bytes, box_name: bytes, offset: int, fmt: str, *values: int) -> bytes:
    """Overwrite fields of the first box of that name (ISO/IEC 14496-12), `offset` bytes after its name."""
    patched = bytearray(data)
    struct.pack_into(fmt, patched, data.index(box_name) + 4 + offset, *values)
    return bytes(patched)


@pytest.fixture
def data(tmp_path: Path) -> bytes:
    return write_clip(tmp_path / "whole.mp4", stamped(FRAMES), b_frames=2).read_bytes()


HUGE = 0x7FFFFFF0
HEADERS: dict[str, Callable[[bytes], bytes]] = {
    "tkhd of 30000 px": lambda data: bytes_at(data, b"tkhd", 76, ">II", 30_000 << 16, 30_000 << 16),
    "avc1 of 65535 px": lambda data: bytes_at(data, b"avc1", 24, ">HH", 65_535, 65_535),
    "huge stts": lambda data: bytes_at(data, b"stts", 4, ">III", 1, HUGE, 1),
    "huge stts count": lambda data: bytes_at(data, b"stts", 4, ">I", HUGE),
    "huge stsz count": lambda data: bytes_at(data, b"stsz", 8, ">I", HUGE),
    "huge stsz samples": lambda data: bytes_at(data, b"stsz", 4, ">II", HUGE, HUGE),
    "huge stsc": lambda data: bytes_at(data, b"stsc", 4, ">IIII", 1, 1, HUGE, 1),
    "huge stco count": lambda data: bytes_at(data, b"stco", 4, ">I", HUGE),
    "stco beyond the end": lambda data: bytes_at(data, b"stco", 8, ">I", HUGE),
    "huge duration": lambda data: bytes_at(data, b"mdhd", 12, ">II", 1, HUGE),
    "huge frame time": lambda data: bytes_at(data, b"stts", 4, ">III", 1, FRAMES, HUGE // 100),
    "huge mdat": lambda data: bytes_at(data, b"mdat", -8, ">I", HUGE),
    "huge moov": lambda data: bytes_at(data, b"moov", -8, ">I", HUGE),
    "mdat of zeros": lambda data: (
        data[: data.index(b"mdat") + 4]
        + bytes(data.index(b"moov") - 8 - data.index(b"mdat"))
        + data[data.index(b"moov") - 4 :]
    ),
    "turned by 45 degrees": lambda data: bytes_at(data, b"tkhd", 40, ">6i", 46_341, 46_341, 0, -46_341, 46_341, 0),
}
REFUSED = {"huge stts", "huge stsz samples", "huge frame time", "huge mdat", "huge moov", "mdat of zeros"}


def test_enormous_or_impossible_headers_end_as_facts_or_a_reason(
    box: "Sandbox[str, Read]", tmp_path: Path, data: bytes
) -> None:
    paths = []
    for name, patch in HEADERS.items():
        paths.append(tmp_path / f"{name}.mp4")
        paths[-1].write_bytes(patch(data))

    outcomes = judged(box, paths)

    reasons = {name.removesuffix(".mp4"): getattr(result, "reason", "fine") for name, result in outcomes.items()}
    assert reasons["tkhd of 30000 px"] == "fine"  # how large it is shown; its pictures are as ever
    assert reasons["turned by 45 degrees"] == "odd_rotation"
    assert {name for name in REFUSED if reasons[name] == "fine"} == set()


def test_what_is_no_film_is_refused_by_what_it_is(box: "Sandbox[str, Read]", tmp_path: Path, data: bytes) -> None:
    picture = Image.fromarray(stamped(1)[0])
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "zeros.mp4").write_bytes(bytes(5000))
    (tmp_path / "text.mp4").write_text("WEBVTT\n\nthis is no film\n" * 50)
    (tmp_path / "playlist.mp4").write_text(f"#EXTM3U\n#EXTINF:1,\n{tmp_path}/whole.mp4\n#EXT-X-ENDLIST\n")
    (tmp_path / "list.mp4").write_text(f"ffconcat version 1.0\nfile {tmp_path}/whole.mp4\n")
    for kind in ("PNG", "JPEG", "WEBP", "BMP", "TIFF"):
        picture.save(tmp_path / f"{kind.lower()}.mp4", format=kind)
    frames = [Image.fromarray(each) for each in stamped(4)]
    frames[0].save(tmp_path / "gif.mp4", format="GIF", save_all=True, append_images=frames[1:])
    (tmp_path / "head.mp4").write_bytes(data[:40])
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) // 2])
    write_sound(tmp_path / "sound alone.mp4")
    _without_frames(tmp_path / "no frames.mp4")
    _with_cover(tmp_path / "sound with cover.mp4")
    _growing(tmp_path / "growing.mkv")
    folder = tmp_path / "folder.mp4"
    folder.mkdir()
    names = {path.name for path in tmp_path.iterdir()} - {"whole.mp4"} | {"none.mp4"}

    outcomes = judged(box, [tmp_path / name for name in sorted(names)])

    reasons = {name: getattr(result, "reason", "fine") for name, result in outcomes.items()}
    wanted = {
        "empty.mp4": "empty", "zeros.mp4": "not_media", "text.mp4": "not_media", "playlist.mp4": "not_media",
        "list.mp4": "not_media", "png.mp4": "not_video", "jpeg.mp4": "not_video", "webp.mp4": "not_video",
        "bmp.mp4": "not_video", "tiff.mp4": "not_video", "gif.mp4": "not_video", "head.mp4": "damaged",
        "cut.mp4": "truncated", "sound alone.mp4": "no_video_stream", "no frames.mp4": "no_frames",
        "sound with cover.mp4": "no_video_stream", "growing.mkv": "size_changes", "folder.mp4": "missing",
        "none.mp4": "missing",
    }  # fmt: skip
    # a container in which there is no frame has no size either: FFmpeg may not even see a stream
    assert reasons.pop("no frames.mp4") in ("no_frames", "no_video_stream", "damaged")
    del wanted["no frames.mp4"]
    assert reasons == wanted


def _without_frames(path: Path) -> None:
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        file.start_encoding()


def _with_cover(path: Path) -> None:
    cover = path.with_suffix(".cover.mp4")
    write_clip(cover, stamped(1), codec="mjpeg", pixel_format="yuvj420p")
    with av.open(str(path), "w") as file, av.open(str(cover)) as pictures:
        sound = file.add_stream("aac", rate=16_000, layout="mono")
        still = file.add_stream_from_template(pictures.streams.video[0])
        still.disposition = av.stream.Disposition.attached_pic
        for packet in pictures.demux(video=0):
            if packet.size:
                packet.stream = still
                file.mux(packet)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16_000), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16_000
        file.mux(sound.encode(frame))
        file.mux(sound.encode(None))
    cover.unlink()


def _growing(path: Path) -> None:
    """A film whose pictures change size half-way: two VP9 streams in one."""
    with av.open(str(path), "w") as file:
        small, large = (_vp9_packets(stamped(5, *size)) for size in ((64, 48), (96, 64)))
        stream = file.add_stream("libvpx-vp9", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        file.start_encoding()
        for i, payload in enumerate(small + large):
            packet = av.Packet(payload)
            packet.stream, packet.pts, packet.dts, packet.is_keyframe = stream, i * 33, i * 33, i in (0, 5)
            packet.time_base = Fraction(1, 1000)
            file.mux(packet)


def _vp9_packets(pixels: Pixels) -> list[bytes]:
    encoder = av.CodecContext.create("libvpx-vp9", "w")
    encoder.width, encoder.height, encoder.pix_fmt = pixels.shape[2], pixels.shape[1], "yuv420p"
    encoder.framerate, encoder.options = 30, {"lag-in-frames": "0", "auto-alt-ref": "0"}
    packets = [p for each in pixels for p in encoder.encode(av.VideoFrame.from_ndarray(each, format="rgb24"))]
    return [bytes(packet) for packet in packets + encoder.encode(None)]


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (Limits(max_bytes=1000), "too_large"),
        (Limits(max_pixels=64 * 48 - 1), "too_many_pixels"),
        (Limits(max_frames=FRAMES - 1), "too_long"),
        (Limits(max_duration_s=FRAMES / 30 - 0.05), "too_long"),
        (Limits(max_bytes=100_000, max_pixels=64 * 48, max_frames=FRAMES, max_duration_s=FRAMES / 30 + 0.01), None),
    ],
)
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])  # the second does not say in its header how many frames it has
def test_each_limit_is_kept_and_what_is_just_below_it_passes(
    tmp_path: Path, name: str, limits: Limits, reason: str | None
) -> None:
    path = str(write_clip(tmp_path / name, stamped(FRAMES)))
    if reason is None:
        assert inspect_video(path, limits).frames == FRAMES
        return
    with pytest.raises(MediaError) as refused:
        inspect_video(path, limits)
    assert refused.value.reason == reason
    assert re.search(r"\d", refused.value.detail)  # a sentence with the numbers


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi", ".webm"])
def test_a_file_cut_anywhere_near_its_end_is_truncated(tmp_path: Path, suffix: str) -> None:
    codec = {".avi": "mpeg4", ".webm": "libvpx-vp9"}.get(suffix, "libx264")
    whole = write_clip(tmp_path / f"whole{suffix}", stamped(FRAMES), codec=codec).read_bytes()
    cut = tmp_path / f"cut{suffix}"
    for keep in (len(whole) - 1, len(whole) - 100, len(whole) * 2 // 3):
        cut.write_bytes(whole[:keep])
        with pytest.raises(MediaError, match="truncated"):
            inspect_video(str(cut))


def test_a_film_that_decord_reads_wrongly_is_refused(tmp_path: Path) -> None:
    """MPEG-TS: decord 3.4 begins with the second group of pictures, and would say nothing."""
    path = write_clip(tmp_path / "a.ts", stamped(40), b_frames=2)
    with pytest.raises(MediaError, match=r"decoders_disagree.*encode the file anew"):
        inspect_video(str(path))


def test_pictures_give_their_facts_or_a_reason(tmp_path: Path) -> None:
    upright = stamped(1, 65, 49)[0]
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.ascontiguousarray(np.rot90(upright))).save(tmp_path / "turned.jpg", exif=exif)
    Image.fromarray(np.dstack([upright, np.full((49, 65), 255, np.uint8)])).save(tmp_path / "opaque.png")
    Image.fromarray(np.dstack([upright, np.full((49, 65), 254, np.uint8)])).save(tmp_path / "clear.webp")

    def facts(name: str) -> PictureFacts:
        return inspect_picture(str(tmp_path / name), Limits(max_pixels=65 * 49))

    assert facts("turned.jpg") == PictureFacts(65, 49, has_alpha=False, format="JPEG")
    assert facts("opaque.png") == PictureFacts(65, 49, has_alpha=False, format="PNG")
    assert facts("clear.webp") == PictureFacts(65, 49, has_alpha=True, format="WEBP")


def test_damaged_and_hostile_pictures_end_as_facts_or_a_reason(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    picture = Image.fromarray(stamped(1)[0])
    seen = set()
    for kind in ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP"):
        picture.save(tmp_path / "whole", format=kind)
        data = (tmp_path / "whole").read_bytes()
        for i in range(40):
            path = tmp_path / f"{kind} {i}"
            path.write_bytes(spoilt(data, rng, (0, min(len(data), 64))))
            try:
                facts = inspect_picture(str(path), Limits(max_pixels=1 << 20))
                seen.add("fine" if 0 < facts.width * facts.height <= 1 << 20 else "too large")
            except MediaError as error:
                seen.add(error.reason)

    assert {"fine", "damaged", "not_picture"} <= seen
    assert seen <= {"fine", *REASONS}


def test_a_picture_that_says_it_is_enormous_is_not_decoded(tmp_path: Path) -> None:
    Image.fromarray(stamped(1)[0]).save(tmp_path / "bomb.png")
    data = bytearray((tmp_path / "bomb.png").read_bytes())
    for side, reason in ((60_000, "too_many_pixels"), (12_000, "too_many_pixels")):
        struct.pack_into(">II", data, 16, side, side)
        struct.pack_into(">I", data, 29, _crc(bytes(data[12:29])))
        (tmp_path / "bomb.png").write_bytes(data)
        with pytest.raises(MediaError, match=reason):
            inspect_picture(str(tmp_path / "bomb.png"))


def _crc(data: bytes) -> int:
    import zlib

    return zlib.crc32(data)
