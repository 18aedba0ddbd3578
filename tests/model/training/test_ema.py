"""The running mean of the weights."""

import numpy as np
import pytest
import torch
from torch import nn

from model.training.ema import Ema


def test_the_mean_follows_its_formula() -> None:
    rng = np.random.default_rng(0)
    course = rng.normal(size=(50, 7)).astype(np.float32)
    weight = nn.Parameter(torch.from_numpy(course[0].copy()))
    ema, expected = Ema({"w": weight}, decay=0.8), course[0].astype(np.float64)
    for n, values in enumerate(course[1:]):
        weight.data = torch.from_numpy(values.copy())
        ema.update(n)
        d = min(0.8, (1 + n) / (10 + n))
        expected = d * expected + (1 - d) * values
    np.testing.assert_allclose(ema.means["w"].numpy(), expected, rtol=1e-5, atol=1e-6)


def test_the_means_are_applied_and_the_weights_come_back_to_the_bit() -> None:
    layer = nn.Linear(3, 2)
    ema = Ema(dict(layer.named_parameters()), decay=0.9)
    before = layer.weight.detach().clone()
    with torch.no_grad():
        layer.weight.mul_(3.0)
    now, x = layer.weight.detach().clone(), torch.randn(4, 3)
    with ema.applied():
        assert torch.equal(layer(x), x @ before.T + layer.bias)
    assert torch.equal(layer.weight, now)
    assert torch.equal(ema.means["weight"], before)


def test_the_weights_come_back_after_an_error_too() -> None:
    layer = nn.Linear(3, 2)
    ema = Ema(dict(layer.named_parameters()), decay=0.9)
    now = layer.weight.detach().clone()
    ema.means["weight"].zero_()
    with pytest.raises(KeyError), ema.applied():
        raise KeyError
    assert torch.equal(layer.weight, now)
