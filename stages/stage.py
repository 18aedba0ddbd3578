"""What a stage is, on one screen.

A stage is a callable class. It is handed a batch of rows, each a dict with exactly the columns in `needs`, and gives
for each row, in the same order, either the columns in `makes` or a `Reject`. What a row gives may not depend on its
neighbours in the batch. A stage knows nothing of tables, keys, stores or other stages.

A column may be:

    the word `source`       a `manifests.media.Clip`, with its file on this machine
    the word `character`    a `manifests.media.Picture`, likewise
    a column of the manifest (`domain`, `tags`, ...), as `manifests.schema` names it
    a column that an earlier stage of the track makes

What a stage makes is stored by its type: a number, string, list or dict as JSON in the ledger; a `numpy.ndarray` as an
artifact `.npy`; a `manifests.media.Video` as an artifact `.mp4`. The next stage is handed the same type back.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

Row = dict[str, Any]


@dataclass(frozen=True)
class Reject:
    """The row is not usable, and this is why: `reason` is counted in the funnel, `detail` for the person who asks."""

    reason: str  # a short name of the field, e.g. "no_person"
    detail: str = ""  # one sentence with the numbers: what was found, what was wanted


class StageConfig(BaseModel):
    """Base of every stage's config. Its own fields say how to run, not what to make: they are no part of the key."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    batch_size: int = Field(1, ge=1, description="rows handed to the stage at once")
    timeout_s: float = Field(
        600.0, gt=0, le=1e6, description="seconds for a row, on average over its batch; a longer batch is ended"
    )

    cpus: float = Field(1.0, ge=0, description="on Ray: CPUs of a worker")
    gpus: float = Field(0.0, ge=0, description="on Ray: GPUs of a worker, or a share of one")
    min_workers: int = Field(1, ge=1, description="on Ray: workers from the start")
    max_workers: int | None = Field(None, ge=1, description="on Ray: workers at most; null: as many as find room")

    HOW: ClassVar[frozenset[str]] = frozenset({"batch_size", "timeout_s", "cpus", "gpus", "min_workers", "max_workers"})

    @model_validator(mode="after")
    def _pool_is_possible(self) -> Self:
        if self.max_workers is not None and self.max_workers < self.min_workers:
            raise ValueError(f"max_workers {self.max_workers} is below min_workers {self.min_workers}")
        return self


ConfigT = TypeVar("ConfigT", bound=StageConfig)


class Stage(ABC, Generic[ConfigT]):
    """One step of a track; see the module's docstring for the contract."""

    Config: ClassVar[type[StageConfig]] = StageConfig
    version: ClassVar[int] = 1  # raise it when the results change; tests/stages/test_versions.py watches the code
    needs: ClassVar[tuple[str, ...]]
    makes: ClassVar[tuple[str, ...]]

    def __init__(self, config: ConfigT) -> None:
        """Called once a worker: weights load here."""
        self.config = config

    @abstractmethod
    def __call__(self, rows: Sequence[Row]) -> list[Row | Reject]:
        """Give, for each row, the columns in `makes` or a `Reject`."""

    @classmethod
    def digests(cls, config: Any) -> dict[str, str]:  # noqa: ARG003 - for those who override it
        """Return name -> digest of the weights and prompts that shape the result. Must be cheap: `plan` calls it."""
        return {}
