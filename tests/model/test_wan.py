"""Wan's backbones against diffusers' own pipeline, and what is said of weights that do not fit."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from manifests.errors import UserError
from model import weights
from model.backbone import BackboneError, load
from model.composite import composite, mask
from model.text import TinyText
from model.wan import TinyTransformer, TinyVae, Wan, new_tiny, new_vae
from tests.model import small

H, W, T = small.HEIGHT_PX, small.WIDTH_PX, small.FRAMES


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A saved tiny backbone, to be spoilt."""
    return small.saved(tmp_path / "base", small.shared("tiny"))


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_weights(path: Path, change) -> None:
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def refused(folder: Path | str, said: str, name: str = "tiny") -> str:
    with pytest.raises(UserError, match=said) as caught:
        load(name, folder, torch.float32, "cpu", small.shared(name).text if name in small.NAMES else None)
    message = str(caught.value)
    assert "\n" not in message
    return message


# ---- against diffusers' pipeline


@pytest.mark.parametrize("name", small.NAMES)
def test_the_condition_is_what_diffusers_pipeline_prepares_for_a_picture(name: str) -> None:
    base = small.shared(name)
    pipeline = small.pipeline_of(base.transformer, base.vae)
    picture = small.pixels(0, 1, 3, H, 2 * W)
    z = base.spec.latent_channels
    _, theirs = pipeline.prepare_latents(picture, 1, z, H, 2 * W, T, torch.float32, torch.device("cpu"))
    reference, driving = picture[..., :W], torch.zeros(1, 3, T, H, W)
    driving[:, :, 0] = picture[..., W:]
    given = composite(reference, driving)  # blank but for frame 0: the ordinary case of image to video
    assert torch.equal(base.encode(given), theirs[:, 4:])
    first = torch.zeros(1, 1, T, H, 2 * W)
    first[:, :, 0] = 1
    assert torch.equal(base.pack_mask(first), theirs[:, :4])
    half = base.spec.spatial_stride
    assert torch.equal(base.pack_mask(mask(T, H, W))[..., : W // half], theirs[:, :4, ..., : W // half])


@pytest.mark.parametrize("name", small.NAMES)
def test_a_step_of_diffusers_pipeline_is_our_velocity_at_its_timestep(name: str) -> None:
    base = small.shared(name)
    pipeline = small.pipeline_of(base.transformer, base.vae, *_image_parts(base))
    array = ((small.pixels(0, H, 2 * W, 3) + 1) * 127.5).round().to(torch.uint8).numpy()
    given = small.inputs(base, batch=1)
    calls: list[tuple[dict[str, torch.Tensor], torch.Tensor]] = []
    hook = base.transformer.register_forward_hook(
        lambda _, __, kwargs, made: calls.append((kwargs, made[0])), with_kwargs=True
    )
    pipeline(
        image=Image.fromarray(array),
        height=H,
        width=2 * W,
        num_frames=T,
        num_inference_steps=3,
        guidance_scale=1.0,
        latents=given["noisy"],
        prompt_embeds=given["text"],
        output_type="latent",
    )
    hook.remove()
    assert len(calls) == 3
    picture = torch.from_numpy(array).permute(2, 0, 1)[None].float() / 127.5 - 1
    video = torch.cat([picture[:, :, None], torch.zeros(1, 3, T - 1, H, 2 * W)], dim=2)
    first = torch.zeros(1, 1, T, H, 2 * W)
    first[:, :, 0] = 1
    image = base.image_embeds(picture)
    for kwargs, made in calls:
        noisy = kwargs["hidden_states"][:, : base.spec.latent_channels]
        with torch.no_grad():
            ours = base.velocity(
                noisy, kwargs["timestep"] / 1000, base.encode(video), base.pack_mask(first), given["text"], image
            )
        torch.testing.assert_close(ours, made, rtol=1e-5, atol=1e-5)


def test_the_embedding_of_the_reference_is_that_of_diffusers_pipeline() -> None:
    base = small.shared("wan-i2v")
    pipeline = small.pipeline_of(base.transformer, base.vae, *_image_parts(base))
    pixels = small.pixels(4, 2, 3, 40, 56)
    arrays = ((pixels + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    ours = base.image_embeds(pixels)
    for n, array in enumerate(arrays):
        with torch.no_grad():
            assert torch.equal(pipeline.encode_image(Image.fromarray(array), torch.device("cpu"))[0], ours[n])
    assert small.shared("tiny").image_embeds(pixels) is None


def _image_parts(base: Wan):
    return (base.image.model, base.image.processor) if base.image else ()


@pytest.mark.parametrize("name", small.NAMES)
def test_decoding_undoes_the_normalisation(name: str) -> None:
    base = small.shared(name)
    latents = torch.randn(1, base.spec.latent_channels, 2, 4, 8, generator=torch.Generator().manual_seed(0))
    mean, std = (torch.tensor(base.vae.config[key]).view(1, -1, 1, 1, 1) for key in ("latents_mean", "latents_std"))
    with torch.no_grad():
        torch.testing.assert_close(base.decode(latents), base.vae.decode(latents * std + mean).sample)
        video = small.pixels(0, 1, 3, 5, 32, 32)
        raw = base.vae.encode(video).latent_dist.mean
    torch.testing.assert_close(base.encode(video), (raw - mean) / std)


def test_a_base_that_diffusers_pipeline_has_written_loads_with_all_its_parts(tmp_path: Path) -> None:
    pipeline = small.wan_i2v_pipeline()
    small.add_text(pipeline)
    pipeline.save_pretrained(tmp_path / "base")
    base = load("wan-i2v", tmp_path / "base", torch.float32, "cpu")
    assert (base.spec.fps, base.spec.prefix_frames, base.spec.frames) == (16, 16, 81)
    assert base.digest == small.shared("wan-i2v").digest
    assert (base.text.length, base.text.dim) == (512, small.TEXT_DIM)
    given = small.inputs(small.shared("wan-i2v"))
    with torch.no_grad():
        assert torch.equal(base.velocity(**given), small.shared("wan-i2v").velocity(**given))


# ---- dtypes and timesteps


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_timesteps_are_not_truncated_to_whole_numbers(dtype: torch.dtype, folder: Path) -> None:
    base = load("tiny", folder, dtype, "cpu")
    given = small.inputs(base, batch=1)
    seen: list[torch.Tensor] = []
    hook = base.transformer.register_forward_pre_hook(
        lambda _, __, kwargs: seen.append(kwargs["timestep"]), with_kwargs=True
    )
    with torch.no_grad():
        first, second, third = (base.velocity(**given | {"sigma": torch.tensor([s])}) for s in (0.5, 0.5004, 0.5))
    hook.remove()
    torch.testing.assert_close(torch.cat(seen), torch.tensor([500.0, 500.4, 500.0]))
    assert torch.equal(first, third)
    assert not torch.equal(first, second)


def test_at_bfloat16_diffusers_keeps_its_float32_modules_and_the_vae_is_float32(folder: Path) -> None:
    base = load("tiny", folder, torch.bfloat16, "cpu")
    kept = ("rope", "time_embedder", "scale_shift_table", "norm1", "norm2", "norm3")  # of diffusers' class
    for key, value in [*base.transformer.named_parameters(), *base.transformer.named_buffers()]:
        wanted = torch.float32 if any(part in key for part in kept) else torch.bfloat16
        assert value.dtype == wanted, key
    assert {value.dtype for value in base.vae.parameters()} == {torch.float32}
    exact, given = load("tiny", folder, torch.float32, "cpu"), small.inputs(base)
    assert base.digest == exact.digest
    with torch.no_grad():
        near, wanted = base.velocity(**given), exact.velocity(**given)
    assert near.dtype == torch.float32
    assert (near - wanted).norm() / wanted.norm() < 0.05


# ---- fresh ones


@pytest.mark.parametrize(
    ("sizes", "stride"),
    [
        (TinyVae(base_dim=8), 4),
        (TinyVae(base_dim=8, z_dim=24), 4),
        (TinyVae(base_dim=8, residual=True, dim_mult=(1, 2, 2)), 4),
        (TinyVae(base_dim=8, z_dim=8, patch_size=1, dim_mult=(1, 2, 4, 4)), 4),
        (TinyVae(base_dim=8, residual=True, patch_size=4, dim_mult=(2, 2)), 2),
    ],
)
def test_a_fresh_vae_has_stride_8_in_space_and_2_or_4_in_time_at_any_number_of_channels(
    sizes: TinyVae, stride: int
) -> None:
    vae, z_dim = new_vae(sizes, seed=0), sizes.z_dim
    base = new_tiny(vae, TinyText(dim=8, length=4), small.SIZES, seed=0)
    assert (base.spec.spatial_stride, base.spec.temporal_stride, base.spec.latent_channels) == (8, stride, z_dim)
    latents = base.encode(small.pixels(0, 1, 3, 9, 32, 64))
    assert latents.shape == (1, z_dim, 8 // stride + 1, 4, 8)
    assert base.decode(latents).shape == (1, 3, 9, 32, 64)
    packed = base.pack_mask(torch.ones(1, 1, 9, 32, 64))
    assert packed.shape == (1, stride, 8 // stride + 1, 4, 8)
    assert base.transformer.config.in_channels == 2 * z_dim + stride
    with pytest.raises(BackboneError, match="frames must be 4 k"):
        base.encode(small.pixels(0, 1, 3, 7, 32, 64))


def test_all_parts_of_a_backbone_go_to_a_device_together() -> None:
    wan = small.wan_i2v().to("meta")
    assert wan.image is not None
    parts = (wan.transformer, wan.vae, wan.image.model)
    assert {parameter.device.type for part in parts for parameter in part.parameters()} == {"meta"}


def test_a_fresh_backbone_is_drawn_by_its_seed_alone(tmp_path: Path) -> None:
    vae, text = new_vae(TinyVae(base_dim=8), seed=1), TinyText(dim=8, length=4)
    state = torch.random.get_rng_state()
    first, second, other = (new_tiny(vae, text, small.SIZES, seed) for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert first.digest == second.digest != other.digest
    vae.save_pretrained(tmp_path / "vae")
    read = new_tiny(tmp_path / "vae", text, small.SIZES, seed=0)
    video = small.pixels(0, 1, 3, 5, 32, 32)
    assert torch.equal(read.encode(video), first.encode(video))


def test_a_fresh_backbone_predicts_no_velocity_and_can_learn_one() -> None:
    base = new_tiny(
        new_vae(TinyVae(base_dim=8), 0), TinyText(dim=small.TEXT_DIM, length=8), TinyTransformer(2, 2, 12, 40), 0
    )
    given = small.inputs(base)
    predicted = base.velocity(**given)
    assert bool((predicted == 0).all())
    optimizer = torch.optim.Adam(base.transformer.parameters(), lr=1e-2)
    losses = []
    for _ in range(8):
        optimizer.zero_grad()
        loss = (base.velocity(**given) - given["noisy"]).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


# ---- folders that do not fit: one sentence each, before a weight is read


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", "no folder of weights at")
    refused("tiny", "no folder of weights at tiny")


def test_a_hub_id_that_cannot_be_reached_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    refused("nobody/nothing-of-this-name@v1", "could not be had from the hub")


def test_an_unknown_backbone_is_refused_with_the_names_there_are(folder: Path) -> None:
    assert "tiny, wan-i2v" in refused(folder, "no backbone 'wan'", name="wan")


def test_a_folder_of_another_backbone_is_refused(folder: Path) -> None:
    refused(folder, "is of the backbone 'tiny', and 'wan-i2v' is wanted", name="wan-i2v")


@pytest.mark.parametrize("part", ["transformer", "vae"])
def test_a_missing_part_is_refused(folder: Path, part: str) -> None:
    (folder / part / "diffusion_pytorch_model.safetensors").rename(folder / part / "diffusion_pytorch_model.bin")
    refused(folder, f"{part}/diffusion_pytorch_model.safetensors is missing; only safetensors")
    (folder / part / "config.json").unlink()
    refused(folder, f"{part}/config.json is missing")


def test_a_config_of_another_class_is_refused(folder: Path) -> None:
    edit(folder / "transformer/config.json", _class_name="WanVACETransformer3DModel")
    refused(folder, "is of class WanVACETransformer3DModel, but WanTransformer3DModel is wanted")


def test_a_config_that_is_no_json_is_refused(folder: Path) -> None:
    (folder / "vae/config.json").write_text("{")
    refused(folder, "cannot be read as JSON")


def test_a_text_to_video_base_is_refused(folder: Path) -> None:
    edit(folder / "transformer/config.json", in_channels=20, out_channels=20)
    assert "an image-to-video base is needed, which takes 44" in refused(folder, "text-to-video base")


def test_a_base_with_other_conditions_is_refused(folder: Path) -> None:
    edit(folder / "transformer/config.json", in_channels=52)
    refused(folder, "takes 52 channels .* takes 44")
    edit(folder / "transformer/config.json", in_channels=44, pos_embed_seq_len=514)
    refused(folder, "a first and a last picture")


def test_a_base_of_two_experts_is_refused(folder: Path) -> None:
    (folder / "transformer_2").mkdir()
    refused(folder, "base of two experts")


def test_a_vae_of_another_base_is_refused(folder: Path) -> None:
    edit(folder / "vae/config.json", z_dim=16)
    refused(folder, re.escape("predicts 20 channels (out_channels) and the VAE's latents have 16 (z_dim)"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"latents_mean": [0.0] * 16}, "16 values of latents_mean for 20"),
        ({"patch_size": None}, "takes 12 channels"),
        ({"scale_factor_spatial": 16}, "says strides of 16 px and 4 frames, and its levels make 8 and 4"),
        ({"temperal_downsample": [False, True], "scale_factor_temporal": 2}, "takes 42: noise 20, mask 2, cond"),
    ],
)
def test_a_vae_whose_config_contradicts_itself_is_refused(folder: Path, changes, said: str) -> None:
    edit(folder / "vae/config.json", **changes)
    refused(folder, said)


@pytest.mark.parametrize("part", ["transformer", "vae"])
def test_missing_unexpected_and_misshapen_weights_are_refused(folder: Path, part: str) -> None:
    path = folder / part / "diffusion_pytorch_model.safetensors"
    name = next(key for key in load_file(path) if key.endswith("weight"))
    whole = path.read_bytes()
    edit_weights(path, lambda tensors: tensors.pop(name))
    refused(folder, f"lack {re.escape(name)}, which their config asks for")
    path.write_bytes(whole)
    edit_weights(path, lambda tensors: tensors.update(foreign=torch.zeros(1)))
    refused(folder, "hold foreign, which their config does not know")
    path.write_bytes(whole)
    edit_weights(path, lambda tensors: tensors.update({name: torch.zeros(3, 3)}))
    refused(folder, f"{re.escape(name)} is \\[3, 3\\], and should be")
    path.write_bytes(whole[: len(whole) // 2])
    refused(folder, "is damaged")


def test_a_missing_shard_is_refused_and_shards_load_like_one_file(folder: Path) -> None:
    whole = load("tiny", folder, torch.float32, "cpu")
    whole.transformer.save_pretrained(folder / "transformer", max_shard_size="20KB")
    shards = sorted((folder / "transformer").glob("*-of-*.safetensors"))
    assert len(shards) > 2
    (folder / "transformer/diffusion_pytorch_model.safetensors").unlink(missing_ok=True)
    assert load("tiny", folder, torch.float32, "cpu").digest == whole.digest
    shards[1].unlink()
    refused(folder, f"{shards[1].name} is missing")


def test_settings_with_a_missing_or_wrong_value_are_refused(folder: Path) -> None:
    edit(folder / "bodydouble.json", prefix_frames="4")
    refused(folder, "prefix_frames is '4', and int is wanted")


def test_weights_that_wans_published_files_have_besides_are_accepted(tmp_path: Path) -> None:
    folder = small.saved(tmp_path / "base", small.shared("wan-i2v"))
    path = folder / "transformer/diffusion_pytorch_model.safetensors"
    edit_weights(path, lambda tensors: tensors.update({"blocks.0.attn2.norm_added_q.weight": torch.ones(24)}))
    base = small.shared("wan-i2v")
    assert load("wan-i2v", folder, torch.float32, "cpu", base.text).digest == base.digest


def test_a_base_that_wants_a_picture_says_so_when_its_encoder_is_missing(tmp_path: Path) -> None:
    folder = small.saved(tmp_path / "base", small.shared("wan-i2v"))
    (folder / "image_processor/preprocessor_config.json").unlink()
    refused(folder, "image_processor/preprocessor_config.json is missing", name="wan-i2v")


def test_a_text_encoder_of_another_width_is_refused(folder: Path) -> None:
    with pytest.raises(UserError, match=r"takes texts of 24 channels .* gives 16"):
        load("tiny", folder, torch.float32, "cpu", TinyText(dim=16, length=8))


def test_an_image_encoder_of_another_width_is_refused(tmp_path: Path) -> None:
    folder = small.saved(tmp_path / "base", small.shared("wan-i2v"))
    transformer = small.shared("wan-i2v").transformer
    changed = type(transformer).from_config(dict(transformer.config) | {"image_dim": 20})
    changed.save_pretrained(folder / "transformer")
    refused(folder, "takes pictures of 20 channels .* gives 16", name="wan-i2v")


def test_a_text_of_another_length_beside_a_picture_is_refused() -> None:
    base = small.shared("wan-i2v")
    given = small.inputs(base)
    with pytest.raises(UserError, match="takes texts of 512 tokens"):
        base.velocity(**given | {"text": given["text"][:, :100]})


# ---- folders that are written


def test_a_folder_is_replaced_whole_and_a_failed_write_leaves_the_old_one(tmp_path: Path) -> None:
    folder = tmp_path / "base"
    small.tiny(0).save(folder)
    other = small.tiny(1)
    (folder / "stray").write_text("")
    other.save(folder)
    assert not (folder / "stray").exists()
    assert load("tiny", folder, torch.float32, "cpu").digest == other.digest

    def half(fresh: Path) -> None:
        (fresh / "bodydouble.json").write_text("{}")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        weights.write_folder(folder, half)
    assert load("tiny", folder, torch.float32, "cpu").digest == other.digest
    assert [path.name for path in tmp_path.iterdir()] == ["base"]


def test_the_digest_sees_a_changed_weight_in_any_tensor() -> None:
    base = small.tiny()
    seen = {base.digest}
    parameters = dict(base.transformer.named_parameters())
    for value in parameters.values():
        value.data.mul_(1.1)
        seen.add(base.digest)
    assert len(seen) == len(parameters) + 1


def test_naming_backbones_imports_no_diffusers() -> None:
    code = "import sys, model.backbone; print([m for m in ('diffusers', 'peft', 'transformers') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
