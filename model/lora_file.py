"""The files of a LoRA that other programs load, and what they say of its scale.

A loader that finds no scale silently applies another one, so both files carry it:
`pytorch_lora_weights.safetensors` has diffusers' names and adapter metadata, as `WanPipeline.save_lora_weights` writes
it; `comfyui.safetensors` has the original Wan names, and an `.alpha` for each layer.
"""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from manifests.errors import UserError

DIFFUSERS_FILE: Final = "pytorch_lora_weights.safetensors"
COMFYUI_FILE: Final = "comfyui.safetensors"
_PEFT_METADATA: Final = "lora_adapter_metadata"  # diffusers' key in the header
_BASE: Final = "base_digest"  # ours

# diffusers' names of a Wan block's linear layers, and the original ones that ComfyUI knows
_ORIGINAL: Final = {
    "attn1.to_q": "self_attn.q",
    "attn1.to_k": "self_attn.k",
    "attn1.to_v": "self_attn.v",
    "attn1.to_out.0": "self_attn.o",
    "attn2.to_q": "cross_attn.q",
    "attn2.to_k": "cross_attn.k",
    "attn2.to_v": "cross_attn.v",
    "attn2.to_out.0": "cross_attn.o",
    "attn2.add_k_proj": "cross_attn.k_img",
    "attn2.add_v_proj": "cross_attn.v_img",
    "ffn.net.0.proj": "ffn.0",
    "ffn.net.2": "ffn.2",
}
_DIFFUSERS: Final = {original: name for name, original in _ORIGINAL.items()}
_VARIANTS: Final = ("rank_pattern", "alpha_pattern", "use_rslora", "use_dora", "lora_bias")  # of peft's metadata
_HALVES: Final = {"lora_down": "lora_A", "lora_up": "lora_B"}


class LoraError(UserError):
    """A LoRA cannot be put on this model, or its file is not what it should be."""


@dataclass(frozen=True)
class LoraFile:
    """What a file holds: `[rank, in]` A and `[out, rank]` B of each module, by diffusers' names, and their scale."""

    pairs: Mapping[str, tuple[Tensor, Tensor]]
    rank: int
    alpha: float
    base_digest: str | None


def write(file: LoraFile, folder: Path) -> tuple[Path, Path]:
    """Write both files into `folder`, each whole or not at all, and return their paths.

    Raises:
        LoraError: A layer has no name in the original code.
    """
    folder.mkdir(parents=True, exist_ok=True)
    header = {"format": "pt"} | ({} if file.base_digest is None else {_BASE: file.base_digest})
    # of peft's config only what defines the LoRA: older versions refuse fields that they do not know
    config = {"r": file.rank, "lora_alpha": file.alpha, "lora_dropout": 0.0, "bias": "none"}
    config["target_modules"] = sorted(file.pairs)
    metadata = json.dumps({f"transformer.{key}": value for key, value in config.items()}, indent=2, sort_keys=True)
    diffusers, comfyui = {}, {}
    for module, (a, b) in file.pairs.items():
        original = f"diffusion_model.{_original(module)}"
        for half, value in (("lora_A", a), ("lora_B", b)):
            diffusers[f"transformer.{module}.{half}.weight"] = value
            comfyui[f"{original}.{half}.weight"] = value
        comfyui[f"{original}.alpha"] = torch.tensor(float(file.alpha))
    return (
        _publish(folder / DIFFUSERS_FILE, diffusers, {**header, _PEFT_METADATA: metadata}),
        _publish(folder / COMFYUI_FILE, comfyui, header),
    )


def read(path: Path) -> LoraFile:
    """Return what a LoRA's file of either kind holds.

    Raises:
        LoraError: It is missing or damaged, has other keys than those of one LoRA, or does not say its scale.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise LoraError(
            f"there is no LoRA at {path}; give a .safetensors file, or a folder that has {DIFFUSERS_FILE}"
        ) from None
    except (SafetensorError, OSError) as error:
        raise LoraError(f"{path} cannot be read as safetensors ({error}); export or fetch it again") from error
    named = {_diffusers(key, path): value for key, value in tensors.items()}
    halves = {key: value for key, value in named.items() if not key.endswith(".alpha")}
    modules = sorted({key.rsplit(".", 2)[0] for key in halves})
    if not modules or len(halves) != 2 * len(modules) or any(value.ndim != 2 for value in halves.values()):
        raise LoraError(f"{path} does not hold one A and one B for each layer; it is damaged, or no LoRA")
    pairs = {module: (halves[f"{module}.lora_A.weight"], halves[f"{module}.lora_B.weight"]) for module in modules}
    ranks = {size for a, b in pairs.values() for size in (a.shape[0], b.shape[1])}
    metadata = _metadata(header, path)
    told = [metadata["lora_alpha"]] if "lora_alpha" in metadata else []
    alphas = {float(value) for value in [*told, *(named[key] for key in named if key not in halves)]}
    if len(ranks) != 1 or len(alphas) > 1 or any(metadata.get(field) for field in _VARIANTS):
        raise LoraError(f"{path} is no plain LoRA of one rank and one alpha in all its layers; only such are read")
    if not told and len(named) != 3 * len(modules):
        raise LoraError(
            f"{path} says no alpha, neither as adapter metadata nor as .alpha keys, so its scale is not known; "
            f"export it again from the program that trained it"
        )
    return LoraFile(pairs, ranks.pop(), alphas.pop(), header.get(_BASE))


def _metadata(header: Mapping[str, str], path: Path) -> dict[str, Any]:
    try:
        metadata = json.loads(header.get(_PEFT_METADATA, "{}"))
        return {key.removeprefix("transformer."): value for key, value in metadata.items()}
    except (ValueError, AttributeError) as error:
        raise LoraError(f"the adapter metadata in {path} cannot be read ({error}); export it again") from error


def _original(module: str) -> str:
    """Return the name in the original Wan code of a linear layer in diffusers'."""
    found = re.fullmatch(r"(blocks\.\d+)\.(.+)", module)
    if found is None or found[2] not in _ORIGINAL:
        raise LoraError(f"{module} has no name in ComfyUI's files; put LoRAs on linear layers of Wan's blocks")
    return f"{found[1]}.{_ORIGINAL[found[2]]}"


def _diffusers(key: str, path: Path) -> str:
    """Return the name in diffusers, without its prefix, of a key in either kind of file."""
    for prefix, table in (("transformer.", {name: name for name in _ORIGINAL}), ("diffusion_model.", _DIFFUSERS)):
        found = re.fullmatch(rf"{prefix}(blocks\.\d+)\.(.+?)\.(?:(lora_(?:A|B|down|up))\.weight|(alpha))", key)
        if found and found[2] in table:
            half = "alpha" if found[4] else f"{_HALVES.get(found[3], found[3])}.weight"
            return f"{found[1]}.{table[found[2]]}.{half}"
    raise LoraError(f"{path} holds {key}, which is no key of a LoRA on Wan's blocks in diffusers' or ComfyUI's naming")


def _publish(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> Path:
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        save_file({key: value.clone() for key, value in tensors.items()}, fresh, metadata=metadata)
        os.replace(fresh, path)
    finally:
        fresh.unlink(missing_ok=True)
    return path
