"""LoRA: nothing until it learns, only what is meant learns, and files that public loaders load without a difference."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from diffusers import WanImageToVideoPipeline
from peft.utils import get_peft_model_state_dict
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from manifests.errors import UserError
from model import lora
from model.lora_file import COMFYUI_FILE, DIFFUSERS_FILE
from model.wan import Wan
from tests.model import small

TARGETS = ("ffn.net.0.proj", "ffn.net.2")
LAYERS = [f"blocks.{n}.{layer}" for n in range(small.SIZES.layers) for layer in TARGETS]
RANK = 4


def fresh(name: str = "tiny") -> Wan:
    return small.tiny() if name == "tiny" else small.wan_i2v()


def teach(transformer: nn.Module, name: str, seed: int = 1) -> None:
    """Give a LoRA weights as if it had learned."""
    generator = torch.Generator().manual_seed(seed)
    for value in lora.parameters(transformer, name).values():
        value.data = torch.randn(value.shape, generator=generator) * 0.2


def taught(name: str = "tiny", alpha: float | None = None) -> Wan:
    base = fresh(name)
    lora.add(base.transformer, "pose", RANK, TARGETS, alpha)
    teach(base.transformer, "pose")
    return base


def run(base: Wan) -> Tensor:
    with torch.no_grad():
        return base.velocity(**small.inputs(base, batch=1))


def in_public_pipeline(base: Wan, file: Path, scale: float | None = None) -> Tensor:
    """Return the velocity of a fresh base into which diffusers' public loader has put the file."""
    pipeline: WanImageToVideoPipeline = small.pipeline_of(base.transformer, base.vae)
    pipeline.load_lora_weights(file.parent, weight_name=file.name, adapter_name="theirs")
    if scale is not None:
        pipeline.set_adapters("theirs", scale)
    return run(base)


def merged_by_hand(base: Wan, file: Path) -> Tensor:
    """Return the velocity of a base whose weights were changed by W + alpha / rank * B A, from ComfyUI's file."""
    tensors = load_file(file)
    state = base.transformer.state_dict()
    alphas = {key.removesuffix(".alpha"): value.item() for key, value in tensors.items() if key.endswith(".alpha")}
    for module, alpha in alphas.items():
        a, b = tensors[f"{module}.lora_A.weight"], tensors[f"{module}.lora_B.weight"]
        _, _, block, _, layer = module.split(".")  # diffusion_model.blocks.N.ffn.0, as in Wan's own code
        weight = state[f"blocks.{block}.ffn.net.{'0.proj' if layer == '0' else '2'}.weight"]
        weight += alpha / a.shape[0] * (b @ a)
    return run(base)


# ---- what it changes, and what learns


@pytest.mark.parametrize("name", small.NAMES)
@pytest.mark.parametrize("autocast", [False, True])
def test_a_new_lora_changes_nothing_to_the_bit(name: str, autocast: bool) -> None:
    base = fresh(name)

    def here() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            return run(base)

    before = here()
    assert list(lora.add(base.transformer, "pose", RANK, base.spec.lora_targets)) == LAYERS
    assert torch.equal(here(), before)
    teach(base.transformer, "pose")
    assert not torch.equal(here(), before)
    lora.active(base.transformer, ())
    assert torch.equal(here(), before)


def test_only_the_loras_parameters_get_gradients() -> None:
    base = fresh()
    lora.add(base.transformer, "pose", RANK, base.spec.lora_targets)
    teach(base.transformer, "pose")
    base.velocity(**small.inputs(base)).square().mean().backward()
    learned = {key for key, value in base.transformer.named_parameters() if value.grad is not None}
    assert learned == {
        "blocks.0.ffn.net.0.proj.lora_A.pose.weight",
        "blocks.0.ffn.net.0.proj.lora_B.pose.weight",
        "blocks.0.ffn.net.2.lora_A.pose.weight",
        "blocks.0.ffn.net.2.lora_B.pose.weight",
        "blocks.1.ffn.net.0.proj.lora_A.pose.weight",
        "blocks.1.ffn.net.0.proj.lora_B.pose.weight",
        "blocks.1.ffn.net.2.lora_A.pose.weight",
        "blocks.1.ffn.net.2.lora_B.pose.weight",
    }
    assert learned == {key for key, value in base.transformer.named_parameters() if value.requires_grad}
    assert learned == set(lora.parameters(base.transformer, "pose"))
    assert all(value.grad.abs().max() > 0 for value in lora.parameters(base.transformer, "pose").values())


def test_a_lora_is_float32_on_a_bfloat16_base(tmp_path: Path) -> None:
    folder = small.saved(tmp_path / "base", small.shared("tiny"))
    base = Wan.load("tiny", folder, torch.bfloat16, "cpu")
    before = run(base)
    lora.add(base.transformer, "pose", RANK, base.spec.lora_targets)
    assert torch.equal(run(base), before)
    assert {value.dtype for value in lora.parameters(base.transformer, "pose").values()} == {torch.float32}
    base.velocity(**small.inputs(base)).square().mean().backward()
    assert {value.grad.dtype for value in lora.parameters(base.transformer, "pose").values()} == {torch.float32}


def test_a_lora_is_drawn_by_its_seed_alone() -> None:
    drawn = []
    for seed in (0, 0, 1):
        base = fresh()
        state = torch.random.get_rng_state()
        lora.add(base.transformer, "pose", RANK, TARGETS, seed=seed)
        assert torch.equal(torch.random.get_rng_state(), state)
        drawn.append(torch.cat([value.flatten() for value in lora.parameters(base.transformer, "pose").values()]))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_alpha_is_the_rank_if_it_is_not_said_and_scales_the_change_if_it_is() -> None:
    plain, same, half = taught(), taught(alpha=RANK), taught(alpha=RANK / 2)
    assert torch.equal(run(plain), run(same))
    lora.active(plain.transformer, {"pose": 0.5})
    assert torch.equal(run(plain), run(half))


def test_several_are_stacked_each_at_its_own_scale() -> None:
    base = taught()
    lora.add(base.transformer, "fast", 2, ("ffn.net.2",))
    teach(base.transformer, "fast", seed=2)
    lora.active(base.transformer, {"pose": 0.5, "fast": 2.0})
    stacked = run(base)
    halves = {name: lora.state(base.transformer, name) for name in ("pose", "fast")}
    by_hand = fresh()
    weights = by_hand.transformer.state_dict()
    for name, scale in (("pose", 0.5), ("fast", 2.0)):
        for layer in LAYERS if name == "pose" else LAYERS[1::2]:
            a, b = (halves[name][f"{layer}.lora_{half}.weight"] for half in "AB")
            weights[f"{layer}.weight"] += scale * (b @ a)
    torch.testing.assert_close(stacked, run(by_hand), rtol=1e-4, atol=1e-5)
    lora.active(base.transformer, ["pose"])
    assert torch.equal(run(base), run(taught()))
    assert lora.names(base.transformer) == ("pose", "fast")


def test_switching_and_stacking_leave_what_learns_as_it_is() -> None:
    base = taught()
    pose = lora.parameters(base.transformer, "pose")
    for value in pose.values():
        value.requires_grad_(False)
    lora.active(base.transformer, {"pose": 0.5})
    lora.add(base.transformer, "second", 2, TARGETS)
    lora.active(base.transformer, ())
    lora.active(base.transformer, {"pose": 0.5, "second": 1.0})
    learning = {key for key, value in base.transformer.named_parameters() if value.requires_grad}
    assert learning == set(lora.parameters(base.transformer, "second"))
    base.velocity(**small.inputs(base)).square().mean().backward()
    assert all(value.grad is None for value in pose.values())


def test_a_lora_put_on_beside_another_leaves_its_scale() -> None:
    base = taught()
    lora.active(base.transformer, {"pose": 0.25})
    before = run(base)
    lora.add(base.transformer, "second", 2, TARGETS)
    assert torch.equal(run(base), before)


def test_switching_off_where_there_is_no_lora_freezes_nothing() -> None:
    base = fresh()
    lora.active(base.transformer, ())
    assert all(value.requires_grad for value in base.transformer.parameters())


def test_a_pattern_can_name_layers_by_the_whole_of_their_name() -> None:
    base = fresh()
    assert lora.add(base.transformer, "pose", RANK, ("blocks.*.ffn.net.2",)) == (
        "blocks.0.ffn.net.2",
        "blocks.1.ffn.net.2",
    )
    assert lora.add(base.transformer, "second", RANK, ("blocks.1.*",))[-1] == "blocks.1.ffn.net.2"


# ---- files


@pytest.mark.parametrize("name", small.NAMES)
@pytest.mark.parametrize("alpha", [None, 2 * RANK, RANK / 2, 3.0])
def test_diffusers_loads_its_file_into_a_fresh_pipeline_without_any_difference(name, alpha, tmp_path: Path) -> None:
    base = taught(name, alpha)
    file, _ = lora.export(base.transformer, "pose", tmp_path, base.digest)
    assert file.name == DIFFUSERS_FILE
    assert torch.equal(in_public_pipeline(fresh(name), file), run(base))


@pytest.mark.parametrize("name", small.NAMES)
@pytest.mark.parametrize(("alpha", "exact"), [(None, True), (2 * RANK, True), (RANK / 2, True), (3.0, False)])
def test_comfyuis_file_loads_without_a_difference_too(name, alpha, exact, tmp_path: Path) -> None:
    """diffusers multiplies A with alpha / rank in advance: exact if that is a power of 2, else rounded."""
    base = taught(name, alpha)
    _, file = lora.export(base.transformer, "pose", tmp_path, base.digest)
    assert file.name == COMFYUI_FILE
    theirs, ours = in_public_pipeline(fresh(name), file), run(base)
    assert torch.equal(theirs, ours) == exact
    torch.testing.assert_close(theirs, ours, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(merged_by_hand(fresh(name), file), ours, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(run(fresh(name)), ours, atol=1e-2)


def test_a_scale_set_in_the_public_pipeline_is_our_scale(tmp_path: Path) -> None:
    base = taught(alpha=8)
    file, _ = lora.export(base.transformer, "pose", tmp_path, base.digest)
    lora.active(base.transformer, {"pose": 0.3})
    assert torch.equal(in_public_pipeline(fresh(), file, scale=0.3), run(base))


def test_the_file_is_what_diffusers_itself_writes(tmp_path: Path) -> None:
    base = taught(alpha=2.0)
    ours, _ = lora.export(base.transformer, "pose", tmp_path / "ours", base.digest)
    WanImageToVideoPipeline.save_lora_weights(
        tmp_path / "theirs",
        get_peft_model_state_dict(base.transformer, adapter_name="pose"),
        transformer_lora_adapter_metadata=base.transformer.peft_config["pose"].to_dict(),
    )
    found, wanted = load_file(ours), load_file(tmp_path / "theirs" / DIFFUSERS_FILE)
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[key], wanted[key]) for key in wanted)
    metadata = []
    for path in (ours, tmp_path / "theirs" / DIFFUSERS_FILE):
        with safe_open(path, framework="pt") as file:
            metadata.append(json.loads(file.metadata()["lora_adapter_metadata"]))
    metadata[1]["transformer.target_modules"].sort()
    assert {key: metadata[1][key] for key in metadata[0]} == metadata[0]
    assert {"transformer.r", "transformer.lora_alpha", "transformer.target_modules"} <= metadata[0].keys()
    assert metadata[0]["transformer.lora_alpha"] == 2.0
    assert metadata[0]["transformer.r"] == RANK


def test_comfyuis_keys_are_the_original_names_of_wan(tmp_path: Path) -> None:
    base = taught(alpha=2.0)
    _, file = lora.export(base.transformer, "pose", tmp_path, base.digest)
    assert set(load_file(file)) == {
        f"diffusion_model.blocks.{n}.ffn.{layer}.{end}"
        for n in range(2)
        for layer in (0, 2)
        for end in ("lora_A.weight", "lora_B.weight", "alpha")
    }
    assert load_file(file)["diffusion_model.blocks.0.ffn.0.alpha"].item() == 2.0


def test_layers_of_attention_have_comfyui_names_that_diffusers_knows_too(tmp_path: Path) -> None:
    base = fresh("wan-i2v")
    targets = ("to_q", "to_k", "to_v", "to_out.0", "add_k_proj", "add_v_proj", *TARGETS)
    assert len(lora.add(base.transformer, "pose", RANK, targets)) == 2 * 12
    teach(base.transformer, "pose")
    for file in lora.export(base.transformer, "pose", tmp_path, base.digest):
        assert torch.equal(in_public_pipeline(fresh("wan-i2v"), file), run(base)), file.name


def test_averaged_weights_can_be_written_in_place_of_the_present_ones(tmp_path: Path) -> None:
    base = taught()
    halved = {key: value / 2 for key, value in lora.state(base.transformer, "pose").items()}
    lora.export(base.transformer, "pose", tmp_path, base.digest, halved)
    again = fresh()
    lora.load(again.transformer, tmp_path, "pose")
    assert all(torch.equal(value, halved[key]) for key, value in lora.state(again.transformer, "pose").items())


@pytest.mark.parametrize("file", [DIFFUSERS_FILE, COMFYUI_FILE])
def test_what_is_exported_loads_back_frozen_or_to_learn_on(file: str, tmp_path: Path) -> None:
    base = taught(alpha=3.0)
    lora.export(base.transformer, "pose", tmp_path, base.digest)
    again = fresh()
    lora.load(again.transformer, tmp_path / file, "stage_one")
    assert torch.equal(run(again), run(base))
    assert not [key for key, value in again.transformer.named_parameters() if value.requires_grad]
    lora.load(again.transformer, tmp_path / file, "stage_two", learning=True)
    learning = {key for key, value in again.transformer.named_parameters() if value.requires_grad}
    assert learning == set(lora.parameters(again.transformer, "stage_two"))


def test_a_failed_write_leaves_the_file_that_was_there(tmp_path: Path) -> None:
    base = taught()
    before = [path.read_bytes() for path in lora.export(base.transformer, "pose", tmp_path, base.digest)]
    broken = lora.state(base.transformer, "pose") | {f"{LAYERS[0]}.lora_A.weight": torch.zeros(2).to_sparse()}
    with pytest.raises(ValueError, match="sparse"):
        lora.export(base.transformer, "pose", tmp_path, base.digest, broken)
    assert sorted(path.name for path in tmp_path.iterdir()) == [COMFYUI_FILE, DIFFUSERS_FILE]
    assert [(tmp_path / name).read_bytes() for name in (DIFFUSERS_FILE, COMFYUI_FILE)] == before


def test_the_base_under_a_lora_keeps_its_digest_and_is_saved_without_it(tmp_path: Path) -> None:
    bare, base = fresh(), taught()
    assert base.digest == bare.digest
    base.save(tmp_path / "base")
    again = Wan.load("tiny", tmp_path / "base", torch.float32, "cpu")
    assert again.digest == bare.digest
    torch.testing.assert_close(run(again), run(bare), rtol=1e-5, atol=1e-5)  # where weights lie in memory shows in bits


# ---- files and names that do not fit


def refused(transformer: nn.Module, path: Path, said: str) -> None:
    before = {key: value.clone() for key, value in transformer.state_dict().items()}
    with pytest.raises(UserError, match=said) as caught:
        lora.load(transformer, path, "other")
    assert "\n" not in str(caught.value)
    after = transformer.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[key], before[key]) for key in before)


def test_a_lora_for_another_base_is_refused(tmp_path: Path) -> None:
    base = taught()
    lora.export(base.transformer, "pose", tmp_path, base.digest)
    for file in (DIFFUSERS_FILE, COMFYUI_FILE):
        refused(small.tiny(seed=5).transformer, tmp_path / file, f"made for another base .digest {base.digest}")


def without_digest(path: Path, change: Callable[[dict[str, Tensor]], object], metadata: bool = True) -> Path:
    with safe_open(path, framework="pt") as file:
        header = file.metadata()
    tensors = load_file(path)
    change(tensors)
    kept = {key: value for key, value in header.items() if key != "base_digest" and (metadata or key == "format")}
    save_file(tensors, path, metadata=kept)
    return path


def test_a_file_that_says_no_base_is_held_to_its_names_and_shapes(tmp_path: Path) -> None:
    base = taught()

    def exported() -> tuple[Path, Path]:
        return lora.export(base.transformer, "pose", tmp_path, base.digest)

    transformer = fresh().transformer
    prefix = f"transformer.{LAYERS[0]}.lora_"
    wide = without_digest(exported()[0], lambda t: t.update({f"{prefix}A.weight": torch.zeros(RANK, 99)}))
    refused(transformer, wide, r"another base: its blocks.0.ffn.net.0.proj is 40 x 99, and here it is 40 x 24")
    deep = without_digest(
        exported()[0],
        lambda t: t.update(
            {key.replace("blocks.0", "blocks.7"): t[key].clone() for key in list(t) if "blocks.0" in key}
        ),
    )
    refused(transformer, deep, r"another base: it changes blocks.7")
    lone = without_digest(exported()[0], lambda t: t.pop(f"{prefix}A.weight"))
    refused(transformer, lone, "does not hold one A and one B")
    ranks = without_digest(
        exported()[0],
        lambda t: t.update({f"{prefix}A.weight": torch.zeros(2, 24), f"{prefix}B.weight": torch.zeros(40, 2)}),
    )
    refused(transformer, ranks, "no plain LoRA of one rank")
    scaleless = without_digest(exported()[0], lambda t: None, metadata=False)
    refused(transformer, scaleless, "says no alpha")
    scaleless = without_digest(exported()[1], lambda t: [t.pop(key) for key in list(t) if key.endswith("alpha")][:0])
    refused(transformer, scaleless, "says no alpha")
    kohya = without_digest(exported()[1], lambda t: t.update({"lora_unet_blocks_0_ffn_0.alpha": torch.tensor(1.0)}))
    refused(transformer, kohya, "lora_unet_blocks_0_ffn_0.alpha, which is no key of a LoRA")
    fine = without_digest(exported()[0], lambda t: None)
    lora.load(transformer, fine, "other")


def test_a_missing_or_damaged_file_is_refused(tmp_path: Path) -> None:
    base = taught()
    transformer = fresh().transformer
    refused(transformer, tmp_path / "nothing.safetensors", "there is no LoRA at")
    file, _ = lora.export(base.transformer, "pose", tmp_path, base.digest)
    file.write_bytes(file.read_bytes()[:100])
    refused(transformer, tmp_path, "cannot be read as safetensors")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"targets": ("ffn.net.1",)}, "ffn.net.1 is no linear layer of WanTransformer3DModel"),
        ({"targets": ("net.0.projection",)}, "is no linear layer"),
        ({"name": "a.b"}, "cannot be an adapter's name"),
        ({"name": "lora_x"}, "cannot be an adapter's name"),
        ({"rank": 0}, "rank must be 1 or more"),
        ({"alpha": 0.0}, "alpha above 0"),
        ({"alpha": float("nan")}, "alpha above 0"),
    ],
)
def test_a_lora_that_cannot_be_put_on_is_refused(changes, said: str) -> None:
    transformer = fresh().transformer
    before = list(transformer.state_dict())
    with pytest.raises(UserError, match=said):
        lora.add(transformer, **{"name": "pose", "rank": RANK, "targets": TARGETS, **changes})
    assert list(transformer.state_dict()) == before


def test_a_name_twice_or_an_unknown_one_is_refused() -> None:
    transformer = taught().transformer
    with pytest.raises(UserError, match="named 'pose' is on this transformer already"):
        lora.add(transformer, "pose", RANK, TARGETS)
    for call in (lambda: lora.active(transformer, ["nose"]), lambda: lora.parameters(transformer, "nose")):
        with pytest.raises(UserError, match=r"no LoRA named 'nose' .* \(there are: pose\)"):
            call()
