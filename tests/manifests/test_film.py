"""What is written is what was made, tagged, with the sound of another film; and half of it is never there."""

import json
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from manifests.film import FilmError, check_sound, write_film
from manifests.media import Video, read_mp4, write_mp4
from tests.clips import stamped, stamps_of, write_clip, write_sound
from tests.faults.test_disk_full import needs_mount

TAGS = {"title": "Synthetic video", "comment": json.dumps({"synthetic": True, "seed": 7})}


def film(frames: int = 12, fps: float = 12.0) -> Video:
    return Video(stamped(frames), fps)


def heard(path: Path) -> NDArray[np.float32]:
    """Return the samples of a film's sound as FFmpeg decodes them."""
    with av.open(str(path)) as file:
        return np.concatenate([frame.to_ndarray()[0] for frame in file.decode(audio=0)])


def test_pictures_and_rate_are_those_that_write_mp4_stores_and_the_tags_are_there(tmp_path: Path) -> None:
    write_film(Video(stamped(12, 65, 49), 12.5), tmp_path / "film.mp4", TAGS)
    write_mp4(Video(stamped(12, 65, 49), 12.5), tmp_path / "plain.mp4")
    film, plain = read_mp4(tmp_path / "film.mp4"), read_mp4(tmp_path / "plain.mp4")
    np.testing.assert_array_equal(film.frames, plain.frames)
    assert film.frames.shape == (12, 49, 65, 3)
    assert film.fps == plain.fps == 12.5
    with av.open(str(tmp_path / "film.mp4")) as file:
        assert file.metadata["title"] == TAGS["title"]
        assert json.loads(file.metadata["comment"]) == {"synthetic": True, "seed": 7}
        assert len(file.streams) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["film.mp4", "plain.mp4"]


def test_equal_input_gives_equal_bytes(tmp_path: Path) -> None:
    for name in ("a.mp4", "b.mp4"):
        write_film(film(), tmp_path / name, TAGS)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_the_sound_is_the_other_films_to_the_sample_as_long_as_the_video_lasts(tmp_path: Path) -> None:
    write_clip(tmp_path / "clip.mp4", stamped(60), fps=30, audio=True)
    write_film(film(12), tmp_path / "film.mp4", TAGS, tmp_path / "clip.mp4")
    whole, copied = heard(tmp_path / "clip.mp4"), heard(tmp_path / "film.mp4")
    assert 16_000 <= len(copied) < 16_000 + 1024  # a second, and the packet in which it ends
    np.testing.assert_array_equal(copied, whole[: len(copied)])
    assert float(np.abs(copied).max()) > 0.1
    np.testing.assert_array_equal(stamps_of(read_mp4(tmp_path / "film.mp4").frames), np.arange(12))


def test_sound_begins_with_the_first_picture_however_late_that_comes(tmp_path: Path) -> None:
    times = [0.512 + i / 30 for i in range(45)]
    write_clip(tmp_path / "clip.mkv", stamped(45), times_s=times, audio=True)
    write_film(film(12), tmp_path / "film.mp4", TAGS, tmp_path / "clip.mkv")
    with av.open(str(tmp_path / "clip.mkv")) as file:
        packets = [(float(p.pts * p.time_base), bytes(p)) for p in file.demux(audio=0) if p.size]
    with av.open(str(tmp_path / "film.mp4")) as file:
        copied = [(float(p.pts * p.time_base), bytes(p)) for p in file.demux(audio=0) if p.size]
        assert file.streams.video[0].start_time == 0
    first = next(i for i, (_, data) in enumerate(packets) if data == copied[0][1])
    for (then, data), (now, same) in zip(packets[first:], copied, strict=False):
        assert data == same
        assert then - now == pytest.approx(0.512, abs=1.1e-3)
    assert abs(copied[0][0]) <= 0.064 + 1e-3  # one packet, which the decoder needs
    assert copied[-1][0] < 1.0


def test_sound_that_is_not_there_or_that_mp4_does_not_take_is_said_in_a_sentence(tmp_path: Path) -> None:
    silent = write_clip(tmp_path / "silent.mp4", stamped(3))
    with pytest.raises(FilmError, match=r"silent\.mp4 has no sound that could be copied: leave --audio out"):
        check_sound(silent)
    check_sound(write_sound(tmp_path / "sound.mp4"))
    write_sound(tmp_path / "plain.m4a")
    with av.open(str(tmp_path / "odd.mkv"), "w") as file:
        stream = file.add_stream("pcm_s16le", rate=16_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.int16), format="s16", layout="mono")
        frame.sample_rate = 16_000
        file.mux(stream.encode(frame))
    with pytest.raises(FilmError, match=r"the sound of odd\.mkv is pcm_s16le, which mp4 players do not expect"):
        check_sound(tmp_path / "odd.mkv")


def test_a_folder_that_is_not_there_is_said_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(FilmError, match=r"film\.mp4 cannot be written \(No such file or directory\): name a file"):
        write_film(film(), tmp_path / "nowhere" / "film.mp4", TAGS)


FILL = """
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
from manifests.film import FilmError, write_film
from manifests.media import Video
from tests.clips import stamped
folder = Path(sys.argv[1])
video, film = Video(stamped(120), 12.0), folder / "film.mp4"
write_film(video, film, {{"title": "x"}})
free = round({share} * film.stat().st_size)
film.write_bytes(b"old")
(folder / "filler").write_bytes(b"0" * ((1 << 20) - 8192 - free))
try:
    write_film(video, film, {{"title": "x"}})
except FilmError as error:
    print(error)
print(*sorted(path.name for path in folder.iterdir()), film.read_bytes())
"""


@needs_mount
@pytest.mark.parametrize("share", [0.0, 0.5, 1.5])  # in the pictures, or in the copy of them
def test_a_full_disk_leaves_the_old_film_and_nothing_half_written(tmp_path: Path, share: float) -> None:
    script = FILL.format(root=str(Path(__file__).parents[2]), share=share)
    mount = 'mount -t tmpfs -o size=1m tmpfs "$1" && exec "$2" -c "$3" "$1"'
    done = subprocess.run(
        ["unshare", "-rm", "bash", "-c", mount, "fill", str(tmp_path), sys.executable, script],
        capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    said, left = done.stdout.splitlines()
    assert said == f"no space left in {tmp_path} for film.mp4; nothing was written: free some and try again"
    assert left == "filler film.mp4 b'old'"
    assert done.stderr == ""
