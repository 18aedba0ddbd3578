"""Muon for kernels, AdamW for the rest: what lets a small VAE learn in minutes.

An autoencoder learns its directions one after the other, brightness first and colour much later; Muon (Jordan et al.
2024; torch's own) makes an update's singular values equal, so that all are learned at once. A kernel `[out, in, ...]`
is taken as the matrix `[out, in * ...]`.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class MuonAdamW:
    """An optimizer over a module's parameters, whose whole state has names.

    Args:
        module: What learns.
        lr: Of both, in the measure of AdamW (root mean square of an update).
    """

    def __init__(self, module: nn.Module, lr: float) -> None:
        named = dict(module.named_parameters())
        self._kernels = {name: p for name, p in named.items() if p.ndim >= 4 and min(p.shape[:2]) > 1}
        self._rest = {name: p for name, p in named.items() if name not in self._kernels}
        # Muon takes matrices alone: it steps copies of the kernels, whatever their layout in memory is
        self._matrices = {
            name: nn.Parameter(p.detach().reshape(len(p), -1).clone()) for name, p in self._kernels.items()
        }
        self._muon = torch.optim.Muon(
            self._matrices.values(), lr=lr, weight_decay=0.0, momentum=0.95, adjust_lr_fn="match_rms_adamw"
        )
        self._adamw = torch.optim.AdamW(self._rest.values(), lr=lr, betas=(0.9, 0.95), weight_decay=0.0)

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """Take one step along the parameters' gradients."""
        for optimizer in (self._muon, self._adamw):
            for group in optimizer.param_groups:
                group["lr"] = lr
        for name, matrix in self._matrices.items():
            gradient = self._kernels[name].grad
            matrix.grad = None if gradient is None else gradient.reshape(matrix.shape)
        self._muon.step()  # type: ignore[no-untyped-call]
        self._adamw.step()
        for name, matrix in self._matrices.items():
            self._kernels[name].copy_(matrix.view(self._kernels[name].shape))

    def state(self) -> dict[str, Tensor]:
        """Return all that `load` needs to go on, besides the weights."""
        found: dict[str, Tensor] = {}
        for name, matrix in self._matrices.items():
            found |= {f"{name}/{key}": value for key, value in self._muon.state.get(matrix, {}).items()}
        for name, parameter in self._rest.items():
            found |= {f"{name}/{key}": value for key, value in self._adamw.state.get(parameter, {}).items()}
        return found

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on from `state`, with the module's weights as they are now."""
        for name, matrix in self._matrices.items():
            matrix.copy_(self._kernels[name].reshape(matrix.shape))
            self._muon.state[matrix] = _of(state, name)
        for name, parameter in self._rest.items():
            self._adamw.state[parameter] = _of(state, name)


def _of(state: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key.partition("/")[2]: value for key, value in state.items() if key.partition("/")[0] == name}
