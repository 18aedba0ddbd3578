"""What is learned from what: the seam between the loop and the method.

The loop knows batches, steps and ranks; a strategy knows what a batch means. `PoseDriven` is stage one (METHOD section
3.3): the driving half of the composite shows skeletons. `RgbDriven`, stage two, differs in its samples alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from model.backbone import Backbone
from model.flow_matching import interpolate, masked_error, velocity


@dataclass(frozen=True)
class Batch:
    """Samples of one step, in latents.

    Attributes:
        target: `[B, C, F, h, 2w]` what is to be reconstructed: VAE(target (+) driving).
        cond: `[B, C, F, h, 2w]` what is given: VAE(composite), Eq. 2.
        mask: `[B, M, F, h, 2w]` packed as the backbone wants it.
        loss_mask: `[B, 1, F, h, 2w]` 1 where the error counts: the left half. Where channels count by what they show,
            `[B, C, F, h, 2w]`, with mean 1 over them.
        prompts: One text a sample; empty where the text is dropped.
        image: Embedding of the reference, for backbones that take one.
    """

    target: Tensor
    cond: Tensor
    mask: Tensor
    loss_mask: Tensor
    prompts: Sequence[str]
    image: Tensor | None = None

    def to(self, device: torch.device) -> "Batch":
        """Return the batch with its tensors on `device`."""
        return Batch(
            self.target.to(device), self.cond.to(device), self.mask.to(device), self.loss_mask.to(device), self.prompts,
            None if self.image is None else self.image.to(device),
        )  # fmt: skip


def joined(batches: Sequence[Batch]) -> Batch:
    """Return the samples of several batches as one."""
    tensors = {name: torch.cat([getattr(b, name) for b in batches]) for name in ("target", "cond", "mask", "loss_mask")}
    images = [batch.image for batch in batches if batch.image is not None]
    prompts = [prompt for batch in batches for prompt in batch.prompts]
    return Batch(**tensors, prompts=prompts, image=torch.cat(images) if images else None)


class Source(Protocol):
    """Samples that lie ready, addressed by number, so that their order can be a pure function of (seed, step)."""

    digest: str

    def __len__(self) -> int: ...

    def read(self, indices: Sequence[int]) -> Batch:
        """Return the samples of these numbers, in this order."""
        ...


class Strategy(Protocol):
    """How the error of a batch is made."""

    name: str

    def error(self, backbone: Backbone, batch: Batch, sigma: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sum of squared errors, and the number of elements it is a sum over.

        Args:
            backbone: The model; its transformer and, if it learns, its text encoder get gradients.
            batch: The samples.
            sigma: `[B]` share of noise.
            noise: Like `batch.target`.
        """
        ...

    def weight(self, batch: Batch) -> Tensor:
        """Return the number of elements the error of this batch will be a sum over, without running the model."""
        ...


class PoseDriven:
    """Stage one: velocity of the left half, from the composite whose right half shows skeletons (section 3.3)."""

    name = "pose_driven"

    def error(self, backbone: Backbone, batch: Batch, sigma: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Return the sum of squared errors of the velocity over the loss mask, and that mask's sum.

        Both halves are noised with the same sigma; what is predicted on the right is ignored.
        """
        noisy = interpolate(batch.target, noise, sigma)
        text = backbone.text.encode(batch.prompts).to(batch.target.device)
        predicted = backbone.velocity(noisy, sigma, batch.cond, batch.mask, text, batch.image)
        return masked_error(predicted, velocity(batch.target, noise), batch.loss_mask)

    def weight(self, batch: Batch) -> Tensor:
        """Return the sum of the loss mask over all elements."""
        return batch.loss_mask.sum() * batch.target.shape[1]


class RgbDriven(PoseDriven):
    """Stage two: the same, from a composite whose right half shows another video (section 3.4, Eq. 4).

    What differs lies in the samples: `shard_clips.py` pairs a real target with a pseudo video that drives, or, in a
    share of the positions, the other way round.
    """

    name = "rgb_driven"


def modules(backbone: Backbone) -> nn.ModuleDict:
    """Return the parts of a backbone that may learn, by name: the transformer, and the text encoder if it is small
    enough to be trained with it."""
    parts: dict[str, nn.Module] = {"transformer": backbone.transformer}
    if isinstance(backbone.text, nn.Module):
        parts["text"] = backbone.text
    return nn.ModuleDict(parts)
