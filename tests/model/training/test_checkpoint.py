"""The state of a training on disk."""

import errno
import json
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import WanTransformer3DModel
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from manifests.errors import NoSpaceError
from model import lora
from model.text import TinyText
from model.training import checkpoint
from model.training.checkpoint import STATE, TRAINER, ResumeError, State
from tests.model.training.small_training import backbone, run, weights

TENSORS = {"weights.a": torch.arange(5.0), "ema.a": torch.ones(2, 3), "optimizer.step.a": torch.tensor(3.0)}
NOW = State(100, 400, {"seed": 0, "optimizer.lr": 0.1}, [(0, "first", 10)])


def export(folder: Path) -> None:
    (folder / "transformer").mkdir()
    save_file({"w": torch.ones(3)}, folder / "transformer" / "model.safetensors")


def saved(folder: Path, *steps: int, keep: int = 9) -> None:
    for step in steps:
        checkpoint.save(folder, replace(NOW, step=step), TENSORS, export, keep)


def test_a_checkpoint_gives_back_what_was_put_in(tmp_path: Path) -> None:
    saved(tmp_path, 7)
    assert checkpoint.newest_whole(tmp_path) == 7
    read = checkpoint.load(tmp_path, 7, NOW)
    assert read.keys() == TENSORS.keys()
    assert all(torch.equal(read[name], tensor) for name, tensor in TENSORS.items())


def test_only_the_last_ones_are_kept(tmp_path: Path) -> None:
    saved(tmp_path, 5, 10, 15, 20, keep=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-00000015", "step-00000020"]


def test_a_folder_without_checkpoints_has_no_newest(tmp_path: Path) -> None:
    assert checkpoint.newest_whole(tmp_path / "checkpoints") is None


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


DAMAGE: dict[str, tuple[str, Callable[[Path], object]]] = {
    "has 10 bytes": (TRAINER, lambda path: path.write_bytes(path.read_bytes()[:10])),
    "its sha256 differs": (TRAINER, flip),
    "model.safetensors is missing": ("transformer/model.safetensors", Path.unlink),
    "state.json cannot be read": (STATE, lambda path: path.write_bytes(b'{"step": 2')),
    "state.json cannot be read (KeyError)": (STATE, lambda path: path.write_text("{}")),
}


@pytest.mark.parametrize("said", DAMAGE)
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_taken(
    said: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    saved(tmp_path, 1, 2)
    name, damage = DAMAGE[said]
    damage(tmp_path / "step-00000002" / name)
    with caplog.at_level(logging.WARNING):
        assert checkpoint.newest_whole(tmp_path) == 1
    assert "step-00000002" in caplog.text
    assert said in caplog.text


def test_where_every_checkpoint_is_damaged_nothing_begins_anew_by_itself(tmp_path: Path) -> None:
    saved(tmp_path, 1, 2)
    for step in (1, 2):
        flip(tmp_path / f"step-{step:08d}" / TRAINER)
    with pytest.raises(ResumeError, match=r"every checkpoint is damaged.*step-00000002.*step-00000001"):
        checkpoint.newest_whole(tmp_path)


def test_a_damaged_checkpoint_is_replaced_when_its_step_is_reached_again(tmp_path: Path) -> None:
    saved(tmp_path, 1, 2)
    flip(tmp_path / "step-00000002" / TRAINER)
    saved(tmp_path, 2)
    assert checkpoint.newest_whole(tmp_path) == 2


def test_a_damaged_checkpoint_that_is_newer_does_not_cost_the_one_just_written(tmp_path: Path) -> None:
    saved(tmp_path, 1, 4)
    flip(tmp_path / "step-00000004" / TRAINER)
    saved(tmp_path, 2, keep=1)
    assert checkpoint.newest_whole(tmp_path) == 2


def test_what_a_killed_save_left_behind_is_never_taken_and_goes(tmp_path: Path) -> None:
    saved(tmp_path, 1, 2)
    (tmp_path / "step-00000002").rename(tmp_path / ".partial-00000002")
    assert checkpoint.newest_whole(tmp_path) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


def test_a_full_disk_leaves_the_checkpoints_before_and_no_rubbish(tmp_path: Path) -> None:
    saved(tmp_path, 1)

    def full(folder: Path) -> None:
        export(folder)
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(NoSpaceError, match="no space left under"):
        checkpoint.save(tmp_path, NOW, TENSORS, full, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]
    assert checkpoint.newest_whole(tmp_path) == 1


def test_other_mathematics_are_refused_field_by_field(tmp_path: Path) -> None:
    saved(tmp_path, 1)
    now = replace(NOW, mathematics={"seed": 1, "optimizer.lr": 0.1, "new": 2})
    with pytest.raises(ResumeError, match="new: None -> 2, seed: 0 -> 1") as refused:
        checkpoint.load(tmp_path, 1, now)
    assert "optimizer.lr" not in str(refused.value)


def test_other_samples_are_refused(tmp_path: Path) -> None:
    saved(tmp_path, 1)
    with pytest.raises(ResumeError, match="10 samples first from step 0, and now it is given 11 samples other"):
        checkpoint.load(tmp_path, 1, replace(NOW, sources=[(0, "other", 11)]))


def test_a_phase_that_has_not_begun_may_be_added_and_one_that_has_may_not(tmp_path: Path) -> None:
    saved(tmp_path, 50)
    checkpoint.load(tmp_path, 50, replace(NOW, sources=[(0, "first", 10), (50, "second", 20)]))
    with pytest.raises(ResumeError, match="20 samples second from step 49"):
        checkpoint.load(tmp_path, 50, replace(NOW, sources=[(0, "first", 10), (49, "second", 20)]))


def test_the_state_says_what_a_reader_needs(tmp_path: Path) -> None:
    saved(tmp_path, 1)
    state = json.loads((tmp_path / "step-00000001" / STATE).read_text())
    assert state["step"] == 1
    assert state["samples"] == 400
    assert state["versions"]["torch"] == torch.__version__.split("+")[0] or torch.__version__
    assert set(state["files"]) == {TRAINER, "transformer/model.safetensors"}


def test_casting_keeps_names_metadata_and_whole_numbers(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2) / 3, "n": torch.arange(3)}, tmp_path / "m.safetensors", {"format": "pt"})
    checkpoint.cast(tmp_path, torch.float16)
    read = load_file(tmp_path / "m.safetensors")
    assert read["a"].dtype == torch.float16
    assert torch.equal(read["a"], (torch.ones(2) / 3).half())
    assert torch.equal(read["n"], torch.arange(3))
    with safe_open(tmp_path / "m.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}


@pytest.mark.parametrize("dtype", ["fp32", "fp16"])
def test_diffusers_loads_the_mean_weights_of_a_full_training(tmp_path: Path, dtype: str) -> None:
    done = run(tmp_path, steps=2, checkpoint__dtype=dtype)
    loaded = WanTransformer3DModel.from_pretrained(done.checkpoint / "transformer")
    means, wanted = weights(done.checkpoint), torch.float16 if dtype == "fp16" else torch.float32
    for name, parameter in loaded.named_parameters():
        mean = means[f"ema.transformer.{name}"]
        assert torch.equal(parameter, mean.to(wanted).float())
        assert not torch.equal(mean, means[f"weights.transformer.{name}"])
    for name, parameter in TinyText.load(done.checkpoint / "text_encoder").named_parameters():
        assert torch.equal(parameter, means[f"ema.text.{name}"].to(wanted).float())
    assert {path.suffix for path in done.checkpoint.rglob("*") if path.is_file()} == {".json", ".safetensors"}


def test_the_exported_lora_holds_the_mean_weights(tmp_path: Path) -> None:
    done, fresh = run(tmp_path, steps=3, trainable="lora"), backbone()
    lora.load(fresh.transformer, done.checkpoint / "lora", "again")
    means = weights(done.checkpoint)
    loaded = lora.parameters(fresh.transformer, "again")
    assert len(loaded) == 8  # two layers of two blocks, A and B
    for name, parameter in loaded.items():
        assert torch.equal(parameter, means["ema.transformer." + name.replace(".again.", ".pose.")])
    assert any(value.abs().max() > 0 for name, value in loaded.items() if "lora_B" in name)
