"""Weights shared out among processes: real ones, started by torchrun, over gloo; beside one process that has all."""

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import WanTransformer3DModel
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from model import lora
from model.text import TinyText
from model.training import checkpoint, metrics
from model.training.checkpoint import SHARDS, TRAINER
from model.training.config import Parallel, TrainConfigError
from tests.model.training.sharded_runs import FULL, LORA, MUON
from tests.model.training.small_training import CONFIG, backbone, changed, run, weights, without_times
from tests.model.training.test_loop import largest_difference, same_to_the_bit

pytestmark = [pytest.mark.train, pytest.mark.timeout(1200)]


def torchrun(processes: int, folder: Path, *names: str) -> None:
    of = ["--standalone", "--local-addr", "127.0.0.1", "--nproc-per-node", str(processes)]
    program = ["-m", "tests.model.training.sharded_runs", str(folder), *names]
    subprocess.run([sys.executable, "-m", "torch.distributed.run", *of, *program], check=True, timeout=1000)


def at(folder: Path, step: int) -> Path:
    return checkpoint.at(folder / "checkpoints", step)


def assembled(folder: Path, step: int = 6) -> dict[str, Tensor]:
    """Return a checkpoint's tensors as the headers of its files place their parts; each cell must be given once."""
    made: dict[str, Tensor] = {}
    parts: dict[str, list[tuple[list[int], Tensor]]] = {}
    for path in sorted((at(folder, step) / SHARDS).iterdir()):
        with safe_open(path, framework="pt") as file:
            lies: Mapping[str, Any] = json.loads(file.metadata()["DCP_SHARDING_INFO"])
            for name in file.keys():  # noqa: SIM118 - it is no dict
                parts.setdefault(name, []).append((lies[name]["saved_offsets"], file.get_tensor(name)))
    for name, some in parts.items():
        shape = [max(at + size for at, size in zip(dim, sizes, strict=True)) for dim, sizes in _columns(some)]
        made[name] = torch.full(shape, float("nan"))
        assert made[name].numel() == sum(tensor.numel() for _, tensor in some), name
        for start, tensor in some:
            made[name][tuple(slice(o, o + n) for o, n in zip(start, tensor.shape, strict=True))] = tensor
        assert not made[name].isnan().any(), name
    return made


def _columns(some: list[tuple[list[int], Tensor]]) -> list[tuple[list[int], list[int]]]:
    return [([start[d] for start, _ in some], [t.shape[d] for _, t in some]) for d in range(some[0][1].ndim)]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trainings of two processes, one of them begun by one process that has all weights."""
    folder = tmp_path_factory.mktemp("two")
    run(folder / "begun by one", steps=2, **FULL)
    names = ("full", "parts", "lora", "lora parts", "muon", "begun by one", "spoilt", "too small")
    torchrun(2, folder, *names, "gathered", "stepped by muon")
    return folder


@pytest.mark.parametrize("name", ["full", "lora", "muon"])
def test_two_that_share_the_weights_equal_one_that_has_all_with_the_same_global_batch(
    name: str, two: Path, tmp_path: Path
) -> None:
    values = {"full": FULL, "lora": LORA, "muon": MUON}[name]
    alone = run(tmp_path, **values)
    near = 1e-5
    if name == "muon":  # it rounds to bfloat16 in between: the last bit of a gradient may move an update by 1/256 of it
        near = 1e-4
    else:
        assert largest_difference(weights(alone.checkpoint), assembled(two / name)) < near
    one, both = metrics.read(tmp_path), metrics.read(two / name)
    assert [line["step"] for line in one] == [line["step"] for line in both]
    for ours, theirs in zip(one, both, strict=True):
        for field in ("loss", "grad_norm"):
            assert theirs.get(field) == pytest.approx(ours.get(field), abs=near)
        for kind, losses in ours.get("validation", {}).items():
            assert theirs["validation"][kind] == pytest.approx(losses, abs=near)


def test_muon_steps_a_matrix_that_is_shared_out_as_torch_steps_a_whole_one(two: Path) -> None:
    stepped = load_file(two / "muon.safetensors")
    assert torch.equal(stepped["ours"], stepped["torch's"])


@pytest.mark.parametrize("name", ["", "lora "])
def test_a_resumed_training_equals_an_uninterrupted_one_to_the_bit(name: str, two: Path) -> None:
    whole, parts = name.strip() or "full", f"{name}parts"
    assert same_to_the_bit(assembled(two / whole), assembled(two / parts))
    whole_lines, lines = (without_times(metrics.read(two / each)) for each in (whole, parts))
    steps = [line for line in lines if "loss" in line]
    assert steps == [line for line in whole_lines if "loss" in line]
    assert len(steps) == 6


def test_each_process_holds_half_and_writes_half_without_a_pickle(two: Path) -> None:
    held = json.loads((two / "held-2.json").read_text())
    whole = {n: t.numel() for n, t in assembled(two / "full").items() if n.startswith("weights.")}
    assert sum(held.values()) == pytest.approx(sum(whole.values()) / 2, rel=0.02)
    files = [path for path in at(two / "full", 6).rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".json", ".safetensors"}
    small, large = sorted(path.stat().st_size for path in files if path.parent.name == SHARDS)
    assert small > 0.9 * large


def test_diffusers_loads_the_whole_mean_weights(two: Path) -> None:
    for name, dtype in (("full", torch.float32), ("muon", torch.float16)):
        means, kept = assembled(two / name), at(two / name, 6)
        assert json.loads((kept / "transformer" / "config.json").read_text())["_class_name"] == "WanTransformer3DModel"
        loaded = WanTransformer3DModel.from_pretrained(kept / "transformer").named_parameters()
        for parameter, value in loaded:
            assert torch.equal(value, means[f"ema.transformer.{parameter}"].to(dtype).float())
        for parameter, value in TinyText.load(kept / "text_encoder").named_parameters():
            assert torch.equal(value, means[f"ema.text.{parameter}"].to(dtype).float())


def test_the_exported_lora_holds_the_mean_weights(two: Path) -> None:
    fresh, means = backbone(), assembled(two / "lora")
    lora.load(fresh.transformer, at(two / "lora", 6) / "lora", "again")
    for name, parameter in lora.parameters(fresh.transformer, "again").items():
        assert torch.equal(parameter, means["ema.transformer." + name.replace(".again.", ".pose.")])


def test_what_one_process_began_two_that_share_the_weights_finish(two: Path, tmp_path: Path) -> None:
    kept = two / "begun by one" / "checkpoints"
    assert (checkpoint.at(kept, 6) / SHARDS).is_dir()
    alone = run(tmp_path, **FULL)
    assert largest_difference(weights(alone.checkpoint), assembled(two / "begun by one")) < 1e-5


def test_what_two_wrote_one_reads_and_three_read_and_both_go_on(two: Path, tmp_path: Path) -> None:
    whole = run(tmp_path / "whole", steps=8, **FULL)
    written = assembled(two / "full")
    for name in ("full", "gone on", "one"):
        shutil.copytree(two / "full", tmp_path / name)
    one = run(tmp_path / "one", steps=8, **FULL)
    assert (one.checkpoint / TRAINER).exists()
    assert largest_difference(weights(whole.checkpoint), weights(one.checkpoint)) < 1e-5
    torchrun(3, tmp_path, "gathered", "gone on")
    for processes, folder in ((2, two), (3, tmp_path)):
        with safe_open(folder / f"gathered-{processes}.safetensors", framework="pt") as file:
            read = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        assert same_to_the_bit(written, read)
    assert largest_difference(weights(whole.checkpoint), assembled(tmp_path / "gone on", 8)) < 1e-5


def test_a_damaged_part_is_named_and_the_checkpoint_before_is_taken(
    two: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(two / "parts", tmp_path / "damaged")
    part = sorted((at(tmp_path / "damaged", 6) / SHARDS).iterdir())[1]
    damaged = bytearray(part.read_bytes())
    damaged[-1] ^= 1
    part.write_bytes(damaged)
    again = run(tmp_path / "damaged", **FULL)
    assert f"trainer/{part.name} is not what was written" in caplog.text
    assert largest_difference(weights(again.checkpoint), assembled(two / "full")) < 1e-5
    assert checkpoint.newest_whole(tmp_path / "damaged" / "checkpoints") == 6  # written anew


def test_a_loss_that_is_no_number_ends_all_processes_with_one_sentence_and_the_checkpoint_before(two: Path) -> None:
    said = [(two / "spoilt" / f"said-{rank}").read_text() for rank in range(2)]
    assert said[0] == said[1]
    assert "the loss is nan" in said[0]
    step = int(said[0].partition("step ")[2].partition(":")[0])
    kept = checkpoint.steps(two / "spoilt" / "checkpoints")
    assert (kept or [0])[-1] == step - 1


def test_more_processes_than_samples_are_refused(two: Path) -> None:
    assert "2 processes and a global_batch of 1" in (two / "too small" / "said-0").read_text()


def test_generated_code_is_refused_where_weights_are_shared_out() -> None:
    with pytest.raises(TrainConfigError, match=r"training.compile: is True; it must be false where parallel.shard"):
        changed(CONFIG, compile=True, parallel=Parallel(shard="fsdp"))


def test_one_process_alone_has_nothing_to_share(tmp_path: Path) -> None:
    alone = run(tmp_path, steps=2, parallel=Parallel(shard="fsdp"))
    assert (alone.checkpoint / TRAINER).exists()
