"""Shots of a film, found once: kept under the root by the film's content and by what finds them."""

import json

import fsspec

from manifests.facts import FilmFacts
from manifests.keys import digest
from manifests.media import Clip
from manifests.segments import TimeSpan, frames_in, rate_of


def shots_in(root: str, path: str, sha256: str, facts: FilmFacts, threshold: float) -> list[TimeSpan]:
    """Return the shots of the film at `path` as first instant and end, seconds; found anew only if not yet kept.

    Of a film with a variable rate, whose frames are looked at on an even grid, a shot ends one grid frame early: a cut
    may lie anywhere between two of them.

    Raises:
        MediaError: the film cannot be decoded.
    """
    from stages.shots import recipe, shots

    key = digest([sha256, threshold, recipe()])
    fs, base = fsspec.core.url_to_fs(root)
    place = f"{base}/shots/{key}.json"
    if fs.exists(place):
        return [(first, end) for first, end in json.loads(fs.cat_file(place))]
    fps = rate_of(facts)
    frames = frames_in(0.0, facts.file_duration_s, fps)
    early = int(facts.variable_fps)
    cuts = shots(Clip(path, 0.0, fps, frames), threshold)
    spans = [(first / fps, facts.file_duration_s if end == frames else (end - early) / fps) for first, end in cuts]
    fs.makedirs(f"{base}/shots", exist_ok=True)
    fs.pipe_file(f"{place}.part", json.dumps(spans).encode())
    fs.mv(f"{place}.part", place)
    return spans
