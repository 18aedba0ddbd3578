"""What a training costs before it runs: floating-point operations, memory, time.

Conventions: a multiplication and an addition are 2 operations; what is recomputed in the backward pass does not count
(so MFU speaks of the model's work, not of the hardware's); norms, activations and rotations are left out (below 1 %).
A linear layer with N weights over T tokens costs 2NT forward, 2NT for the gradient of its input if something before it
learns, and 2NT for the gradient of its weights if they learn: under a LoRA the frozen base pays no weight gradients.
Attention of width d from T queries to K keys costs 4TKd forward, and twice that backward if keys and queries learn.
"""

import re
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import nn

from model.training import sharding
from model.training.config import TrainConfig

_TEXT: Final = re.compile(r"text_embedder|attn2\.to_[kv]\b")  # names of diffusers' Wan
_IMAGE: Final = re.compile(r"image_embedder|add_[kv]_proj")
_TIME: Final = re.compile(r"time_embedder|time_proj")

# bytes that one block keeps for the backward pass for one token: (a model width, a feed-forward width). Measured on
# diffusers' Wan 0.42 by counting the storages that autograd saves, weights apart; a LoRA on a frozen base keeps less,
# since a weight that does not learn needs no input kept (its bf16 row is for a base that lies in bf16 itself). Under
# autocast float32 weights are kept once more, in bf16.
_KEPT_BYTES: Final = {
    ("full", "fp32"): (88, 8),
    ("full", "bf16"): (76, 4),
    ("lora", "fp32"): (50, 8),
    ("lora", "bf16"): (38, 4),
}
_KEPT_BYTES_AT_THE_ENDS: Final = {"full": 14, "lora": 4}  # the same, of patch embedding and head together

_PEAK_TFLOPS: Final = {  # dense; makers' data sheets; (bf16 with fp32 sums, fp32)
    "H100 PCIe": (756.0, 51.0),
    "H100": (989.0, 67.0),
    "H200": (989.0, 67.0),
    "A100": (312.0, 19.5),
    "L40S": (362.0, 91.6),
    "RTX 4090": (165.2, 82.6),
}


@dataclass(frozen=True)
class Cost:
    """Floating-point operations of one sample."""

    forward: float
    backward: float

    @property
    def total(self) -> float:
        """Both directions."""
        return self.forward + self.backward


@dataclass(frozen=True)
class Memory:
    """Bytes on one device; what the allocator loses and the workspace of kernels come on top."""

    weights: int
    gradients: int
    optimizer: int
    ema: int
    activations: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.weights + self.gradients + self.optimizer + self.ema + self.activations


def of_sample(
    transformer: nn.Module, tokens: int, text_tokens: int, image_tokens: int = 0, text_learns: bool = False
) -> Cost:
    """Return the cost of one sample, from the module as it stands: its layers, its LoRAs, and what of it learns.

    Args:
        transformer: diffusers' Wan, or one whose modules bear the same names; on any device, `meta` too.
        tokens: Of the composite.
        text_tokens: Of the prompt.
        image_tokens: Of the reference's embedding.
        text_learns: Whether the text encoder learns.
    """
    forward = backward = 0.0
    learning = {"video": False, "text": text_learns, "image": False, "time": False}  # something before learns
    for name, module in transformer.named_modules():
        if isinstance(module, nn.Linear | nn.Conv3d):
            stream, seen = _stream(name, tokens, text_tokens, image_tokens)
            learns = module.weight.requires_grad
            work = 2.0 * module.weight.numel() * seen
            forward += work
            backward += work * (learning[stream] + learns)
            learning[stream] |= learns
        elif hasattr(module, "to_q"):
            learns = any(p.requires_grad for p in module.parameters())
            within = not module.is_cross_attention
            keys = tokens if within else text_tokens + (image_tokens if module.add_k_proj is not None else 0)
            work = 4.0 * tokens * keys * int(module.inner_dim)
            queries_learn = learning["video"] or learns
            keys_learn = queries_learn if within else learning["text"] or learns
            forward += work
            backward += work * (queries_learn + keys_learn)
    return Cost(forward, backward)


def memory(config: TrainConfig, parts: nn.Module, transformer: Any, tokens: int, world: int = 1) -> Memory:
    """Return the memory that training takes on one device.

    Args:
        config: What is trained, in which precision, how many samples at once, and whether activations are recomputed.
        parts: All that lies on the device, prepared: what learns requires a gradient.
        transformer: diffusers' Wan.
        tokens: Of one sample's composite.
        world: Processes; several hold each gradient twice, once in the buckets they exchange. Where weights are
            shared out, each holds its part, and two whole blocks: one computes, the next is on its way.
    """
    shared = sharding.is_sharded(transformer)
    blocks = [sum(p.numel() * p.element_size() for p in block.parameters()) for block in transformer.blocks]
    every = [(sharding.part(p), p.requires_grad) for p in parts.parameters()]
    learning = sum(p.numel() for p, learns in every if learns)
    shape = transformer.config
    width = shape.num_attention_heads * shape.attention_head_dim
    a_width, a_feed_forward = _KEPT_BYTES[config.trainable, config.precision]
    at_once = tokens * config.micro_batch
    a_block = (a_width * width + a_feed_forward * shape.ffn_dim) * at_once
    ends = _KEPT_BYTES_AT_THE_ENDS[config.trainable] * width * at_once
    linear = [m.weight for m in transformer.modules() if isinstance(m, nn.Linear)]
    in_float32 = sum(weight.numel() for weight in linear if weight.dtype == torch.float32)
    copies = 2 * in_float32 if config.precision == "bf16" else 0
    if config.recompute:
        stream_bytes = transformer.patch_embedding.weight.element_size()
        kept = shape.num_layers * width * stream_bytes * at_once + a_block
        copies //= shape.num_layers
    else:
        kept = shape.num_layers * a_block
    return Memory(
        weights=sum(p.numel() * p.element_size() for p, _ in every) + (2 * max(blocks) if shared else 0),
        gradients=4 * learning * (2 if world > 1 and not shared else 1),
        optimizer=8 * learning,
        ema=4 * learning,
        activations=kept + ends + copies,
    )


def peak(device: torch.device, precision: str, given_tflops: float | None = None) -> float | None:
    """Return the operations a second one device can do at most, or None where that is unknown.

    Args:
        device: A CUDA device of the table; others are unknown.
        precision: fp32 or bf16.
        given_tflops: What the config says, before the table.
    """
    if given_tflops is not None:
        return given_tflops * 1e12
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    known = next((pair for part, pair in _PEAK_TFLOPS.items() if part in name), None)
    return None if known is None else known[0 if precision == "bf16" else 1] * 1e12


def _stream(name: str, tokens: int, text_tokens: int, image_tokens: int) -> tuple[str, int]:
    if _TEXT.search(name):
        return "text", text_tokens
    if _IMAGE.search(name):
        return "image", image_tokens
    return ("time", 1) if _TIME.search(name) else ("video", tokens)
