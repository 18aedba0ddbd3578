"""Scores gathered batch by batch are those of a fold written plainly."""

import json
import math
import random

import numpy as np
import pyarrow as pa
import pytest

from manifests.schema import OUTCOMES
from manifests.tables import Tables
from pipeline import scores
from pipeline.config import load
from pipeline.scores import numbers_in, scores_of
from tests.pipeline.small_pairs import write_config


@pytest.fixture
def specs(tmp_path):
    return load(write_config(tmp_path / "run.yaml", tmp_path / "root")).tracks["pairs"]


def outcome(key, stage, state, made, epoch, seq, track="pairs"):
    row = {"key": key, "track": track, "item": key, "stage": stage, "state": state, "epoch": epoch, "seq": seq}
    return row | {"made": None if made is None else json.dumps(made)}


def by_hand(log, keys):
    """Fold the log row by row: the latest (epoch, seq) of a key is its state."""
    newest = {}
    for row in sorted(log, key=lambda row: (row["epoch"], row["seq"])):
        newest[row["key"]] = row
    made = [json.loads((newest.get(key) or {}).get("made") or "{}") for key in keys]
    done = [(newest.get(key) or {}).get("state") == "done" for key in keys]
    return [row.get("motion", math.nan) if good else math.nan for row, good in zip(made, done, strict=True)]


@pytest.mark.parametrize("seed", range(4))
def test_the_newest_outcome_counts_in_whatever_order_and_batches_the_log_lies(tmp_path, specs, monkeypatch, seed):
    monkeypatch.setattr(scores, "_BATCH", 7)
    chance = random.Random(seed)
    log = [
        outcome(
            f"k{chance.randrange(30)}", "measure", chance.choice(["done", "done", "done", "lost", "quarantined"]),
            chance.choice([{"motion": number}, {"motion": number / 3, "flicker": 1}, {"flicker": 2}, None]),
            chance.randrange(1, 4), number,
        )
        for number in range(200)
    ]  # fmt: skip
    chance.shuffle(log)
    others = [
        outcome("k1", "measure", "done", {"motion": -1}, 9, 1, track="sources"),
        outcome("k1", "else", "done", {"motion": -1}, 9, 2),
    ]
    tables = Tables(tmp_path / "root")
    for begin in range(0, len(log), 50):
        tables.append("outcomes", pa.Table.from_pylist(log[begin : begin + 50] + others, schema=OUTCOMES))
    keys = [f"k{number % 35}" for number in range(40)]  # some share a key, some have no outcome
    found = scores_of(tables, specs, [keys, ["none"] * 40])
    np.testing.assert_array_equal(found["motion"], by_hand(log, keys))


def test_numbers_are_found_at_any_depth_and_words_are_none():
    texts = [
        '{"a": 1, "b": {"c": 2.5, "d": {"e": 3}}, "s": "7", "t": true, "l": [1]}',
        '{"b": {"c": 4}}',
        '{"a": null}',
    ]
    found = {name: values.tolist() for name, values in numbers_in(pa.array(texts)).items()}
    assert {name: [None if math.isnan(x) else x for x in values] for name, values in found.items()} == {
        "a": [1, None, None], "b.c": [2.5, 4, None], "b.d.e": [3, None, None],
    }  # fmt: skip


@pytest.mark.parametrize("odd", ['{"a": NaN}', '{"a": "one"}', '{"a": {"x": 1}}', '{"a": [1]}'])
def test_what_arrow_does_not_take_is_read_by_python_with_the_same_numbers(odd):
    values = numbers_in(pa.array(['{"a": 1, "b": 2}', odd, '{"a": 3.5}']))
    assert values["a"][[0, 2]].tolist() == [1, 3.5]
    assert math.isnan(values["a"][1])
    assert values["b"][0] == 2


def test_without_stages_or_outcomes_there_is_no_score(tmp_path, specs):
    assert scores_of(Tables(tmp_path / "root"), specs, [["k"], ["k"]]) == {}
    assert scores_of(Tables(tmp_path / "root"), [], []) == {}
