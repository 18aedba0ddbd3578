"""The state of a training on disk: written whole or not at all, checked before it is believed.

    checkpoints/step-00001000/
        transformer/, text_encoder/     EMA weights in diffusers' layout, where all weights learn
        lora/                           EMA weights of the LoRA in every format, where the base is frozen
        trainer.safetensors             weights, EMA and optimizer moments of what learns, float32
        trainer/                        instead, where weights are shared out: a file of each process
                                        (`sharded_checkpoint.py`)
        state.json                      step, config, sources, versions; size and sha256 of every other file

A checkpoint is written under a name that begins with a dot, forced to the disk, and then renamed: whatever has a
checkpoint's name was whole once. What became damaged later is found by its sha256, named, and the one before is taken.
"""

import json
import logging
import os
import platform
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from manifests.errors import NoSpaceError, UserError, is_full
from manifests.keys import digest, sha256_of_file

TRAINER: Final = "trainer.safetensors"
SHARDS: Final = "trainer"
STATE: Final = "state.json"
_PREFIX: Final = "step-"
_PARTIAL: Final = ".partial-"
_LIBRARIES: Final = ("torch", "diffusers", "peft", "numpy", "safetensors")

log = logging.getLogger(__name__)


class ResumeError(UserError):
    """A training cannot go on from what lies in its folder; the message says why, and what may be done."""


@dataclass(frozen=True)
class State:
    """What a checkpoint says about itself.

    Attributes:
        step: Steps finished.
        samples: Positions used up: step * global_batch. All randomness follows from it and the seed.
        mathematics: What must not change when a training goes on: config, strategy, backbone, digest of a frozen base.
        sources: (first step, digest, number of samples) of each phase; on disk, of those begun by then.
    """

    step: int
    samples: int
    mathematics: Mapping[str, Any]
    sources: list[tuple[int, str, int]]


def save(folder: Path, state: State, tensors: Mapping[str, Tensor], export: Callable[[Path], None], keep: int) -> Path:
    """Write the checkpoint of `state.step` under `folder`, and return where it lies. Older ones than `keep` go.

    Args:
        folder: `checkpoints/` of a training.
        state: What it is the state of.
        tensors: All that training goes on from, by name.
        export: Writes what others load into the folder it is given.
        keep: Checkpoints that stay.

    Raises:
        NoSpaceError: The disk is full; the checkpoints before stand.
    """
    partial = partial_at(folder, state.step)
    try:
        begin(partial)
        export(partial)
        whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        safetensors.torch.save_file(whole, partial / TRAINER)
        return publish(folder, state, keep)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(partial, ignore_errors=True)
        if no_space(error):
            raise NoSpaceError(str(folder)) from error
        raise


def begin(partial: Path) -> None:
    """Make the empty folder in which a checkpoint is written."""
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)


def publish(folder: Path, state: State, keep: int) -> Path:
    """Give the checkpoint that was written in `partial_at` its state and its name; older ones than `keep` go."""
    final, partial = at(folder, state.step), partial_at(folder, state.step)
    _write_state(partial, state)
    _to_disk(partial)
    if final.exists():  # only a damaged one can be there: a training goes on from the newest whole one
        shutil.rmtree(final)
    partial.rename(final)
    _sync(folder)
    # a damaged one from before a resume may be newer, and must not count as one of those that stay
    for number in [step for step in steps(folder) if step <= state.step][:-keep]:
        shutil.rmtree(at(folder, number))
    return final


def steps(folder: Path) -> list[int]:
    """Return the steps of all checkpoints under `folder`, ascending."""
    names = (path.name.removeprefix(_PREFIX) for path in folder.glob(f"{_PREFIX}*") if path.is_dir())
    return sorted(int(name) for name in names if name.isdigit())


def newest_whole(folder: Path) -> int | None:
    """Return the step of the newest checkpoint whose files are all as they were written, or None where there is none.

    Damaged ones are named in the log, and what a killed save left behind is removed.

    Raises:
        ResumeError: There are checkpoints, and every one of them is damaged.
    """
    for left in folder.glob(f"{_PARTIAL}*"):
        shutil.rmtree(left)
    wrong: list[str] = []
    for step in reversed(steps(folder)):
        damage = _damage(at(folder, step))
        if damage is None:
            return step
        wrong.append(f"{at(folder, step)}: {damage}")
        log.warning("damaged checkpoint, the one before is taken: %s", wrong[-1])
    if wrong:
        raise ResumeError(f"every checkpoint is damaged ({'; '.join(wrong)}); to begin anew, move {folder} away")
    return None


def load(folder: Path, step: int, now: State) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint that one process wrote, on the CPU, if `check` finds nothing.

    Raises:
        ResumeError: The mathematics or a source seen so far differ.
    """
    check(folder, step, now)
    tensors: dict[str, Tensor] = safetensors.torch.load_file(at(folder, step) / TRAINER)
    return tensors


def check(folder: Path, step: int, now: State) -> None:
    """Refuse to go on with another training than the one that wrote a checkpoint.

    Args:
        folder: `checkpoints/` of a training.
        step: Which one.
        now: The mathematics and the sources of the training that wants to go on.

    Raises:
        ResumeError: The mathematics or a source seen so far differ.
    """
    then = read_state(at(folder, step))
    names = sorted({*then.mathematics, *now.mathematics})
    changed = [name for name in names if then.mathematics.get(name) != now.mathematics.get(name)]
    if changed:
        said = ", ".join(f"{n}: {then.mathematics.get(n)!r} -> {now.mathematics.get(n)!r}" for n in changed)
        raise ResumeError(
            f"{at(folder, step)} was trained otherwise ({said}); put these fields back, or train in another folder"
        )
    begun = [source for source in now.sources if source[0] < then.step]
    if then.sources != begun:
        raise ResumeError(
            f"{at(folder, step)} was trained on {_told(then.sources)}, and now it is given {_told(begun)}; give it the "
            "same samples, add others as a later phase, or train in another folder"
        )


def read_state(checkpoint: Path) -> State:
    """Return what a checkpoint says about itself."""
    read = json.loads((checkpoint / STATE).read_text(encoding="utf-8"))
    return State(read["step"], read["samples"], read["mathematics"], [tuple(source) for source in read["sources"]])


def cast(folder: Path, dtype: torch.dtype) -> None:
    """Rewrite the floating-point tensors of all safetensors files under `folder` in `dtype`."""
    for path in folder.rglob("*.safetensors"):
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata()
        tensors = safetensors.torch.load_file(path)
        made = {name: t.to(dtype) if t.is_floating_point() else t for name, t in tensors.items()}
        safetensors.torch.save_file(made, path, metadata)


def at(folder: Path, step: int) -> Path:
    """Return where the checkpoint of a step lies."""
    return folder / f"{_PREFIX}{step:08d}"


def partial_at(folder: Path, step: int) -> Path:
    """Return where the checkpoint of a step lies until it is whole."""
    return folder / f"{_PARTIAL}{step:08d}"


def _told(sources: list[tuple[int, str, int]]) -> str:
    return ", ".join(f"{size} samples {key[:12]} from step {start}" for start, key, size in sources) or "nothing"


def _write_state(folder: Path, state: State) -> None:
    listed = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    files = {
        str(path.relative_to(folder)): {"bytes": path.stat().st_size, "sha256": sha256_of_file(path)} for path in listed
    }
    versions = {"python": platform.python_version()} | {name: version(name) for name in _LIBRARIES}
    begun = [source for source in state.sources if source[0] < state.step]
    said = asdict(state) | {
        "sources": begun,
        "config_digest": digest(dict(state.mathematics)),
        "versions": versions,
        "files": files,
    }
    (folder / STATE).write_text(json.dumps(said, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _damage(checkpoint: Path) -> str | None:
    try:
        files = json.loads((checkpoint / STATE).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"{STATE} cannot be read ({type(error).__name__})"
    for name, said in files.items():
        path = checkpoint / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != said["bytes"]:
            return f"{name} has {path.stat().st_size} bytes, {said['bytes']} were written"
        if sha256_of_file(path) != said["sha256"]:
            return f"{name} is not what was written (its sha256 differs)"
    listed = TRAINER in files or any(name.startswith(f"{SHARDS}/") for name in files)
    return None if listed else f"{TRAINER} is not listed"


def _to_disk(folder: Path) -> None:
    for path in folder.rglob("*"):
        _sync(path)
    _sync(folder)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def no_space(error: BaseException) -> bool:
    """Say whether this came of a full disk."""
    if not isinstance(error, OSError | SafetensorError):
        return False
    return is_full(error if isinstance(error, OSError) else OSError(str(error)))
