"""How fast frames are read: `Clip.chunks` against decord alone, on the same frames, in turns, in one run (CPU time).

python -m tests.bench.decode
"""

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import decord
import numpy as np

from manifests.inspection import inspect_video
from manifests.media import Clip
from manifests.sandbox import Sandbox
from tests.clips import stamped, write_clip

ROUNDS = 7
FRAMES, WIDTH, HEIGHT, FPS = 64, 540, 960, 30.0
CHUNK = 16
MANY = 200  # small files through the sandbox


def measure() -> list[dict[str, Any]]:
    """Return rows of name, value, unit, target and holds; ratios are medians of pairs measured one after the other."""
    with tempfile.TemporaryDirectory() as folder:
        path = write_clip(Path(folder, "portrait.mp4"), stamped(FRAMES, WIDTH, HEIGHT), b_frames=2)
        whole = Clip(str(path), 0.0, FPS, FRAMES)
        part = Clip(str(path), 20 / FPS, FPS, FRAMES - 20)
        return [
            _ratio(
                "rate of Clip.chunks over decord's get_batch, whole film",
                lambda: _chunks(whole),
                lambda: _bare(path, 0),
            ),
            _ratio("the same, a segment from the middle", lambda: _chunks(part), lambda: _bare(path, 20)),
            _row(
                "frames of 540 x 960 a CPU second, Clip.chunks", FRAMES / _seconds(lambda: _chunks(whole)), "1/s", None
            ),
            _row("inspection of the same film, in times of decoding it once", _inspection(path, whole), "x", None),
            _row("a small film more through the sandbox", 1000 * _a_file(Path(folder)), "ms", None),
        ]


def _row(name: str, value: float, unit: str, target: float | None) -> dict[str, Any]:
    return {"name": name, "value": value, "unit": unit, "target": target, "holds": target is None or value >= target}


def _ratio(name: str, ours: Callable[[], None], bare: Callable[[], None]) -> dict[str, Any]:
    ours(), bare()
    ratios = []
    for i in range(ROUNDS):  # who goes first changes, so that neither has the warmer caches
        first, second = (ours, bare) if i % 2 else (bare, ours)
        seconds = {first: _seconds(first), second: _seconds(second)}
        ratios.append(seconds[bare] / seconds[ours])
    return _row(name, statistics.median(ratios), "ratio", 0.9)


def _seconds(work: Callable[[], None]) -> float:
    """Seconds of CPU, of all threads: what others do on the machine at the same time does not count."""
    start = time.process_time()
    work()
    return time.process_time() - start


def _chunks(clip: Clip) -> None:
    for _chunk in clip.chunks(CHUNK):
        pass


def _bare(path: Path, first: int) -> None:
    reader = decord.VideoReader(str(path), ctx=decord.cpu(0), num_threads=1)
    for start in range(first, FRAMES, CHUNK):  # a chunk is held until the next is there, as above
        _chunk = reader.get_batch(np.arange(start, min(start + CHUNK, FRAMES))).asnumpy()


def _inspection(path: Path, whole: Clip) -> float:
    times = [_seconds(lambda: _inspect(path)) / _seconds(lambda: _chunks(whole)) for _ in range(5)]
    return statistics.median(times)


def _inspect(path: Path) -> None:
    inspect_video(str(path))


def _a_file(folder: Path) -> float:
    path = str(write_clip(folder / "small.mp4", stamped(12)))
    with Sandbox[str, Any](workers=1) as box:
        list(box.map(inspect_video, [path]))
        start = time.perf_counter()  # the work is done in a child, so by the clock
        list(box.map(inspect_video, [path] * MANY))
        return (time.perf_counter() - start) / MANY


if __name__ == "__main__":
    for each in measure():
        print(json.dumps(each))
