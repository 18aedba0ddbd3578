"""The stages of pairs, the real ones, killed at every step: the same command then ends as if nothing had happened.

The teacher is a small Wan with random weights, the judge `rules`; what each kill leaves is compared byte for byte with
an uninterrupted run (pairs are drawn one by one: drawn together they would differ by rounding).
"""

import os
import shutil
import signal
from pathlib import Path

import pytest

pytest.importorskip("mannequin", reason="the figures of theatre are not installed")
from manifests import faults
from manifests.tables import Tables
from pipeline.config import load
from pipeline.funnel import funnel
from pipeline.verify import find_damaged
from tests.faults.test_kills import finish, results_of, start
from tests.pair_track import call, prepare, write_config

PAIRS = 4
STAGES = ("prompt", "render", "measure", "judge")
WHO = ("driver and workers", "the process at the step")
MATRIX = [(step, stage, who) for step in faults.STEPS for stage in STAGES for who in WHO]
SOME = [
    ("before_artifact", "render", WHO[0]),
    ("after_artifact", "render", WHO[1]),
    ("before_commit", "measure", WHO[0]),
    ("after_commit", "judge", WHO[0]),
]


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root whose sources and characters are through their stages, and whose pairs are drawn, not begun."""
    folder = tmp_path_factory.mktemp("ready")
    config = prepare(folder)
    assert finish(start(config)) == 0  # no pair is there yet
    call("pair", config)
    return folder


def copied(ready: Path, folder: Path) -> Path:
    """Return the config of a copy of the root."""
    shutil.copytree(ready / "root", folder / "root")
    shutil.copytree(ready / "weights", folder / "weights")
    return write_config(folder)


@pytest.fixture(scope="module")
def truth(ready: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple]:
    folder = tmp_path_factory.mktemp("truth")
    assert finish(start(copied(ready, folder))) == 0
    return results_of(folder / "root")


@pytest.mark.faults
@pytest.mark.parametrize(("step", "stage", "who"), MATRIX if os.environ.get("BODYDOUBLE_FULL") else SOME)
def test_a_pair_stage_killed_at_a_step_loses_nothing_and_doubles_nothing(tmp_path, ready, truth, step, stage, who):
    config = copied(ready, tmp_path)
    fault = {"BODYDOUBLE_FAULT": f"{step}:{stage}", "BODYDOUBLE_FAULT_MARK": str(tmp_path / "died")}
    whole = who == WHO[0]
    code = finish(start(config, **fault, **({"BODYDOUBLE_FAULT_GROUP": "1"} if whole else {})))
    assert (tmp_path / "died").exists()
    assert code == (-signal.SIGKILL if whole or "commit" in step else 0)  # a worker's death ends no run
    assert finish(start(config)) == 0
    assert results_of(tmp_path / "root") == truth
    lines = {line.stage: line for line in funnel(load(config))["pairs"]}
    assert [lines[name].done for name in STAGES] == [lines[name].entered for name in STAGES] == [PAIRS] * len(STAGES)
    assert find_damaged(Tables(tmp_path / "root")) == []
