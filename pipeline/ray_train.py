"""A training on a Ray cluster: Ray Train starts the workers, and the whole group anew when one of them dies.

Each worker runs the loop that torchrun runs, and what is kept lies in the training's own folder, which all nodes see:
Ray is told of no checkpoint, and none of its own is read. A group that starts anew finds the newest whole checkpoint
there, so the metrics of a training whose workers died are those of one whose workers did not. Workers report to a desk,
an actor of the driver; what a user can mend ends the training, and is not tried again.
"""

import os
import shutil
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TextIO

import click
import ray
import torch

from manifests.errors import UserError
from model.training.parallel import Interrupts, Ranks
from model.training.watch import RankLostError
from pipeline.ray_cluster import ClusterError, Head, join
from pipeline.train_config import ShardRun, TrainingRun

# before `ray.train` is imported: the second generation, in which a group starts anew; workers stay in their folder
_ENVIRONMENT: Final = {
    "RAY_TRAIN_V2_ENABLED": "1", "RAY_CHDIR_TO_TRIAL_DIR": "0", "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "600",  # a busy machine, or a node that the cluster has yet to add
}  # fmt: skip
_LOOK_EVERY_S: Final = 0.5
_TOGETHER_S: Final = 10.0  # for all workers to come upon the same mistake
_SHARE: Final = {"OMP_NUM_THREADS": "1"}

OnStep = Callable[[Mapping[str, Any]], object]


class WorkersError(UserError):
    """The workers of a training died too often."""

    exit_code = 1


@dataclass
class Desk:
    """Where the workers of a training report, and its driver looks; an actor.

    Attributes:
        lines: Metrics of steps that the driver has not fetched.
        said: Sentences for the user that it has not fetched.
        begun: Groups of workers that have begun.
        message: How the training ended, once it has.
        refused: (exit code, sentence) of a mistake that the user can mend, once there is one.
    """

    lines: list[dict[str, Any]] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    begun: int = 0
    message: str | None = None
    refused: tuple[int, str] | None = None
    stopping: bool = False
    _refusing: set[int] = field(default_factory=set)

    def begin(self, rank: int) -> bool:
        """Note that a worker begins; returns whether it is to."""
        self.begun += rank == 0
        return self.refused is None and self.message is None

    def step(self, line: dict[str, Any]) -> bool:
        """Take a step's metrics; returns whether the training is to stop."""
        self.lines.append(line)
        return self.stopping

    def say(self, sentence: str) -> None:
        """Take a sentence for the user."""
        self.said.append(sentence)

    def end(self, message: str) -> None:
        """Take the sentence with which the training ended."""
        self.message = message

    def refuse(self, rank: int, code: int, sentence: str) -> int:
        """Take a mistake that the user can mend; returns how many workers came upon one."""
        self.refused = self.refused or (code, sentence)
        self._refusing.add(rank)
        return len(self._refusing)

    def look(self, stop: bool) -> tuple[list[dict[str, Any]], list[str], int, str | None, tuple[int, str] | None]:
        """Tell the driver what is new, and take note whether the user wants to stop."""
        lines, said, self.lines, self.said = self.lines, self.said, [], []
        self.stopping |= stop
        return lines, said, self.begun, self.message, self.refused


def train_on_ray(
    run: TrainingRun | ShardRun, workers: int | None, address: str | None, restarts: int, on_step: OnStep
) -> str:
    """Train on a cluster, and return the sentence with which it ended.

    Args:
        run: The training; its folder must be seen by all nodes.
        workers: Processes; None: one for each GPU, or one where there is none.
        address: Of the cluster; None: of RAY_ADDRESS, or of this machine.
        restarts: How often the workers may die.
        on_step: Called with each step's metrics, each step once.

    Raises:
        ClusterError: There is no cluster, or it has no room for the workers.
        UserError: What the loop refuses.
        WorkersError: The workers died too often.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if address:
        os.environ["RAY_ADDRESS"] = address
    join()
    on_gpu, count = _room(run.training.device, workers)
    Ranks(0, count, torch.device("cpu")).require_work(run.training.global_batch)
    run = run.model_copy(update={"folder": run.folder.absolute()})
    desk, terminal = ray.remote(Desk).options(num_cpus=0).remote(), sys.stdout
    try:
        # Ray prints what it has to say of a dead worker, and that belongs not among the steps
        with Interrupts() as interrupts, redirect_stdout(sys.stderr):
            return _Following(run, count, on_gpu, restarts, desk).to_the_end(interrupts, terminal, on_step)
    finally:
        ray.kill(desk)
        shutil.rmtree(run.folder / "ray", ignore_errors=True)


class _Following:
    """A training on Ray in a thread, and what its desk hears."""

    def __init__(self, run: TrainingRun | ShardRun, workers: int, on_gpu: bool, restarts: int, desk: Any) -> None:
        self._run, self._workers, self._on_gpu, self._restarts, self._desk = run, workers, on_gpu, restarts, desk
        self._failed: Exception | None = None
        self._last, self._begun = 0, 1
        self._thread = threading.Thread(target=self._fit, daemon=True)

    def to_the_end(self, interrupts: Interrupts, terminal: TextIO, on_step: OnStep) -> str:
        """Print what happens until nothing more does, steps to `terminal`; a signal ends it after the step at hand."""
        head = Head()
        self._thread.start()
        message: str | None
        while True:
            alive = self._thread.is_alive()  # before the last look, not after it
            head.check()
            found = ray.get(self._desk.look.remote(interrupts.name is not None))
            lines, said, begun, message, refused = found
            for sentence in said:
                click.echo(f"bodydouble: {sentence}", err=True)
            if begun > self._begun:
                self._begun = begun
                click.echo("the workers were started anew; they go on from the newest checkpoint", err=True)
            for line in lines:
                if line["step"] > self._last:  # after a restart some are done again, with the same numbers
                    self._last = line["step"]
                    with redirect_stdout(terminal):
                        on_step(line)
            if not alive:
                break
            time.sleep(_LOOK_EVERY_S)
        if refused is not None:
            raise _refusal(*refused)
        if message is None:
            raise self._died()
        return message

    def _died(self) -> WorkersError:
        reason = " ".join(str(self._failed).split())[-400:]
        return WorkersError(
            f"the workers died {self._restarts + 1} times, and --restarts is {self._restarts}; at last: {reason}; see "
            "the logs of the cluster, and run the same command again, which goes on from the newest checkpoint"
        )

    def _fit(self) -> None:
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchConfig, TorchTrainer

        place = self._run.folder / "ray"
        place.mkdir(parents=True, exist_ok=True)
        patience_s = self._run.training.parallel.patience_s
        trainer = TorchTrainer(
            work,
            train_loop_config={"run": self._run, "desk": self._desk, "cwd": os.getcwd()},
            scaling_config=ScalingConfig(num_workers=self._workers, use_gpu=self._on_gpu),
            torch_config=TorchConfig(backend="nccl" if self._on_gpu else "gloo", timeout_s=int(3 * patience_s + 60)),
            run_config=RunConfig(
                name=uuid.uuid4().hex,
                storage_path=str(place),
                failure_config=FailureConfig(max_failures=self._restarts, controller_failure_limit=self._restarts),
            ),
        )
        try:
            trainer.fit()
        except Exception as error:
            self._failed = error


def work(given: dict[str, Any]) -> None:
    """Train in a worker, as rank 0 or another; what is to be told is told at the desk."""
    from pipeline.train import Training  # diffusers takes seconds to import, and the driver needs none of it

    rank, world = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE"))
    desk = given["desk"]
    if not ray.get(desk.begin.remote(rank)):
        return
    if Path(given["cwd"]).is_dir():
        os.chdir(given["cwd"])
    for name, value in _SHARE.items():
        os.environ.setdefault(name, value)
    answers: list[Any] = []

    def on_step(line: Mapping[str, Any]) -> bool:
        answers.append(desk.step.remote(dict(line)))
        return len(answers) > 1 and bool(ray.get(answers.pop(0)))  # of the step before: nothing is waited for

    try:
        summary = Training(given["run"]).start(on_step, lambda said: ray.get(desk.say.remote(said)))
    except RankLostError as error:
        ray.get(desk.say.remote(str(error)))
        raise
    except UserError as error:
        until_s = time.monotonic() + _TOGETHER_S
        while ray.get(desk.refuse.remote(rank, error.exit_code, str(error))) < world:
            if time.monotonic() > until_s:
                raise  # the others wait for this one: Ray ends them, and who then begins is told not to
            time.sleep(0.2)
        return
    if summary.message:
        ray.get([desk.end.remote(summary.message), *answers])


def _room(device: str, workers: int | None) -> tuple[bool, int]:
    """Return whether workers have a GPU each, and how many there are.

    Raises:
        ClusterError: The cluster has no room for them; Ray would wait for ever.
    """
    there = ray.cluster_resources()
    on_gpu = device == "cuda" or (device == "auto" and there.get("GPU", 0) > 0)
    unit = "GPU" if on_gpu else "CPU"
    has = int(there.get(unit, 0))
    count = workers if workers is not None else max(1, has if on_gpu else 1)
    if count > has:
        raise ClusterError(
            f"the cluster has {has} {unit}s, and {count} workers want one each; add nodes, or start fewer: --workers"
        )
    return on_gpu, count


def _refusal(code: int, sentence: str) -> UserError:
    error = UserError(sentence)
    error.exit_code = code
    return error
