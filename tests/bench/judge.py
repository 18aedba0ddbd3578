"""The judge `mllm` through a server that answers in 200 ms: the rate with 64 slots, answers out of order, memory.

python -m tests.bench.judge [pairs]    with a number: so many answers out of order, instead of 5000
"""

import asyncio
import json
import multiprocessing
import random
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from stages.judge import DIMENSIONS
from stages.judge_mllm import JudgeByMllm, MllmJudgeConfig
from stages.mllm import Mllm
from stages.mllm_answers import KeyedAnswer, Question, Task, words
from stages.mllm_config import MllmConfig
from tests.mllm_server import Asked, MllmServer, score_of
from tests.stages.judge_rows import rows

Measured = dict[str, Any]
LATENCY_S, SLOTS, PAIRS, OUT_OF_ORDER = 0.2, 64, 3840, 5000


def measure() -> list[Measured]:
    """Measure all parts, each against a server in a process of its own."""
    return [*rate(), *out_of_order(OUT_OF_ORDER)]


def rate() -> list[Measured]:
    """Share of the possible rate, slots / latency: of the whole stage with small pictures, and of the client alone."""
    possible = SLOTS / LATENCY_S
    with tempfile.TemporaryDirectory() as folder, served(0.0) as url:
        fields: dict[str, Any] = {"model": "m", "endpoints": [{"url": url}], "slots": SLOTS}
        stage = JudgeByMllm(MllmJudgeConfig.model_validate({**fields, "frames": 1, "long_side_px": 32}))
        pairs = rows(Path(folder), PAIRS)
        stage(pairs[:SLOTS])  # films are decoded, and the server is warm
        started = time.perf_counter()
        stage(pairs)
        seconds = time.perf_counter() - started
        started = time.perf_counter()
        Mllm(MllmConfig.model_validate(fields)).ask(_TASK, [_question(number) for number in range(PAIRS)])
        alone = time.perf_counter() - started
    name = f"judge: {PAIRS} pairs, {SLOTS} slots, answers in 200 ms: share of the possible rate"
    return [
        _row(name, PAIRS / seconds / possible, 0.95),
        _row("the same, client alone", PAIRS / alone / possible, 0.95),
    ]


def out_of_order(count: int) -> list[Measured]:
    """Answers to the wrong pair when each takes its own random time, and what memory grows by on the way."""
    wrong, sizes, batch = 0, [], 1000
    with tempfile.TemporaryDirectory() as folder, served(0.02) as url:
        fields: dict[str, Any] = {"model": "m", "endpoints": [{"url": url}], "slots": SLOTS}
        stage = JudgeByMllm(MllmJudgeConfig.model_validate({**fields, "frames": 1, "long_side_px": 32}))
        started = time.perf_counter()
        for first in range(0, count, batch):
            pairs = rows(Path(folder), min(batch, count - first), first=first)
            given = stage(pairs)
            for row, pair in zip(given, pairs, strict=True):
                assert isinstance(row, dict)
                wrong += any(row[f"judge_{name}"] != score_of(pair["id"], name) for name in DIMENSIONS)
            sizes.append(resident_mb())
        seconds = time.perf_counter() - started
    name = f"judge: {count:,} answers out of order ({seconds:.0f} s), to the wrong pair"
    grown = sizes[-1] - sizes[min(1, len(sizes) - 1)]
    return [
        {"name": name, "value": wrong, "unit": "", "target": "0", "holds": wrong == 0},
        {"name": "the same: memory grown after the second thousand", "value": grown, "unit": "MiB", "target": "<= 20",
         "holds": grown <= 20},
    ]  # fmt: skip


def resident_mb() -> float:
    """Return the memory of this process, MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


class _Short(KeyedAnswer):
    score: int


_TASK = Task("short", "Answer.", _Short)


def _question(number: int) -> Question:
    return Question(f"q{number}", lambda: [words(f"key: q{number}")])


@contextmanager
def served(spread_s: float) -> Iterator[str]:
    """Run the server in a process of its own; answers take 200 ms, or, with a spread, a random time up to it."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(theirs, spread_s), daemon=True)
    process.start()
    yield ours.recv()
    ours.send("end")
    process.join(30)


def _serve(pipe: Connection, spread_s: float) -> None:
    drawn = random.Random(0)

    async def behave(asked: Asked) -> None:
        if spread_s:
            await asyncio.sleep(drawn.random() * spread_s)

    def well(key: str) -> dict[str, Any]:
        from tests.mllm_server import judged

        return {"key": key, "score": 1} if key.startswith("q") else judged(key)

    with MllmServer(behave, 0.0 if spread_s else LATENCY_S, well, keep=False) as server:
        pipe.send(server.url)
        pipe.recv()


def _row(name: str, value: float, least: float) -> Measured:
    return {"name": name, "value": value, "unit": "", "target": f">= {least:g}", "holds": value >= least}


if __name__ == "__main__":
    listed = out_of_order(int(sys.argv[1])) if len(sys.argv) > 1 else measure()
    print("\n".join(json.dumps(each) for each in listed))
