"""Training on a real Ray cluster gives what torchrun's loop gives, whatever becomes of its workers."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from safetensors.torch import load_file

from model.training import metrics
from pipeline.__main__ import main
from tests.model.training.small_training import without_times
from tests.model.training.test_fsdp import assembled
from tests.model.training.test_loop import same_to_the_bit
from tests.pipeline.small_runs import backbone_run, saved_vae, write

pytestmark = [pytest.mark.ray, pytest.mark.timeout(1500)]

STEPS = 12


@pytest.fixture(scope="module")
def vae(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved_vae(tmp_path_factory.mktemp("vae"))


@pytest.fixture(scope="module", autouse=True)
def _cluster() -> Iterator[None]:
    os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's workers are nice by 15 beside everything else
    from tests.ray_cluster import cluster

    with cluster(cpus=2):
        yield


def config(tmp_path: Path, name: str, vae: Path, **training: Any) -> Path:
    said = {"steps": STEPS, "sample_every": 0, "validation": {"every": 6, "samples": 2}, **training}
    return write(tmp_path / f"{name}.yaml", backbone_run(tmp_path / name, vae, **said))


def call(*arguments: object, code: int = 0) -> Result:
    result = CliRunner().invoke(main, [str(each) for each in arguments])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.stderr
    return result


def checkpoint_of(folder: Path) -> Path:
    return folder / "checkpoints" / f"step-{STEPS:08d}"


def workers_of(folder: Path) -> list[int]:
    """Return the processes that train in a folder, by the metrics that rank 0 holds open."""
    found = []
    for process in Path("/proc").iterdir():
        try:
            opened = [os.readlink(file) for file in (process / "fd").iterdir()] if process.name.isdigit() else []
        except OSError:
            continue
        if str(folder / metrics.FILE) in opened:
            found.append(int(process.name))
    return found


class Killer(threading.Thread):
    """Sends rank 0, or whom it is told, a signal once, when a step is written."""

    def __init__(self, folder: Path, step: int, number: int = signal.SIGKILL, to: int | None = None) -> None:
        super().__init__(daemon=True)
        self.folder, self.step, self.number, self.to, self.killed = folder, step, number, to, 0

    def run(self) -> None:
        while not self.killed:
            if (self.folder / metrics.FILE).exists() and any(
                line["step"] >= self.step for line in metrics.read(self.folder)
            ):
                for pid in [self.to] if self.to else workers_of(self.folder):
                    os.kill(pid, self.number)
                    self.killed += 1
            time.sleep(0.02)


def test_a_killed_worker_does_not_show_and_two_workers_are_two_processes_of_torchrun(vae: Path, tmp_path: Path) -> None:
    shard = {"parallel": {"shard": "fsdp"}}
    killer = Killer(tmp_path / "killed", 5)
    killer.start()
    killed = config(tmp_path, "killed", vae, **shard)
    told = call("train", killed, "--on", "ray", "--workers", 2, "--json")
    assert killer.killed == 1
    assert f"{STEPS} steps are done" in told.stderr
    assert "the workers were started anew" in told.stderr
    assert [line.partition('"step": ')[2].partition(",")[0] for line in told.stdout.splitlines()] == [
        str(step) for step in range(1, STEPS + 1)
    ]
    whole = config(tmp_path, "whole", vae, **shard)
    by_torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1"]
    by_torchrun += ["--nproc-per-node", "2", "-m", "pipeline", "train", str(whole)]
    subprocess.run(by_torchrun, check=True, timeout=900)
    lines = [without_times(metrics.read(tmp_path / name)) for name in ("killed", "whole")]
    assert lines[0] == lines[1]
    assert same_to_the_bit(assembled(tmp_path / "killed", STEPS), assembled(tmp_path / "whole", STEPS))
    models = [load_file(tmp_path / name / "model/transformer/diffusion_pytorch_model.safetensors") for name in
              ("killed", "whole")]  # fmt: skip
    assert same_to_the_bit(*models)
    assert not (tmp_path / "killed" / "ray").exists()


def test_what_a_user_can_mend_is_said_in_one_sentence_and_not_tried_again(vae: Path, tmp_path: Path) -> None:
    wrong = config(tmp_path, "wrong", tmp_path / "no_vae")
    said = call("train", wrong, "--on", "ray", "--workers", 1, code=2).stderr
    assert str(tmp_path / "no_vae") in said
    assert len(said.splitlines()) == 1
    good = config(tmp_path, "good", vae)
    assert "the cluster has 2 CPUs, and 3 workers want one each" in (
        call("train", good, "--on", "ray", "--workers", 3, code=2).stderr
    )
    assert "2 processes and a global_batch of 1" in (
        call("train", good, "--on", "ray", "--workers", 2, "--set", "training.global_batch=1", code=2).stderr
    )
    assert not (tmp_path / "good").exists()


def test_a_worker_that_stands_still_is_named_and_the_group_starts_anew(vae: Path, tmp_path: Path) -> None:
    """Rank 0, which keeps the store at which all met: so nobody can ask where it stands."""
    killer = Killer(tmp_path / "stopped", 5, signal.SIGSTOP)
    killer.start()
    stopped = config(tmp_path, "stopped", vae, parallel={"patience_s": 8})
    said = call("train", stopped, "--on", "ray", "--workers", 2).stderr
    assert killer.killed == 1
    assert "rank 0, or what started it, does not answer any more" in said
    assert "the workers were started anew" in said
    steps = [line["step"] for line in metrics.read(tmp_path / "stopped") if "loss" in line]
    assert steps == list(range(1, STEPS + 1))


def test_a_signal_ends_it_after_its_step_with_a_checkpoint(vae: Path, tmp_path: Path) -> None:
    Killer(tmp_path / "run", 3, signal.SIGTERM, to=os.getpid()).start()
    endless = {"steps": 100_000, "checkpoint": {"every": 100_000}, "validation": {"every": 0}}
    told = call("train", config(tmp_path, "run", vae, **endless), "--on", "ray", "--workers", 2)
    [kept] = (tmp_path / "run" / "checkpoints").iterdir()
    step = int(kept.name.removeprefix("step-"))
    assert f"stopped after step {step} of 100000; the same command goes on from {kept}" in told.output
    assert metrics.read(tmp_path / "run")[-1]["step"] == step
