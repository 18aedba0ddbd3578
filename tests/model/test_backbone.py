"""The contract of `model.backbone.Backbone`, run over every backbone there is."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from manifests.errors import UserError
from model import backbone as rooms
from model.backbone import BACKBONES, join_channels
from model.composite import PACKINGS, composite, mask
from tests.model import small

pytestmark = pytest.mark.parametrize("name", small.NAMES)
TEXT_BRANCHES = ("condition_embedder", "text", "context", "attn2")  # attn2 looks at the text


def changed(tensor: Tensor) -> Tensor:
    return tensor + torch.randn(tensor.shape, generator=torch.Generator().manual_seed(9))


def test_every_name_in_the_table_is_tested(name: str) -> None:
    assert set(small.NAMES) == set(BACKBONES)


def test_velocity_has_the_shape_and_the_dtype_of_the_noisy_latents(name: str) -> None:
    base = small.shared(name)
    given = small.inputs(base)
    predicted = base.velocity(**given)
    geometry = base.geometry(small.HEIGHT_PX, small.WIDTH_PX, small.FRAMES)
    cells = (geometry.latent_frames, geometry.latent_height, geometry.composite_latent_width)
    assert predicted.shape == (2, base.spec.latent_channels, *cells)
    assert predicted.dtype == torch.float32
    assert predicted.std() > 0.1


def test_each_group_of_channels_lies_where_diffusers_has_it(name: str) -> None:
    base = small.shared(name)
    given = small.inputs(base)
    noisy, cond, packed = given["noisy"], given["cond"], given["mask"]
    z = base.spec.latent_channels
    whole = base.model_input(noisy, cond, packed)
    # WanImageToVideoPipeline: cat([latents, condition]), with condition = cat([mask, latent_condition])
    by_hand = torch.cat([noisy, torch.cat([packed.repeat(2, 1, 1, 1, 1), cond], dim=1)], dim=1)
    assert torch.equal(whole, by_hand)
    for group, first, last in (("noisy", 0, z), ("mask", z, z + 4), ("cond", z + 4, 2 * z + 4)):
        given_changed = {"noisy": noisy, "cond": cond, "mask": packed} | {group: changed(given[group])}
        moved = (base.model_input(**given_changed) != whole).flatten(2).any(-1).any(0)
        assert moved.nonzero().flatten().tolist() == list(range(first, last))
    with torch.no_grad():
        ran = base.transformer(
            hidden_states=by_hand,
            timestep=1000 * given["sigma"],
            encoder_hidden_states=given["text"],
            encoder_hidden_states_image=given["image"],
        ).sample
        assert torch.equal(base.velocity(**given), ran)


def test_every_input_matters_to_the_velocity(name: str) -> None:
    base = small.shared(name)
    given = small.inputs(base)
    with torch.no_grad():
        plain = base.velocity(**given)
        for what in given:
            if given[what] is not None:
                other = given[what] / 2 if what == "sigma" else changed(given[what])
                assert (base.velocity(**given | {what: other}) - plain).abs().max() > 1e-3, what


def test_the_mask_is_packed_as_the_table_of_packings_says(name: str) -> None:
    base = small.shared(name)
    pixels = mask(small.FRAMES, small.HEIGHT_PX, small.WIDTH_PX)
    packed = base.pack_mask(pixels)
    assert torch.equal(packed, PACKINGS[base.spec.mask_packing](pixels, base.spec))
    left, right = packed.chunk(2, dim=-1)
    assert bool((right == 1).all())
    assert bool((left[:, :, 0] == 1).all())
    assert bool((left[:, :, 1:] == 0).all())
    assert packed.shape[1] + 2 * base.spec.latent_channels == base.transformer.config.in_channels


def test_a_sample_does_not_depend_on_its_neighbours_in_the_batch(name: str) -> None:
    base = small.shared(name)
    given = small.inputs(base, batch=3)
    with torch.no_grad():
        together = base.velocity(**given)
        for n in range(3):
            alone = {k: v if v is None or v.shape[0] == 1 else v[n : n + 1] for k, v in given.items()}
            torch.testing.assert_close(base.velocity(**alone), together[n : n + 1], rtol=1e-4, atol=1e-5)
    video = small.pixels(3, 2, 3, small.FRAMES, small.HEIGHT_PX, 2 * small.WIDTH_PX)
    torch.testing.assert_close(base.encode(video)[1:], base.encode(video[1:]), rtol=1e-4, atol=1e-5)


def test_the_transformer_attends_over_as_many_tokens_as_the_geometry_says(name: str) -> None:
    base = small.shared(name)
    seen: list[int] = []
    hook = base.transformer.blocks[0].register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[1]))
    with torch.no_grad():
        base.velocity(**small.inputs(base))
    hook.remove()
    assert seen == [base.geometry(small.HEIGHT_PX, small.WIDTH_PX, small.FRAMES).tokens]


def test_latents_are_of_the_size_and_the_dtype_that_the_geometry_says(name: str) -> None:
    base = small.shared(name)
    geometry = base.geometry(64, 32, 13)
    latents = base.encode(small.pixels(0, 1, 3, 13, 64, geometry.composite_width_px))
    cells = (geometry.latent_frames, geometry.latent_height, geometry.composite_latent_width)
    assert latents.shape == (1, base.spec.latent_channels, *cells)
    assert latents.dtype == torch.float32
    pixels = base.decode(latents)
    assert pixels.shape == (1, 3, 13, 64, 64)
    assert pixels.abs().max() <= 1


def test_encoding_is_the_mode_and_draws_no_random_numbers(name: str) -> None:
    base = small.shared(name)
    video = small.pixels(0, 1, 3, 5, 32, 32)
    before = torch.random.get_rng_state()
    assert torch.equal(base.encode(video), base.encode(video))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_lora_targets_are_feed_forward_layers_of_every_block_and_none_of_the_text_branch(name: str) -> None:
    base = small.shared(name)
    linear = [key for key, module in base.transformer.named_modules() if isinstance(module, torch.nn.Linear)]
    found = [key for key in linear if any(key.endswith(f".{target}") for target in base.spec.lora_targets)]
    assert found == [
        f"blocks.{n}.{layer}" for n in range(small.SIZES.layers) for layer in ("ffn.net.0.proj", "ffn.net.2")
    ]
    assert not [key for key in found if any(branch in key for branch in TEXT_BRANCHES)]


def test_what_is_saved_loads_back_to_the_bit(name: str, tmp_path) -> None:
    base = small.shared(name)
    base.save(tmp_path / "base")
    again = rooms.load(name, tmp_path / "base", torch.float32, "cpu", None if name == "tiny" else base.text)
    assert again.spec == base.spec
    assert again.name == name
    assert again.digest == base.digest
    for part in ("transformer", "vae"):
        ours, theirs = getattr(base, part).state_dict(), getattr(again, part).state_dict()
        assert list(ours) == list(theirs)
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    given = small.inputs(base)
    with torch.no_grad():
        assert torch.equal(base.velocity(**given), again.velocity(**given))
    video = small.pixels(0, 1, 3, 5, 32, 32)
    assert torch.equal(base.encode(video), again.encode(video))
    reference = small.pixels(0, 2, 3, 32, 32)
    embeds, embeds_again = base.image_embeds(reference), again.image_embeds(reference)
    assert (embeds is None) == (embeds_again is None) == (not base.spec.takes_image)
    assert embeds is None or torch.equal(embeds, embeds_again)


def test_the_same_path_takes_bfloat16_under_autocast_without_a_warning(name: str) -> None:
    base = small.shared(name)
    video = small.pixels(0, 1, 3, 5, 32, 32)
    given = small.inputs(base)
    exact, exact_latents = base.velocity(**given), base.encode(video)
    with torch.autocast("cpu", torch.bfloat16):
        near = base.velocity(**given)
        near_latents = base.encode(video)
    assert near.dtype == near_latents.dtype == torch.float32
    assert 0 < (near - exact).norm() / exact.norm() < 0.05
    assert 0 < (near_latents - exact_latents).norm() / exact_latents.norm() < 0.05


def test_recomputing_activations_changes_no_gradient(name: str) -> None:
    base = small.tiny() if name == "tiny" else small.wan_i2v()
    given = small.inputs(base)
    grads = []
    for on in (False, True):
        base.gradient_checkpointing(on)
        assert base.transformer.is_gradient_checkpointing == on
        base.transformer.zero_grad()
        base.velocity(**given).square().mean().backward()
        grads.append({key: value.grad.clone() for key, value in base.transformer.named_parameters()})
    assert all(torch.equal(grads[0][key], grads[1][key]) for key in grads[0])


def test_a_geometry_beyond_the_position_embedding_is_refused(name: str) -> None:
    base = small.shared(name)
    assert base.geometry(16, 8192, 5).composite_latent_width // 2 == 1024
    with pytest.raises(UserError, match="1026 tokens along one axis"):
        base.geometry(16, 8208, 5)
    with pytest.raises(UserError, match="frames"):
        base.geometry(64, 64, 20)


@pytest.mark.parametrize(
    ("shape", "said"), [((1, 3, 8, 32, 32), "frames must be 4 k"), ((1, 3, 9, 36, 32), "multiples of 8")]
)
def test_a_video_whose_frames_or_rows_the_vae_would_drop_is_refused(name: str, shape, said: str) -> None:
    with pytest.raises(UserError, match=said):
        small.shared(name).encode(torch.zeros(shape))


def test_an_embedding_of_the_picture_is_wanted_exactly_where_the_base_takes_one(name: str) -> None:
    base = small.shared(name)
    given = small.inputs(base)
    other = None if base.spec.takes_image else torch.zeros(2, 5, 16)
    with pytest.raises(UserError, match="embedding of the reference"):
        base.velocity(**given | {"image": other})


def test_another_order_and_another_packing_are_data_of_the_spec(name: str) -> None:
    """HunyuanVideo-1.5: noise 32, condition 32, mask 1, in this order, the mask packed its own way."""
    spec = replace(
        small.shared(name).spec, channels=("noise", "cond", "mask"), mask_packing="hunyuan", latent_channels=32
    )
    pixels = mask(small.FRAMES, 32, 32)
    packed = PACKINGS[spec.mask_packing](pixels, spec)
    noise, cond = torch.randn(2, 32, *packed.shape[2:]), torch.randn(2, 32, *packed.shape[2:])
    whole = join_channels(spec.channels, {"noise": noise, "mask": packed, "cond": cond})
    assert whole.shape[1] == 65
    assert torch.equal(whole, torch.cat([noise, cond, packed.expand(2, -1, -1, -1, -1)], dim=1))


def test_latents_of_a_composite_are_not_those_of_its_halves(name: str) -> None:
    """Why halves may never be cached apart: the VAE's attention spans the whole width."""
    base = small.shared(name)
    reference, driving = small.pixels(0, 1, 3, 32, 32), small.pixels(1, 1, 3, 5, 32, 32)
    whole = base.encode(composite(reference, driving))
    assert (whole.chunk(2, dim=-1)[1] - base.encode(driving)).abs().amax(dim=(0, 1, 2, 3)).min() > 1e-4
