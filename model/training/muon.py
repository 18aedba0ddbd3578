"""Muon for matrices, AdamW for the rest: what lets small models learn in minutes what AdamW alone learns in more.

A network learns its directions one after the other: an autoencoder brightness first, and colour much later. Muon
(Jordan et al. 2024; torch's own) makes an update's singular values equal, so that all are learned at once. A kernel
`[out, in, ...]` is taken as the matrix `[out, in * ...]`.
"""

from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from model.training import sharding


def kernels(module: nn.Module) -> set[str]:
    """Return the names of a module's convolution kernels that mix channels."""
    return {name for name, p in module.named_parameters() if p.ndim >= 4 and min(p.shape[:2]) > 1}


class GatheredMuon(torch.optim.Muon):
    """Torch's Muon over matrices that are shared out among processes (`sharding.py`): since an update wants the whole
    matrix, each is gathered, one after the other, stepped by every process alike, and its part kept."""

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # noqa: ARG002 - torch's signature
        """Take one step along the parameters' gradients."""
        for group in self.param_groups:
            settings = {name: value for name, value in group.items() if name in self.defaults}
            for shared in group["params"]:
                if shared.grad is None:
                    continue
                state = self.state[shared]
                kept = state.setdefault("momentum_buffer", torch.zeros_like(shared.grad))
                matrix = nn.Parameter(sharding.whole(shared.detach()).clone())
                matrix.grad = sharding.whole(shared.grad)
                alone = torch.optim.Muon([matrix], **settings)
                alone.state[matrix]["momentum_buffer"] = sharding.whole(kept).clone()
                alone.step()  # type: ignore[no-untyped-call]
                for mine, made in ((shared, matrix.detach()), (kept, alone.state[matrix]["momentum_buffer"])):
                    sharding.part(mine).copy_(sharding.part(sharding.like(made, mine)))


class MuonAdamW:
    """An optimizer over parameters, whose whole state has names.

    Args:
        named: What learns.
        matrices: Names of what Muon steps; with none of them, this is AdamW.
        lr: Of both, in the measure of AdamW (root mean square of an update).
        betas: Of AdamW.
        weight_decay: Of both.
    """

    def __init__(
        self,
        named: Mapping[str, nn.Parameter],
        matrices: Collection[str],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.95),
        weight_decay: float = 0.0,
    ) -> None:
        self._kernels = {name: p for name, p in named.items() if name in matrices}
        self._rest = {name: p for name, p in named.items() if name not in matrices}
        # Muon takes matrices alone: of kernels it steps copies, whatever their layout in memory is
        self._matrices = {
            name: p if p.ndim == 2 else nn.Parameter(p.detach().reshape(len(p), -1).clone())
            for name, p in self._kernels.items()
        }
        self._optimizers: list[torch.optim.Optimizer] = []
        if self._matrices:
            shared = any(isinstance(matrix, DTensor) for matrix in self._matrices.values())
            kind = GatheredMuon if shared else torch.optim.Muon
            self._optimizers.append(
                kind(self._matrices.values(), lr, weight_decay, momentum=0.95, adjust_lr_fn="match_rms_adamw")
            )
        if self._rest:
            self._optimizers.append(torch.optim.AdamW(self._rest.values(), lr, betas, weight_decay=weight_decay))

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in (*self._kernels.values(), *self._rest.values()):
            parameter.grad = None

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """Take one step along the parameters' gradients."""
        copied = {name: matrix for name, matrix in self._matrices.items() if matrix is not self._kernels[name]}
        for name, matrix in copied.items():
            gradient = self._kernels[name].grad
            matrix.grad = None if gradient is None else gradient.reshape(matrix.shape)
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = lr
            optimizer.step()
        for name, matrix in copied.items():
            self._kernels[name].copy_(matrix.view(self._kernels[name].shape))

    def state(self) -> dict[str, Tensor]:
        """Return all that `load` needs to go on, besides the weights; one that never had a gradient has none."""
        return {
            f"{name}/{key}": value
            for name, parameter in (self._matrices | self._rest).items()
            for optimizer in self._optimizers
            for key, value in optimizer.state.get(parameter, {}).items()
        }

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on from `state`, with the parameters as they are now."""
        for name, matrix in self._matrices.items():
            if matrix is not self._kernels[name]:
                matrix.copy_(self._kernels[name].reshape(matrix.shape))
        for optimizer, named in zip(self._optimizers, [n for n in (self._matrices, self._rest) if n], strict=True):
            for name, parameter in named.items():
                if found := _of(state, name):
                    optimizer.state[parameter] = found


def _of(state: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key.partition("/")[2]: value for key, value in state.items() if key.partition("/")[0] == name}
