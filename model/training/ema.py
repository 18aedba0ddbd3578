"""The running mean of the weights, which samples better than the weights themselves."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from model.training import sharding


class Ema:
    """e <- d e + (1 - d) w after each step, with d = min(decay, (1 + n) / (10 + n)) at the n-th update, from n = 0.

    The warm-up of d keeps the random first weights from weighing on the mean for 1 / (1 - decay) steps.
    Only parameters that learn have a mean; the frozen ones are the same in both.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float) -> None:
        self.decay = decay
        self._parameters = dict(parameters)
        self.means: dict[str, Tensor] = {name: p.detach().clone() for name, p in self._parameters.items()}

    @torch.no_grad()
    def update(self, updates_before: int) -> None:
        """Take the present weights into the mean; `updates_before` is n."""
        decay = min(self.decay, (1 + updates_before) / (10 + updates_before))
        for name, mean in self.means.items():
            mean.lerp_(self._parameters[name].detach(), 1 - decay)

    @torch.no_grad()
    def load(self, means: Mapping[str, Tensor]) -> None:
        """Take over the means of a checkpoint."""
        for name, mean in self.means.items():
            mean.copy_(means[name])

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Let the model have the means for its weights, and give it its own weights back, to the bit."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        for name, parameter in self._parameters.items():
            if isinstance(parameter, DTensor):
                sharding.exchange(parameter, self.means[name])
            else:
                parameter.data, self.means[name] = self.means[name], parameter.data
