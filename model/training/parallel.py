"""Several processes, applied from outside: the model and the method know one device.

`torchrun` starts one process a device and says in the environment which is which. `spread` puts a module on this
process's device and then lets the processes average their gradients, each with all weights or with its part of them
(`sharding.py`).
"""

import math
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from types import FrameType, TracebackType
from typing import Self

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from manifests.errors import UserError
from model.training import sharding, watch


class TooManyRanksError(UserError):
    """There are more processes than samples in a step."""


class NoDeviceError(UserError):
    """The wanted device is not there."""


@dataclass(frozen=True)
class Ranks:
    """This process among `world` processes; rank 0 writes files."""

    rank: int
    world: int
    device: torch.device
    eye: watch.Watch | None = None

    def at(self, step: int, doing: watch.Doing) -> None:
        """Say where this process stands from now on, should others have to wait for it; steps count from 1."""
        if self.eye:
            self.eye.at(step, doing)

    @property
    def main(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def share(self, count: int) -> range:
        """Return which of `count` items are this process's: consecutive, sizes apart by one at most."""
        return range(count * self.rank // self.world, count * (self.rank + 1) // self.world)

    def turns(self, count: int, at_once: int) -> int:
        """Return how often the process with the largest share of `count` items takes up to `at_once` of them."""
        return math.ceil(math.ceil(count / self.world) / at_once)

    def require_work(self, global_batch: int) -> None:
        """Refuse a batch that would leave a process without a sample.

        Raises:
            TooManyRanksError: It would.
        """
        if global_batch < self.world:
            raise TooManyRanksError(
                f"{self.world} processes and a global_batch of {global_batch}: each needs a sample a step; raise "
                "global_batch, or start fewer processes"
            )

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum over all processes of a tensor that lies on this one's device."""
        if self.world > 1:
            dist.all_reduce(values)
        return values

    def from_main(self, number: int) -> int:
        """Return the number that rank 0 was given."""
        values = torch.tensor([number], device=self.device)
        if self.world > 1:
            dist.broadcast(values, src=0)
        return int(values.item())

    def barrier(self) -> None:
        """Wait until every process is here; the device is named, since NCCL guesses otherwise, and may guess wrong."""
        if self.world > 1:
            dist.barrier(device_ids=[self.device.index] if self.device.type == "cuda" else None)


_parted: list[object] = []  # process groups that have ended: see `ranks`


@contextmanager
def ranks(device: str, patience_s: float = 1800.0, tell: Callable[[str], None] | None = None) -> Iterator[Ranks]:
    """Join the processes that torchrun or Ray started; without them this is one process.

    Args:
        device: auto, cpu or cuda; auto is cuda where there is one.
        patience_s: Seconds until a process that keeps the others waiting is named, and all end (`watch.py`).
        tell: Takes that sentence; None: it goes to stderr.

    Raises:
        NoDeviceError: cuda is wanted, or other processes have it, and there is none for this process.
        RankLostError: Another process is gone, so that a collective failed.
    """
    local = int(os.environ.get("LOCAL_RANK", "0"))
    there = torch.cuda.device_count()
    if there <= local and (device == "cuda" or (device == "auto" and there)):  # some on cuda, some not: a hang
        raise NoDeviceError(
            f"device: cuda is wanted for local rank {local}, and {there} are there; set device: cpu, or start as many "
            "processes as there are devices"
        )
    on_gpu = device != "cpu" and there > local
    here = torch.device("cuda", local) if on_gpu else torch.device("cpu")
    if on_gpu:
        torch.cuda.set_device(here)
    started_here = "WORLD_SIZE" in os.environ and int(os.environ["WORLD_SIZE"]) > 1 and not dist.is_initialized()
    if started_here:
        late = timedelta(seconds=3 * patience_s + 60)  # the watch is there before, and knows whose fault it is
        dist.init_process_group("nccl" if on_gpu else "gloo", device_id=here if on_gpu else None, timeout=late)
    several = dist.is_initialized()
    rank, world = (dist.get_rank(), dist.get_world_size()) if several else (0, 1)
    with watch.meet(rank, world, patience_s, tell) or nullcontext() as eye:
        try:
            yield Ranks(rank, world, here, eye)
        except RuntimeError as error:  # of a collective, if another process is gone
            if eye is None or (said := eye.lost()) is None:
                raise
            if not eye.first_to_say():
                raise SystemExit(watch.RankLostError.exit_code) from error
            raise watch.RankLostError(said) from error
    # after an error the others may wait in a collective for ever: then it is torchrun that ends them, not this line
    if started_here:
        # A module of `spread` may be alive still. Were it the last to hold the group, gloo's thread, which wants the
        # GIL to let go of its last work, and this one, which has it and joins that thread, would wait for ever.
        _parted.append(dist.group.WORLD)
        dist.destroy_process_group()


def spread(module: nn.Module, ranks: Ranks, may_be_unused: bool, shards: Sequence[nn.Module] = ()) -> nn.Module:
    """Return `module` on this process's device, with gradients averaged over the processes.

    Args:
        module: Its forward is what is differentiated.
        ranks: This process among the others.
        may_be_unused: Whether a step may leave some parameters without a gradient (an empty prompt, say).
        shards: Parts of it, with all that learns among them, whose weights are to be shared out; none: all are whole.
    """
    module.to(ranks.device)
    if ranks.world == 1:
        return module
    if shards:
        for part in shards:
            sharding.shard(part, ranks.world, ranks.device)
        return module
    return DistributedDataParallel(module, forward_sync_buffers=False, find_unused_parameters=may_be_unused)


def gradients_kept_here(module: nn.Module) -> AbstractContextManager[None]:
    """Leave the averaging of gradients to a later backward pass: accumulation costs one exchange a step.

    Not where weights are shared out: there, gradients that are kept would be whole ones.
    """
    return module.no_sync() if isinstance(module, DistributedDataParallel) else nullcontext()


class Interrupts:
    """SIGINT and SIGTERM end a training after the step at hand; a second one ends it at once."""

    WATCHED = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.name: str | None = None

    def __enter__(self) -> Self:
        listens = threading.current_thread() is threading.main_thread()  # Python hands signals to no other
        watched = self.WATCHED if listens else ()
        self._before = {number: signal.signal(number, self._remember) for number in watched}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def _remember(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self.name = signal.Signals(number).name
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
