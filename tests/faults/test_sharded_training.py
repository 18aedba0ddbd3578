"""Trainings of two processes, of which one is killed, stopped or asleep, or whose disk is full: named, and gone on."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from model.training import checkpoint, metrics
from tests.faults.test_disk_full import needs_mount
from tests.model.training.small_training import without_times
from tests.model.training.test_fsdp import assembled
from tests.model.training.test_loop import same_to_the_bit

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1500)]

TWO = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1"]
TWO += ["--nproc-per-node", "2", "-m"]
SMALL = "tests.model.training.small_training"
FSDP = ["--set", 'parallel.shard="fsdp"', "--set", "validation.every=0"]


def start(*program: str) -> "subprocess.Popen[str]":
    return subprocess.Popen([*TWO, *program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def rank_of(process: "subprocess.Popen[str]", rank: int) -> int:
    """Return the process id of one of torchrun's children."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    named = {pid: Path(f"/proc/{pid}/environ").read_bytes().split(b"\0") for pid in children}
    [found] = [int(pid) for pid, environment in named.items() if f"RANK={rank}".encode() in environment]
    return found


def reached(process: "subprocess.Popen[str]", step: int) -> None:
    assert process.stdout is not None
    while int(process.stdout.readline()) < step:
        pass


def own_words(said: str) -> str:
    """Return what our processes said, without the lines of torchrun's own report."""
    [sentence] = [line for line in said.splitlines() if "the same command goes on" in line]
    assert "[rank0]: Traceback" not in said
    return sentence


def test_a_killed_process_is_named_and_the_training_goes_on_to_the_bit(tmp_path: Path) -> None:
    settings = [*FSDP, "--set", "steps=40", "--set", "checkpoint.every=1"]
    with start(SMALL, str(tmp_path / "killed"), *settings) as process:
        reached(process, 5)
        victim = rank_of(process, 1)
        os.kill(victim, signal.SIGKILL)  # in a step or in a save, as it happens
        said = process.communicate(timeout=300)[1]
    assert process.returncode != 0
    ours = rf"no sign of life from rank 1 \(process {victim} on \S+\) at step \d+, where it "
    torchruns = rf"rank +: 1 \(local_rank: 1\)\n +exitcode +: -9 \(pid: {victim}\)"  # where it is the first to see it
    assert re.search(f"{ours}|{torchruns}", said)
    before = checkpoint.steps(tmp_path / "killed" / "checkpoints")[-1]
    assert 4 <= before < 40
    for name in ("killed", "whole"):
        subprocess.run([*TWO, SMALL, str(tmp_path / name), *settings], check=True, timeout=600)
    assert same_to_the_bit(assembled(tmp_path / "killed", 40), assembled(tmp_path / "whole", 40))
    lines = [without_times(metrics.read(tmp_path / name)) for name in ("killed", "whole")]
    assert lines[0] == lines[1]


def test_a_stopped_process_is_named_and_ends_the_others(tmp_path: Path) -> None:
    settings = [*FSDP, "--set", "steps=100000", "--set", "parallel.patience_s=5"]
    with start(SMALL, str(tmp_path), *settings) as process:
        reached(process, 3)
        victim = rank_of(process, 1)
        os.kill(victim, signal.SIGSTOP)
        stopped_s = time.time()
        said = process.communicate(timeout=300)[1]
    sentence = own_words(said)
    assert f"no sign of life from rank 1 (process {victim} on " in sentence
    heard = re.search(r"last heard of at (\d\d:\d\d:\d\d)", sentence)
    assert heard is not None
    near = {time.strftime("%H:%M:%S", time.localtime(stopped_s + shift)) for shift in range(-5, 3)}
    assert heard[1] in near


def test_a_process_that_sleeps_is_named_with_its_step_and_what_it_does(tmp_path: Path) -> None:
    with start("tests.model.training.sleeper", str(tmp_path), "3", "5") as process:
        said = process.communicate(timeout=600)[1]
    assert process.returncode != 0
    where = r"stands still: rank 1 \(process \d+ on \S+\) at step 3, where it reads its samples, since \d\d:\d\d:\d\d"
    assert re.search(where, own_words(said))
    assert "longer than training.parallel.patience_s (5)" in said


# the first checkpoint has room, the second has none; then space is made, and the same command goes on
SCRIPT = """
set -u
mount -t tmpfs -o size={size}k tmpfs "$1/disk" || exit 99
run() {{ {two} {small} "$1/disk/run" {fsdp} --set steps=4 --set checkpoint.every=2 >"$1/$2.out" 2>"$1/$2.err"; }}
run "$1" first; echo $? >"$1/first.rc"
ls -A "$1/disk/run/checkpoints" >"$1/kept"
mount -o remount,size=64m "$1/disk"
run "$1" second; echo $? >"$1/second.rc"
ls -A "$1/disk/run/checkpoints" >"$1/kept_at_last"
"""


@needs_mount
def test_a_full_disk_is_one_sentence_and_the_checkpoint_before_stands(tmp_path: Path) -> None:
    measured = [*TWO, SMALL, str(tmp_path / "measured"), *FSDP, "--set", "steps=2"]
    subprocess.run(measured, check=True, timeout=600)
    one = sum(path.stat().st_size for path in (tmp_path / "measured").rglob("*") if path.is_file())
    (tmp_path / "disk").mkdir()
    quoted = {"two": " ".join(TWO), "small": SMALL, "fsdp": " ".join(f"'{word}'" for word in FSDP)}
    script = SCRIPT.format(size=int(1.6 * one / 1024), **quoted)
    subprocess.run(["unshare", "-rm", "bash", "-c", script, "fill", str(tmp_path)], check=True, timeout=1200)
    said = (tmp_path / "first.err").read_text()
    sentences = {line for line in said.splitlines() if "no space left under" in line}
    assert len(sentences) == 1, said
    assert "[rank0]: Traceback" not in said
    assert (tmp_path / "kept").read_text().split() == ["step-00000002"]
    assert (tmp_path / "first.rc").read_text().strip() == "1"
    assert (tmp_path / "second.rc").read_text().strip() == "0"
    assert (tmp_path / "kept_at_last").read_text().split() == ["step-00000002", "step-00000004"]
