"""An engine in a process of its own: killed in the middle it is started again, and no request is lost."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from stages.judge_mllm import Judgement
from stages.mllm import Mllm
from stages.mllm_answers import Question, Task, words
from stages.mllm_config import MllmConfig
from stages.mllm_engine import Engine
from stages.mllm_errors import MllmSettingError
from tests.mllm_server import score_of

SERVER = [sys.executable, "-m", "tests.mllm_server"]


def question(number):
    return Question(f"q{number}", lambda: [words(f"key: q{number}")])


def test_an_engine_that_is_killed_in_the_middle_loses_no_request():
    engine = Engine(SERVER, {}, start_timeout_s=60, restarts=2)
    first = engine.pid
    try:
        config = {"model": "m", "endpoints": [{"url": engine.url}], "slots": 10, "failures": 10}
        killer = threading.Timer(0.5, os.kill, (first, signal.SIGKILL))
        killer.start()
        answers = Mllm(MllmConfig.model_validate(config)).ask(
            Task("judgement", "Judge.", Judgement), [question(number) for number in range(120)]
        )
        killer.join()
    finally:
        engine.stop()
    assert [answer.fields.motion.score for answer in answers] == [score_of(f"q{n}", "motion") for n in range(120)]
    assert first != engine.pid


def test_an_engine_ends_with_its_worker_however_that_ends():
    code = (
        "import sys, time; from stages.mllm_engine import Engine; "
        f"engine = Engine({SERVER!r}, {{}}, 60, 0); print(engine.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as worker:
        engine = int(worker.stdout.readline())
        assert is_there(engine)
        worker.kill()
    until = time.monotonic() + 10
    while is_there(engine) and time.monotonic() < until:
        time.sleep(0.05)
    assert not is_there(engine)


def is_there(pid):
    """Say whether a process runs; a zombie does not."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_an_engine_that_cannot_start_says_why():
    with pytest.raises(MllmSettingError, match=r"does not start .* no weights here"):
        Engine([sys.executable, "-c", "raise SystemExit('no weights here')"], {}, start_timeout_s=60, restarts=0)
    with pytest.raises(MllmSettingError, match="No such file"):
        Engine(["/nowhere/python"], {}, start_timeout_s=60, restarts=0)
