"""A training from its YAML: what is made when, and what is refused before anything is made."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from manifests.errors import UserError
from model.backbone import load as load_backbone
from model.composite import left
from model.text import TinyText
from model.training.cache import LatentCache
from model.training.samples import to_uint8
from model.training.shelf import Shelf
from model.training.strategy import joined
from pipeline.train import Share, Training, backbone_of, fill_shelf, load
from pipeline.train_config import BackboneChoice
from tests.model import small
from tests.pipeline.small_runs import HELD_OUT, WORLDS, backbone_run, saved_vae, write


@pytest.fixture
def config(tmp_path: Path) -> dict[str, Any]:
    return backbone_run(tmp_path / "run", saved_vae(tmp_path / "vae"))


def training_of(tmp_path: Path, config: dict[str, Any]) -> Training:
    return Training(load(write(tmp_path / "run.yaml", config), []))


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).parts[0] for path in folder.rglob("*") if path.is_file()}


def test_what_it_costs_is_said_and_nothing_is_written(tmp_path: Path, config: dict[str, Any]) -> None:
    training = training_of(tmp_path, config)
    estimate = training.estimate()
    assert not (tmp_path / "run").exists()
    assert estimate.tokens == 3 * 2 * 4  # latent frames, rows and columns of 2 x 2 cells of 8 px
    assert estimate.steps == 4
    text = training.backbone.text
    assert isinstance(text, torch.nn.Module)
    learning = [*training.backbone.transformer.parameters(), *text.parameters()]
    assert estimate.learning == sum(p.numel() for p in learning)
    assert estimate.measured
    assert estimate.seconds_a_step > 0


def test_latents_of_the_first_samples_are_those_of_the_training(tmp_path: Path, config: dict[str, Any]) -> None:
    training = training_of(tmp_path, config)
    source = training.phases[0][1]
    assert len(source) == 2 * 4
    batch = source.read([7, 0])  # renders and encodes what is missing
    easy, turns = source.caches  # six samples, and two
    again = joined([turns.encoded([1]), easy.encoded([0])])
    assert torch.allclose(batch.target, again.target, rtol=2**-9, atol=1e-5)
    assert batch.prompts[0] == turns.clips.clip(0).prompt
    decoded = training.backbone.decode(batch.target)
    wanted = training.backbone.decode(training.backbone.encode(_wanted(training, turns, 1)))
    assert torch.allclose(left(decoded)[0], left(wanted)[0], atol=0.01)


def _wanted(training: Training, cache: LatentCache, number: int) -> torch.Tensor:
    from model.training.examples import example

    clip = cache.clips.clip(number // cache.variants)
    return example(clip, training.geometry, cache.augment, np.random.default_rng([cache.seed, number])).wanted


def test_preparing_makes_all_shelves_and_a_second_time_nothing(tmp_path: Path, config: dict[str, Any]) -> None:
    again = config["data"]["phases"][0]["worlds"][0]  # two phases share a shelf
    config["data"]["phases"].append({"from_step": 2, "worlds": [again, {"name": "two", "count": 1}]})
    training_of(tmp_path, config).prepare(Share())
    assert files(tmp_path / "run") == {"clips", "latents"}
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*.safetensors")}
    assert len(made) == 2 * 4
    training_of(tmp_path, config).prepare(Share())
    assert made == {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*.safetensors")}


def test_parts_share_a_shelf_and_the_last_finds_nothing_to_wait_for(tmp_path: Path) -> None:
    shelf, asked = Shelf(tmp_path / "shelf", "d", 10, shard=4), []

    def make(numbers: Any) -> Any:
        asked.append(list(numbers))
        return {"n": np.array(numbers)}, [str(n) for n in numbers]

    list(shelf.fill(make, part=0, parts=2))
    fill_shelf(shelf, make, "make", Share(1, 2))
    assert asked == [[0, 1, 2, 3], [8, 9], [4, 5, 6, 7]]
    fill_shelf(shelf, make, "make", Share())
    assert len(asked) == 3


def test_processes_of_torchrun_share_by_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Share.of_ranks() == Share(0, 1)
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert Share.of_ranks() == Share(2, 3)


def test_a_later_phase_costs_nothing_before_it_begins(tmp_path: Path, config: dict[str, Any]) -> None:
    config["data"]["phases"].append({"from_step": 3, "worlds": [{"name": "two", "count": 1}]})
    config["training"] |= {"steps": 3, "sample_every": 1, "validation": {"every": 0}}
    training = training_of(tmp_path, config)
    assert training.start().step == 3  # with samples, although nothing was validated
    later = training.phases[1][1].caches[0]
    assert later.shelf.missing()
    assert not training.phases[0][1].caches[0].shelf.missing()
    config["training"]["steps"] = 4
    again = training_of(tmp_path, config)
    assert again.start().step == 4
    assert not again.phases[1][1].caches[0].shelf.missing()


def test_a_training_leaves_metrics_checkpoints_and_sheets(tmp_path: Path, config: dict[str, Any]) -> None:
    told: list[Any] = []
    summary = training_of(tmp_path, config).start(told.append)
    folder = tmp_path / "run"
    assert files(folder) == {"clips", "latents", "checkpoints", "samples", "metrics.jsonl", "model"}
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [1, 2, 3, 4]
    assert [line["step"] for line in lines if "validation" in line] == [2, 4]
    assert [line["step"] for line in told] == [1, 2, 3, 4]
    assert summary.checkpoint.is_dir()
    assert sorted(path.name for path in (folder / "samples").iterdir()) == ["step-00000002.png", "step-00000004.png"]


def test_what_a_training_leaves_is_a_whole_backbone_with_the_mean_weights(
    tmp_path: Path, config: dict[str, Any]
) -> None:
    training = training_of(tmp_path, config)
    summary = training.start()
    again = load_backbone("tiny", tmp_path / "run" / "model", torch.float32, "cpu")
    kept = load_file(summary.checkpoint / "transformer" / "diffusion_pytorch_model.safetensors")
    loaded = again.transformer.state_dict()
    assert set(kept) == set(loaded)
    assert all(torch.equal(kept[name].float(), loaded[name]) for name in kept)
    assert again.vae_digest == training.backbone.vae_digest
    assert again.text.digest != TinyText(16, 4, 64, 0).digest  # it has learned


def test_texts_of_a_base_that_does_not_learn_them_are_encoded_once(tmp_path: Path) -> None:
    pipeline, folder = small.wan_i2v_pipeline(), tmp_path / "base"
    small.add_text(pipeline)
    pipeline.save_pretrained(folder)
    choice = BackboneChoice(name="wan-i2v", weights=str(folder), dtype="bf16")
    backbone = backbone_of(choice, tmp_path / "texts")
    assert backbone.transformer.blocks[0].attn1.to_q.weight.dtype == torch.bfloat16
    once = backbone.text.encode(["a bird waves"])
    (kept,) = (tmp_path / "texts").rglob("*.safetensors")
    written = kept.stat().st_mtime_ns
    assert torch.equal(backbone_of(choice, tmp_path / "texts").text.encode(["a bird waves"]), once)
    assert kept.stat().st_mtime_ns == written


def test_a_sheet_shows_driving_and_truth_of_held_out_clips(tmp_path: Path, config: dict[str, Any]) -> None:
    training = training_of(tmp_path, config)
    training.prepare(Share())
    training.draw_samples(7)
    sheet = np.asarray(Image.open(tmp_path / "run" / "samples" / "step-00000007.png"))[::2, ::2]
    held_out = training.held_out.caches[0].clips
    assert len(held_out) == 2
    for row in (0, 1):
        top = row * (3 * 34 + 6) + 2 * 34  # the third line of a block is the truth
        assert np.array_equal(sheet[top : top + 32, :32], held_out.clip(row).frames[0])
        assert np.array_equal(sheet[top : top + 32, 7 * 34 : 7 * 34 + 32], held_out.clip(row).frames[8])
        blank = to_uint8(torch.zeros(3, 1, 1, 1))[0, 0, 0]
        assert (sheet[top - 68 : top - 36, :32] == blank).all()  # the prefix


def _other_phases(data: dict[str, Any]) -> None:
    data["data"]["phases"] = [{"from_step": 0, "worlds": WORLDS}, {"from_step": 0, "worlds": HELD_OUT}]


def _two_without_room(data: dict[str, Any]) -> None:
    data["data"] |= {"people": 1, "held_out": [{"name": "two", "count": 1}]}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda data: data["backbone"]["fresh"].update(vae="nowhere/vae"), "nowhere/vae"),
        (lambda data: data["backbone"].update(weights="somewhere"), "give either weights"),
        (lambda data: data["backbone"].update(fresh=None), "give either weights"),
        (lambda data: data["backbone"].update(name="wan-i2v"), "only the backbone tiny can be made fresh"),
        (lambda data: data["size"].update(height_px=40), "height_px is 40; it must be a multiple of 16"),
        (lambda data: data["size"].update(frames=10), "frames is 10; it must be 4k"),
        (_other_phases, "the phases begin at steps [0, 0]"),
        (lambda data: data["training"].update(steps=0), "steps: is 0; it must be above 0"),
        (lambda data: data["data"]["phases"][0]["worlds"][0].update(name="hard"), "data.phases.0.worlds.0.name: "),
        (lambda data: data["data"]["held_out"][0].update(count=0), "data: the world easy has count 0"),
        (_two_without_room, "data: people is 1, and the world two shows two figures: set it to 2"),
        (lambda data: data["data"].update(augment={"bone_share": 30}), "data.augment: bone_share is 30.0; it must be"),
        (lambda data: data["data"].update(augment={"bone_low": 1.3}), "data.augment: bones are scaled from 1.3 to 1.2"),
        (lambda data: data["data"].update(augment={"blank": "red"}), "blank is 'red'; it must be one of grey, black"),
        (lambda data: data["data"].update(held_out=[]), "data.held_out: "),
        (lambda data: data.update(strategy="rgb"), "strategy: input should be 'pose_driven', found 'rgb'"),
    ],
)
def test_what_cannot_be_trained_is_refused_in_one_line_before_anything_is_made(
    tmp_path: Path, config: dict[str, Any], change: Callable[[dict[str, Any]], None], said: str
) -> None:
    config = json.loads(json.dumps(config))
    change(config)
    with pytest.raises(UserError) as error:
        training_of(tmp_path, config)
    assert said in str(error.value)
    assert len(str(error.value).splitlines()) == 1
    assert not (tmp_path / "run").exists()
