"""A film to segments: which part of it, at which rate, in pieces of which length.

A segment is asked for in seconds and stored in frames: frame i shows the time start_s + i / fps. There are as many
frames as instants before the end of the last picture (by the rule of `manifests.decoding`), so that each can be read.
Starts are rounded to whole microseconds, far below the millisecond by which the decoder lets an instant miss a picture.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from manifests.decoding import EDGE_S
from manifests.entries import Span
from manifests.facts import FilmFacts

TimeSpan = tuple[float, float]  # first instant and end, seconds from the start of the file

USUAL_RATES: Final = (
    *(10.0, 12.0, 12.5, 15.0, 20.0, 24.0, 25.0, 30.0, 48.0, 50.0, 60.0, 90.0, 100.0, 120.0, 240.0),
    *(24_000 / 1001, 30_000 / 1001, 60_000 / 1001, 120_000 / 1001),
)
MOST_ABOVE_FILE: Final = 1.05  # 24 to 25 frames a second repeats one frame a second; 24 to 30 repeats every fourth
MOST_PAST_END_S: Final = 1.0  # lists often give a clip's length in whole seconds
_DECIMALS: Final = 6


@dataclass(frozen=True)
class Cutting:
    """How films are cut: `fps` None is each film's own rate; pieces are `min_frames` to `max_frames` long."""

    fps: float | None = None
    min_frames: int = 1
    max_frames: int | None = None


@dataclass(frozen=True)
class Segment:
    """A part of a film; `frames` is None if there is no such part. Not to be used if there is a reason in `reject`."""

    start_s: float
    fps: float
    frames: int | None
    reject: str | None = None
    reject_detail: str | None = None


def rate_of(facts: FilmFacts) -> float:
    """Return the rate at which a film's own frames are read one by one, frames a second.

    Of an even film, the usual rate that drifts least from it, if it drifts by less than the rounding of times in a file
    (Matroska: whole milliseconds) from the first frame to the last; otherwise the fraction with a denominator up to
    1001. Of a film with a variable rate, the mean, as a whole number: its frames are then shown when they are due.
    """
    mean = facts.file_fps
    if facts.variable_fps and mean >= 5:
        return float(round(mean))

    def drift_s(rate: float) -> float:
        return abs(1 / rate - 1 / mean) * max(facts.file_frames - 1, 1)

    nearest = min(USUAL_RATES, key=drift_s)
    if drift_s(nearest) <= 1.1 * EDGE_S:
        return _rounded(nearest)
    return _rounded(float(Fraction(mean).limit_denominator(1001)) or mean)


def frames_in(start_s: float, end_s: float, fps: float) -> int:
    """Return how many instants start_s + i / fps, from i = 0, lie before `end_s`."""
    return max(0, math.floor((end_s - start_s - EDGE_S) * fps + 1e-9) + 1) if end_s - start_s > EDGE_S else 0


def segments_of(
    facts: FilmFacts, span: Span, cutting: Cutting, shots: Sequence[TimeSpan] | None = None
) -> list[Segment]:
    """Return the segments of the part of a film that a row asks for, one or more, in order.

    `shots` are the shots of the whole film, if it is to be cut at them. A row's own rate goes before that of `cutting`.
    Each piece that cannot be used is a segment with its reason: segment_outside_file, fps_above_file, too_short.
    """
    fps = _rounded(span.fps or cutting.fps or rate_of(facts))
    start_s, end_s = _rounded(span.start_s or 0.0), facts.file_duration_s
    most = frames_in(start_s, end_s, fps)
    if most < (span.frames or 1) or (span.end_s or 0.0) > end_s + MOST_PAST_END_S:
        detail = f"asked for {_asked(span, fps)}, but the film ends at {end_s:.3f} s"
        return [Segment(start_s, fps, span.frames, "segment_outside_file", detail)]
    if span.frames is not None:
        end_s = start_s + span.frames / fps
    elif span.end_s is not None:
        end_s = min(end_s, span.end_s)
    if fps > MOST_ABOVE_FILE * max(facts.file_fps, rate_of(facts)):
        detail = f"asked for {fps:g} frames a second, the film has {facts.file_fps:.3f}: frames would be repeated"
        return [Segment(start_s, fps, frames_in(start_s, end_s, fps), "fps_above_file", detail)]
    parts = [(start_s, end_s)] if shots is None else _intersected(shots, start_s, end_s)
    if not parts:
        frames = frames_in(start_s, end_s, fps)
        return [Segment(start_s, fps, frames, "no_shot", f"all of {_asked(span, fps)} lies within a dissolve")]
    return [piece for part in parts for piece in _pieces(*part, fps, cutting)]


def _asked(span: Span, fps: float) -> str:
    if span.frames is not None:
        return f"{span.frames} frames at {fps:g} a second from {span.start_s or 0.0:g} s"
    return f"{span.start_s or 0.0:g} s to " + ("the end" if span.end_s is None else f"{span.end_s:g} s")


def _pieces(start_s: float, end_s: float, fps: float, cutting: Cutting) -> Iterable[Segment]:
    frames = frames_in(start_s, end_s, fps)
    longest = cutting.max_frames or frames
    for first in range(0, frames, longest):
        length = min(longest, frames - first)
        piece = Segment(_rounded(start_s + first / fps), fps, length)
        if length < cutting.min_frames:
            detail = f"{length} frames at {fps:g} a second, wanted at least {cutting.min_frames}"
            piece = Segment(piece.start_s, fps, length, "too_short", detail)
        yield piece


def _intersected(shots: Sequence[TimeSpan], start_s: float, end_s: float) -> list[TimeSpan]:
    parts = [(_rounded(max(first, start_s)), min(end, end_s)) for first, end in shots]
    return [part for part in parts if part[1] - part[0] > EDGE_S]


def _rounded(value: float) -> float:
    return round(float(value), _DECIMALS)
