"""What happens inside a worker process: inputs in, a stage called, artifacts published, results out.

This is the one place that catches every exception: a bug of a stage quarantines its row with the traceback.
"""

import contextlib
import errno
import json
import platform
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from typing import Any

import numpy as np

from manifests import faults, ledger
from manifests.media import Clip, MediaError, Picture, Video
from manifests.store import Artifact, ArtifactDamaged, Store, as_record
from stages import resolve
from stages.stage import Reject, Row, Stage


@dataclass(frozen=True)
class Item:
    """One row for one stage. `inputs` holds for each of the stage's needs what `_input` understands."""

    id: str
    key: str
    inputs: dict[str, Any]


@dataclass(frozen=True)
class Job:
    """A batch for a worker."""

    stage: str
    use: str  # module:Class
    config: str  # JSON
    items: tuple[Item, ...]


@dataclass(frozen=True)
class Result:
    """What became of one item: the parts of an Outcome that a worker knows."""

    state: str
    reason: str | None = None
    detail: str | None = None
    made: dict[str, Any] | None = None
    artifacts: tuple[dict[str, Any], ...] = ()
    seconds: float = 0.0
    made_with: dict[str, Any] | None = None


class NoSpace(Exception):
    """The disk under the root is full: the run ends, since every further item would fail too."""


class CannotStart(Exception):
    """A stage could not be set up (weights missing, a library absent): the run ends, with the cause."""


_store: Store | None = None


def begin(root: str) -> None:
    """Set up a fresh worker process."""
    global _store  # noqa: PLW0603 - one store a process, set once
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:
        score.write("1000")  # when memory ends, let it be a worker and not the driver
    _store = Store(root)


def work(job: Job) -> "list[Result] | NoSpace | CannotStart":
    """Run a batch through its stage, in a worker process: a result for each item, or why the whole run must end."""
    assert _store is not None, "begin() was not called in this process"
    found = {item.key: _adopt(_store, job.stage, item) for item in job.items}
    todo = [item for item in job.items if found[item.key] is None]
    if todo:
        try:
            stage = _stage(job.use, job.config)
        except Exception as error:
            return CannotStart(f"stage {job.stage} ({job.use}) cannot start: {type(error).__name__}: {error}")
        try:
            with _alarm(stage.config.timeout_s * len(todo)):
                found |= dict(zip((item.key for item in todo), _attempt(stage, job.stage, todo, _store), strict=True))
        except NoSpace as error:
            return error
    return [result for item in job.items if (result := found[item.key]) is not None]


@cache
def _stage(use: str, config: str) -> Stage[Any]:
    cls = resolve(use)
    stage: Stage[Any] = cls(cls.Config.model_validate_json(config))
    return stage


def _attempt(stage: Stage[Any], name: str, items: Sequence[Item], store: Store) -> list[Result]:
    """Call the stage on a batch; if that raises, on each item alone, so that only the guilty one pays."""
    started = time.monotonic()
    try:
        rows = [{need: _input(item.inputs[need], store) for need in stage.needs} for item in items]
        given = stage(rows)
        if len(given) != len(rows):
            raise ValueError(f"{type(stage).__name__} was handed {len(rows)} rows and gave {len(given)}")
        seconds = (time.monotonic() - started) / len(items)
        return [_keep(stage, name, item, row, store, seconds) for item, row in zip(items, given, strict=True)]
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoSpace(str(error)) from None
        if len(items) > 1:
            return [result for item in items for result in _attempt(stage, name, [item], store)]
        return [_failure(error, items[0], time.monotonic() - started)]


def _failure(error: Exception, item: Item, seconds: float) -> Result:
    if isinstance(error, ArtifactDamaged):
        column = next(
            name
            for name, given in item.inputs.items()
            if isinstance(given, Artifact) and given.address == error.address
        )
        return Result(ledger.LOST, reason=column, detail=str(error), seconds=seconds)
    if isinstance(error, MediaError):
        # it was fine when it was imported: not the row's fault, so it can be requeued when the file is back
        return Result(ledger.QUARANTINED, error.reason, error.detail, seconds=seconds, made_with=_provenance())
    text = "".join(traceback.format_exception(error))
    return Result(ledger.QUARANTINED, type(error).__name__, text, seconds=seconds, made_with=_provenance())


def _keep(stage: Stage[Any], name: str, item: Item, given: Row | Reject, store: Store, seconds: float) -> Result:
    """Publish what a stage gave for one item: artifacts first, then their record."""
    if isinstance(given, Reject):
        return Result(ledger.REJECTED, given.reason, given.detail, seconds=seconds, made_with=_provenance())
    missing = [column for column in stage.makes if column not in given]
    if missing:
        raise ValueError(f"{type(stage).__name__} declares {', '.join(missing)} in `makes` and did not give it")
    faults.point("before_artifact", name)
    artifacts, made = [], {}
    for column in stage.makes:
        value = given[column]
        if isinstance(value, (np.ndarray, Video)):
            artifacts.append(as_record(store.put(name, item.key, column, value)))
        else:
            made[column] = _plain(column, value)
    result = Result(ledger.DONE, None, None, made, tuple(artifacts), seconds, _provenance())
    if artifacts:
        store.put_record(name, item.key, {"made": made, "artifacts": artifacts, "seconds": seconds})
    faults.point("after_artifact", name)
    return result


def _plain(column: str, value: object) -> Any:
    """Return a value as JSON gives it back, so that a stage is handed the same whether or not the run was resumed."""
    if isinstance(value, np.generic):
        value = value.item()
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise TypeError(f"column {column}: {value!r} is neither JSON, nor an array, nor a Video: {error}") from error


def _adopt(store: Store, name: str, item: Item) -> Result | None:
    """Return the result of an item whose artifacts are whole though its outcome never came to the ledger."""
    record = store.record(name, item.key)
    if record is None:
        return None
    return Result(
        ledger.DONE, None, None, record["made"], tuple(record["artifacts"]), record["seconds"], {"adopted": True}
    )


def _input(given: Any, store: Store) -> Any:
    """Turn what the driver sent into what the stage is handed."""
    if isinstance(given, Artifact):
        return store.get(given)
    if isinstance(given, (Clip, Picture)):
        return type(given)(**{**vars(given), "path": store.fetch(given.path)})
    return given


@contextlib.contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    """End this process by SIGALRM after `seconds`: also a loop in C, which no exception would reach, is ended so."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


@cache
def _provenance() -> dict[str, Any]:
    libraries = {name: version(name) for name in ("numpy", "av", "decord2")}
    loaded = {name: version(name) for name in ("mediapipe", "torch") if name in sys.modules}
    return {"python": platform.python_version(), "machine": platform.machine(), "libraries": libraries | loaded}
