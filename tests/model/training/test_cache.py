"""Latents from the shelf are those that the backbone's VAE gives of the same examples."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from model.composite import loss_mask, mask
from model.geometry import Geometry
from model.training.cache import LatentCache
from model.training.clips import Clip
from model.training.examples import Augment, example
from model.training.shelf import ShelfError
from model.wan import Wan
from tests.model.small import shared
from tests.model.training.small_clips import SIZE, Walks
from tests.model.training.small_training import backbone

AUGMENT = Augment(bone_share=0.5, drop_driving=0.3, drop_reference=0.3)
WAN = backbone()


def cache(
    folder: Path, clips: Walks | None = None, wan: Wan = WAN, augment: Augment = AUGMENT, **given: int
) -> LatentCache:
    clips = clips or Walks(3)
    return LatentCache(clips, wan, clips.size, augment, folder, **{"variants": 2, "seed": 4, **given})


def filled(latents: LatentCache) -> LatentCache:
    for _ in latents.shelf.fill(latents.make):
        pass
    return latents


def test_a_number_gives_what_encoding_its_clip_and_variant_gives(tmp_path: Path) -> None:
    latents = filled(cache(tmp_path))
    assert len(latents) == 6
    numbers = [5, 0, 3]
    batch = latents.read(numbers)
    for row, number in enumerate(numbers):
        made = example(Walks(3).clip(number // 2), SIZE, AUGMENT, np.random.default_rng([4, number]))
        for got, video in ((batch.target[row], made.wanted), (batch.cond[row], made.given)):
            truth = WAN.encode(video)[0]
            assert got.shape == (4, 3, 2, 4)
            assert torch.allclose(got, truth, rtol=2**-10, atol=1e-6)  # half of float16's last digit
            assert got.dtype == torch.float32
        assert batch.prompts[row] == f"walks number {number // 2}"
    assert batch.image is None
    assert not torch.equal(*latents.read([2, 3]).target)  # two variants of one clip


def test_the_masks_are_those_of_the_backbone(tmp_path: Path) -> None:
    batch = filled(cache(tmp_path)).read([0, 1, 2])
    assert torch.equal(batch.mask, WAN.pack_mask(mask(9, 16, 16)).expand(3, -1, -1, -1, -1))
    assert torch.equal(batch.loss_mask, loss_mask(SIZE).expand(3, -1, -1, -1, -1))
    assert batch.mask.shape == (3, 4, 3, 2, 4)


def test_what_is_encoded_now_is_what_the_shelf_has_and_leaves_no_file(tmp_path: Path) -> None:
    latents = cache(tmp_path / "latents")
    now = latents.encoded([4, 1])
    assert not (tmp_path / "latents").exists()
    kept = filled(latents).read([4, 1])
    assert torch.allclose(now.target, kept.target, rtol=2**-9, atol=1e-6)
    assert torch.allclose(now.cond, kept.cond, rtol=2**-9, atol=1e-6)
    assert torch.equal(now.mask, kept.mask)
    assert list(now.prompts) == list(kept.prompts)


def test_the_embedding_of_the_reference_is_kept_for_a_base_that_takes_it(tmp_path: Path) -> None:
    clips, wan = Walks(1, Geometry(32, 32, 5, 4, 16)), shared("wan-i2v")
    latents = filled(cache(tmp_path, clips, wan, augment=replace(AUGMENT, drop_reference=0.0), variants=1))
    reference = torch.from_numpy(clips.clip(0).frames[:1]).permute(0, 3, 1, 2).float() / 127.5 - 1
    image = latents.read([0]).image
    assert image is not None
    assert torch.allclose(image, wan.image_embeds(reference), rtol=2**-10, atol=1e-6)


def others(folder: Path) -> Iterator[LatentCache]:
    """Return caches that differ from the first in one thing each."""
    yield cache(folder, seed=5)
    yield cache(folder, variants=3)
    yield cache(folder, Walks(3, name="runs"))
    yield cache(folder, Walks(3, replace(SIZE, frames=13)))
    yield cache(folder, Walks(3, replace(SIZE, prefix_frames=0)))
    for change in ({"bone_share": 0.4}, {"bone_low": 0.7}, {"bone_high": 1.3}, {"blank": "black"}):
        yield cache(folder, augment=replace(AUGMENT, **change))
    for change in ({"drop_driving": 0.1}, {"drop_reference": 0.1}):
        yield cache(folder, augment=replace(AUGMENT, **change))
    yield cache(folder, wan=backbone(seed=1))  # another VAE
    normalised = backbone()
    normalised.vae.register_to_config(latents_std=[2.0, 1.0, 1.0, 1.0])
    yield cache(folder, wan=normalised)


def test_the_digest_tells_apart_all_that_latents_depend_on_and_nothing_else(tmp_path: Path) -> None:
    digests = [latents.digest for latents in (cache(tmp_path), *others(tmp_path))]
    assert len(set(digests)) == len(digests) == 14
    learned = backbone()
    torch.nn.init.ones_(learned.transformer.proj_out.weight)
    assert cache(tmp_path, wan=learned).digest == cache(tmp_path / "elsewhere").digest == digests[0]


def test_latents_with_and_without_embeddings_of_the_reference_lie_apart_also_for_one_vae(tmp_path: Path) -> None:
    clips, wan = Walks(1, Geometry(32, 32, 5, 4, 16)), shared("wan-i2v")
    with_image = cache(tmp_path, clips, wan).digest
    assert cache(tmp_path, clips, wan).digest == with_image
    other = copy.copy(wan)
    other.image = None
    assert cache(tmp_path, clips, other).digest != with_image
    assert wan.image is not None
    other.image = copy.deepcopy(wan.image)
    torch.nn.init.zeros_(next(other.image.model.parameters()))
    assert cache(tmp_path, clips, other).digest != with_image


@dataclass(frozen=True)
class Breaking(Walks):
    """Clips whose making is broken off at one number, as a Ctrl-C would."""

    at: int = 0

    def clip(self, number: int) -> Clip:
        if number == self.at:
            raise KeyboardInterrupt
        return super().clip(number)


def test_a_killed_filling_goes_on_and_gives_the_same(tmp_path: Path) -> None:
    size, plain = Geometry(16, 16, 5, 0, 8), replace(AUGMENT, drop_driving=1.0)
    breaking, whole = Breaking(70, size, at=66), Walks(70, size)
    with pytest.raises(KeyboardInterrupt):
        filled(cache(tmp_path, breaking, augment=plain, variants=1))
    latents = cache(tmp_path, whole, augment=plain, variants=1)
    assert latents.shelf.missing() == [1]
    assert torch.isfinite(latents.read([63]).target).all()
    with pytest.raises(ShelfError, match="fill the shelf first"):
        latents.read([64])
    before = latents.shelf.path(0).stat().st_mtime_ns
    assert list(latents.shelf.fill(latents.make)) == [6]
    assert latents.shelf.path(0).stat().st_mtime_ns == before
    rest = latents.read([66, 2])
    for row, number in enumerate((66, 2)):
        made = example(whole.clip(number), size, plain, np.random.default_rng([4, number]))
        assert torch.allclose(rest.target[row], WAN.encode(made.wanted)[0], rtol=2**-10, atol=1e-6)
