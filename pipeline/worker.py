"""What happens inside a worker process: inputs in, a stage called, artifacts published, results out.

This is the one place that catches every exception: a bug of a stage quarantines its row with the traceback.
"""

import contextlib
import json
import platform
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from manifests import faults, ledger
from manifests.errors import RootError, is_full
from manifests.media import Clip, MediaError, Picture, Video
from manifests.store import Artifact, ArtifactDamaged, Store, as_record
from stages import resolve
from stages.stage import Reject, Row, Stage

LOAD_TIMEOUT_S = 1800.0  # to set a stage up: large weights come from slow disks
LIBRARIES = (
    "numpy",
    "av",
    "decord",
    "mediapipe",
    "torch",
    "onnxruntime",
    "transformers",
    "diffusers",
    "vllm",
    "aiohttp",
)
DISTRIBUTIONS = {"decord": ("decord2",), "onnxruntime": ("onnxruntime", "onnxruntime-gpu")}


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
    recipe: str  # digest of all that shapes the stage's results
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
    try:
        return _work(job, _store)
    except RootError as error:  # the store does not answer: no row is to blame, and every further one would fail too
        return CannotStart(str(error))


def _work(job: Job, store: Store) -> "list[Result] | NoSpace | CannotStart":
    found = {item.key: _adopt(store, job.stage, item) for item in job.items}
    todo = [item for item in job.items if found[item.key] is None]
    if todo:
        try:
            with _alarm(LOAD_TIMEOUT_S):
                stage = _stage(job.use, job.config)
        except Exception as error:
            return CannotStart(f"stage {job.stage} ({job.use}) cannot start: {type(error).__name__}: {error}")
        try:
            results = _Attempt(stage, job, store).of(todo)
            found |= dict(zip((item.key for item in todo), results, strict=True))
        except NoSpace as error:
            return error
    return [result for item in job.items if (result := found[item.key]) is not None]


@cache
def _stage(use: str, config: str) -> Stage[Any]:
    cls = resolve(use)
    stage: Stage[Any] = cls(cls.Config.model_validate_json(config))
    return stage


@dataclass(frozen=True)
class _Attempt:
    """A stage that is set up, and the batch it is called for."""

    stage: Stage[Any]
    job: Job
    store: Store

    def of(self, items: Sequence[Item]) -> list[Result]:
        """Call the stage on items; if that raises, on each alone, so that only the guilty one pays."""
        started = time.monotonic()
        try:
            rows = [{need: _input(item.inputs[need], self.store) for need in self.stage.needs} for item in items]
            with _alarm(self.stage.config.timeout_s * len(rows)):  # the store has limits of its own
                given = self.stage(rows)
            if len(given) != len(rows):
                raise ValueError(f"{self.job.use} was handed {len(rows)} rows and gave {len(given)}")
            seconds = (time.monotonic() - started) / len(items)
            return [self._keep(item, row, seconds) for item, row in zip(items, given, strict=True)]
        except Exception as error:
            if isinstance(error, RootError):
                raise
            if isinstance(error, OSError) and is_full(error):
                raise NoSpace(str(error)) from None
            if len(items) > 1:
                return [result for item in items for result in self.of([item])]
            return [self._failure(error, items[0], time.monotonic() - started)]

    def _failure(self, error: Exception, item: Item, seconds: float) -> Result:
        if isinstance(error, ArtifactDamaged):
            inputs = ((name, given) for name, given in item.inputs.items() if isinstance(given, Artifact))
            column = next(name for name, given in inputs if given.address == error.address)
            return Result(ledger.LOST, reason=column, detail=str(error), seconds=seconds)
        if isinstance(error, MediaError):
            # it was fine when it was imported: not the row's fault, so it can be requeued when the file is back
            reason, detail = error.reason, error.detail
        else:
            reason, detail = type(error).__name__, "".join(traceback.format_exception(error))
        return Result(ledger.QUARANTINED, reason, detail, seconds=seconds, made_with=self._provenance())

    def _keep(self, item: Item, given: Row | Reject, seconds: float) -> Result:
        """Publish what the stage gave for one item: artifacts first, then their record."""
        name = self.job.stage
        if isinstance(given, Reject):
            result = Result(ledger.REJECTED, given.reason, given.detail, seconds=seconds)
            return replace(result, made_with=self._provenance())
        missing = [column for column in self.stage.makes if column not in given]
        if missing:
            raise ValueError(f"{self.job.use} declares {', '.join(missing)} in `makes` and did not give it")
        faults.point("before_artifact", name)
        artifacts, made = [], {}
        for column in self.stage.makes:
            value = given[column]
            if isinstance(value, (np.ndarray, Video)):
                artifacts.append(as_record(self.store.put(name, item.key, column, value)))
            else:
                made[column] = _plain(column, value)
        made_with = self._provenance()
        if artifacts:
            record = {"made": made, "artifacts": artifacts, "seconds": seconds, "made_with": made_with}
            self.store.put_record(name, item.key, record)
        faults.point("after_artifact", name)
        return Result(ledger.DONE, None, None, made, tuple(artifacts), seconds, made_with)

    def _provenance(self) -> dict[str, Any]:
        """Say what made a result beside its recipe; asked after the work, when all libraries are loaded."""
        libraries = {name: _version(name) for name in LIBRARIES if name in sys.modules}
        return {
            "recipe": self.job.recipe,
            "code": _version("bodydouble"),
            "python": platform.python_version(),
            "libraries": libraries,
            "device": _device(),
            "batch": len(self.job.items),
        }


@cache
def _version(name: str) -> str:
    for distribution in DISTRIBUTIONS.get(name, (name,)):
        with contextlib.suppress(PackageNotFoundError):
            return version(distribution)
    return "unknown"  # run from a checkout that was never installed


def _device() -> str:
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    onnxruntime = sys.modules.get("onnxruntime")
    if onnxruntime is not None and onnxruntime.get_device() == "GPU":
        return "cuda, by onnxruntime"
    return f"cpu {platform.machine()}"


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
    made_with = record["made_with"] | {"adopted": True}
    return Result(ledger.DONE, None, None, record["made"], tuple(record["artifacts"]), record["seconds"], made_with)


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
