"""How much each latent channel shows: a VAE whose channels all have deviation 1 spends most of them on what is hardly
seen, and an error that counts all alike is about those."""

import torch
from torch import Tensor

from model.backbone import Backbone

_FRAMES = 3  # latent frames that are decoded: the first is another kind than the rest
_AT_ONCE = 8
_STEP = 0.3  # deviations by which a channel is moved


@torch.no_grad()
def channel_weights(backbone: Backbone, height: int, width: int, power: float) -> Tensor:
    """Return weights of the latent channels, `[1, C, 1, 1, 1]` with mean 1, on the backbone's device:

        w_c ~ (mean squared change of the decoded pixels / that of channel c, around a grey picture)^power

    With power 1 an error weighs as it shows in pixels, with 0 all channels weigh alike.

    Args:
        backbone: Whose VAE decodes.
        height: Of the composite's latents, cells.
        width: Of the composite's latents, cells.
        power: 0 to 1.
    """
    count = backbone.spec.latent_channels
    device = next(backbone.transformer.parameters()).device
    if not power:
        return torch.ones(1, count, 1, 1, 1, device=device)
    size = (_FRAMES, height, width)
    noise = torch.randn(size, generator=torch.Generator().manual_seed(0)).to(device) * _STEP
    grey = backbone.decode(torch.zeros(1, count, *size, device=device))
    changes = []
    for start in range(0, count, _AT_ONCE):
        channels = range(start, min(start + _AT_ONCE, count))
        moved = torch.zeros(len(channels), count, *size, device=device)
        for row, channel in enumerate(channels):
            moved[row, channel] = noise
        changes.append((backbone.decode(moved) - grey).square().mean(dim=(1, 2, 3, 4)))
    weights = torch.cat(changes) ** power
    return (weights / weights.mean()).reshape(1, count, 1, 1, 1)


def latent_deviation(backbone: Backbone, power: float) -> list[float]:
    """Return a deviation for each latent channel whose square follows what the channel shows, and is 1 in the mean:
    `[C]`, for `model.preconditioning`. `power` is as in `channel_weights`."""
    spec = backbone.spec
    height, width = spec.height_px // spec.spatial_stride, 2 * spec.width_px // spec.spatial_stride
    found: list[float] = channel_weights(backbone, height, width, power).sqrt().flatten().tolist()
    return found
