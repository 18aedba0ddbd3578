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

_TEXT: Final = re.compile(r"text_embedder|attn2\.to_[kv]\b")  # names of diffusers' Wan
_IMAGE: Final = re.compile(r"image_embedder|add_[kv]_proj")
_TIME: Final = re.compile(r"time_embedder|time_proj")

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
            within = not _attends_to_text(module)
            keys = tokens if within else text_tokens + (image_tokens if module.add_k_proj is not None else 0)
            work = 4.0 * tokens * keys * _inner_dim(module)
            queries_learn = learning["video"] or learns
            keys_learn = queries_learn if within else learning["text"] or learns
            forward += work
            backward += work * (queries_learn + keys_learn)
    return Cost(forward, backward)


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


def _attends_to_text(attention: Any) -> bool:
    return bool(attention.is_cross_attention)


def _inner_dim(attention: Any) -> int:
    return int(attention.inner_dim)
