"""What learns, and how it is written down for others: all weights, or a LoRA on a frozen base."""

from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from manifests.errors import UserError
from model import lora
from model.backbone import Backbone
from model.text import TinyText
from model.training import checkpoint
from model.training.config import TrainConfig
from model.training.strategy import Batch, Strategy, modules


class RandomLayerError(UserError):
    """A layer draws from the global random generator, whose state is not kept (`order.py` says why)."""


class Objective(nn.Module):
    """The error of a batch as ONE forward, so that what averages gradients sees every parameter that is used."""

    def __init__(self, backbone: Backbone, strategy: Strategy) -> None:
        super().__init__()
        self.parts = modules(backbone)
        self._error = partial(strategy.error, backbone)

    def forward(self, batch: Batch, sigma: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sum of squared errors and the number of elements it is a sum over."""
        return self._error(batch, sigma, noise)


def prepare(config: TrainConfig, backbone: Backbone) -> dict[str, nn.Parameter]:
    """Freeze what is to stay, put the LoRA on where one is trained, and return what learns, by name, as float32.

    Raises:
        RandomLayerError: A layer draws numbers of its own.
        LoraError: The LoRA cannot be put on this backbone.
    """
    parts = modules(backbone)
    for name, layer in parts.named_modules():
        if isinstance(layer, nn.Dropout) and layer.p > 0:
            raise RandomLayerError(
                f"{name} drops out with p = {layer.p}; such draws depend on what ran before, so a resumed training "
                "would be another one: set its dropout to 0"
            )
    parts.requires_grad_(config.trainable == "full")
    if config.trainable == "lora":
        put = config.lora
        targets = put.targets or backbone.spec.lora_targets
        lora.add(backbone.transformer, put.name, put.rank, targets, put.alpha, seed=config.seed)
        parts.requires_grad_(False)  # other LoRAs may lie on the base: only this one learns
        for parameter in lora.parameters(backbone.transformer, put.name).values():
            parameter.requires_grad_(True)
    backbone.gradient_checkpointing(config.recompute)
    learning = {name: parameter for name, parameter in parts.named_parameters() if parameter.requires_grad}
    for parameter in learning.values():
        parameter.data = parameter.data.float()
    return learning


def export(config: TrainConfig, backbone: Backbone, base: str | None, folder: Path) -> None:
    """Write the present weights of what learns into `folder`: diffusers' layout, or the LoRA in every format.

    Args:
        config: What is trained, and the dtype of full weights.
        backbone: Whose weights.
        base: Digest of the frozen base, where a LoRA learns.
        folder: Exists.
    """
    if base is not None:
        lora.export(backbone.transformer, config.lora.name, folder / "lora", base)
        return
    backbone.transformer.save_pretrained(folder / "transformer")  # type: ignore[operator]
    if isinstance(backbone.text, TinyText):
        backbone.text.save(folder / "text_encoder")
    if config.checkpoint.dtype == "fp16":
        checkpoint.cast(folder, torch.float16)
