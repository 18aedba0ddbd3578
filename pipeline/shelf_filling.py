"""Shelves are filled with a bar, by one process or by several side by side."""

import os
import time
from dataclasses import dataclass
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from model.training.shelf import Make, Shelf

_WAIT_S: Final = 0.5


@dataclass(frozen=True)
class Share:
    """Which of several processes this is: they fill a shelf side by side."""

    part: int = 0
    parts: int = 1

    @classmethod
    def of_ranks(cls) -> "Share":
        """Return this process's share under torchrun; all of it where there is none."""
        return cls(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))


def fill_shelf(shelf: Shelf, make: Make, what: str, share: Share) -> None:
    """Make this process's share of the missing shards, with a bar, and wait until the others have made theirs."""
    missing = shelf.missing()
    if not missing:
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=share.part > 0) as bar:
        mine = [number for number in missing if number % share.parts == share.part]
        task = bar.add_task(what, total=sum(min(shelf.shard, shelf.count - n * shelf.shard) for n in mine))
        for made in shelf.fill(make, part=share.part, parts=share.parts):
            bar.advance(task, made)
        if left := len(shelf.missing()):
            bar.add_task(f"wait for {left} shards of the other parts", total=None)
        while shelf.missing():
            time.sleep(_WAIT_S)
