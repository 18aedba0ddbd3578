"""The smallest trainings there are, as YAML: 32 x 32 px, 9 frames, a few clips of theatre."""

from pathlib import Path
from typing import Any

import yaml

from model.tiny import TinyVae, new_vae

SIZE = {"height_px": 32, "width_px": 32, "frames": 9}
WORLDS = [{"name": "easy", "count": 3}, {"name": "turns", "count": 1}]
HELD_OUT = [{"name": "easy", "count": 2}]
SIZES = {"z_dim": 4, "base_dim": 4, "dim_mult": [1, 2, 2], "residual": True}


def write(path: Path, data: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(data))
    return path


def vae_run(folder: Path, **vae: Any) -> dict[str, Any]:
    """Return the config of a VAE's training."""
    return {
        "folder": str(folder), "accept_db": 1.0, "size": SIZE,
        "data": {"worlds": WORLDS, "held_out": HELD_OUT},
        "vae": {"sizes": SIZES, "steps": 3, "batch": 2, "crop_px": 16, "frames": 5, "decay_steps": 2, **vae},
    }  # fmt: skip


def backbone_run(folder: Path, vae: Path, **training: Any) -> dict[str, Any]:
    """Return the config of a backbone's training around the VAE in `vae`."""
    transformer = {"layers": 1, "heads": 2, "head_dim": 16, "ffn_dim": 32, "freq_dim": 32}
    fresh = {"vae": str(vae), "transformer": transformer, "text": {"dim": 16, "length": 4, "words": 64}}
    return {
        "folder": str(folder), "backbone": {"name": "tiny", "fresh": fresh}, "size": SIZE,
        "data": {"variants": 2, "phases": [{"worlds": WORLDS}], "held_out": HELD_OUT},
        "samples": {"count": 2, "steps": 2},
        "training": {
            "steps": 4, "trainable": "full", "precision": "fp32", "global_batch": 2, "device": "cpu",
            "validation": {"every": 2, "samples": 2}, "checkpoint": {"every": 2}, "sample_every": 2,
            "tensorboard": False, **training,
        },
    }  # fmt: skip


def saved_vae(folder: Path) -> Path:
    """Write a small VAE with random weights, and return its folder."""
    sizes = TinyVae(z_dim=4, base_dim=4, dim_mult=(1, 2, 2), residual=True)
    vae = new_vae(sizes, 0).requires_grad_(False)
    vae.register_to_config(latents_std=[0.1] * 4)
    vae.save_pretrained(folder, safe_serialization=True)
    return folder
