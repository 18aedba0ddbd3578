"""What is written down while training."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from model.training.metrics import FILE, Metrics, TrainingRunsError, read

WRITER = """
import sys
from pathlib import Path
from model.training.metrics import Metrics
with Metrics(Path(sys.argv[1]), tensorboard=False) as metrics:
    metrics.go_on_from(0)
    print("open", flush=True)
    sys.stdin.read()
"""


def written(folder: Path, steps: range, go_on_from: int = 0, tensorboard: bool = False) -> None:
    with Metrics(folder, tensorboard) as metrics:
        metrics.go_on_from(go_on_from)
        for step in steps:
            metrics.write({"step": step, "loss": step / 10})


def test_a_resumed_training_cuts_away_what_is_after_its_checkpoint(tmp_path: Path) -> None:
    written(tmp_path, range(1, 10))
    written(tmp_path, range(6, 8), go_on_from=5)
    assert [line["step"] for line in read(tmp_path)] == [1, 2, 3, 4, 5, 6, 7]


def test_the_lines_of_the_checkpoints_own_step_stay(tmp_path: Path) -> None:
    with Metrics(tmp_path, tensorboard=False) as metrics:
        metrics.go_on_from(0)
        for line in ({"step": 2, "loss": 1.0}, {"step": 2, "validation": {}}, {"step": 3, "loss": 1.0}):
            metrics.write(line)
    written(tmp_path, range(0), go_on_from=2)
    assert read(tmp_path) == [{"step": 2, "loss": 1.0}, {"step": 2, "validation": {}}]


@pytest.mark.parametrize("torn", [b'{"step": 3, "lo', b'{"step": 3, "loss": 0.3}', b"\x00\x00\n", b"[1]\n", b"7\n"])
def test_a_torn_line_is_cut_away(tmp_path: Path, torn: bytes) -> None:
    written(tmp_path, range(1, 3))
    with open(tmp_path / FILE, "ab") as file:
        file.write(torn)
    written(tmp_path, range(3, 5), go_on_from=5)
    assert [line["step"] for line in read(tmp_path)] == [1, 2, 3, 4]


def test_every_line_is_one_json_object(tmp_path: Path) -> None:
    written(tmp_path, range(1, 4))
    lines = (tmp_path / FILE).read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [{"step": n, "loss": n / 10} for n in (1, 2, 3)]


def test_a_second_training_in_the_folder_is_refused_until_the_first_has_ended(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == b"open\n"
        with pytest.raises(TrainingRunsError, match="another process trains in"):
            Metrics(tmp_path, tensorboard=False)
        first.kill()  # not ended: killed, and the folder is free all the same
    written(tmp_path, range(1, 2))
    assert len(read(tmp_path)) == 1


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # tensorboard's own reader
def test_tensorboard_shows_the_same_numbers_and_no_step_twice(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    written(tmp_path, range(1, 6), tensorboard=True)
    with Metrics(tmp_path, tensorboard=True) as metrics:
        metrics.go_on_from(3)
        metrics.write({"step": 4, "loss": 9.0, "mfu": None, "held_out": "abc"})
        metrics.write({"step": 4, "validation": {"ema": {"0.5": 2.0}}})
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    shown = {event.step: event.value for event in events.Scalars("train/loss")}
    assert shown == pytest.approx({1: 0.1, 2: 0.2, 3: 0.3, 4: 9.0})
    assert [(e.step, e.value) for e in events.Scalars("validation/ema/0.5")] == [(4, 2.0)]
    assert set(events.Tags()["scalars"]) == {"train/loss", "validation/ema/0.5"}
