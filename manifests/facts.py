"""What a table says of a file, found in a child process: this module loads little, so that a child starts soon."""

from dataclasses import dataclass

from manifests.inspection import Limits, PictureFacts, inspect_picture, inspect_video


@dataclass(frozen=True)
class FilmFacts:
    """What a film holds, as the table `sources` says it: px of the upright picture, seconds, frames a second."""

    width: int
    height: int
    rotation: int
    file_fps: float
    file_frames: int
    file_duration_s: float
    variable_fps: bool
    codec: str
    pixel_format: str
    has_audio: bool


def facts_of_film(job: tuple[str, Limits]) -> FilmFacts:
    """Decode the film at a path, within limits, and return what the table says of it.

    Raises:
        MediaError: as `manifests.inspection.inspect_video`.
    """
    facts = inspect_video(*job)
    return FilmFacts(
        facts.width, facts.height, facts.rotation, facts.file_fps, facts.frames, facts.duration_s,
        facts.variable_fps, facts.codec, facts.pixel_format, facts.has_audio,
    )  # fmt: skip


def facts_of_picture(job: tuple[str, Limits]) -> PictureFacts:
    """Decode the picture at a path, within limits; raises as `manifests.inspection.inspect_picture`."""
    return inspect_picture(*job)
