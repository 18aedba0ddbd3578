"""A program for torchrun: a small training in which rank 1 falls asleep while it reads the samples of a step.

python -m torch.distributed.run ... -m tests.model.training.sleeper FOLDER STEP PATIENCE_S
"""

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from model.training.config import Parallel
from model.training.strategy import Batch
from tests.model.training.small_training import Patterns, run


class Asleep(Patterns):
    """Patterns of which one read takes for ever, on rank 1."""

    def __init__(self, size: int, at: int) -> None:
        super().__init__(size)
        self.at, self.reads = at, 0

    def read(self, indices: Sequence[int]) -> Batch:
        self.reads += 1
        if self.reads == self.at and os.environ["RANK"] == "1":
            time.sleep(100_000)
        return super().read(indices)


if __name__ == "__main__":
    torch.set_num_threads(1)
    parallel = Parallel(patience_s=float(sys.argv[3]))
    run(Path(sys.argv[1]), Asleep(10, int(sys.argv[2])), parallel=parallel, validation__every=0)
