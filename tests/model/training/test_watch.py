"""Who is named, and who is not, by a process that waits; with processes of their own: tests/faults."""

import json
import threading
import time
from typing import Any

import pytest
import torch.distributed as dist

from model.training.watch import Watch


def written(store: Any, rank: int, step: int, doing: str) -> None:
    """Leave the last sign of life of a process that is gone."""
    store.set(str(rank), json.dumps([f"process 7{rank} on there", step, doing, time.time(), time.time()]))


class StandingStill:
    """What a client of a store sees whose keeper is stopped: a question, and never an answer."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_: threading.Event().wait()


def test_a_process_that_gives_no_sign_of_life_is_named_and_one_that_does_is_not() -> None:
    store = dist.HashStore()
    written(store, 1, 7, "saves a checkpoint")
    with Watch(0, 3, 100.0, store) as mine, Watch(2, 3, 100.0, store):
        time.sleep(1.5)
        said = mine.lost()
    assert said is not None
    assert "no sign of life from rank 1 (process 71 on there) at step 7, where it saves a checkpoint, since " in said
    assert "rank 2" not in said


def test_where_all_give_signs_of_life_nobody_is_lost() -> None:
    store = dist.HashStore()
    with Watch(0, 2, 100.0, store) as mine, Watch(1, 2, 100.0, store):
        time.sleep(1.5)
        assert mine.lost() is None


@pytest.mark.timeout(60)
def test_where_the_store_stands_still_its_keeper_is_named_and_nobody_hangs() -> None:
    with Watch(1, 2, 100.0, StandingStill()) as mine:
        said = mine.lost()
        assert said is not None
        assert said.startswith("rank 0, or what started it, does not answer any more")
        assert mine.first_to_say()


def test_one_of_all_says_it() -> None:
    store = dist.HashStore()
    assert [Watch(rank, 3, 100.0, store).first_to_say() for rank in range(3)] == [True, False, False]
