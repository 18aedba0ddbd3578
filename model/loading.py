"""A backbone for those who use one: which weights, on which device, with which LoRAs. Nothing is fetched."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

import torch

from manifests.errors import UserError
from model import backbone as backbones
from model.backbone import BACKBONES, Backbone

SHIPPED: Final = Path(__file__).parent / "tiny_weights" / "teacher"
Precision = Literal["auto", "fp32", "bf16"]


class WeightsError(UserError):
    """There are no such weights, or no such device."""


def weights_of(backbone: str, weights: Path | None) -> Path:
    """Return the folder of a backbone's weights; for `tiny`, the one that ships if none is named. Nothing is fetched.

    Raises:
        WeightsError: there is no such folder.
    """
    if weights is not None:
        if backbone in BACKBONES and not weights.is_dir():
            raise WeightsError(
                f"no folder of weights at {weights}; give one in diffusers' layout: nothing is fetched, so fetch a "
                "published base first (hf download OWNER/NAME --local-dir FOLDER)"
            )
        return weights
    if backbone != "tiny":
        raise WeightsError(f"the backbone {backbone} needs --weights, a folder in diffusers' layout")
    if not SHIPPED.is_dir():
        raise WeightsError(
            f"no weights ship with this version ({SHIPPED} is missing): name a folder by --weights, such as the "
            "runs/teacher/model that `bodydouble train pipeline/configs/teacher.yaml` writes"
        )
    return SHIPPED


def loaded(
    backbone: str, weights: Path, loras: Sequence[Path] = (), device: str = "auto", precision: Precision = "auto"
) -> Backbone:
    """Return the backbone on its device, with its LoRAs.

    Raises:
        UserError: weights or LoRAs are not the backbone's, or there is no such device.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise WeightsError(
            f"there is no device {device!r} here ({str(error).splitlines()[0]}); --device cpu always works"
        ) from error
    half = precision == "bf16" or (precision == "auto" and device.startswith("cuda"))
    made = backbones.load(backbone, weights, torch.bfloat16 if half else torch.float32, device)
    if loras:
        from model import lora  # peft takes seconds to import

    for number, path in enumerate(loras):
        lora.load(made.transformer, path, f"lora{number}")
    return made
