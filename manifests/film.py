"""What was made, as a film for people: mp4 with what it is written into it, and the sound of another film."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from manifests.decoding import MediaError
from manifests.errors import UserError, is_full
from manifests.inspection import CONTAINERS
from manifests.media import Video, write_mp4

SOUNDS: Final = ("aac", "mp3", "ac3", "eac3", "alac", "opus", "flac")
"""Sound that players expect in mp4, by FFmpeg's names; it is copied as it is."""
_OPTIONS: Final = {"format_whitelist": CONTAINERS, "protocol_whitelist": "file"}


class FilmError(UserError):
    """A film cannot be written; nothing of it is left."""

    exit_code = 1


def check_sound(path: str | os.PathLike[str]) -> None:
    """Make sure that the sound of a film can be copied into an mp4.

    Raises:
        FilmError: it has none, or of a kind that mp4 players do not expect.
    """
    import av

    name = os.path.basename(path)
    with av.open(os.path.abspath(path), options=_OPTIONS, metadata_errors="replace") as file:
        sound = file.streams.best("audio")
        if sound is None:
            raise FilmError(f"{name} has no sound that could be copied: leave --audio out")
        if sound.codec_context.name not in SOUNDS:
            raise FilmError(
                f"the sound of {name} is {sound.codec_context.name}, which mp4 players do not expect: convert it to "
                "aac first, or leave --audio out"
            )


def write_film(
    video: Video,
    path: str | os.PathLike[str],
    tags: Mapping[str, str],
    sound_of: str | os.PathLike[str] | None = None,
) -> None:
    """Write an mp4 as `manifests.media.write_mp4` does, whole or not at all.

    It is made under another name in the same folder, read through, and then put in its place.

    Args:
        video: The pictures.
        path: Where to; a file that is there is replaced.
        tags: Of the container, such as `title` and `comment`.
        sound_of: A film whose sound is copied, packet by packet, from its first picture on, for as long as the video
            lasts.

    Raises:
        FilmError: the disk is full or the folder cannot be written to, or of `check_sound`.
    """
    import av

    target = Path(path)
    silent, whole = (target.with_name(f".{target.name}.{os.getpid()}.{what}.part") for what in ("silent", "whole"))
    try:
        write_mp4(video, silent)
        _add(silent, whole, tags, sound_of)
        _check(whole, len(video.frames))
        os.replace(whole, target)
    except (OSError, av.error.FFmpegError, MediaError) as error:
        raise not_written(target, error) from error
    finally:
        for part in (silent, whole):
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)


def not_written(target: Path, error: Exception) -> FilmError:
    """Return what to say of a file that could not be written."""
    if isinstance(error, OSError) and is_full(error):
        folder = target.parent.absolute()
        return FilmError(f"no space left in {folder} for {target.name}; nothing was written: free some and try again")
    said = getattr(error, "strerror", None) or " ".join(str(error).split())
    return FilmError(f"{target} cannot be written ({said}): name a file in a folder that can be written to")


def _add(silent: Path, whole: Path, tags: Mapping[str, str], sound_of: str | os.PathLike[str] | None) -> None:
    """Copy the pictures of `silent` to `whole`, with tags and sound."""
    import av

    options = {"movflags": "+faststart", "fflags": "+bitexact"}
    with contextlib.ExitStack() as files:
        pictures: Any = files.enter_context(av.open(str(silent), metadata_errors="replace"))
        out: Any = files.enter_context(av.open(str(whole), "w", format="mp4", options=options))
        out.metadata.update({**pictures.metadata, **tags})
        seen = pictures.streams.video[0]
        copied = out.add_stream_from_template(seen)
        end_s = float(seen.duration * seen.time_base)
        packets = [(packet, copied) for packet in pictures.demux(seen) if packet.dts is not None]
        if sound_of is not None:
            check_sound(sound_of)
            film = files.enter_context(av.open(os.path.abspath(sound_of), options=_OPTIONS, metadata_errors="replace"))
            heard = out.add_stream_from_template(film.streams.best("audio"))
            packets += [(packet, heard) for packet in _sound(film, end_s)]
        for packet, stream in sorted(packets, key=lambda each: float(each[0].dts * each[0].time_base)):
            packet.stream = stream
            out.mux(packet)


def _sound(film: Any, end_s: float) -> Iterator[Any]:
    """Give the packets of a film's sound, timed from its first picture on, until `end_s`.

    A packet before that is kept if the decoder needs it for the first sound: it lies less than its own length before.
    """
    pictures, sound = film.streams.best("video"), film.streams.best("audio")
    zero_s = 0.0 if pictures is None or pictures.start_time is None else float(pictures.start_time * pictures.time_base)
    for packet in film.demux(sound):
        if packet.dts is None:
            continue
        shift = round(zero_s / packet.time_base)
        packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
        if packet.pts + (packet.duration or 0) >= 0 and packet.pts * packet.time_base < end_s:
            yield packet


def _check(path: Path, frames: int) -> None:
    """Make sure that a film has as many pictures as were written: a disk that fills up late is not always said."""
    import av

    with av.open(str(path), metadata_errors="replace") as file:
        found = sum(packet.size > 0 for packet in file.demux(video=0))
    if found != frames:
        raise MediaError("truncated", f"{found} of {frames} pictures arrived")
