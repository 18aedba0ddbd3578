"""LoRA: adapters on the feed-forward layers (section 3.3), several at once, and as files that other programs load.

A layer with LoRAs computes W x + b + sum_i s_i (alpha_i / rank_i) B_i A_i x; s_i is what it is switched on with.
"""

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from model import lora_file
from model.lora_file import DIFFUSERS_FILE, LoraError, LoraFile
from model.weights import digest_of


def add(
    transformer: nn.Module, name: str, rank: int, targets: Sequence[str], alpha: float | None = None, seed: int = 0
) -> tuple[str, ...]:
    """Put a new LoRA on a transformer, switched on at scale 1 and learning; everything but LoRAs is frozen.

    It changes nothing until it has learned: B is zero. Its weights are float32, whatever the base's are.

    Args:
        transformer: Changed in place.
        name: Of the adapter.
        rank: Of A and B.
        targets: Linear layers, each by the end of its name ("ffn.net.2"), or by a pattern with `*` over all of it.
        alpha: Numerator of the scale alpha / rank; the rank, if None.
        seed: A is drawn with it.

    Returns:
        The names of the layers it was put on.

    Raises:
        LoraError: The name is taken or no name, or a target is no linear layer of this transformer.
    """
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name) or "lora_" in name:
        raise LoraError(f"{name!r} cannot be an adapter's name; letters, digits, - and _ can be in it, `lora_` cannot")
    if name in names(transformer):
        raise LoraError(f"a LoRA named {name!r} is on this transformer already; take another name")
    if rank < 1 or (alpha is not None and not alpha > 0):
        raise LoraError(f"rank {rank} and alpha {alpha} were asked for; rank must be 1 or more, alpha above 0")
    modules = _matching(transformer, targets)
    scales, learning = _scales(transformer), _learning(transformer)
    config = LoraConfig(r=rank, lora_alpha=rank if alpha is None else alpha, target_modules=list(modules))
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Already found a `peft_config` attribute")  # several are wanted
        torch.manual_seed(seed)
        inject_adapter_in_model(config, transformer, name)
    for parameter in parameters(transformer, name).values():
        parameter.data = parameter.data.float()
    _set_learning(transformer, learning | set(parameters(transformer, name)))
    active(transformer, {**scales, name: 1.0})
    return modules


def names(transformer: nn.Module) -> tuple[str, ...]:
    """Return the names of the LoRAs on a transformer, in the order in which they were put on."""
    return tuple(getattr(transformer, "peft_config", {}))


def active(transformer: nn.Module, wanted: Mapping[str, float] | Sequence[str]) -> None:
    """Switch exactly these LoRAs on, each at its own scale, or at 1; an empty one is the bare base.

    What learns and what is frozen stays as it is.

    Raises:
        LoraError: There is no such LoRA on this transformer.
    """
    scales = dict(wanted) if isinstance(wanted, Mapping) else dict.fromkeys(wanted, 1.0)
    for name in scales:
        _known(transformer, name)
    learning = _learning(transformer)
    for _, layer in _layers(transformer):
        mine = [name for name in scales if name in layer.lora_A]
        layer.enable_adapters(bool(mine))
        layer.set_adapter(mine)
        for name in mine:
            layer.set_scale(name, scales[name])
    _set_learning(transformer, learning)


def parameters(transformer: nn.Module, name: str) -> dict[str, nn.Parameter]:
    """Return a LoRA's parameters by their names in the transformer.

    Raises:
        LoraError: There is no such LoRA on this transformer.
    """
    _known(transformer, name)
    own = re.compile(rf".*\.lora_[AB]\.{re.escape(name)}\.weight")
    return {key: value for key, value in transformer.named_parameters() if own.fullmatch(key)}


def state(transformer: nn.Module, name: str) -> dict[str, Tensor]:
    """Return a LoRA's weights as `<module>.lora_A.weight` and `<module>.lora_B.weight`, on the CPU.

    Sharded ones are gathered: call it on every rank.
    """
    whole: dict[str, Tensor] = {}
    for key, value in parameters(transformer, name).items():
        tensor = value.detach()
        gathered = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
        whole[key.replace(f".{name}.weight", ".weight")] = gathered.cpu().contiguous()
    return whole


def export(
    transformer: nn.Module, name: str, folder: str | Path, base_digest: str, weights: Mapping[str, Tensor] | None = None
) -> tuple[Path, Path]:
    """Write a LoRA as diffusers loads it and as ComfyUI does; each file is whole or not there.

    Args:
        transformer: That the LoRA is on.
        name: Of the LoRA.
        folder: Made if need be.
        base_digest: Of the backbone; `load` refuses the files on another.
        weights: Other values in the form of `state`, such as averaged ones; the present ones, if None.

    Returns:
        The paths of both files.
    """
    tensors = state(transformer, name) if weights is None else weights
    modules = [key.removesuffix(".lora_A.weight") for key in tensors if key.endswith(".lora_A.weight")]
    pairs = {module: (tensors[f"{module}.lora_A.weight"], tensors[f"{module}.lora_B.weight"]) for module in modules}
    layer = dict(_layers(transformer))[modules[0]]
    return lora_file.write(LoraFile(pairs, layer.r[name], layer.lora_alpha[name], base_digest), Path(folder))


def load(transformer: nn.Module, path: str | Path, name: str, learning: bool = False) -> None:
    """Put a LoRA from a file on a transformer, beside those it has, switched on at scale 1.

    Args:
        transformer: Changed in place.
        path: A file of either kind, or a folder that `export` wrote.
        name: Of the adapter.
        learning: Whether it is to be trained further.

    Raises:
        LoraError: The file is missing or damaged, does not say its scale, or was made for another base.
    """
    path = Path(path)
    path = path / DIFFUSERS_FILE if path.is_dir() else path
    file = lora_file.read(path)
    if file.base_digest is not None and file.base_digest != (here := digest_of(transformer)):
        raise LoraError(
            f"{path} was made for another base (digest {file.base_digest}; this one is {here}); load it on its own base"
        )
    linear = _linear(transformer)
    for module, (a, b) in file.pairs.items():
        if module not in linear:
            raise LoraError(f"{path} was made for another base: it changes {module}, which this one does not have")
        wanted = (linear[module].out_features, linear[module].in_features)
        if (b.shape[0], a.shape[1]) != wanted:
            raise LoraError(
                f"{path} was made for another base: its {module} is {b.shape[0]} x {a.shape[1]}, and here it is "
                f"{wanted[0]} x {wanted[1]}"
            )
    add(transformer, name, file.rank, tuple(file.pairs), file.alpha)
    with torch.no_grad():
        for key, value in parameters(transformer, name).items():
            module, half = key.removesuffix(f".{name}.weight").rsplit(".", 1)
            value.copy_(file.pairs[module][0 if half == "lora_A" else 1])
            value.requires_grad_(learning)


def _matching(transformer: nn.Module, targets: Sequence[str]) -> tuple[str, ...]:
    linear = _linear(transformer)
    found: set[str] = set()
    for target in targets:
        mine = {name for name in linear if f".{name}".endswith(f".{target}") or fnmatchcase(name, target)}
        if not mine:
            raise LoraError(f"{target} is no linear layer of {type(transformer).__name__}; the targets are by name")
        found |= mine
    return tuple(name for name in linear if name in found)


def _linear(transformer: nn.Module) -> dict[str, Any]:
    """Return the base's linear layers by name, whether they have LoRAs or not."""
    inner = re.compile(r"\.(base_layer|lora_[AB]\..+)$")
    every = transformer.named_modules()
    return {key: one for key, one in every if isinstance(one, nn.Linear | LoraLinear) and not inner.search(key)}


def _layers(transformer: nn.Module) -> Iterator[tuple[str, Any]]:
    return ((name, module) for name, module in transformer.named_modules() if isinstance(module, LoraLinear))


def _scales(transformer: nn.Module) -> dict[str, float]:
    """Return the LoRAs that are switched on, with their scales."""
    scales: dict[str, float] = {}
    for _, layer in _layers(transformer):
        if not layer.disable_adapters:
            scales |= {
                name: layer.scaling[name] * layer.r[name] / layer.lora_alpha[name] for name in layer.active_adapters
            }
    return scales


def _learning(transformer: nn.Module) -> set[str]:
    return {key for key, value in transformer.named_parameters() if ".lora_" in key and value.requires_grad}


def _set_learning(transformer: nn.Module, learning: set[str]) -> None:
    for key, value in transformer.named_parameters():
        if ".lora_" in key:
            value.requires_grad_(key in learning)


def _known(transformer: nn.Module, name: str) -> None:
    if name not in names(transformer):
        there = ", ".join(names(transformer)) or "none"
        raise LoraError(
            f"there is no LoRA named {name!r} on this transformer (there are: {there}); add or load it first"
        )
