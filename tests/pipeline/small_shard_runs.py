"""The smallest trainings on shards, as YAML: 32 x 32 px, 9 frames, on a cut of the real packer."""

from pathlib import Path
from typing import Any

from tests.pipeline.small_runs import backbone_run


def shard_run(
    folder: Path, root: Path, vae: Path, data: dict[str, Any] | None = None, **training: Any
) -> dict[str, Any]:
    """Return the config of a stage two around the VAE in `vae`; fields of `data` and `training` are replaced."""
    told = backbone_run(folder, vae, **{"sample_every": 0, **training})
    return told | {
        "strategy": "rgb_driven", "size": {"height_px": 32, "width_px": 32, "frames": 9},
        "data": {
            "cuts": [{"root": str(root)}], "held_out_share": 0.3, "forward_share": 0.25, **(data or {}),
        },
    }  # fmt: skip
