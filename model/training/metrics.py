"""What is written down while training: one JSON object a line, and TensorBoard.

`metrics.jsonl` holds a line a logged step, {"step", "loss", "grad_norm", "lr", "samples", "seconds", "tokens_per_s",
"mfu"}, and a line a validation, {"step", "validation": {"raw" | "ema" | "other_driving": {sigma: loss}}, "held_out":
digest}. A training that goes on from a checkpoint first cuts away what was written after it, so that no step stands
there twice.
"""

import contextlib
import fcntl
import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from torch.utils.tensorboard import SummaryWriter

from manifests.errors import UserError

FILE: Final = "metrics.jsonl"


class TrainingRunsError(UserError):
    """Another process trains in the same folder."""


class Metrics:
    """The metrics of one training; a context manager. As long as it is open no other training uses its folder."""

    def __init__(self, folder: Path, tensorboard: bool = True) -> None:
        """Open the metrics of a training, and keep others out of its folder.

        Raises:
            TrainingRunsError: Another process holds them open.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._file = open(folder / FILE, "a+b")  # noqa: SIM115 - closed by __exit__; the lock lives as long as it
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.close()
            raise TrainingRunsError(
                f"another process trains in {folder}; wait for it, end it, or train in another folder"
            ) from error
        self._folder, self._tensorboard = folder, tensorboard
        self._board: SummaryWriter | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if self._board is not None:
            self._board.close()

    def go_on_from(self, step: int) -> None:
        """Cut away what was written after `step` steps were done."""
        self._file.seek(0)
        self._file.truncate(_end_of(self._file.read(), step))
        if self._tensorboard:
            self._board = SummaryWriter(str(self._folder / "tensorboard"), purge_step=step + 1)

    def write(self, line: Mapping[str, Any]) -> None:
        """Append one line; `line["step"]` is the number of steps done."""
        self._file.write((json.dumps(line) + "\n").encode())
        self._file.flush()
        if self._board is not None:
            for name, value in _scalars(line):
                self._board.add_scalar(name, value, line["step"])


def read(folder: Path) -> list[dict[str, Any]]:
    """Return the whole lines of a training's metrics, in order; a line that is being written is left out."""
    lines = (folder / FILE).read_bytes().split(b"\n")[:-1]
    return [json.loads(line) for line in lines]


def _end_of(written: bytes, step: int) -> int:
    """Return where the line after the last one of `step` or before begins; a torn line counts as later."""
    end = 0
    for line in written.splitlines(keepends=True):
        with contextlib.suppress(ValueError, KeyError, TypeError):
            if line.endswith(b"\n") and json.loads(line)["step"] <= step:
                end += len(line)
                continue
        break
    return end


def _scalars(line: Mapping[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    found: list[tuple[str, float]] = []
    for name, value in line.items():
        if isinstance(value, Mapping):
            found += _scalars(value, f"{prefix}{name}/")
        elif isinstance(value, int | float) and name != "step":
            found.append((prefix + name if prefix else f"train/{name}", float(value)))
    return found
