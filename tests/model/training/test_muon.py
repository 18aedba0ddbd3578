"""Our optimizer against torch's own on the same numbers, and its state written down and taken up."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from model.training.muon import MuonAdamW, kernels

SHAPES = {"kernel3": (6, 4, 3, 3, 3), "kernel2": (4, 6, 1, 1), "one": (1, 6, 3, 3), "matrix": (5, 4), "bias": (7,)}
MATRICES = {"kernel3": (6, 108), "kernel2": (4, 6)}


class Weights(nn.Module):
    def __init__(self, channels_last: bool = False) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        for name, shape in SHAPES.items():
            self.register_parameter(name, nn.Parameter(torch.randn(shape, generator=generator)))
        if channels_last:
            kernel: Tensor = self.get_parameter("kernel3")
            kernel.data = kernel.data.contiguous(memory_format=torch.channels_last_3d)


def over(module: Weights) -> MuonAdamW:
    return MuonAdamW(dict(module.named_parameters()), kernels(module), 1.0)


def learn(module: Weights, optimizer: MuonAdamW, steps: range) -> None:
    for step in steps:
        generator = torch.Generator().manual_seed(100 + step)
        for parameter in module.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step(0.1 / (1 + step))


@pytest.mark.parametrize("channels_last", [False, True])
def test_kernels_move_as_torchs_muon_moves_their_matrices_and_the_rest_as_adamw(channels_last: bool) -> None:
    module, apart = Weights(channels_last), Weights()
    learn(module, over(module), range(4))
    matrices = {name: nn.Parameter(apart.get_parameter(name).detach().reshape(MATRICES[name])) for name in MATRICES}
    rest = {name: apart.get_parameter(name) for name in SHAPES if name not in MATRICES}
    optimizers = (
        torch.optim.Muon(matrices.values(), lr=1.0, weight_decay=0.0, momentum=0.95, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest.values(), lr=1.0, betas=(0.9, 0.95), weight_decay=0.0),
    )
    for step in range(4):
        generator = torch.Generator().manual_seed(100 + step)
        for name, shape in SHAPES.items():
            gradient = torch.randn(shape, generator=generator)
            if name in matrices:
                matrices[name].grad = gradient.reshape(MATRICES[name])
            else:
                rest[name].grad = gradient
        for optimizer in optimizers:
            optimizer.param_groups[0]["lr"] = 0.1 / (1 + step)
            optimizer.step()
    for name, shape in SHAPES.items():
        truth = (matrices | rest)[name].detach().reshape(shape)
        assert torch.equal(module.get_parameter(name), truth), name


def test_a_kernels_update_has_singular_values_near_one_another() -> None:
    module = Weights()
    before = module.get_parameter("kernel3").detach().clone()
    learn(module, over(module), range(1))
    update = (module.get_parameter("kernel3") - before).detach().reshape(6, 108)
    values = torch.linalg.svdvals(update)
    assert float(values.max() / values.min()) < 2.5
    assert float(update.square().mean().sqrt()) == pytest.approx(0.1 * 0.2, rel=0.35)  # as AdamW's: 0.2 lr


@pytest.mark.parametrize("channels_last", [False, True])
def test_going_on_from_a_written_state_equals_going_on_to_the_bit(tmp_path: Path, channels_last: bool) -> None:
    whole = Weights(channels_last)
    learn(whole, over(whole), range(6))

    first = Weights(channels_last)
    optimizer = over(first)
    learn(first, optimizer, range(3))
    save_file({f"w.{n}": v.contiguous() for n, v in first.state_dict().items()}, tmp_path / "weights.safetensors")
    save_file({n: v.contiguous() for n, v in optimizer.state().items()}, tmp_path / "state.safetensors")

    second = Weights(channels_last)
    taken_up = over(second)
    second.load_state_dict({n[2:]: v for n, v in load_file(tmp_path / "weights.safetensors").items()})
    taken_up.load(load_file(tmp_path / "state.safetensors"))
    learn(second, taken_up, range(3, 6))
    assert all(torch.equal(second.get_parameter(name), whole.get_parameter(name)) for name in SHAPES)


def test_the_state_names_the_parameter_that_each_tensor_belongs_to() -> None:
    module = Weights()
    optimizer = over(module)
    assert optimizer.state() == {}
    learn(module, optimizer, range(1))
    names = {f"{name}/momentum_buffer" for name in MATRICES}
    names |= {f"{n}/{key}" for n in ("one", "matrix", "bias") for key in ("step", "exp_avg", "exp_avg_sq")}
    assert set(optimizer.state()) == names


def test_what_has_no_gradient_stays_as_it_is() -> None:
    module = Weights()
    optimizer, before = over(module), Weights().state_dict()
    module.get_parameter("bias").grad = torch.ones(7)
    optimizer.step(0.1)
    moved = {name for name, value in module.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {"bias"}


def test_matrices_are_stepped_in_place_and_with_none_of_them_it_is_adamw() -> None:
    for matrices in ({"matrix"}, set()):
        module, apart = Weights(), Weights()
        named = dict(apart.named_parameters())
        learn(module, MuonAdamW(dict(module.named_parameters()), matrices, 1.0, (0.9, 0.99), 0.1), range(3))
        rest = [p for name, p in named.items() if name not in matrices]
        optimizers: list[torch.optim.Optimizer] = [torch.optim.AdamW(rest, 1.0, (0.9, 0.99), weight_decay=0.1)]
        if matrices:
            optimizers.append(torch.optim.Muon([named["matrix"]], 1.0, 0.1, adjust_lr_fn="match_rms_adamw"))
        for step in range(3):
            generator = torch.Generator().manual_seed(100 + step)
            for parameter in named.values():
                parameter.grad = torch.randn(parameter.shape, generator=generator)
            for optimizer in optimizers:
                optimizer.param_groups[0]["lr"] = 0.1 / (1 + step)
                optimizer.step()
        assert all(torch.equal(module.get_parameter(name), truth) for name, truth in named.items())
