"""The weights that ship: small enough, loadable as any, and as good as their card says."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLWan
from safetensors import safe_open

import model
from model.geometry import Geometry
from model.tiles import cut, join
from model.training.reconstruct import reconstruction
from model.training.theatre_clips import TheatreClips, World
from model.wan_config import SETTINGS_OF

WEIGHTS = Path(model.__file__).parent / "tiny_weights"
MOST_BYTES = 40_000_000


def test_all_weights_together_are_at_most_40_mb_in_safetensors_alone() -> None:
    files = [path for path in WEIGHTS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= MOST_BYTES
    assert {path.suffix for path in files} <= {".safetensors", ".json", ".md"}


def test_each_folder_of_weights_has_a_card_that_says_where_they_come_from() -> None:
    for folder in {path.parent for path in WEIGHTS.rglob("*.safetensors")}:
        card = next(where / "README.md" for where in (folder, *folder.parents) if (where / "README.md").exists())
        text = card.read_text()
        for wanted in ("license: apache-2.0", "bodydouble train", "## Data", "## What it cannot do"):
            assert wanted in text, f"{card} lacks {wanted!r}"


def test_the_vae_is_half_precision_normalised_and_of_the_strides_its_card_says() -> None:
    config = json.loads((WEIGHTS / "vae/config.json").read_text())
    assert (config["scale_factor_spatial"], config["scale_factor_temporal"]) == (8, 2)
    assert len(config["latents_std"]) == config["z_dim"] == 64
    assert min(config["latents_std"]) > 0
    with safe_open(WEIGHTS / "vae/diffusion_pytorch_model.safetensors", framework="np") as stored:
        assert {stored.get_slice(name).get_dtype() for name in stored.keys()} == {"F16"}  # noqa: SIM118 - not a dict


@pytest.mark.train
def test_the_vae_keeps_figures_that_it_has_never_seen_as_well_as_its_card_says() -> None:
    pytest.importorskip("mannequin")
    vae = AutoencoderKLWan.from_pretrained(WEIGHTS / "vae", torch_dtype=torch.float32)
    size, tile = Geometry(64, 64, 21, 4, 12), SETTINGS_OF["tiny"].tile_px
    clips = TheatreClips(size, (World("turns", 4, 0.2), World("clutter", 4, 0.2)), "held_out", seed=77)

    def through(video: torch.Tensor) -> torch.Tensor:
        return join(vae.decode(vae.encode(cut(video, tile)).latent_dist.mode()).sample, len(video), video.shape[4])

    measured = reconstruction(through, clips, size, range(len(clips)))
    said = re.search(r"\| inside figures \| ([\d.]+) \|", (WEIGHTS / "vae/README.md").read_text())
    assert said is not None
    assert float(said[1]) >= 25.0
    assert np.nanmean(measured.figure_db) > float(said[1]) - 2.0  # eight clips spread more than a hundred


def test_the_teacher_is_loaded_by_its_name_alone_and_sees_through_the_vae_that_ships() -> None:
    from model.loading import loaded, weights_of

    teacher = loaded("tiny", weights_of("tiny", None), device="cpu")
    vae = AutoencoderKLWan.from_pretrained(WEIGHTS / "vae", torch_dtype=torch.float32)
    assert all(torch.equal(a, b) for a, b in zip(teacher.vae.parameters(), vae.parameters(), strict=True))
    spec = teacher.spec
    assert (spec.height_px, spec.width_px, spec.frames) == (64, 64, 21)
    assert len(teacher.settings.deviation) == spec.latent_channels
