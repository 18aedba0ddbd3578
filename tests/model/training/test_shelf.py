"""What costs time to make is made once, and nothing half-made is ever read."""

import multiprocessing
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from model.training.shelf import Arrays, Shelf, ShelfError


def squares(numbers: Sequence[int]) -> tuple[Arrays, list[str]]:
    """Number n has the row (n, n^2), and its own note."""
    rows = np.array([[n, n * n] for n in numbers], np.int64)
    return {"rows": rows}, [f"thing {n}" for n in numbers]


def slow_squares(numbers: Sequence[int]) -> tuple[Arrays, list[str]]:
    time.sleep(0.05)
    return squares(numbers)


def fill_slowly(folder: str) -> None:
    for _ in Shelf(Path(folder), "abc", 400, shard=4).fill(slow_squares):
        pass


def test_things_are_read_by_number_in_the_order_asked_for(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path / "shelf", "abc", 10, shard=4)
    assert list(shelf.fill(squares)) == [4, 4, 2]
    (rows,), notes = shelf.read([9, 0, 5, 0], ["rows"])
    assert rows.tolist() == [[9, 81], [0, 0], [5, 25], [0, 0]]
    assert notes == ["thing 9", "thing 0", "thing 5", "thing 0"]


def test_two_parts_fill_one_shelf_and_neither_repeats_the_other(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, "abc", 20, shard=3)
    first = list(shelf.fill(squares, part=0, parts=2))
    assert shelf.missing()
    second = list(shelf.fill(squares, part=1, parts=2))
    assert sum(first) + sum(second) == 20
    assert not shelf.missing()
    assert not list(shelf.fill(squares))


def test_a_killed_filling_leaves_whole_shards_and_goes_on_where_it_was(tmp_path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=fill_slowly, args=(str(tmp_path),))
    process.start()
    while len(list(tmp_path.glob("*.safetensors"))) < 3:
        time.sleep(0.01)
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    shelf = Shelf(tmp_path, "abc", 400, shard=4)
    made = 100 - len(shelf.missing())
    assert 3 <= made < 100
    assert sum(shelf.fill(squares)) == 400 - 4 * made
    (rows,), _ = shelf.read(range(400), ["rows"])
    assert np.array_equal(rows[:, 1], np.arange(400) ** 2)


def test_a_shelf_of_another_recipe_is_refused_in_one_sentence(tmp_path: Path) -> None:
    list(Shelf(tmp_path, "abc", 4).fill(squares))
    with pytest.raises(ShelfError, match="another recipe"):
        Shelf(tmp_path, "xyz", 4).missing()
    with pytest.raises(ShelfError, match="another recipe"):
        Shelf(tmp_path, "xyz", 4).read([0], ["rows"])


def test_what_is_not_made_yet_or_damaged_is_said(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, "abc", 8, shard=4)
    with pytest.raises(ShelfError, match="fill the shelf first"):
        shelf.read([0], ["rows"])
    list(shelf.fill(squares))
    shelf.path(1).write_bytes(b"not a shard")
    with pytest.raises(ShelfError, match="remove it"):
        shelf.read([5], ["rows"])
    with pytest.raises(IndexError, match="8 things"):
        shelf.read([8], ["rows"])
