"""Segments, against the decoder's own rule of which instants a film has, and against rates known by construction."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifests.decoding import MediaError, end_of_last, frames_on_screen
from manifests.entries import Span
from manifests.facts import FilmFacts
from manifests.segments import Cutting, Segment, frames_in, rate_of, segments_of


def film(times_s: np.ndarray, rate: float, variable: bool = False) -> FilmFacts:  # type: ignore[type-arg]
    duration_s = end_of_last(times_s, rate)
    return FilmFacts(64, 48, 0, len(times_s) / duration_s, len(times_s), duration_s, variable, "h264", "yuv420p", False)


def even(frames: int, rate: float) -> FilmFacts:
    return film(np.arange(frames) / rate, rate)


RATES = [24_000 / 1001, 24.0, 25.0, 30_000 / 1001, 30.0, 60_000 / 1001, 60.0, 12.5]


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("frames", [30, 1000])
@pytest.mark.parametrize("decimals", [3, 9], ids=["matroska", "mp4"])
def test_the_rate_of_a_film_is_the_one_it_was_made_with(rate: float, frames: int, decimals: int) -> None:
    """Matroska rounds times to milliseconds; 30 frames of 23.976 and of 24 a second are then almost the same."""
    found = rate_of(film(np.round(np.arange(frames) / rate, decimals), rate))
    drift_s = abs(1 / found - 1 / rate) * frames
    assert found == round(rate, 6) or drift_s < 2e-3


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("frames", [1, 2, 17, 999])
def test_at_its_own_rate_a_segment_is_every_frame_of_the_film_once(rate: float, frames: int) -> None:
    times_s = np.arange(frames) / rate
    (segment,) = segments_of(film(times_s, rate), Span(), Cutting())
    shown = frames_on_screen(times_s, end_of_last(times_s, rate), segment.start_s, segment.fps, segment.frames or 0)
    assert shown.tolist() == list(range(frames))


def test_a_variable_rate_becomes_a_whole_number() -> None:
    rng = np.random.default_rng(0)
    times_s = np.cumsum(rng.choice([0.033, 0.034, 0.05], 300, p=[0.6, 0.3, 0.1]))
    assert rate_of(film(times_s - times_s[0], 30, variable=True)) == 28.0, "the mean is 28.01"
    assert rate_of(replace(even(10, 30.0), variable_fps=True, file_fps=0.4)) == 0.4


@given(
    steps=st.lists(st.floats(0.004, 0.5), min_size=1, max_size=60),
    fps=st.floats(1, 61),
    start=st.floats(0, 3),
    longest=st.one_of(st.none(), st.integers(1, 20)),
)
def test_every_frame_of_every_segment_exists_and_two_more_would_not(
    steps: list[float], fps: float, start: float, longest: int | None
) -> None:
    """By the decoder's own rule, on films of any timing."""
    times_s = np.concatenate([[0.0], np.cumsum(steps)])
    facts = replace(film(times_s, 30.0), file_fps=100.0)  # no rate is too high
    found = segments_of(facts, Span(start_s=start), Cutting(fps, max_frames=longest))
    if found[0].reject is not None:
        assert found[0].reject == "segment_outside_file"
        assert start > facts.file_duration_s - 3e-3
        return
    for segment in found:
        frames_on_screen(times_s, facts.file_duration_s, segment.start_s, segment.fps, segment.frames or 0)
    last = found[-1]
    with pytest.raises(MediaError):
        frames_on_screen(times_s, facts.file_duration_s, last.start_s, last.fps, (last.frames or 0) + 2)
    assert sum(segment.frames or 0 for segment in found) == frames_in(
        found[0].start_s, facts.file_duration_s, found[0].fps
    )


def test_pieces_follow_each_other_without_gap_or_overlap_and_the_short_rest_has_its_reason() -> None:
    found = segments_of(even(250, 25.0), Span(), Cutting(min_frames=60, max_frames=100))
    assert [(piece.start_s, piece.frames, piece.reject) for piece in found] == [
        (0.0, 100, None),
        (4.0, 100, None),
        (8.0, 50, "too_short"),
    ]
    assert found[2].reject_detail == "50 frames at 25 a second, wanted at least 60"


def test_a_row_names_its_part_by_end_or_by_frames_and_its_own_rate_goes_first() -> None:
    facts = even(300, 30.0)
    assert segments_of(facts, Span(start_s=2.0, end_s=4.0), Cutting()) == [Segment(2.0, 30.0, 60)]
    assert segments_of(facts, Span(start_s=2.0, frames=10, fps=15.0), Cutting(fps=10.0)) == [Segment(2.0, 15.0, 10)]
    assert segments_of(facts, Span(end_s=10.4), Cutting()) == [Segment(0.0, 30.0, 300)], "lists round up to seconds"


@pytest.mark.parametrize(
    ("span", "asked"),
    [
        (Span(start_s=10.0), "10 s to the end"),
        (Span(end_s=60.0), "0 s to 60 s"),
        (Span(frames=301), "301 frames at 30 a second from 0 s"),
        (Span(start_s=9.0, frames=31), "31 frames at 30 a second from 9 s"),
    ],
)
def test_a_part_that_the_film_does_not_have_is_a_reason(span: Span, asked: str) -> None:
    (found,) = segments_of(even(300, 30.0), span, Cutting())
    assert (found.reject, found.reject_detail) == (
        "segment_outside_file",
        f"asked for {asked}, but the film ends at 10.000 s",
    )


def test_a_rate_far_above_the_films_own_would_repeat_frames_and_is_a_reason() -> None:
    assert segments_of(even(240, 24.0), Span(), Cutting(fps=25.0))[0].reject is None
    assert segments_of(even(240, 24.0), Span(), Cutting(fps=30.0))[0].reject == "fps_above_file"


def test_shots_cut_segments_and_what_lies_in_a_dissolve_is_no_shot() -> None:
    facts, shots = even(100, 25.0), [(0.0, 1.2), (1.6, 4.0)]
    found = segments_of(facts, Span(), Cutting(), shots)
    assert [(piece.start_s, piece.frames) for piece in found] == [(0.0, 30), (1.6, 60)]
    (inside,) = segments_of(facts, Span(start_s=1.0, end_s=1.8), Cutting(), [(0.0, 4.0)])
    assert inside.frames == 20
    assert segments_of(facts, Span(start_s=1.25, end_s=1.5), Cutting(), shots)[0].reject == "no_shot"
