"""Weights shared out among processes (FSDP2): each holds a part, and a block is whole only while it computes.

`shard` cuts every parameter along its first dimension, the frozen ones too. Gradients are averaged over the processes
in float32. Weights are gathered in the dtype that they have and autocast rounds them, as in one process: gathering
them as bfloat16 would move gradients by about 1 % (METHOD section 6). A part keeps its place in memory for good, so
whoever changes weights writes into them (`exchange`).
"""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, Replicate


def shard(module: nn.Module, world: int, device: torch.device) -> None:
    """Share out a module's parameters, its blocks' each by itself; they become other objects of the same names.

    Args:
        module: Changed in place, and its class with it. Blocks are the members of its module lists.
        world: Number of processes, all of which call this with the same module.
        device: Of this process.
    """
    # it tells that what changes a view of a forward's result in place goes wrong; nothing here does
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
    mesh = init_device_mesh(device.type, (world,))
    policy = MixedPrecisionPolicy(param_dtype=None, reduce_dtype=torch.float32)
    lists = [child for child in module.children() if isinstance(child, nn.ModuleList)]
    for part in (*(block for each in lists for block in each), module):
        # the outermost part as well: what stays whole after a forward would not see that its weights were exchanged
        fully_shard(part, mesh=mesh, mp_policy=policy, reshard_after_forward=True)
    if hasattr(module, "encode"):
        register_fsdp_forward_method(module, "encode")


def is_sharded(module: nn.Module) -> bool:
    """Say whether `shard` was called on this module."""
    return isinstance(module, FSDPModule)


def class_of(module: nn.Module) -> Any:
    """Return the class that a module had before it was shared out."""
    return type(module).__mro__[2] if is_sharded(module) else type(module)


def whole(tensor: Tensor) -> Tensor:
    """Return all of a tensor; of a shared one every process must ask at once."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def part(tensor: Tensor) -> Tensor:
    """Return what this process holds of a tensor, in the same memory."""
    alone = tensor.detach()
    return alone.to_local() if isinstance(alone, DTensor) else alone


def like(tensor: Tensor, shared: Tensor) -> Tensor:
    """Return a tensor that every process has, shared out as `shared` is; nothing is sent."""
    if not isinstance(shared, DTensor):
        return tensor
    everywhere = DTensor.from_local(tensor, shared.device_mesh, [Replicate()], run_check=False)
    return cast(Tensor, everywhere.redistribute(shared.device_mesh, shared.placements))


@torch.no_grad()
def exchange(a: Tensor, b: Tensor) -> None:
    """Let two tensors that are shared out alike have each other's values, to the bit."""
    mine, other = part(a), part(b)
    kept = mine.clone()
    mine.copy_(other)
    other.copy_(kept)


def gathered(module: nn.Module, keep: bool) -> Mapping[str, Tensor]:
    """Return a module's whole state on the CPU where `keep` is set, else nothing; every process calls it."""
    state: dict[str, Tensor] = {}
    for name, tensor in module.state_dict().items():
        value = whole(tensor.detach())
        if keep:
            state[name] = value.cpu()
    return state


def clip(parameters: Sequence[nn.Parameter], most: float) -> float:
    """Scale gradients so that their norm over all parameters and processes is at most `most`; return what it was."""
    if not any(isinstance(parameter, DTensor) for parameter in parameters):
        return nn.utils.clip_grad_norm_(parameters, most).item()
    norm = whole(nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None]))
    nn.utils.clip_grads_with_norm_(parameters, most, norm)
    return norm.item()
