"""Tracking, on people made of boxes whose true identity is known."""

from collections.abc import Iterator

import numpy as np
import pytest

from stages.looks import look_of_body, look_of_box, unlike
from stages.tracking import Box, Look, Tracker, alike_and_lost, in_order, iou, strain, switches

FRAMES = 60


def look(colour: int, noise: float = 0.0, seed: int = 0) -> Look:
    """A person in one colour (a bin of 64), with a share of noise."""
    histogram = np.zeros(64, np.float32)
    histogram[colour] = 1 - noise
    histogram += noise * np.random.default_rng(seed).dirichlet(np.ones(64)).astype(np.float32)
    return histogram


def box(x: float, y: float = 100, height: float = 200) -> Box:
    return np.array([x, y, x + height / 2, y + height], np.float32)


def crossing(frame: int) -> tuple[float, float]:
    """Where the left edges of two people are who walk past each other and are in one place in frame 30."""
    return 100 + 10.0 * frame, 700 - 10.0 * frame


def run(scene: Iterator[list[tuple[str, Box, Look]]], max_gap: int = 10) -> tuple[Tracker, dict[str, list[int]]]:
    """Track a scene of (true name, box, look); return the tracker and the ids that each true person was given."""
    tracker, given = Tracker(max_gap), {}
    for frame, people in enumerate(scene):
        ids = tracker.match(frame, [b for _, b, _ in people], [0.9] * len(people), [lk for *_, lk in people])
        for (name, *_), i in zip(people, ids, strict=True):
            given.setdefault(name, []).append(i)
    return tracker, given


def test_iou_of_known_boxes() -> None:
    a = np.array([0, 0, 10, 10], np.float32)
    assert iou(a, a) == pytest.approx(1)
    assert iou(a, np.array([5, 0, 15, 10], np.float32)) == pytest.approx(1 / 3)
    assert iou(a, np.array([20, 0, 30, 10], np.float32)) == 0


def test_two_people_who_cross_keep_their_ids() -> None:
    def scene() -> Iterator[list[tuple[str, Box, Look]]]:
        for t in range(FRAMES):
            a, b = crossing(t)
            people = [("a", box(a), look(3, 0.2, t)), ("b", box(b), look(40, 0.2, t + 100))]
            yield people if t % 2 else people[::-1]  # the order of the boxes says nothing

    tracker, given = run(scene())
    assert {name: len(set(ids)) for name, ids in given.items()} == {"a": 1, "b": 1}
    assert given["a"][0] != given["b"][0]
    assert switches(list(tracker.tracks.values())) == []


def test_a_person_hidden_behind_another_is_found_again() -> None:
    def scene() -> Iterator[list[tuple[str, Box, Look]]]:
        for t in range(FRAMES):
            a, b = crossing(t)
            people = [("a", box(a), look(3, 0.2, t))]
            if not 27 <= t <= 33:
                people.append(("b", box(b), look(40, 0.2, t)))
            yield people

    tracker, given = run(scene())
    assert len(set(given["a"])) == len(set(given["b"])) == 1
    assert switches(list(tracker.tracks.values())) == []


def test_a_person_who_leaves_and_one_who_comes_later_are_two() -> None:
    def scene() -> Iterator[list[tuple[str, Box, Look]]]:
        for t in range(FRAMES):
            if t < 20:
                yield [("a", box(300), look(3))]
            elif t < 40:
                yield []
            else:
                yield [("b", box(300), look(3))]

    tracker, given = run(scene())
    assert set(given["a"]).isdisjoint(given["b"])
    assert [len(t.frames) for t in tracker.tracks.values()] == [20, 20]


def test_another_person_in_the_same_place_is_another_track() -> None:
    def scene() -> Iterator[list[tuple[str, Box, Look]]]:
        for t in range(20):
            yield [("a", box(300), look(3))] if t < 10 else [("b", box(300), look(40))]

    _, given = run(scene())
    assert set(given["a"]).isdisjoint(given["b"])


def forced(names: list[str], looks: dict[str, Look], place: dict[str, object]) -> Tracker:
    """A tracker that was told, by a careless follower, that track i is names[i] before and after frame 30."""
    tracker = Tracker(10)
    for t in range(FRAMES):
        for i, name in enumerate(names):
            who = name if t <= 30 else {"a": "b", "b": "a"}[name] if place.get("swap") else name
            x = crossing(t)[0 if who == "a" else 1]
            if t == 0:
                tracker.match(0, [box(x)], [0.9], [looks[who]])
            else:
                tracker.see(i, t, box(x), 0.9, looks[who])
    return tracker


def test_a_swap_of_two_people_is_found_in_both_tracks_after_they_part() -> None:
    looks = {"a": look(3, 0.2, 1), "b": look(40, 0.2, 2)}
    found = switches(list(forced(["a", "b"], looks, {"swap": True}).tracks.values()))
    assert {s.track for s in found} == {0, 1}
    for s in found:
        assert 30 < s.frame < 45
        assert s.to_other + 0.1 < s.to_own


def test_no_swap_is_found_where_there_is_none() -> None:
    looks = {"a": look(3, 0.2, 1), "b": look(40, 0.2, 2)}
    assert switches(list(forced(["a", "b"], looks, {}).tracks.values())) == []


def test_a_track_that_goes_over_to_a_stranger_after_a_gap_is_found() -> None:
    tracker = Tracker(10)
    tracker.match(0, [box(300)], [0.9], [look(3)])
    for t in [*range(1, 20), *range(25, 40)]:
        tracker.see(0, t, box(300), 0.9, look(3 if t < 20 else 40))
    (found,) = switches(list(tracker.tracks.values()))
    assert (found.track, found.frame, found.to_other) == (0, 25, 1.0)
    assert found.to_own > 0.9


def test_people_dressed_alike_who_hide_each_other_cannot_be_told_apart() -> None:
    def tracks(gap: bool) -> Tracker:
        tracker = Tracker(10)
        for t in range(FRAMES):
            for i, x in enumerate(crossing(t)):
                if t == 0:
                    tracker.match(0, [box(x)], [0.9], [look(3)])
                elif not (gap and i == 1 and 28 <= t <= 32):
                    tracker.see(i, t, box(x), 0.9, look(3))
        return tracker

    assert alike_and_lost(list(tracks(gap=True).tracks.values()))
    assert alike_and_lost(list(tracks(gap=False).tracks.values())) == []


def test_of_two_that_claim_one_body_the_stranger_is_under_more_strain() -> None:
    tracker, _ = run(iter([[("a", box(100), look(3)), ("b", box(500), look(40))]] * 5))
    a, b = tracker.tracks[0], tracker.tracks[1]
    assert strain(a, 5, box(104), look(3)) < strain(b, 5, box(104), look(3))
    assert strain(None, 5, box(104), look(3)) == 2


def test_the_main_person_is_the_largest_times_the_longest() -> None:
    tracker = Tracker(100)
    tracker.match(
        0, [box(0, height=100), box(300, height=200), box(600, height=300)], [0.9] * 3, [look(1), look(20), look(60)]
    )
    for t in range(1, 40):
        tracker.see(0, t, box(0, height=100), 0.9, look(1))
        if t < 30:
            tracker.see(1, t, box(300, height=200), 0.9, look(20))
    # area x frames: 5,000 x 40 = 200,000; 20,000 x 30 = 600,000; 45,000 x 1 = 45,000
    assert [t.id for t in in_order(list(tracker.tracks.values()))] == [1, 0, 2]


def test_equal_scenes_give_equal_tracks() -> None:
    def scene() -> Iterator[list[tuple[str, Box, Look]]]:
        for t in range(FRAMES):
            a, b = crossing(t)
            yield [("a", box(a), look(3)), ("b", box(b), look(3))]

    assert run(scene())[1] == run(scene())[1]


def test_a_look_is_a_histogram_and_tells_red_from_blue() -> None:
    frame = np.zeros((100, 200, 3), np.uint8)
    frame[:, :100], frame[:, 100:] = (200, 20, 20), (20, 20, 200)
    red, blue = look_of_box(frame, np.array([0, 0, 100, 100])), look_of_box(frame, np.array([100, 0, 200, 100]))
    assert red.sum() == pytest.approx(1)
    assert unlike(red, red) == pytest.approx(0, abs=1e-3)
    assert unlike(red, blue) > 0.7


def test_a_little_less_light_is_not_another_person() -> None:
    rng = np.random.default_rng(0)
    frame = rng.integers(90, 160, (100, 100, 3)).astype(np.uint8)
    darker = (frame * 0.9).astype(np.uint8)
    points = np.zeros((133, 3), np.float32)
    points[[5, 6, 11, 12]] = [(70, 20, 1), (30, 20, 1), (65, 70, 1), (35, 70, 1)]
    whole = np.array([20, 0, 80, 100])
    assert unlike(look_of_body(frame, points, whole), look_of_body(darker, points, whole)) < 0.2
