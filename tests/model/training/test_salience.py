"""Latent channels count by what they show: measured on a VAE in which that is known."""

import pytest
import torch

from model.training.salience import channel_weights
from tests.model.small import tiny


class Known:
    """A backbone whose decoder makes channel c show as c + 1 times its value, in grey."""

    def __init__(self, channels: int) -> None:
        self.spec = type("Spec", (), {"latent_channels": channels})()
        self.transformer = torch.nn.Linear(1, 1)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        gains = torch.arange(1.0, 1 + latents.shape[1]).reshape(1, -1, 1, 1, 1)
        return (latents * gains).sum(dim=1, keepdim=True).expand(-1, 3, -1, -1, -1)


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_weights_are_the_squared_change_to_a_power_with_mean_one(power: float):
    weights = channel_weights(Known(11), 4, 6, power)  # type: ignore[arg-type]
    wanted = torch.arange(1.0, 12.0) ** (2 * power)
    torch.testing.assert_close(weights.flatten(), wanted / wanted.mean(), rtol=1e-4, atol=1e-5)
    assert weights.shape == (1, 11, 1, 1, 1)


def test_they_are_the_same_each_time_and_differ_between_the_channels_of_a_real_vae():
    backbone = tiny()
    one, two = (channel_weights(backbone, 4, 8, 1.0) for _ in range(2))
    assert torch.equal(one, two)
    assert one.mean().item() == pytest.approx(1.0, abs=1e-5)
    assert one.max() > 1.1 * one.min()
