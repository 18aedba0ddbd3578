"""The judge without a model: scales, what is missing, and what it says of itself."""

import pytest

from stages.judge_rules import MODEL, NEEDS, SCALES, Rules, judged
from stages.measure import Measure

GOOD = {scale.measure: scale.best for scales in SCALES.values() for scale in scales}
ALL = [(dimension, scale) for dimension, scales in SCALES.items() for scale in scales]


def test_the_rules_read_only_what_measure_makes():
    assert set(NEEDS) <= set(Measure.makes)


def test_what_is_best_everywhere_has_five_in_every_dimension():
    row = judged(GOOD)
    assert {row[f"judge_{dimension}"] for dimension in SCALES} == {5.0}


@pytest.mark.parametrize(("dimension", "scale"), ALL, ids=[scale.measure for _, scale in ALL])
def test_a_measure_lowers_its_own_dimension_and_no_other(dimension, scale):
    column = f"judge_{dimension}"
    values = [scale.best, (scale.best + scale.least) / 2, scale.least, (scale.least + scale.worst) / 2, scale.worst]
    rows = [judged(GOOD | {scale.measure: value}) for value in values]
    assert [row[column] for row in rows] == pytest.approx([5, 4, 3, 2, 1], abs=0.002)
    beyond = judged(GOOD | {scale.measure: scale.worst + 10 * (scale.worst - scale.best)})
    assert beyond[column] == 1
    assert {row[f"judge_{other}"] for row in rows for other in SCALES if other != dimension} == {5.0}


def test_a_scale_goes_one_way():
    for _, scale in ALL:
        assert (scale.best - scale.least) * (scale.least - scale.worst) > 0


def test_the_lowest_of_several_measures_counts_and_is_named():
    row = judged(GOOD | {"colour_leak": 0.4, "shape_leak": 0.05})
    assert row["judge_identity"] == pytest.approx(SCALES["identity"][0].score(0.4), abs=0.001)
    assert row["judge_identity"] < 3
    assert row["judge_why"]["identity"] == "Its colours are 40% on the way to the source's."


def test_what_was_not_measured_has_no_score_rather_than_a_low_one():
    row = judged(GOOD | {"motion_angle_deg": None})
    assert row["judge_motion"] is None
    assert row["judge_why"]["motion"] == "not told: motion_angle_deg could not be measured."
    assert row["judge_identity"] == 5


def test_identity_is_told_by_colours_or_bones_alone_but_not_by_nothing():
    assert judged(GOOD | {"shape_leak": None})["judge_identity"] == 5
    assert judged(GOOD | {"shape_leak": None, "colour_leak": None})["judge_identity"] is None


def test_it_says_that_it_is_no_model_and_judges_each_row_alone():
    rows = [GOOD, GOOD | {"flicker": 30.0}]
    together = Rules()(rows)
    assert together == [judged(row) for row in rows]
    assert {row["judge_model"] for row in together} == {MODEL} == {"rules-2"}
