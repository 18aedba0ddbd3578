"""The second stage on each cut, with several seeds, all from the same teacher."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pipeline.train import Training
from pipeline.train_config import load
from tests.bench.study.material import CUTS, Scale
from tests.bench.teacher.rows import progress

CONFIG: Final = Path(__file__).parent / "stage_two.yaml"


def trained(folder: Path, scale: Scale, teacher: Path) -> dict[str, list[Path]]:
    """Train what is not trained yet; return the LoRAs by cut, one a seed."""
    loras: dict[str, list[Path]] = {cut: [] for cut in CUTS}
    for seed in range(scale.seeds):
        for cut in CUTS:
            loras[cut].append(_trained(folder, cut, seed, scale, teacher))
    return loras


def _trained(folder: Path, cut: str, seed: int, scale: Scale, teacher: Path) -> Path:
    place = folder / "trained" / f"{cut}-{seed}"
    lora = place / "checkpoints" / f"step-{scale.steps:08d}" / "lora"
    if lora.exists():
        return lora
    shelf = folder / "latents" / cut  # a cut is encoded once for all seeds
    shelf.mkdir(parents=True, exist_ok=True)
    place.mkdir(parents=True, exist_ok=True)
    if not (place / "latents").exists():
        (place / "latents").symlink_to(shelf.resolve(), target_is_directory=True)
    run = load(
        CONFIG,
        [
            f"folder={json.dumps(str(place))}",
            f"backbone.weights={json.dumps(str(teacher))}",
            f"data.cuts={json.dumps([{'root': str(folder / 'pairs'), 'cut': cut}])}",
            f"training.steps={scale.steps}",
            f"training.optimizer.horizon_steps={scale.steps}",
            f"training.seed={seed}",
        ],
    )

    def told(line: Mapping[str, Any]) -> None:
        if "loss" in line and line["step"] % 50 == 0:
            progress(f"{cut}, seed {seed}: step {line['step']} of {scale.steps}, loss {line['loss']:.4f}")

    Training(run).start(told)
    return lora
