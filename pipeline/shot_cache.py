"""Shots of a film, found once: kept under the root by the film's content and by what finds them."""

import contextlib
import json

from manifests.facts import FilmFacts
from manifests.files import files_of
from manifests.keys import digest
from manifests.media import Clip
from manifests.segments import TimeSpan, frames_in, rate_of
from manifests.store import Store


def shots_in(root: str, path: str, sha256: str, facts: FilmFacts, threshold: float) -> list[TimeSpan]:
    """Return the shots of the film at `path` (or URL) as first instant and end, seconds; found anew if not yet kept.

    Of a film with a variable rate, whose frames are looked at on an even grid, a shot ends one grid frame early: a cut
    may lie anywhere between two of them.

    Raises:
        MediaError: the film cannot be decoded.
    """
    from stages.shots import recipe, shots

    key = digest([sha256, threshold, recipe()])
    files, place = files_of(root), f"shots/{key}.json"
    with contextlib.suppress(FileNotFoundError):
        return [(first, end) for first, end in json.loads(files.read(place))]
    fps = rate_of(facts)
    frames = frames_in(0.0, facts.file_duration_s, fps)
    early = int(facts.variable_fps)
    cuts = shots(Clip(Store(root).fetch(path), 0.0, fps, frames), threshold)
    spans = [(first / fps, facts.file_duration_s if end == frames else (end - early) / fps) for first, end in cuts]
    files.write(place, json.dumps(spans).encode())
    return spans
