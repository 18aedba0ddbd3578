"""The judge with vLLM itself, on a small model with random weights: plumbing, not judgement.

`python -m tests.vllm_environment FOLDER` makes the environment; `BODYDOUBLE_VLLM=FOLDER` names it.
"""

import os
import signal
import threading
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, ConfigDict, StringConstraints

from stages.judge import SCORES
from stages.judge_mllm import Judgement
from stages.judge_vllm import JudgeByVllm, VllmJudgeConfig
from stages.mllm_errors import MllmSettingError
from tests.stages.judge_rows import rows
from tests.vllm_environment import SERVER_ARGUMENTS, SERVER_ENVIRONMENT

# random weights write raw control characters, and never an end, wherever a grammar lets them
Words = Annotated[str, StringConstraints(pattern="^[a-z]{1,8} [a-z]{1,8}$")]


class ShortScored(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    why: Words
    score: Literal[1, 2, 3, 4, 5]


class ShortJudgement(Judgement):
    seen_source: Words
    seen_character: Words
    seen_pseudo: Words
    imaging_quality: ShortScored
    motion_smoothness: ShortScored
    temporal_consistency: ShortScored
    appearance_consistency: ShortScored
    motion: ShortScored
    identity: ShortScored


class ShortJudge(JudgeByVllm):
    """Sentences that a model without sense can end."""

    form = ShortJudgement


def config_of(folder, **fields):
    config = {"model": "tiny", "python": f"{folder}/bin/python", "weights": f"{folder}/model", "frames": 2}
    config |= {"arguments": SERVER_ARGUMENTS, "environment": SERVER_ENVIRONMENT, "key_in_schema": True}
    return VllmJudgeConfig.model_validate(config | {"slots": 20, "failures": 10, "long_side_px": 56} | fields)


@pytest.mark.vllm
@pytest.mark.timeout(1800)
def test_two_hundred_pairs_twenty_at_a_time_and_the_engine_killed_in_the_middle_lose_none(tmp_path):
    folder = Path(os.environ["BODYDOUBLE_VLLM"])
    judge = ShortJudge(config_of(folder))
    first = judge.engine.pid
    threading.Timer(20, os.killpg, (first, signal.SIGKILL)).start()
    pairs = rows(tmp_path, 200, "human")  # loopback: people need no leave
    given = judge(pairs)
    assert judge.engine.pid != first
    judge.engine.stop()
    assert len(given) == 200
    assert all(1 <= row[score] <= 5 for row in given for score in SCORES)
    assert all(pair["id"] in row["judge_answer"] for pair, row in zip(pairs, given, strict=True))


def test_missing_weights_or_interpreter_are_said_before_anything_starts(tmp_path):
    with pytest.raises(MllmSettingError, match="no interpreter"):
        JudgeByVllm(config_of(tmp_path))
    with pytest.raises(MllmSettingError, match=r"holds no config\.json"):
        JudgeByVllm.digests(config_of(tmp_path))


def test_the_weights_are_part_of_the_recipe_and_their_place_is_not(tmp_path):
    for name, size in (("one", 5), ("same", 5), ("other", 6)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("x" * size)
    digests = [
        JudgeByVllm.digests(config_of(tmp_path, weights=str(tmp_path / name))) for name in ("one", "same", "other")
    ]
    assert digests[0] == digests[1] != digests[2]
