"""Training on shards from its YAML: what it reads, what it leaves, how it goes on, and what it refuses."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from manifests.errors import UserError
from manifests.files import files_of
from manifests.shards.cut import Cut
from manifests.shards.index import index_bytes, publish_index
from model.training import metrics
from model.training.checkpoint import ResumeError
from model.training.shard_samples import NoSamplesError
from pipeline.__main__ import main
from pipeline.strict_yaml import ConfigError
from pipeline.takedown import impact
from pipeline.train import Share, Training, backbone_of, load
from pipeline.train_config import BackboneChoice, ShardRun
from tests.model.training import small_cuts
from tests.model.training.small_cuts import SmallCut
from tests.model.training.small_training import without_times
from tests.pipeline.small_runs import backbone_run, saved_vae, write
from tests.pipeline.small_shard_runs import shard_run

Fields = dict[str, Any]
SLOW = pytest.mark.train
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1"]


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> SmallCut:
    return small_cuts.make(tmp_path_factory.mktemp("cut"))


@pytest.fixture(scope="module")
def vae(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved_vae(tmp_path_factory.mktemp("vae"))


def training_of(path: Path, config: dict[str, Any], *sets: str) -> Training:
    return Training(load(write(path, config), sets))


def trained(
    tmp_path: Path, name: str, root: Path, vae: Path, data: dict[str, Any] | None = None, **training: Any
) -> Path:
    """Train, and return the newest checkpoint."""
    config = shard_run(tmp_path / name, root, vae, data, **training)
    return training_of(tmp_path / f"{name}.yaml", config).start().checkpoint


def same(one: Path, other: Path) -> bool:
    a, b = (load_file(path / "trainer.safetensors") for path in (one, other))
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def call(*arguments: object, code: int = 0) -> Result:
    result = CliRunner().invoke(main, [str(each) for each in arguments])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.stderr
    return result


def lines(folder: Path) -> list[dict[str, Any]]:
    return without_times(metrics.read(folder))


def missing(cut: SmallCut, folder: Path, kind: str = "reverse") -> Path:
    """Return a copy of the cut whose first shard of a kind is gone."""
    root = cut.copy(folder)
    small_cuts.tars(root, kind)[0].unlink()
    return root


@pytest.mark.parametrize("encode", ["cached", pytest.param("each_step", marks=SLOW)])
def test_a_resumed_training_equals_an_uninterrupted_one_to_the_bit(
    cut: SmallCut, vae: Path, tmp_path: Path, encode: str
) -> None:
    """Through an epoch and more, with forward samples and with broken ones."""
    root = missing(cut, tmp_path / "copy")
    data = {"encode": encode, "broken_limit": 1.0, "held_out_share": 0.2, "shards_at_once": 2}
    whole = trained(tmp_path, "whole", root, vae, data, steps=10)
    trained(tmp_path, "parts", root, vae, data, steps=4, validation={"every": 0})
    parts = trained(tmp_path, "parts", root, vae, data, steps=10)
    assert same(whole, parts)
    told = [lines(tmp_path / name) for name in ("whole", "parts")]
    told[0] = [line for line in told[0] if "validation" not in line or line["step"] > 4]
    assert told[0] == told[1]
    broken = [line["broken"] for line in told[0] if "loss" in line]
    assert len(broken) == 10
    assert sum(broken) > 0


def test_what_it_leaves(cut: SmallCut, vae: Path, tmp_path: Path) -> None:
    config = shard_run(tmp_path / "run", cut.root, vae, sample_every=2)
    summary = training_of(tmp_path / "run.yaml", config).start()
    left = {path.name for path in (tmp_path / "run").iterdir()}
    assert left == {"checkpoints", "latents", "metrics.jsonl", "model", "samples", "shards_read.json"}
    assert json.loads((tmp_path / "run/shards_read.json").read_text()) == {"indexes": [Cut(cut.root).digest]}
    sheet = np.asarray(Image.open(tmp_path / "run/samples/step-00000002.png"))
    assert sheet.std() > 10
    assert summary.step == 4
    assert [line["broken"] for line in lines(tmp_path / "run")] == [0] * 6


def test_a_sheet_shows_driving_and_truth_of_held_out_samples(cut: SmallCut, vae: Path, tmp_path: Path) -> None:
    training = training_of(tmp_path / "run.yaml", shard_run(tmp_path / "run", cut.root, vae, {"forward_share": 0.0}))
    driving, made, truth = training.material.rows([0, 1])
    assert driving.shape == made.shape == truth.shape == (2, 3, 9, 32, 32)
    clip = training.held_out.clips.read(1).clip
    assert np.allclose((truth[1].permute(1, 2, 3, 0) + 1) * 127.5, clip.target, atol=1e-3)
    assert np.allclose((driving[1, :, 4:].permute(1, 2, 3, 0) + 1) * 127.5, clip.driving[4:], atol=1e-3)
    assert training.held_out.clips.driving is None  # nothing is varied in what is measured


def test_stage_one_reads_self_shards_through_the_same_reader(cut: SmallCut, vae: Path, tmp_path: Path) -> None:
    config = shard_run(tmp_path / "run", cut.root, vae) | {"strategy": "pose_driven"}
    training = training_of(tmp_path / "run.yaml", config)
    assert training.strategy.name == "pose_driven"
    counts = len(training.phases[0][1]), len(training.held_out)
    assert sum(counts) == 4
    assert min(counts) > 0
    assert training.start().step == 4


def test_a_batch_larger_than_the_cut_is_filled_from_the_next_epochs(cut: SmallCut, vae: Path, tmp_path: Path) -> None:
    data = {"encode": "each_step", "held_out_share": 0.6, "forward_share": 0.0}
    training = training_of(
        tmp_path / "run.yaml", shard_run(tmp_path / "run", cut.root, vae, data, global_batch=8, micro_batch=3, steps=1)
    )
    assert len(training.phases[0][1]) < 8
    assert training.start().step == 1


@pytest.mark.train
def test_a_broken_sample_is_said_on_the_terminal_and_too_many_end_it_in_a_sentence(
    cut: SmallCut, vae: Path, tmp_path: Path
) -> None:
    root = missing(cut, tmp_path / "copy")
    data = {"encode": "each_step", "held_out_share": 0.0}
    endless = {"steps": 500, "global_batch": 20, "validation": {"every": 0}, "checkpoint": {"every": 2}}
    path = write(tmp_path / "run.yaml", shard_run(tmp_path / "run", root, vae, data, **endless))
    said = call("train", path, code=1).stderr.splitlines()
    assert all("a broken sample, another stands in for it: main " in line for line in said[:-1])
    assert sum("is missing; pack again" in line for line in said[:-1]) >= 10
    assert "samples that were read are broken, and data.broken_limit is 0.01: main " in said[-1]
    assert 2 <= metrics.read(tmp_path / "run")[-1]["step"] <= 4  # the hundredth sample, stand-ins among them, ends it
    patient = call("train", path, "--set", "training.steps=6", "--set", "data.broken_limit=0.9", "--json")
    told = [json.loads(line) for line in patient.stdout.splitlines()]
    assert all(line["broken"] == len(line.get("broken_samples", [])) for line in told)
    assert any(line["broken"] for line in told)


def test_a_cut_that_changed_is_not_gone_on_with(cut: SmallCut, vae: Path, tmp_path: Path) -> None:
    root, data = cut.copy(tmp_path / "copy"), {"encode": "each_step"}
    trained(tmp_path, "run", root, vae, data, steps=1)
    reverse = Cut(root).shards
    publish_index(files_of(root), "main", index_bytes("main", reverse, {"pack": "another"}))
    with pytest.raises(ResumeError, match=r"was trained on .* samples"):
        trained(tmp_path, "run", root, vae, data, steps=2)
    assert len(json.loads((tmp_path / "run/shards_read.json").read_text())["indexes"]) == 2


def test_what_it_costs_is_said_and_nothing_is_written(cut: SmallCut, vae: Path, tmp_path: Path) -> None:
    path = write(tmp_path / "run.yaml", shard_run(tmp_path / "run", cut.root, vae))
    assert "s a step (measured here)" in call("train", path, "--dry-run").stdout
    assert not (tmp_path / "run").exists()


def test_impact_finds_the_training_that_read_a_source(vae: Path, tmp_path: Path) -> None:
    mine = small_cuts.make(tmp_path / "mine", sources=2, characters=2)
    config = shard_run(tmp_path / "runs/second", mine.root, vae, validation={"every": 0}, steps=1)
    training_of(tmp_path / "run.yaml", config | {"data": {**config["data"], "held_out_share": 0.0}}).start()
    found = impact(str(mine.root), mine.small.sources[0], [str(tmp_path / "runs")])
    assert found.trainings == [
        {"folder": str(tmp_path / "runs/second"), "how": f"read the index {Cut(mine.root).digest}"}
    ]


# warm starts


@pytest.fixture(scope="module")
def stage_one(vae: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Train stage one in full, then a LoRA on it; returns the folders of the model and of the LoRA."""
    folder = tmp_path_factory.mktemp("stage_one")
    quick = {"validation": {"every": 0}, "sample_every": 0, "optimizer": {"lr": 1e-2, "warmup_steps": 0}}
    training_of(folder / "full.yaml", backbone_run(folder / "full", vae, **quick)).start()
    config = backbone_run(folder / "lora", vae, **quick, trainable="lora", lora={"rank": 2})
    config["backbone"] = {"name": "tiny", "weights": str(folder / "full/model")}
    checkpoint = training_of(folder / "lora.yaml", config).start().checkpoint
    return {"model": folder / "full/model", "lora": checkpoint / "lora"}


def weights(training: Training) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in training.backbone.transformer.state_dict().items()}


def second(
    tmp_path: Path, cut: SmallCut, vae: Path, stage_one: dict[str, Path], loras: bool, **training: Any
) -> Training:
    config = shard_run(tmp_path / "run", cut.root, vae, **{"optimizer": {"lr": 1e-2, "warmup_steps": 0}, **training})
    config["backbone"] = {"name": "tiny", "weights": str(stage_one["model"])}
    if loras:
        config["backbone"]["loras"] = [str(stage_one["lora"])]
    return training_of(tmp_path / "run.yaml", config)


@pytest.mark.parametrize("loras", [pytest.param(False, marks=SLOW), True])
def test_a_lora_of_stage_two_learns_on_the_weights_and_the_lora_of_stage_one(
    cut: SmallCut, vae: Path, tmp_path: Path, stage_one: dict[str, Path], loras: bool
) -> None:
    training = second(tmp_path, cut, vae, stage_one, loras, trainable="lora", lora={"name": "end_to_end", "rank": 2})
    before = weights(training)
    assert any("lora_B.base0" in name and value.any() for name, value in before.items()) == loras
    checkpoint = training.start().checkpoint
    after = weights(training)
    kept = {name.replace(".base_layer", ""): value for name, value in after.items() if ".end_to_end." not in name}
    assert all(torch.equal(kept[name.replace(".base_layer", "")], value) for name, value in before.items())
    moved = [value for name, value in after.items() if "lora_B.end_to_end" in name]
    assert len(moved) == 2
    assert all(value.any() for value in moved)
    choice = BackboneChoice(
        weights=str(stage_one["model"]), loras=(*([str(stage_one["lora"])] if loras else []), str(checkpoint / "lora"))
    )
    assert backbone_of(choice, tmp_path / "texts")  # both load on the base that they were trained on


@pytest.mark.parametrize("loras", [pytest.param(False, marks=SLOW), True])
def test_all_weights_go_on_from_those_of_stage_one_its_lora_among_them(
    cut: SmallCut, vae: Path, tmp_path: Path, stage_one: dict[str, Path], loras: bool
) -> None:
    training = second(tmp_path, cut, vae, stage_one, loras, trainable="full")
    bare = backbone_of(BackboneChoice(weights=str(stage_one["model"])), tmp_path / "texts").transformer.state_dict()
    before = weights(training)
    assert before.keys() == bare.keys()
    small = load_file(stage_one["lora"] / "pytorch_lora_weights.safetensors")
    for name, value in bare.items():
        key = f"transformer.{name.removesuffix('.weight')}.lora_A.weight"
        b_a = small[key.replace("lora_A", "lora_B")] @ small[key] if loras and key in small else torch.zeros(())
        assert torch.allclose(before[name], value + b_a, atol=1e-6)
    assert (len(small), any(not torch.equal(before[name], bare[name]) for name in bare)) == (4, loras)
    training.start()
    assert all(not torch.equal(value, before[name]) for name, value in weights(training).items())
    assert (tmp_path / "run/model/transformer/config.json").is_file()


@pytest.mark.train
def test_going_on_with_another_lora_below_is_refused(
    cut: SmallCut, vae: Path, tmp_path: Path, stage_one: dict[str, Path]
) -> None:
    fields = {"trainable": "lora", "lora": {"name": "end_to_end", "rank": 2}}
    second(tmp_path, cut, vae, stage_one, True, **fields, steps=1).start()
    with pytest.raises(ResumeError, match=r"loras: \['base0-[0-9a-f]{12}'\] -> None"):
        second(tmp_path, cut, vae, stage_one, False, **fields, steps=2).start()


# what is refused


def _empty(cut: SmallCut, folder: Path) -> Path:
    publish_index(files_of(folder), "main", index_bytes("main", [], {}))
    return folder


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"cuts": [{"root": "nowhere"}]}, "there is no shards/main/index.json under "),
        ({"cuts": [{"root": "{empty}"}]}, "no reverse sample that can be used; pack with pack.kinds: [reverse]"),
        ({"held_out_share": 0.0}, "no held-out reverse sample that can be used; raise data.held_out_share"),
        (
            {"cuts": [{"root": "{reverse}"}]},
            "no forward sample that can be used; pack with pack.kinds: [reverse, f",
        ),
    ],
)
def test_cuts_that_cannot_be_learned_from_are_refused_in_one_line_before_anything_is_made(
    cut: SmallCut, vae: Path, tmp_path: Path, data: dict[str, Any], said: str
) -> None:
    _empty(cut, tmp_path / "empty")
    some = cut.copy(tmp_path / "reverse")
    kept = [line for line in Cut(some).shards if line.group.kind == "reverse"]
    publish_index(files_of(some), "main", index_bytes("main", kept, {}))
    data = json.loads(json.dumps(data).replace("{empty}", f"{tmp_path}/empty").replace("{reverse}", str(some)))
    with pytest.raises(UserError) as error:
        training_of(tmp_path / "run.yaml", shard_run(tmp_path / "run", cut.root, vae, data))
    assert said in str(error.value)
    assert len(str(error.value).splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_clips_that_are_too_short_are_said_and_if_all_are_it_ends(cut: SmallCut, vae: Path, tmp_path: Path) -> None:
    data = {"encode": "each_step"}
    path = write(
        tmp_path / "run.yaml", shard_run(tmp_path / "run", cut.root, vae, data, validation={"every": 0}, steps=1)
    )
    said = call("train", path, "--set", "size.frames=21").stderr
    assert "left out: " in said
    assert "samples reverse-64x48-14f-10fps of main: 14 frames at 10 a second are 17 at 12, wanted 21" in said
    with pytest.raises(NoSamplesError, match=r"left out are .* samples reverse-64x48-14f-10fps of main: .*; .*22f"):
        Training(load(path, ["size.frames=41"]))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda run: run["data"].update(workers=2), "data: workers is 2, and latents are kept (encode: cached)"),
        (
            lambda run: run["data"].update(variants=2, encode="each_step"),
            "data: variants is 2, and each step encodes",
        ),
        (lambda run: run["data"].update(driving={"crop": 1}), "data.driving.crop: is 1"),
        (lambda run: run["data"].update(drivin={}), "data.drivin: unknown field; did you mean 'driving'?"),
        (lambda run: run["data"]["cuts"][0].update(cat="x"), "data.cuts.0.cat: unknown field; did you mean 'cut'?"),
        (
            lambda run: run["data"].update(forward_share=2),
            "data.forward_share: input should be less than or equal",
        ),
        (lambda run: run["data"].update(augment={"blank": "red"}), "blank is 'red'; it must be one of grey, black"),
        (lambda run: run["data"].update(cuts=[]), "data.cuts: "),
        (lambda run: run["data"].update(worlds=[]), "data.worlds: unknown field"),
        (
            lambda run: run["data"].update(reference_frame="other") or run.update(strategy="pose_driven"),
            "data.reference_frame is other, which is for rgb_driven alone",
        ),
        (
            lambda run: run.update(strategy="rgb"),
            "strategy: input should be 'pose_driven' or 'rgb_driven', found",
        ),
        (lambda run: run["backbone"].update(loras=["x"]), "backbone: loras go with weights"),
    ],
)
def test_a_config_that_is_wrong_is_refused_with_its_place(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], said: str
) -> None:
    config = shard_run(tmp_path / "run", tmp_path, tmp_path)
    change(config)
    with pytest.raises(ConfigError) as error:
        load(write(tmp_path / "run.yaml", config), [])
    assert any(line.startswith(f"{tmp_path}/run.yaml: ") and said in line for line in str(error.value).splitlines())


def test_the_config_that_ships_is_one() -> None:
    run = load(Path("pipeline/configs/stage_two.yaml"), [])
    assert isinstance(run, ShardRun)
    assert run.backbone.weights == "runs/teacher/model"


# real processes


@pytest.mark.train
@pytest.mark.timeout(900)
@pytest.mark.parametrize("encode", ["cached", "each_step"])
def test_two_processes_equal_one_and_know_of_each_others_broken_samples(
    cut: SmallCut, vae: Path, tmp_path: Path, encode: str
) -> None:
    root = missing(cut, tmp_path / "copy")
    data = {"encode": encode, "broken_limit": 1.0, "held_out_share": 0.2}
    training = {"steps": 6, "global_batch": 5, "micro_batch": 2, "validation": {"every": 3, "samples": 1}}
    for name, command in (("one", [sys.executable]), ("two", [*TORCHRUN, "--nproc-per-node", "2"])):
        path = write(tmp_path / f"{name}.yaml", shard_run(tmp_path / name, root, vae, data, **training))
        subprocess.run([*command, "-m", "pipeline", "train", str(path)], check=True, timeout=400)
    newest = [max((tmp_path / name / "checkpoints").iterdir()) / "trainer.safetensors" for name in ("one", "two")]
    a, b = map(load_file, newest)
    assert a.keys() == b.keys()
    assert max((a[name] - b[name]).abs().max().item() for name in a) < 1e-5
    one, two = lines(tmp_path / "one"), lines(tmp_path / "two")
    for ours, theirs in zip(one, two, strict=True):
        assert ours["step"] == theirs["step"]
        assert ours.get("loss") == pytest.approx(theirs.get("loss"), abs=1e-5)
        assert ours["broken"] == theirs["broken"]
        assert ours.get("broken_samples") == theirs.get("broken_samples")
    assert sum(line["broken"] for line in one) > 2


@pytest.mark.train
@pytest.mark.timeout(600)
def test_when_too_many_samples_of_one_process_are_broken_both_end_with_a_sentence(
    cut: SmallCut, vae: Path, tmp_path: Path
) -> None:
    root = missing(cut, tmp_path / "copy")
    data = {"encode": "each_step", "held_out_share": 0.0}
    training = {"steps": 500, "global_batch": 20, "micro_batch": 10, "validation": {"every": 0}}
    path = write(tmp_path / "run.yaml", shard_run(tmp_path / "run", root, vae, data, **training))
    command = [*TORCHRUN, "--nproc-per-node", "2", "-m", "pipeline", "train", str(path)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
    assert ended.returncode != 0
    said = [line for line in ended.stderr.splitlines() if line.startswith("bodydouble: ")]
    assert said
    assert all("samples that were read are broken, and data.broken_limit is 0.01" in line for line in said)
    assert 2 <= metrics.read(tmp_path / "run")[-1]["step"] <= 4


def test_parts_encode_side_by_side_and_note_what_they_read(cut: SmallCut, vae: Path, tmp_path: Path) -> None:
    training = training_of(tmp_path / "run.yaml", shard_run(tmp_path / "run", cut.root, vae))
    training.prepare(Share(0, 1))
    assert not training.phases[0][1].shelf.missing()
    assert not training.held_out.shelf.missing()
    assert (tmp_path / "run/shards_read.json").is_file()
