"""What learns, and how it is written down for others: all weights, or a LoRA on a frozen base."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from manifests.errors import UserError
from model import lora
from model.backbone import Backbone
from model.text import TinyText
from model.training import checkpoint, sharding
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
    learns = learning(backbone)
    for parameter in learns.values():
        parameter.data = parameter.data.float()
    return learns


def learning(backbone: Backbone) -> dict[str, nn.Parameter]:
    """Return what learns, by name."""
    return {name: parameter for name, parameter in modules(backbone).named_parameters() if parameter.requires_grad}


def matrices(learns: Mapping[str, nn.Parameter]) -> set[str]:
    """Return the names of the matrices inside the transformer's blocks: Muon is not for what embeds, nor for heads."""
    return {name for name, p in learns.items() if name.startswith("transformer.blocks.") and p.ndim == 2}


def sizes(backbone: Backbone) -> dict[str, Any]:
    """Return what the transformer's config says, as JSON values: heads split another way have weights of the same
    shapes, and yet are another model."""
    config: Mapping[str, Any] = backbone.transformer.config  # type: ignore[assignment]
    plain = {name: value for name, value in config.items() if not name.startswith("_")}  # those are of the file alone
    return {name: list(value) if isinstance(value, tuple) else value for name, value in plain.items()}


def check_sizes(learns: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    """Refuse a checkpoint whose weights are not exactly those that learn, before any of them is taken over.

    Raises:
        ResumeError: Naming the first that differs.
    """
    then = {name.removeprefix("weights."): t.shape for name, t in tensors.items() if name.startswith("weights.")}
    now = {name: parameter.shape for name, parameter in learns.items()}
    for name in sorted({*then, *now}):
        if then.get(name) != now.get(name):
            was, is_ = (list(found[name]) if name in found else "missing" for found in (then, now))
            raise checkpoint.ResumeError(
                f"the checkpoint is of a model of another size: {name} was {was} and is {is_}; put the model's sizes "
                "back, or train in another folder"
            )


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
    _write(config, backbone.transformer, backbone.text, folder)


def gathered_export(config: TrainConfig, backbone: Backbone, base: str | None, main: bool) -> Callable[[Path], None]:
    """Return what does as `export` with weights that are shared out: every rank calls this, `main` alone the result.

    The whole weights are on the CPU of rank 0 from now on, and nowhere else.
    """
    if base is not None:
        weights = lora.state(backbone.transformer, config.lora.name)
        name = config.lora.name

        def write_lora(folder: Path) -> None:
            lora.export(backbone.transformer, name, folder / "lora", base, weights)

        return write_lora
    parts = {name: (part, sharding.gathered(part, main)) for name, part in modules(backbone).items()}

    def write(folder: Path) -> None:
        whole = {name: _without_weights(part) for name, (part, _) in parts.items()}
        for name, (_, state) in parts.items():
            whole[name].load_state_dict(state, assign=True)
        _write(config, whole["transformer"], whole.get("text"), folder)

    return write


def take_back(backbone: Backbone, checkpoint: Path) -> None:
    """Give a backbone whose weights were shared out the whole mean weights of a checkpoint, on the CPU."""
    if sharding.is_sharded(backbone.transformer):
        made = sharding.class_of(backbone.transformer)
        backbone.transformer = made.from_pretrained(checkpoint / "transformer", torch_dtype=torch.float32)
    if isinstance(backbone.text, TinyText) and sharding.is_sharded(backbone.text):
        backbone.text = TinyText.load(checkpoint / "text_encoder")


def _write(config: TrainConfig, transformer: nn.Module, text: object, folder: Path) -> None:
    transformer.save_pretrained(folder / "transformer")  # type: ignore[operator]
    if isinstance(text, TinyText):
        text.save(folder / "text_encoder")
    if config.checkpoint.dtype == "fp16":
        checkpoint.cast(folder, torch.float16)


def _without_weights(part: nn.Module) -> nn.Module:
    """Return a module like one that is shared out, of the class it had before, to be given weights."""
    with torch.device("meta"):
        if isinstance(part, TinyText):
            return TinyText(part.dim, part.length, part.words)
        made: nn.Module = sharding.class_of(part).from_config(part.config)
        return made
