"""The error of stage one, against the sum written out."""

import pytest
import torch
from torch import Tensor

from model.composite import join, left, right
from model.training.strategy import Batch, PoseDriven, modules
from model.wan import Wan
from tests.model.training.small_training import Patterns, backbone

SIGMA = torch.tensor([0.2, 0.9])


class Told(Wan):
    """A real small Wan that answers a velocity it is told, and remembers what it was shown."""

    answer: Tensor
    shown: Tensor

    def velocity(
        self, noisy: Tensor, sigma: Tensor, cond: Tensor, mask: Tensor, text: Tensor, image: Tensor | None = None
    ) -> Tensor:
        self.shown = noisy
        return self.answer


def told(answer: Tensor) -> Told:
    base = backbone()
    wan = Told("tiny", base.transformer, base.vae, base.text, base.settings)
    wan.answer = answer
    return wan


def batch() -> tuple[Batch, Tensor]:
    made = Patterns(8).read([5, 2])
    return made, torch.randn(made.target.shape, generator=torch.Generator().manual_seed(1))


def test_the_true_velocity_makes_no_error_and_both_halves_lie_on_the_way_to_noise() -> None:
    given, noise = batch()
    wan = told(noise - given.target)
    error, weight = PoseDriven().error(wan, given, SIGMA, noise)
    assert float(error) == 0.0
    assert float(weight) == 2 * 4 * 2 * 2 * 2  # samples, channels, latent frames, rows, columns of the left half
    share = SIGMA.view(2, 1, 1, 1, 1)
    assert torch.allclose(wan.shown, given.target * (1 - share) + noise * share, atol=1e-6)


def test_the_error_is_the_sum_of_squares_over_the_left_half() -> None:
    given, noise = batch()
    wan = backbone()
    got, weight = PoseDriven().error(wan, given, SIGMA, noise)
    share = SIGMA.view(2, 1, 1, 1, 1)
    noisy = (1 - share) * given.target + share * noise
    answer = wan.velocity(noisy, SIGMA, given.cond, given.mask, wan.text.encode(given.prompts))
    by_hand = (answer - (noise - given.target))[..., :2].double().square().sum()
    assert float(got.detach()) == pytest.approx(float(by_hand.detach()), rel=1e-5)
    assert float(PoseDriven().weight(given)) == float(weight)


def test_what_is_said_of_the_right_half_is_ignored_and_gets_no_gradient() -> None:
    given, noise = batch()
    truth = noise - given.target
    answer = join(left(truth) + 1.0, right(truth) + 100.0).requires_grad_()
    error, weight = PoseDriven().error(told(answer), given, SIGMA, noise)
    assert float(error.detach() / weight) == pytest.approx(1.0, rel=1e-5)
    error.backward()
    assert answer.grad is not None
    assert not right(answer.grad).any()
    assert torch.allclose(left(answer.grad), torch.tensor(2.0))


def test_the_prompt_is_what_the_text_encoder_is_taught_by() -> None:
    given, noise = batch()
    wan = backbone()
    error, _ = PoseDriven().error(wan, given, SIGMA, noise)
    error.backward()
    table = wan.text.table.weight.grad
    assert table is not None
    rows = {row for prompt in given.prompts for row in wan.text.rows(prompt)}
    assert {int(row) for row in table.abs().sum(dim=1).nonzero()} == rows


def test_the_parts_that_may_learn_are_the_transformer_and_a_text_encoder_that_is_a_module() -> None:
    wan = backbone()
    assert list(modules(wan)) == ["transformer", "text"]
    assert not any(name.startswith("vae") for name, _ in modules(wan).named_parameters())


def test_a_batch_moves_with_all_its_tensors() -> None:
    given, _ = batch()
    moved = Batch(given.target, given.cond, given.mask, given.loss_mask, given.prompts, given.target).to(
        torch.device("meta")
    )
    assert {moved.target.device.type, moved.cond.device.type, moved.mask.device.type} == {"meta"}
    assert moved.loss_mask.device.type == moved.image.device.type == "meta"  # type: ignore[union-attr]
    assert moved.prompts == given.prompts
    assert given.to(torch.device("cpu")).image is None
