"""What workers and the desk say to each other: errands there, answers back, many at a time."""

from collections.abc import Sequence
from typing import Any, Generic, Literal, NamedTuple, TypeVar

from manifests.ledger import Outcome

Said = TypeVar("Said", bound="Errand | Answer")
Word = Literal["go", "alone", "done", "over", "later"]


class Errand(NamedTuple):
    """A row that stands before a stage, as the desk needs to know it."""

    track: str
    stage: str
    id: str
    key: str

    def outcome(self, state: str, **parts: Any) -> Outcome:
        """Return the row of the ledger that says so."""
        return Outcome(self.key, self.track, self.id, self.stage, state, **parts)


class Answer(NamedTuple):
    """What a worker is to do with a row.

    Attributes:
        word: `go`; `alone`: by itself, it is suspect; `done`: take what was made; `over`: it was rejected or
            quarantined; `later`: another row with this key is under way, or the run is ending.
        made: Of one that is done.
        artifacts: Of one that is done.
    """

    word: Word
    made: dict[str, Any] | None = None
    artifacts: Sequence[dict[str, Any]] = ()


class Packed(list[Said], Generic[Said]):
    """A list of these that travels as plain tuples: pickled one by one, as Ray does it, they cost eight times that."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the class once, and of each its values."""
        return _unpacked, (type(self[0]) if self else None, [tuple(each) for each in self])


def _unpacked(kind: Any, rows: list[tuple[Any, ...]]) -> Packed[Any]:
    return Packed(map(kind._make, rows)) if rows else Packed()
