"""Verdicts out of a real ledger: scores by key, percentiles at a version, labels from a file."""

import json
import math

import numpy as np
import pytest

from manifests import ledger
from manifests.lease import Lease
from manifests.tables import TableError, Tables
from manifests.verdicts import KeepError
from pipeline.config import ConfigError, load
from pipeline.keeping import judged, labels_of, limits_of, verdicts_of
from tests.pipeline.small_pairs import put_pairs, settle, write_config


@pytest.fixture
def root(tmp_path):
    put_pairs(tmp_path / "root", 10)
    return tmp_path / "root"


@pytest.fixture
def run_of(tmp_path, root):
    return lambda **keep: load(write_config(tmp_path / "run.yaml", root, keep=keep))


def measured(values):
    return {f"par_{n}": {"motion": value, "flicker": n / 10} for n, value in enumerate(values)}


def kept(run):
    found, verdicts = verdicts_of(run, Tables(run.config.root))
    return {name for name, keep in zip(found.ids, verdicts.kept, strict=True) if keep}


def recorded(run):
    """Resolve percentiles and write them down, as the holder of the lease."""
    tables = Tables(run.config.root)
    with Lease.take(run.config.root, "a test", above=ledger.highest_epoch(tables)):
        return limits_of(run, tables, record=True)


def test_scores_are_the_newest_of_each_pair_and_nan_where_there_is_none(run_of, root):
    run = run_of()
    settle(run, "pairs", "measure", measured([9.0] * 4))
    settle(run, "pairs", "measure", measured([1, 2.5, 3]))
    settle(run, "pairs", "measure", {"par_3": None}, ledger.LOST)
    found = judged(run, Tables(root))
    assert found.ids == [f"par_{n}" for n in range(10)]
    np.testing.assert_array_equal(found.scores["motion"], [1, 2.5, 3] + [math.nan] * 7)
    assert judged(run_of(), Tables(root), at=1).scores["motion"][0] == 9


def test_fields_of_a_judge_are_scores_also_beside_an_answer_of_any_form(run_of, root):
    run = run_of(min={"judge": {"motion": 3}})
    answers = ["fine", {"score": 5}, ["a", 1], None, 7, {"score": "five"}]
    made = {f"par_{n}": {"judge": {"motion": n, "says": "x"}, "answer": a} for n, a in enumerate(answers)}
    settle(run, "pairs", "judge", made)
    assert judged(run, Tables(root)).scores["judge.motion"].tolist()[:6] == [0, 1, 2, 3, 4, 5]
    assert kept(run) == {"par_3", "par_4", "par_5"}


def test_integers_and_floats_of_one_score_mix_over_many_rows(run_of, root):
    """Arrow infers types block by block: a whole number in the first must not spoil the fractions of a later one."""
    put_pairs(root, 5000)
    run = run_of()
    filler = "x" * 1000  # some blocks of 1 MB
    settle(run, "pairs", "judge", {
        f"par_{n}": {"judge": {"motion": n if n < 2500 else n / 3}, "answer": filler} for n in range(5000)
    })  # fmt: skip
    found = judged(run, Tables(root))
    by_id = dict(zip(found.ids, found.scores["judge.motion"].tolist(), strict=True))
    assert by_id == {f"par_{n}": float(n) if n < 2500 else n / 3 for n in range(5000)}


def test_a_percentile_recorded_at_a_version_stays_what_it_was_when_rows_come_in(run_of, root):
    settle(run_of(), "pairs", "measure", measured([1, 2, 3, 4, 5]))
    Tables(root).tag("outcomes", "judged")
    run = run_of(min_percentile={"motion": 40}, at="judged")
    assert [limit.value for limit in limits_of(run, Tables(root))] == [2]
    assert not (root / "keep").exists()  # asking writes nothing
    assert [limit.value for limit in recorded(run)] == [2]
    (page,) = (root / "keep").iterdir()
    told = json.loads(page.read_text())
    assert told["limits"] == [{"score": "motion", "side": "min", "value": 2.0, "percentile": 40.0}]
    assert (told["table"], told["at"], told["version"]) == (
        "outcomes",
        "judged",
        Tables(root).tags("outcomes")["judged"],
    )
    settle(run, "pairs", "measure", measured([1, 2, 3, 4, 5, 0, 0, 0, 0, 0]))
    assert [limit.value for limit in limits_of(run, Tables(root))] == [2]
    assert kept(run) == {"par_1", "par_2", "par_3", "par_4"}
    later = run_of(min_percentile={"motion": 40}, at=Tables(root).version("outcomes"))
    assert [limit.value for limit in limits_of(later, Tables(root))] == [0]


def test_what_was_recorded_counts_also_when_pairs_or_the_version_are_gone(run_of, root):
    settle(run_of(), "pairs", "measure", measured([1, 2, 3, 4, 5]))
    version = Tables(root).version("outcomes")
    run = run_of(max_percentile={"motion": 60}, at=version)
    assert [limit.value for limit in recorded(run)] == [3]
    settle(run, "pairs", "measure", measured([5] * 5))
    Tables(root).delete("pairs", "id IN ('par_0', 'par_1')")
    Tables(root).compact("outcomes", keep=1)
    with pytest.raises(TableError, match=f"no version or tag {version}"):
        judged(run, Tables(root), version)
    assert [limit.value for limit in limits_of(run, Tables(root))] == [3]


def test_a_label_from_a_file_wins_and_the_last_line_counts(run_of, root, tmp_path):
    labels = tmp_path / "labels.jsonl"
    labels.write_text(
        '{"id": "par_0", "keep": true, "by": "Ann", "why": "seen"}\n\n'
        '{"id": "par_4", "keep": true}\n{"id": "par_4", "keep": false}\n{"id": "par_9", "keep": true}\n'
    )
    run = run_of(min={"motion": 3}, labels=str(labels))
    settle(run, "pairs", "measure", measured([1, 2, 3, 4, 5]))
    assert kept(run) == {"par_0", "par_2", "par_3", "par_9"}
    _, verdicts = verdicts_of(run, Tables(root))
    assert verdicts.row(0)["detail"] == "labelled to keep by Ann: seen"


def test_a_score_that_is_null_in_every_pair_is_missing_and_no_slip_of_the_pen(run_of, root):
    run = run_of(min={"motion": 3})
    settle(run, "pairs", "measure", measured([None] * 10))
    _, verdicts = verdicts_of(run, Tables(root))
    assert verdicts.counts() == {"motion_missing": 10}


def test_a_field_that_no_answer_has_is_a_slip_where_the_column_has_others(run_of, root):
    run = run_of(min={"motion.smoth": 3})
    settle(run, "pairs", "measure", {f"par_{n}": {"motion": {"smooth": n}, "flicker": n} for n in range(10)})
    with pytest.raises(KeepError, match=r"'motion\.smoth', which no pair has; did you mean 'motion\.smooth'"):
        verdicts_of(run, Tables(root))


@pytest.mark.parametrize(
    "line", ['{"id": "par_0"}', '{"id": "a", "keep": "yes"}', "[1]", '{"id": "a", "keep": 1}', "{"]
)
def test_a_line_that_is_no_label_is_refused_with_its_number(tmp_path, line):
    path = tmp_path / "labels.jsonl"
    path.write_text('{"id": "a", "keep": true}\n' + line)
    with pytest.raises(KeepError, match=r"line 2 of .* wanted \{"):
        labels_of(str(path))


def test_mistakes_are_told_in_a_sentence(run_of, root):
    with pytest.raises(ConfigError, match="percentiles need `at`"):
        run_of(min_percentile={"motion": 40})
    with pytest.raises(ConfigError, match="both a number and a percentile"):
        run_of(min={"motion": 1}, min_percentile={"motion": 40}, at=1)
    with pytest.raises(KeepError, match="names the tag 'gone' of table outcomes, which there is not; its tags: none"):
        limits_of(run_of(min_percentile={"motion": 40}, at="gone"), Tables(root))
    settle(run_of(), "pairs", "measure", measured([1]))
    with pytest.raises(KeepError, match="the score 'moton', which no pair has; did you mean 'motion'"):
        verdicts_of(run_of(min={"moton": 1}), Tables(root))


def test_before_anything_is_measured_nothing_is_kept_by_a_limit(run_of):
    assert kept(run_of(min={"motion": 0})) == set()
    assert len(kept(run_of())) == 10
