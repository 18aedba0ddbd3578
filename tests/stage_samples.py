"""Stages for the tests of the engine: real ones, by the same contract, that do what a test needs."""

import ctypes
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import Field

from stages.stage import Reject, Row, Stage, StageConfig


class NoOpConfig(StageConfig):
    batch_size: int = 128
    value: int = 0


class NoOp(Stage[NoOpConfig]):
    """Makes a number of a manifest value."""

    Config = NoOpConfig
    needs = ("file", "frames")
    makes = ("number",)

    def __call__(self, rows: Sequence[Row]) -> list[Row | Reject]:
        return [{"number": row["frames"] + self.config.value} for row in rows]


NO_OPS = 8
for _number in range(NO_OPS):  # NoOp0 to NoOp7: a track of them, each with a column of its own
    globals()[f"NoOp{_number}"] = type(f"NoOp{_number}", (NoOp,), {"makes": (f"number{_number}",)})


class ChainConfig(StageConfig):
    batch_size: int = 8
    value: int = 0
    log: str = ""  # a file to which each item's name is added when its work begins; where it lies changes no result

    HOW = StageConfig.HOW | {"log"}

    def tell(self, stage: str, rows: Sequence[Row]) -> None:
        """Add a line for each row to the log."""
        if self.log:
            with open(self.log, "a") as log:
                log.writelines(f"{stage} {row.get('file', row.get('word'))}\n" for row in rows)


class First(Stage[ChainConfig]):
    """Makes an array of a manifest value, and rejects what is marked so."""

    Config = ChainConfig
    needs = ("file", "frames")
    makes = ("array", "word")

    def __call__(self, rows: Sequence[Row]) -> list[Row | Reject]:
        self.config.tell("first", rows)
        return [
            Reject("marked", f"{row['file']} is marked")
            if "reject" in row["file"]
            else {"array": np.full(3, row["frames"] + self.config.value, np.float32), "word": row["file"]}
            for row in rows
        ]


class Second(Stage[ChainConfig]):
    """Makes an array and a number of what `First` made."""

    Config = ChainConfig
    needs = ("array", "word")
    makes = ("total", "double")

    def __call__(self, rows: Sequence[Row]) -> list[Row | Reject]:
        self.config.tell("second", rows)
        return [{"total": float(row["array"].sum()) + self.config.value, "double": row["array"] * 2} for row in rows]


class Third(Stage[ChainConfig]):
    """Makes one more array, of what `Second` made."""

    Config = ChainConfig
    needs = ("double", "word")
    makes = ("last",)

    def __call__(self, rows: Sequence[Row]) -> list[Row | Reject]:
        self.config.tell("third", rows)
        return [{"last": row["double"] + 1} for row in rows]


class TroubleConfig(StageConfig):
    batch_size: int = 8
    log: str = ""  # a file to which each item's name is added when its work begins
    sleep_s: float = 0.0
    size: int = Field(0, description="bytes of the array that is made")


class Trouble(Stage[TroubleConfig]):
    """Does what the row's file name says: crash, hang, raise, hungry; else works on as `First` does."""

    Config = TroubleConfig
    needs = ("file", "frames")
    makes = ("trouble",)

    def __call__(self, rows: Sequence[Row]) -> list[Row | Reject]:
        made: list[Row | Reject] = []
        for row in rows:
            name = Path(row["file"]).name
            if self.config.log:
                with open(self.config.log, "a") as log:
                    log.write(f"{name}\n")
            if self.config.sleep_s:
                time.sleep(self.config.sleep_s)
            if "crash" in name:
                print(f"about to read address 0 for {name}", flush=True)
                ctypes.string_at(0)
            if "hang" in name:
                time.sleep(3600)
            if "killer" in name:  # takes the driver down, and itself
                os.kill(os.getppid(), signal.SIGKILL)
                time.sleep(60)
            if "once" in name and not Path(self.config.log + name).exists():  # dies once, by somebody else's hand
                Path(self.config.log + name).touch()
                os.kill(os.getpid(), signal.SIGKILL)
            if "raise" in name:
                raise KeyError(f"no such thing in {name}")
            if "reject" in name:
                made.append(Reject("marked"))
                continue
            made.append({"trouble": np.full(max(1, self.config.size // 4), row["frames"], np.float32)})
        return made


class Shared(Stage[TroubleConfig]):
    """Needs nothing that differs between rows, so that they all have one key."""

    Config = TroubleConfig
    needs = ("frames",)
    makes = ("twice",)

    def __call__(self, rows: Sequence[Row]) -> list[Row | Reject]:
        with open(self.config.log, "a") as log:
            log.writelines("called\n" for _ in rows)
        return [{"twice": row["frames"] * 2} for row in rows]


class AfterShared(Stage[StageConfig]):
    """Goes on with what `Shared` made, a row at a time."""

    needs = ("twice", "file")
    makes = ("text",)

    def __call__(self, rows: Sequence[Row]) -> list[Row | Reject]:
        return [{"text": f"{row['file']} {row['twice']}"} for row in rows]


class NoFrames(Stage[StageConfig]):
    """A stage for a track of pictures."""

    needs = ("file",)
    makes = ("name",)

    def __call__(self, rows: Sequence[Row]) -> list[Row | Reject]:
        return [{"name": row["file"]} for row in rows]


class Undeclared(Stage[StageConfig]):
    """Reads a column that it does not declare."""

    needs = ("file",)
    makes = ("word",)

    def __call__(self, rows: Sequence[Row]) -> list[Row | Reject]:
        return [{"word": row["frames"]} for row in rows]


class CannotBegin(Stage[StageConfig]):
    """Its weights are missing."""

    needs = ("file",)
    makes = ("word",)

    def __init__(self, config: StageConfig) -> None:
        raise FileNotFoundError("weights.onnx is not there; get it from the page named in the README")

    def __call__(self, rows: Sequence[Row]) -> list[Row | Reject]:
        return [{"word": row["file"]} for row in rows]
