"""`train` and `train-vae` as a user types them."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from safetensors.torch import load_file

from pipeline.__main__ import main
from tests.pipeline.small_runs import backbone_run, saved_vae, vae_run, write


def call(*arguments: object, code: int = 0) -> Result:
    result = CliRunner().invoke(main, [str(each) for each in arguments])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.stderr
    return result


def start(*arguments: object) -> "subprocess.Popen[str]":
    """Start a command in a process of its own."""
    command = [sys.executable, "-m", "pipeline", *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return write(tmp_path / "run.yaml", backbone_run(tmp_path / "run", saved_vae(tmp_path / "vae")))


def test_a_dry_run_says_what_it_costs_and_writes_nothing(tmp_path: Path, config: Path) -> None:
    said = call("train", config, "--dry-run", "--set", "training.steps=7200").stdout
    assert "24 tokens a sample" in said
    assert "s a step (measured here)" in said
    assert "for 7200 steps" in said
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("command", ["train", "train-vae"])
@pytest.mark.parametrize("part", ["2/1", "0/2", "1", "a/b", "-1/2", "1/2/3"])
def test_a_part_that_is_none_is_refused_before_the_config_is_read(command: str, part: str) -> None:
    said = call(command, "nowhere.yaml", "--prepare", "--part", part, code=2).stderr
    assert f"'{part}' is no part; write 1/2 and, in the other process, 2/2" in said


@pytest.mark.parametrize("command", ["train", "train-vae"])
def test_a_part_without_preparing_is_refused(command: str) -> None:
    assert "--part goes with --prepare" in call(command, "nowhere.yaml", "--part", "1/2", code=2).stderr


@pytest.mark.parametrize("more", [[], ["--prepare"], ["--dry-run"]])
def test_a_missing_vae_is_said_in_one_sentence_before_anything_is_rendered(tmp_path: Path, more: list[str]) -> None:
    config = write(tmp_path / "run.yaml", backbone_run(tmp_path / "run", tmp_path / "no_vae"))
    said = call("train", config, *more, code=2)
    assert len(said.stderr.splitlines()) == 1
    assert str(tmp_path / "no_vae") in said.stderr
    assert not (tmp_path / "run").exists()


def test_a_config_that_is_not_there_or_wrong_is_said_in_a_line_each(tmp_path: Path, config: Path) -> None:
    for command in ("train", "train-vae"):
        assert "nowhere.yaml: cannot be read" in call(command, tmp_path / "nowhere.yaml", code=2).stderr
    lines = call("train", config, "--set", "training.stepz=3", "--set", "size.frame=9", code=2).stderr.splitlines()
    assert len(lines) == 2
    assert any("training.stepz: unknown field; did you mean 'steps'?" in line for line in lines)
    assert any("size.frame: unknown field; did you mean 'frames'?" in line for line in lines)


def test_preparing_renders_and_encodes_and_does_not_train(tmp_path: Path, config: Path) -> None:
    assert "all that the training will read is there" in call("train", config, "--prepare").stdout
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["clips", "latents"]


def test_json_is_one_object_a_line_and_nothing_else(tmp_path: Path, config: Path) -> None:
    told = call("train", config, "--json", "--set", "training.steps=2", "--set", "training.sample_every=0")
    lines = [json.loads(line) for line in told.stdout.splitlines() if line.startswith("{")]
    assert [line["step"] for line in lines] == [1, 2]
    assert not any("steps are done" in line for line in told.stdout.splitlines())
    assert "2 steps are done" in told.stderr


def test_a_vae_that_is_not_good_enough_ends_with_one(tmp_path: Path) -> None:
    config = write(tmp_path / "vae.yaml", vae_run(tmp_path / "vae", steps=1))
    told = call("train-vae", config, "--json", "--set", "accept_db=99", code=1)
    *steps, verdict = [json.loads(line) for line in told.stdout.splitlines() if line.startswith("{")]
    assert [line["step"] for line in steps] == [1]
    assert verdict["accepted"] is False
    assert verdict["wanted_db"] == 99
    assert "wanted 99: NOT accepted" in told.stderr
    assert ": accepted" in call("train-vae", config).stdout  # what is there is measured again, and 1 dB is enough


def test_going_on_with_another_vae_is_refused_in_a_sentence(tmp_path: Path) -> None:
    config = write(tmp_path / "vae.yaml", vae_run(tmp_path / "vae", steps=1))
    call("train-vae", config)
    said = call("train-vae", config, "--set", "vae.lr=0.1", code=2).stderr
    assert "was trained with another config" in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--on", "ray", "--dry-run"], "--prepare and --dry-run are for this machine; leave out --on ray"),
        (["--workers", "2"], "--workers and --address go with --on ray"),
    ],
)
def test_options_that_do_not_go_together_are_refused_before_the_config_is_read(options: list[str], said: str) -> None:
    assert said in call("train", "nowhere.yaml", *options, code=2).stderr


@pytest.mark.ray
@pytest.mark.parametrize(
    ("before", "more", "wanted"),
    [
        ("", "'--address', '127.0.0.1:1'", "no Ray cluster answers at 127.0.0.1:1"),
        ("sys.modules['ray'] = None", "'--workers', '2'", "--on ray needs Ray Train, and ray cannot be imported"),
    ],
    ids=["no cluster", "no ray"],
)
def test_where_there_is_no_cluster_or_no_ray_one_sentence_says_so(
    before: str, more: str, wanted: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "run.yaml", backbone_run(tmp_path / "run", tmp_path / "vae"))
    command = f"main(['train', {str(path)!r}, '--on', 'ray', {more}])"
    code = f"import sys; {before}\nfrom pipeline.__main__ import main; {command}"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=250, check=False)
    assert told.returncode == 2
    assert wanted in told.stderr
    assert len(told.stderr.splitlines()) == 1


@pytest.mark.train
def test_two_processes_prepare_side_by_side_what_one_would(tmp_path: Path, config: Path) -> None:
    parts = [start("train", config, "--prepare", "--part", f"{n}/2") for n in (1, 2)]
    for part in parts:
        out, err = part.communicate(timeout=200)
        assert part.returncode == 0, err
        assert "all that the training will read is there" in out
    alone = write(tmp_path / "alone.yaml", backbone_run(tmp_path / "alone", tmp_path / "vae"))
    call("train", alone, "--prepare")
    shards = sorted(path.relative_to(tmp_path / "run") for path in (tmp_path / "run").rglob("*.safetensors"))
    assert shards == sorted(
        path.relative_to(tmp_path / "alone") for path in (tmp_path / "alone").rglob("*.safetensors")
    )
    for shard in shards:
        one, other = load_file(tmp_path / "run" / shard), load_file(tmp_path / "alone" / shard)
        assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.train
def test_from_nothing_to_a_vae_to_a_stopped_and_finished_backbone(tmp_path: Path) -> None:
    vae = write(tmp_path / "vae.yaml", vae_run(tmp_path / "vae", steps=6))
    assert ": accepted" in call("train-vae", vae).stdout

    config = backbone_run(tmp_path / "run", tmp_path / "vae" / "vae", steps=400, sample_every=50)
    path = write(tmp_path / "run.yaml", config)
    process = start("train", path, "--json")
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("{") and json.loads(line)["step"] == 3:
            process.send_signal(signal.SIGINT)
            break
    _, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    assert "the same command goes on from" in err
    stopped = _last(tmp_path / "run")
    assert 3 <= stopped < 400

    until = stopped + 3
    assert f"{until} steps are done" in call("train", path, "--set", f"training.steps={until}").stdout
    whole = write(tmp_path / "whole.yaml", {**config, "folder": str(tmp_path / "whole")})
    sheet = f"training.sample_every={until}"
    call("train", whole, "--set", f"training.steps={until}", "--set", sheet)
    first, second = (load_file(_checkpoint(tmp_path / name) / "trainer.safetensors") for name in ("run", "whole"))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)

    metrics: list[dict[str, Any]] = [
        json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()
    ]
    assert [line["step"] for line in metrics if "loss" in line] == list(range(1, until + 1))
    (drawn,) = (tmp_path / "whole" / "samples").iterdir()
    assert np.asarray(Image.open(drawn)).std() > 10
    assert (_checkpoint(tmp_path / "run") / "transformer" / "config.json").is_file()


def _checkpoint(folder: Path) -> Path:
    return max((folder / "checkpoints").iterdir())


def _last(folder: Path) -> int:
    return int(_checkpoint(folder).name.removeprefix("step-"))
