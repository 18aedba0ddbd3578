"""A program: one of two processes that join, learn a little and part, again and again, with the learner alive.

python -m tests.model.training.parting FOLDER RANK
"""

import os
import sys
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist

from model.training import parallel

TIMES = 40  # with a group that dies in the wrong hands, two of three trainings hung


def main() -> None:
    folder, rank = Path(sys.argv[1]), int(sys.argv[2])
    os.environ |= {"WORLD_SIZE": "2", "RANK": str(rank), "LOCAL_RANK": str(rank)}
    torch.set_num_threads(1)
    meet = dist.init_process_group
    for time in range(TIMES):  # at a file each time: torchrun's meeting place serves only once
        store = dist.FileStore(str(folder / str(time)), 2)
        dist.init_process_group = partial(meet, store=store, rank=rank, world_size=2)
        with parallel.ranks("cpu") as ranks:
            learner = parallel.spread(torch.nn.Linear(4, 4), ranks, may_be_unused=False)
            learner(torch.ones(2, 4)).sum().backward()
            ranks.barrier()
        del learner
    print(f"joined and parted {TIMES} times")


if __name__ == "__main__":
    main()
