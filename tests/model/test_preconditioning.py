"""Latents of unequal strength: what the transformer sees and predicts has deviation 1 at every sigma."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from model import backbone as backbones
from model.backbone import BackboneError
from model.flow_matching import interpolate, velocity
from model.preconditioning import Preconditioning
from model.training.salience import latent_deviation
from model.wan import Wan
from tests.model import small

DEVIATION = (6.5, 1.0, 0.2)


@pytest.mark.parametrize("sigma", [0.001, 0.3, 0.9, 0.999, 1.0])
def test_what_is_predicted_is_what_the_best_line_through_the_data_leaves_over_at_deviation_one(sigma: float) -> None:
    rng = torch.Generator().manual_seed(0)
    shape, share = (20_000, 3, 2), torch.full((20_000,), sigma)
    data = torch.randn(shape, generator=rng) * torch.tensor(DEVIATION).view(1, 3, 1)
    noise = torch.randn(shape, generator=rng)
    noisy, wanted = interpolate(data, noise, share), velocity(data, noise)
    unequal = Preconditioning(DEVIATION)
    seen = unequal.seen(noisy, share)
    linear = unequal.velocity(torch.zeros(shape), noisy, share)
    gain = unequal.velocity(torch.ones(shape), noisy, share) - linear
    for channel in range(3):
        x, v = (each[:, channel].flatten().double().numpy() for each in (noisy, wanted))
        slope = np.linalg.lstsq(x[:, None], v, rcond=None)[0][0]
        left_over = (v - slope * x) / gain[:, channel].flatten().numpy()
        doubt = 5 * (v - slope * x).std() / x.std() / len(x) ** 0.5
        assert float(linear[0, channel, 0] / noisy[0, channel, 0]) == pytest.approx(slope, abs=doubt)
        assert seen[:, channel].std() == pytest.approx(1, abs=0.02)
        assert left_over.std() == pytest.approx(1, abs=0.02)


def uneven(deviation: float = 0.5) -> Wan:
    base = small.tiny()
    rising = tuple(deviation * (1 + number) for number in range(base.spec.latent_channels))
    return Wan("tiny", base.transformer, base.vae, base.text, replace(base.settings, deviation=rising))


def test_latents_are_stronger_by_their_deviations_and_decode_to_the_same_picture() -> None:
    plain, base = small.tiny(), uneven()
    video = small.pixels(1, 1, 3, small.FRAMES, small.HEIGHT_PX, 2 * small.WIDTH_PX)
    factor = torch.tensor(base.settings.deviation).view(1, -1, 1, 1, 1)
    torch.testing.assert_close(base.encode(video), plain.encode(video) * factor)
    torch.testing.assert_close(base.decode(base.encode(video)), plain.decode(plain.encode(video)))
    assert base.vae_digest != plain.vae_digest


def test_a_transformer_that_predicts_nothing_gives_the_linear_guess() -> None:
    base = uneven()
    torch.nn.init.zeros_(base.transformer.proj_out.weight)
    torch.nn.init.zeros_(base.transformer.proj_out.bias)
    given = small.inputs(base, batch=2)
    sigma = torch.tensor([0.2, 0.8])
    found = base.velocity(given["noisy"], sigma, given["cond"], given["mask"], given["text"])
    for row, share in enumerate(sigma.tolist()):
        for channel, a in enumerate(base.settings.deviation):
            slope = (share - (1 - share) * a**2) / ((1 - share) ** 2 * a**2 + share**2)
            torch.testing.assert_close(found[row, channel], slope * given["noisy"][row, channel])


def test_it_is_saved_and_loaded_and_a_slip_in_the_file_is_told(tmp_path: Path) -> None:
    base = uneven()
    base.save(tmp_path / "base")
    loaded = backbones.load("tiny", tmp_path / "base", torch.float32, "cpu")
    given = small.inputs(base, batch=1)
    sigma = torch.tensor([0.5])
    args = (given["noisy"], sigma, given["cond"], given["mask"], given["text"])
    torch.testing.assert_close(loaded.velocity(*args), base.velocity(*args))
    settings = tmp_path / "base" / "bodydouble.json"
    told = json.loads(settings.read_text())
    for wrong, said in (
        ([1.0, 0.0], "above 0"),
        ("much", "above 0"),
        ([1.0], "1 deviations are given for latents of 20"),
    ):
        settings.write_text(json.dumps(told | {"deviation": wrong}))
        with pytest.raises(BackboneError, match=said):
            backbones.load("tiny", tmp_path / "base", torch.float32, "cpu")


def test_a_channel_that_shows_more_gets_more() -> None:
    base = small.tiny()
    deviation = latent_deviation(base, 1.0)
    assert sum(each**2 for each in deviation) / len(deviation) == pytest.approx(1, rel=1e-4)
    strongest, weakest = int(np.argmax(deviation)), int(np.argmin(deviation))
    grey = torch.zeros(1, base.spec.latent_channels, 3, 4, 12)
    changes = []
    for channel in (strongest, weakest):
        moved = grey.clone()
        moved[:, channel] = 0.3
        changes.append(float((base.decode(moved) - base.decode(grey)).square().mean()))
    assert changes[0] > changes[1]
    assert latent_deviation(base, 0.0) == pytest.approx([1.0] * len(deviation))
