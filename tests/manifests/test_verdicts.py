"""Verdicts against their definition, written a second time row by row."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manifests.verdicts import KeepError, Label, Limit, Percentile, decide, resolve, rules_digest

NAMES = ("motion", "identity", "flicker")
value = st.one_of(st.floats(0, 5), st.sampled_from([math.nan, math.inf, -math.inf, 3.0]))
columns = st.integers(0, 25).flatmap(
    lambda size: st.fixed_dictionaries({name: st.lists(value, min_size=size, max_size=size) for name in NAMES[:2]})
)
limit = st.builds(Limit, st.sampled_from(NAMES), st.sampled_from(["min", "max"]), st.sampled_from([0.0, 1.5, 3.0, 4.9]))
limits = st.lists(limit, max_size=4)
labels = st.dictionaries(st.integers(0, 30).map(str), st.builds(Label, st.booleans()), max_size=6)


def arrays(scores):
    return {name: np.array(values, float) for name, values in scores.items()}


def ids_of(scores):
    return [str(number) for number in range(len(scores["motion"]))]


def by_hand(name, scores, number, limits, labels):
    if name in labels:
        return labels[name].keep, "label"
    for each in limits:
        found = scores.get(each.score, [math.nan] * 99)[number]
        if not math.isfinite(found):
            return False, f"{each.score}_missing"
        if each.side == "min" and found < each.value:
            return False, f"{each.score}_low"
        if each.side == "max" and found > each.value:
            return False, f"{each.score}_high"
    return True, "kept"


@settings(deadline=None)
@given(columns, limits, labels)
def test_a_verdict_is_the_first_limit_that_is_broken_and_a_label_wins(scores, limits, labels):
    given_verdicts = decide(ids_of(scores), arrays(scores), limits, labels)
    for number, name in enumerate(ids_of(scores)):
        row = given_verdicts.row(number)
        assert (row["keep"], row["reason"]) == by_hand(name, scores, number, limits, labels)
        json.dumps(row, allow_nan=False)
    assert sum(given_verdicts.counts().values()) == int((~given_verdicts.kept).sum())


@settings(deadline=None)
@given(columns, limits, st.integers(0, 3), st.floats(0, 2))
def test_a_stricter_number_never_keeps_more(scores, limits, which, by):
    kept = decide(ids_of(scores), arrays(scores), limits).kept
    stricter = [
        Limit(each.score, each.side, each.value + (by if each.side == "min" else -by)) if place == which else each
        for place, each in enumerate(limits)
    ]
    assert not (decide(ids_of(scores), arrays(scores), stricter).kept & ~kept).any()


@settings(deadline=None)
@given(columns, limits)
def test_the_order_of_the_limits_changes_reasons_only(scores, limits):
    one, other = (decide(ids_of(scores), arrays(scores), each) for each in (limits, limits[::-1]))
    assert (one.kept == other.kept).all()
    assert rules_digest(limits, {}) == rules_digest(limits[::-1], {})


@settings(deadline=None)
@given(columns, limits)
def test_what_a_limit_alone_drops_comes_back_without_it(scores, limits):
    found = decide(ids_of(scores), arrays(scores), limits)
    for number, back in enumerate(found.alone()):
        without = decide(ids_of(scores), arrays(scores), limits[:number] + limits[number + 1 :])
        assert int(without.kept.sum() - found.kept.sum()) == back


@settings(deadline=None)
@given(st.lists(st.floats(-100, 100), min_size=1, max_size=60), st.sampled_from([0.0, 5.0, 30.0, 50.0, 99.0, 100.0]))
def test_a_percentile_is_the_nearest_rank_and_drops_no_more_than_it_says(values, percent):
    scores = {"motion": np.array([*values, math.nan, math.inf])}
    least, most = resolve([Percentile("motion", side, percent) for side in ("min", "max")], scores)
    rank = max(1, math.ceil(percent * len(values) / 100))
    assert least.value == most.value == sorted(values)[rank - 1]
    ids = [str(number) for number in range(len(values) + 2)]
    dropped = len(values) - int(decide(ids, scores, [least]).kept.sum())
    assert dropped <= percent / 100 * len(values)
    assert decide(ids, scores, [most]).kept.sum() >= percent / 100 * len(values)


def test_a_percentile_without_a_score_and_a_limit_without_a_number_are_refused_in_a_sentence():
    with pytest.raises(KeepError, match="percentile 30, but no pair has that score yet; run the stage"):
        resolve([Percentile("motion", "min", 30)], {"motion": np.array([math.nan])})
    with pytest.raises(KeepError, match="the min of motion is nan, wanted a finite number"):
        decide(["a"], {}, [Limit("motion", "min", math.nan)])


def test_each_verdict_says_what_was_found_and_what_was_wanted():
    scores = {"motion": np.array([3.91, 4.6, math.nan, 4.7]), "flicker": np.array([0.1, 0.31, 0.1, 0.9])}
    found = decide(
        ["a", "b", "c", "d"],
        scores,
        [Limit("motion", "min", 4.5, 30.0), Limit("flicker", "max", 0.2)],
        {"d": Label(True, "Ann", "the flicker is a lamp")},
    )
    assert [found.row(place)["detail"] for place in range(4)] == [
        "motion is 3.91, wanted at least 4.5",
        "flicker is 0.31, wanted at most 0.2",
        "motion is missing, wanted at least 4.5",
        "labelled to keep by Ann: the flicker is a lamp",
    ]
    assert found.row(0)["limit"] == 4.5
    assert found.counts() == {"motion_low": 1, "flicker_high": 1, "motion_missing": 1}
