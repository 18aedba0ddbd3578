"""The shipped stages, on a real clip, killed at every step: the same command then ends as if nothing had happened."""

import os
import signal
from pathlib import Path

import pytest
import yaml

from manifests import faults
from manifests.tables import Tables
from pipeline.config import load
from pipeline.importing import import_list
from pipeline.verify import find_damaged
from tests.clips import stamped, write_clip
from tests.faults.test_kills import finish, results_of, start
from tests.rows import lines_of

pytest.importorskip("mediapipe", reason="needs the extra `mediapipe`")

# a drawn clip holds no person: an empty skeleton is an artifact all the same
STAGES = {"probe": {"min_size_px": 16, "min_sharpness": 0}, "skeleton": {"no_person": "empty"}}
# probe makes numbers only, so it passes no step of an artifact but both of them
MATRIX = [(step, stage) for step in faults.STEPS for stage in STAGES]
SOME = [("before_artifact", "probe"), ("after_artifact", "skeleton"), ("after_commit", "skeleton")]


def prepare(folder: Path) -> Path:
    (folder / "clips").mkdir(parents=True)
    for number in range(2):
        write_clip(folder / "clips" / f"{number}.mp4", stamped(20 + number, 160, 128))
    import_list("sources", str(folder / "clips"), str(folder / "root"))
    path = folder / "run.yaml"
    data = {"root": str(folder / "root"), "commit_every": 2, "stages": {"sources": STAGES}}
    path.write_text(yaml.safe_dump(data, sort_keys=False))
    return path


@pytest.fixture(scope="module")
def truth(tmp_path_factory):
    folder = tmp_path_factory.mktemp("truth")
    assert finish(start(prepare(folder))) == 0
    return results_of(folder / "root")


@pytest.mark.faults
@pytest.mark.parametrize(("step", "stage"), MATRIX if os.environ.get("BODYDOUBLE_FULL") else SOME)
def test_a_shipped_stage_killed_at_a_step_loses_nothing_and_doubles_nothing(tmp_path, truth, step, stage):
    config = prepare(tmp_path)
    fault = {
        "BODYDOUBLE_FAULT": f"{step}:{stage}",
        "BODYDOUBLE_FAULT_MARK": str(tmp_path / "died"),
        "BODYDOUBLE_FAULT_GROUP": "1",
    }
    assert finish(start(config, **fault)) == -signal.SIGKILL
    assert (tmp_path / "died").exists()
    assert finish(start(config)) == 0
    assert results_of(tmp_path / "root") == truth
    assert [line["done"] for line in lines_of(load(config)).values()] == [2, 2, 2]
    assert find_damaged(Tables(tmp_path / "root")) == []
