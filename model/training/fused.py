"""LoRAs become part of the weights that they lie on, where all weights are to learn further."""

import copy

import torch
from peft.tuners.lora import Linear as LoraLinear
from torch import nn


@torch.no_grad()
def fuse(transformer: nn.Module) -> None:
    """Add every LoRA that is switched on to its layer, W + sum_i s_i (alpha_i / rank_i) B_i A_i, and take all off.

    The transformer is changed in place, and has the same layers as before any LoRA was put on.
    """
    layers = [(name, layer) for name, layer in transformer.named_modules() if isinstance(layer, LoraLinear)]
    for name, layer in layers:
        layer.merge()
        parent, _, last = name.rpartition(".")
        setattr(transformer.get_submodule(parent), last, copy.copy(layer.get_base_layer()))
    if layers:
        del transformer.peft_config
