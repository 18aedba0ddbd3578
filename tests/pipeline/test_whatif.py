"""Yield and composition under other limits, counted a second time by hand."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from manifests.tables import Tables
from pipeline.__main__ import main
from pipeline.config import load
from tests.pipeline.small_pairs import put_pairs, settle, write_config

COUNT = 60


@pytest.fixture
def config(tmp_path):
    put_pairs(tmp_path / "root", COUNT)
    path = write_config(tmp_path / "run.yaml", tmp_path / "root", keep={"min": {"motion": 30}})
    made = {f"par_{n}": {"motion": n, "flicker": (n * 7 % 60) / 60} for n in range(COUNT) if n != 59}
    settle(load(path), "pairs", "measure", made)
    return path


def call(config, *words, code=0):
    found = CliRunner().invoke(main, ["whatif", config, *words])
    assert found.exit_code == code, found.output
    return found.output


def files(root):
    return {path: path.stat().st_mtime_ns for path in Path(root).rglob("*")}


def test_yield_and_composition_are_those_counted_by_hand_and_nothing_is_written(config, tmp_path):
    before = files(tmp_path / "root")
    told = json.loads(call(config, "--set", "keep.min.motion=20", "--set", "keep.max.flicker=0.5", "--json"))
    assert files(tmp_path / "root") == before
    now = {n for n in range(COUNT) if 30 <= n != 59}
    then = {n for n in range(COUNT) if 20 <= n != 59 and (n * 7 % 60) / 60 <= 0.5}
    assert told["kept"] == {"now": len(now), "then": len(then)}
    assert (told["gained"], told["lost"]) == (len(then - now), len(now - then))
    assert told["dropped"]["now"] == {"motion_low": 30, "motion_missing": 1}
    domain, tags = ("cartoon", "animal"), {}
    for n in range(COUNT):
        for tag in {"red" if n % 7 % 3 == 0 else "dance", *(["dance"] if n % 2 else [])}:
            tags.setdefault(tag, set()).add(n)
    groups = {
        "domain": {name: {n for n in range(COUNT) if domain[n % 7 % 2] == name} for name in domain},
        "character": {f"chr_{c}": {n for n in range(COUNT) if n % 7 == c} for c in range(7)},
        "tag": tags,
    }
    assert {kind: {line.pop("name"): line for line in lines} for kind, lines in told["groups"].items()} == {
        kind: {
            name: {"pairs": len(inside), "now": len(inside & now), "then": len(inside & then)}
            for name, inside in group.items()
        }
        for kind, group in groups.items()
    }


def test_each_limit_says_what_comes_back_without_it(config):
    limits = ("--set", "keep.max.flicker=0.5", "--json")
    with_all = json.loads(call(config, *limits))
    without = json.loads(call(config, "--set", "keep.min.motion=null", *limits))
    (motion, _) = with_all["limits"]["then"]
    assert motion["alone"] == without["kept"]["then"] - with_all["kept"]["then"] > 0
    assert motion["beyond"] == 31


def test_a_person_reads_both_limits_and_the_change(config):
    text = call(config, "--set", "keep.min.motion=20")
    assert [line.split() for line in text.splitlines() if line.startswith(("now", "then", "all"))] == [
        ["now", "motion", "min", "30", "31", "31"],
        ["then", "motion", "min", "20", "21", "21"],
        ["all", "60", "29", "(48.3%)", "39", "(65.0%)", "+10"],
    ]
    assert "dropped then: motion_low 20, motion_missing 1" in text


def test_percentiles_can_be_tried_and_mistakes_are_one_line(config, tmp_path):
    Tables(tmp_path / "root").tag("outcomes", "judged")
    sets = ("--set", "keep.min.motion=null", "--set", "keep.min_percentile.motion=50", "--set", "keep.at=judged")
    assert json.loads(call(config, *sets, "--json"))["limits"]["then"][0]["value"] == 29
    assert "did you mean 'motion'" in call(config, "--set", "keep.min.moton=3", code=2)
