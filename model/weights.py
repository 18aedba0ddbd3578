"""Folders of weights in diffusers' layout: found, and checked against a model's shapes before any weight is read.

Only safetensors and JSON are ever opened, and no code that lies beside weights is run.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from manifests.errors import UserError
from manifests.keys import KEY_CHARS

CONFIG: Final = "config.json"
WEIGHTS: Final = "diffusion_pytorch_model.safetensors"
_HUB_ID: Final = re.compile(r"(?P<id>[\w.-]+/[\w.-]+?)(@(?P<revision>[\w./-]+))?")
_PARTS: Final = ("transformer", "vae", "text_encoder", "tokenizer", "image_encoder", "image_processor")
_SAMPLES: Final = 256  # of a tensor, in its digest

Shapes = Mapping[str, tuple[int, ...]]


class WeightsError(UserError):
    """A folder of weights is missing, damaged, or not what it should be."""


def find(weights: str | Path, configs_only: bool = False) -> Path:
    """Return the local folder of `weights`, fetching a hub id; of the hub at first the configs alone, if so asked.

    Raises:
        WeightsError: There is neither such a folder nor such a hub id that can be reached.
    """
    folder = Path(weights)
    if folder.is_dir():
        return folder
    found = _HUB_ID.fullmatch(str(weights))
    if folder.exists() or found is None:
        raise WeightsError(f"no folder of weights at {weights}; give a folder in diffusers' layout, or a hub id")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    endings = ("json",) if configs_only else ("json", "safetensors", "model", "txt")
    patterns = ["*.json", *(f"{part}/*.{ending}" for part in _PARTS for ending in endings)]
    try:
        return Path(snapshot_download(found["id"], revision=found["revision"], allow_patterns=patterns))
    except (OSError, HFValidationError) as error:
        reason = str(error).strip().split("\n")[0]
        raise WeightsError(
            f"{weights} is no folder, and could not be had from the hub ({type(error).__name__}: {reason}); give a "
            f"folder in diffusers' layout, or fetch it first"
        ) from error


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        WeightsError: It is missing, or no JSON object.
    """
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise WeightsError(f"{path} is missing; a folder in diffusers' layout has one") from None
    except (ValueError, OSError) as error:
        raise WeightsError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(value, dict):
        raise WeightsError(f"{path} holds no JSON object, but {type(value).__name__}")
    return value


def config_of(folder: Path, class_name: str) -> dict[str, Any]:
    """Return the config in `folder`, which must be of the diffusers class `class_name`.

    Raises:
        WeightsError: No such file, or of another class.
    """
    config = read_json(folder / CONFIG)
    found = config.get("_class_name")
    if found != class_name:
        raise WeightsError(f"{folder / CONFIG} is of class {found}, but {class_name} is wanted")
    return config


def shapes_in(folder: Path) -> dict[str, tuple[int, ...]]:
    """Return name and shape of every tensor in a part's safetensors, sharded or not, from their headers alone.

    Raises:
        WeightsError: A file is missing or damaged.
    """
    index = folder / f"{WEIGHTS}.index.json"
    single = not index.exists()
    names = {WEIGHTS} if single else set(read_json(index).get("weight_map", {}).values())
    shapes: dict[str, tuple[int, ...]] = {}
    for name in sorted(names):
        path = folder / name
        try:
            with safe_open(path, framework="pt") as file:
                shapes |= {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
        except FileNotFoundError:
            raise WeightsError(f"{path} is missing; only safetensors are read, no pickles") from None
        except (SafetensorError, OSError) as error:
            raise WeightsError(f"{path} is damaged ({error}); fetch it again") from error
    return shapes


def check_shapes(folder: Path, wanted: Shapes, ignored: Iterable[str] = ()) -> None:
    """Compare the tensors in `folder` with those a model wants.

    Args:
        folder: Of one part.
        wanted: Of the model that the part's config describes.
        ignored: Patterns of names that may be there beside them.

    Raises:
        WeightsError: Tensors are missing, unexpected or of another shape; it names the first of them.
    """
    found = shapes_in(folder)
    missing = [name for name in wanted if name not in found]
    patterns = tuple(ignored)
    extra = [name for name in found if name not in wanted and not any(re.search(p, name) for p in patterns)]
    wrong = [name for name in wanted if name in found and found[name] != wanted[name]]
    if missing:
        raise WeightsError(f"the weights in {folder} lack {_some(missing)}, which their config asks for")
    if extra:
        raise WeightsError(f"the weights in {folder} hold {_some(extra)}, which their config does not know")
    if wrong:
        first = wrong[0]
        raise WeightsError(
            f"the weights in {folder} do not fit their config: {first} is {list(found[first])}, and should be "
            f"{list(wanted[first])}" + (f" ({len(wrong)} are wrong)" if len(wrong) > 1 else "")
        )


def shapes_of(module: nn.Module) -> dict[str, tuple[int, ...]]:
    """Return name and shape of every tensor in a module's state; it may lie on the meta device."""
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}


def base_state(module: nn.Module) -> dict[str, torch.Tensor]:
    """Return a module's own state, as it was before LoRAs were put on it."""
    state = module.state_dict()
    return {name.replace(".base_layer.", "."): value for name, value in state.items() if ".lora_" not in name}


def digest_of(module: nn.Module) -> str:
    """Return a digest of a module's own weights: of names, shapes, and 256 values of each tensor as bfloat16.

    It tells bases apart, is the same at float32 and at bfloat16, with and without LoRAs and however the files are
    sharded, and costs little at 14 billion parameters. It is no proof that a file is whole. Call it before sharding.
    """
    total = hashlib.sha256()
    for name, tensor in sorted(base_state(module).items()):
        flat = tensor.detach().flatten()
        some = flat[:: max(1, flat.numel() // _SAMPLES)][:_SAMPLES].contiguous()
        total.update(f"{name} {tuple(tensor.shape)}\n".encode())
        total.update(some.to("cpu", torch.bfloat16).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()[:KEY_CHARS]


def write_folder(folder: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a folder beside `folder`, then put it in its place, so that a half one is never seen."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh, old = (folder.with_name(f".{folder.name}.{os.getpid()}.{what}") for what in ("new", "old"))
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    try:
        write(fresh)
        if folder.exists():
            folder.rename(old)
        fresh.rename(folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
