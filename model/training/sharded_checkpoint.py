"""Checkpoints of trainings whose weights are shared out, through `torch.distributed.checkpoint` (DCP).

Each process writes what it holds to a safetensors file of its own, `trainer/shard-0000n-...`, whose header says which
part of which tensor it is (DCP's storage for the Hugging Face format, unconsolidated): there is no pickle, no gathering
and no index beside them. Any number of processes reads any part of them, and `trainer.safetensors` of one process is to
this reader the same with a single file. All processes see one folder.

It is published as one process's is: rank 0 writes sizes and digests, and then the name (`checkpoint.py`).
"""

import shutil
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor
from torch.distributed.checkpoint import state_dict_loader, state_dict_saver
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.metadata import TensorStorageMetadata

from manifests.errors import NoSpaceError, UserError
from model.training import checkpoint
from model.training.parallel import Ranks


class CheckpointError(UserError):
    """A process could not write its part of a checkpoint; the checkpoint before stands."""

    exit_code = 1


def save(
    folder: Path,
    state: checkpoint.State,
    tensors: Mapping[str, Tensor],
    export: Callable[[Path], None],
    keep: int,
    ranks: Ranks,
) -> None:
    """Write the checkpoint of `state.step` under `folder`; every process calls it. Older ones than `keep` go.

    Args:
        folder: `checkpoints/` of a training, which all processes see.
        state: What it is the state of.
        tensors: All that training goes on from, by name, shared out or the same on all.
        export: Writes what others load into the folder it is given; called on rank 0.
        keep: Checkpoints that stay.
        ranks: This process among the others.

    Raises:
        NoSpaceError: The disk is full; said on every rank.
        CheckpointError: A process could not write; said on every rank.
    """
    partial = checkpoint.partial_at(folder, state.step)
    _on_main(ranks, folder, partial, lambda: checkpoint.begin(partial))
    writer = HuggingFaceStorageWriter(str(partial / checkpoint.SHARDS), save_distributed=True)
    try:
        state_dict_saver.save(dict(tensors), storage_writer=writer)
    except CheckpointException as error:
        if ranks.main:
            shutil.rmtree(partial, ignore_errors=True)
        rank, first = next((rank, failure[0]) for rank, failure in sorted(error.failures.items()))
        if any(checkpoint.no_space(failure[0]) for failure in error.failures.values()):
            raise NoSpaceError(str(folder)) from error
        raise _cannot(folder, rank, first) from error

    def finish() -> None:
        export(partial)
        checkpoint.publish(folder, state, keep)

    _on_main(ranks, folder, partial, finish)


def load(folder: Path, step: int, now: checkpoint.State, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint of either kind, if the training that wants them is the one that wrote them.

    Args:
        folder: `checkpoints/` of a training.
        step: Which one.
        now: The mathematics and the sources of the training that wants to go on.
        like: What learns, by name. A tensor of the same size that belongs to a shared one is shared out as that one is,
            and only this process's part of it is read; all others are whole and on the CPU.

    Raises:
        ResumeError: The mathematics or a source seen so far differ.
    """
    checkpoint.check(folder, step, now)
    lies = checkpoint.at(folder, step)
    reader = HuggingFaceStorageReader(str(lies / checkpoint.SHARDS if (lies / checkpoint.SHARDS).is_dir() else lies))
    made: dict[str, Tensor] = {}
    for name, said in reader.read_metadata().state_dict_metadata.items():
        assert isinstance(said, TensorStorageMetadata)
        kin = like.get(_parameter_of(name))
        alike = kin is not None and kin.shape == said.size
        made[name] = (
            torch.empty_like(kin, requires_grad=False)
            if kin is not None and alike
            else torch.empty(said.size, dtype=said.properties.dtype)
        )
    with warnings.catch_warnings():  # that each process reads for itself is meant: nothing is to be agreed on
        warnings.filterwarnings("ignore", message="torch.distributed is disabled, unavailable or uninitialized")
        state_dict_loader.load(made, storage_reader=reader, no_dist=True)
    return made


def _parameter_of(name: str) -> str:
    """Return whose weight, mean or moment a tensor is: `optimizer.<parameter>/<moment>`."""
    return name.partition(".")[2].partition("/")[0]


def _on_main(ranks: Ranks, folder: Path, partial: Path, work: Callable[[], object]) -> None:
    """Let rank 0 work while the others wait; what it fails of, all fail of."""
    failed: OSError | SafetensorError | None = None
    if ranks.main:
        try:
            work()
        except (OSError, SafetensorError) as error:
            shutil.rmtree(partial, ignore_errors=True)
            failed = error
    code = ranks.from_main(0 if failed is None else 2 if checkpoint.no_space(failed) else 1)
    if code == 2:
        raise NoSpaceError(str(folder)) from failed
    if code == 1:
        raise _cannot(folder, 0, failed) from failed


def _cannot(folder: Path, rank: int, error: BaseException | None) -> CheckpointError:
    reason = "its own message says why" if error is None else " ".join(f"{type(error).__name__}: {error}".split())
    return CheckpointError(
        f"rank {rank} could not write its part of a checkpoint under {folder} ({reason}); the checkpoint before "
        "stands: see that every process can write there, and run the same command again"
    )
