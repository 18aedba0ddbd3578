"""Several processes are one: real ones, started by torchrun, over gloo."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from model.training import metrics
from model.training.parallel import Interrupts, NoDeviceError, Ranks, TooManyRanksError, ranks
from tests.model.training.small_training import run, weights
from tests.model.training.test_loop import largest_difference

TWO = ["--standalone", "--local-addr", "127.0.0.1", "--nproc-per-node", "2"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", *TWO]
PROGRAM = ["-m", "tests.model.training.small_training"]


def settings(**values: str) -> list[str]:
    return [part for name, value in values.items() for part in ("--set", f"{name.replace('__', '.')}={value}")]


@pytest.mark.train
@pytest.mark.parametrize(
    "values",
    [
        {"trainable": '"full"', "text_dropout": "0.9"},  # a rank whose prompts are all empty leaves words unused
        {"trainable": '"lora"', "global_batch": "5", "micro_batch": "2"},  # uneven shares: 2 and 3 samples
    ],
    ids=["full", "lora, uneven"],
)
def test_two_processes_equal_one_with_the_same_global_batch(tmp_path: Path, values: dict[str, str]) -> None:
    subprocess.run([*TORCHRUN, *PROGRAM, str(tmp_path / "two"), *settings(**values)], check=True, timeout=240)
    subprocess.run([sys.executable, *PROGRAM, str(tmp_path / "one"), *settings(**values)], check=True, timeout=240)
    kept = [tmp_path / name / "checkpoints" / "step-00000006" for name in ("one", "two")]
    assert largest_difference(*map(weights, kept)) < 1e-5
    one, two = (metrics.read(tmp_path / name) for name in ("one", "two"))
    assert [line["step"] for line in one] == [line["step"] for line in two]
    assert [line.get("loss") for line in two] == pytest.approx([line.get("loss") for line in one], abs=1e-5)
    for ours, theirs in zip(one, two, strict=True):
        for kind, losses in ours.get("validation", {}).items():
            assert theirs["validation"][kind] == pytest.approx(losses, abs=1e-5)


@pytest.mark.train
def test_a_signal_to_torchrun_ends_all_processes_after_one_step_and_two_go_on_as_one(tmp_path: Path) -> None:
    endless = settings(steps="100000", validation__every="0", checkpoint__every="100000")
    with subprocess.Popen([*TORCHRUN, *PROGRAM, str(tmp_path), *endless], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while int(process.stdout.readline()) < 3:
            pass
        process.send_signal(signal.SIGTERM)
        said = process.communicate(timeout=120)[0].splitlines()
    assert sum("the same command goes on from" in line for line in said) == 1
    [kept] = (tmp_path / "checkpoints").iterdir()
    step = int(kept.name.removeprefix("step-"))
    assert run(tmp_path, steps=step + 1).step == step + 1
    assert [line["step"] for line in metrics.read(tmp_path) if "loss" in line] == list(range(1, step + 2))


@pytest.mark.train
def test_processes_part_while_what_averages_their_gradients_is_alive(tmp_path: Path) -> None:
    program = [sys.executable, "-m", "tests.model.training.parting", str(tmp_path)]
    both = [subprocess.Popen([*program, str(rank)], stdout=subprocess.PIPE, text=True) for rank in range(2)]
    try:
        assert [process.communicate(timeout=200)[0] for process in both] == ["joined and parted 40 times\n"] * 2
    finally:
        for process in both:
            process.kill()


def test_more_processes_than_samples_are_refused() -> None:
    with pytest.raises(TooManyRanksError, match="3 processes and a global_batch of 2"):
        Ranks(0, 3, torch.device("cpu")).require_work(2)


def test_one_process_sums_and_waits_alone() -> None:
    with ranks("auto" if not torch.cuda.is_available() else "cpu") as alone:
        assert (alone.rank, alone.world, alone.main, alone.device.type) == (0, 1, True, "cpu")
        assert alone.sum(torch.tensor([1.0, 2.0])).tolist() == [1.0, 2.0]
        assert alone.from_main(7) == 7
        alone.barrier()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_a_device_that_is_not_there_is_named() -> None:
    with pytest.raises(NoDeviceError, match="cuda is wanted for local rank 0, and 0 are there"), ranks("cuda"):
        pass


def test_processes_for_which_no_device_is_left_are_refused_since_the_others_would_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(NoDeviceError, match="cuda is wanted for local rank 2, and 2 are there"), ranks("auto"):
        pass


def test_the_first_signal_is_remembered_and_the_second_one_acts() -> None:
    before = signal.getsignal(signal.SIGINT)
    with Interrupts() as interrupts:
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupts.name == "SIGINT"
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
