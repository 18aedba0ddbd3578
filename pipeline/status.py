"""What a run does now, for those who look from outside: a page under the root, and the lease.

The driver rewrites the page `status.json` every few seconds, whichever engine it runs on. The page alone does not say
whether its writer still lives: the lease does. Both are read without Ray, and without the lease being held.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from pydantic import TypeAdapter, ValidationError

from manifests.errors import UserError
from manifests.holder import Holder, Onlooker
from manifests.store import Store

PAGE: Final = "status.json"
_WORDS: Final = {"alive": "running", "still": "standing still", "gone": "died", "released": "ended"}


class StatusError(UserError):
    """The page of a run cannot be read."""


@dataclass(frozen=True)
class StageStatus:
    """One stage of one track. All numbers are of this run; None where the engine does not say."""

    track: str
    stage: str
    to_do: int  # rows that may still come through it, at most
    done: int
    rejected: int
    quarantined: int
    in_flight: int | None  # rows in workers' hands
    waiting: int | None  # rows that stand before it
    seconds_median: float | None  # working time of its latest items
    per_s: float  # items that ended, a second, over the last minute


@dataclass(frozen=True)
class Stalled:
    """Nothing has been finished for a while; this row has been worked on longest."""

    stage: str  # track.stage
    item: str
    worker: str
    for_s: float  # since the last result of the run


@dataclass(frozen=True)
class Status:
    """The page. Times are UTC, ISO 8601, by the clock of the driver's machine."""

    epoch: int  # of the lease under which the run writes
    engine: str  # here or ray
    started_at: str
    updated_at: str
    state: Literal["running", "ended", "stopped"]
    why: str | None  # it stopped
    stages: tuple[StageStatus, ...]
    stalled: Stalled | None = None


@dataclass(frozen=True)
class View:
    """A root as it looks from outside.

    `word` is: running, standing still (its process is there and does nothing), ended, stopped, died, held (by another
    command than the one whose page this is, or by a run that has not written its page yet), never (ran).
    """

    root: str
    word: str
    holder: Holder | None
    page: Status | None

    @property
    def lives(self) -> bool:
        """Say whether something may still change."""
        return self.word in ("running", "standing still", "held")

    def as_json(self) -> dict[str, Any]:
        """Return the view as `--json` prints it."""
        holder = None if self.holder is None else asdict(self.holder)
        return {"root": self.root, "state": self.word, "holder": holder, "page": self.page and asdict(self.page)}


def write(store: Store, page: Status) -> None:
    """Write the page, in place of the one before."""
    store.put_page(PAGE, asdict(page))


def read(store: Store) -> Status | None:
    """Return the page, or None if no run has written one.

    Raises:
        StatusError: it is no page of this version.
    """
    page = store.page(PAGE)
    try:
        return None if page is None else _parsed(page)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise StatusError(
            f"{store.root}/{PAGE} is no page that this version can read ({where}: {first['msg']}); "
            "look with the version that runs there, or wait until the next run has written its own"
        ) from error


def _parsed(page: Mapping[str, Any]) -> Status:
    return TypeAdapter(Status).validate_python(page)


def look(onlooker: Onlooker) -> View:
    """Look at a root once."""
    holder = onlooker.look()
    page = read(Store(onlooker.root))
    if holder is None:
        return View(onlooker.root, "never", None, page)
    word = _WORDS[holder.life]
    if page is None or page.epoch != holder.epoch:
        # the newest lease was another command's (import, requeue, ...): what the page says is of an earlier run
        ended = "never" if page is None else "ended" if page.state == "running" else page.state
        word = "held" if holder.life in ("alive", "still") else ended
    elif holder.life in ("released", "gone") and page.state != "running":
        word = page.state
    return View(onlooker.root, word, holder, page)


def follow(onlooker: Onlooker, every_s: float) -> Iterator[View]:
    """Look again and again, until nothing lives there any more; at least once."""
    while True:
        view = look(onlooker)
        yield view
        if not view.lives:
            return
        time.sleep(every_s)
