"""The training loop on a real small Wan: what it learns, that a kill changes nothing, and what it refuses."""

import math
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from manifests.errors import UserError
from model.text import TinyText
from model.tiny import TinyTransformer
from model.training import metrics, order
from model.training.checkpoint import ResumeError, read_state
from model.training.compiled import NoCompilerError
from model.training.config import FREE, Optimizer, TrainConfig, TrainConfigError, learning_rate
from model.training.learnable import RandomLayerError
from model.training.loop import TrainingDiverged, train
from model.training.parallel import TooManyRanksError
from model.training.salience import channel_weights
from model.training.strategy import Batch, PoseDriven, modules
from model.wan import new_tiny
from tests.model.small import wan_i2v
from tests.model.training.small_training import CONFIG, Patterns, backbone, changed, run, weights, without_times

PROGRAM = [sys.executable, "-m", "tests.model.training.small_training"]


def largest_difference(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    assert a.keys() == b.keys()
    return max((a[name] - b[name]).abs().max().item() for name in a)


def same_to_the_bit(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("trainable", ["full", "lora"])
def test_a_resumed_training_equals_an_uninterrupted_one_to_the_bit(tmp_path: Path, trainable: str) -> None:
    whole = run(tmp_path / "whole", trainable=trainable)
    run(tmp_path / "parts", steps=2, trainable=trainable, validation__every=0)
    parts = run(tmp_path / "parts", trainable=trainable)
    assert same_to_the_bit(weights(whole.checkpoint), weights(parts.checkpoint))
    lines = [without_times(metrics.read(tmp_path / name)) for name in ("whole", "parts")]
    assert lines[0] == lines[1]
    assert len(lines[0]) == 8  # six steps, two validations


@pytest.mark.train
@pytest.mark.timeout(600)
def test_a_killed_training_equals_an_uninterrupted_one_to_the_bit(tmp_path: Path) -> None:
    """SIGKILL at random moments of a real process, in steps and in saves; the last start goes to the end."""
    settings = ["--set", "steps=60", "--set", "validation.every=7", "--set", "checkpoint.every=5"]
    whole = run(tmp_path / "whole", steps=60, validation__every=7, checkpoint__every=5)
    chance, at = random.Random(0), 0
    for last_before_kill in (11, 33):
        with subprocess.Popen([*PROGRAM, str(tmp_path / "killed"), *settings], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            while at < last_before_kill:
                at = int(process.stdout.readline())
            time.sleep(chance.random() * 0.1)
            process.send_signal(signal.SIGKILL)
            at = 0
        assert process.returncode == -signal.SIGKILL
    subprocess.run([*PROGRAM, str(tmp_path / "killed"), *settings], check=True, stdout=subprocess.DEVNULL)
    killed = tmp_path / "killed" / "checkpoints" / "step-00000060"
    assert same_to_the_bit(weights(whole.checkpoint), weights(killed))
    lines = [without_times(metrics.read(tmp_path / name)) for name in ("whole", "killed")]
    assert lines[0] == lines[1]


@pytest.mark.train
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_training_after_its_step_with_a_checkpoint(tmp_path: Path, number: signal.Signals) -> None:
    settings = ["--set", "steps=100000", "--set", "validation.every=0", "--set", "checkpoint.every=100000"]
    with subprocess.Popen([*PROGRAM, str(tmp_path), *settings], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while int(process.stdout.readline()) < 3:
            pass
        process.send_signal(number)
        said = process.stdout.read().splitlines()[-1]
    assert process.returncode == 0
    [kept] = (tmp_path / "checkpoints").iterdir()
    step = read_state(kept).step
    assert said == f"stopped after step {step} of 100000; the same command goes on from {kept}"
    assert metrics.read(tmp_path)[-1]["step"] == step


@pytest.mark.parametrize("micro_batch", [1, 3])
def test_accumulation_equals_one_large_batch(tmp_path: Path, micro_batch: int) -> None:
    large = run(tmp_path / "large")
    small = run(tmp_path / "small", micro_batch=micro_batch)
    assert largest_difference(weights(large.checkpoint), weights(small.checkpoint)) < 1e-5
    losses = [line.get("loss", 0.0) for line in metrics.read(tmp_path / "small")]
    assert losses == pytest.approx([line.get("loss", 0.0) for line in metrics.read(tmp_path / "large")], abs=1e-5)


class Uneven(Patterns):
    """Samples whose errors count on few or many elements."""

    def read(self, indices: Sequence[int]) -> Batch:
        batch = super().read(indices)
        kept = torch.tensor([1.0 if n % 2 else 0.0 for n in indices]).view(-1, 1, 1, 1, 1)
        mask = batch.loss_mask.clone()
        mask[:, :, 1:] *= kept  # the second latent frame counts in odd samples alone
        return replace(batch, loss_mask=mask)


@pytest.mark.parametrize("power", [0.0, 0.5])
def test_the_loss_is_all_errors_over_all_weights(tmp_path: Path, power: float) -> None:
    """Not a mean of means: samples that count on more elements weigh more, whatever micro-batch they are in; and so do
    channels that show more."""
    source, values = Uneven(10), {"steps": 1, "micro_batch": 1, "channel_power": power}
    run(tmp_path, source=source, **values)
    place = order.indices(CONFIG.seed, 0, CONFIG.global_batch, [(0, 10)])
    base, batch = backbone(), source.read(place.indices)
    batch, sigma, noise = order.drawn(batch, CONFIG.seed, range(4), CONFIG.sigma, base.spec.shift, CONFIG.text_dropout)
    s = sigma.view(-1, 1, 1, 1, 1)
    with torch.no_grad():
        text = base.text.encode(batch.prompts)
        v = base.velocity((1 - s) * batch.target + s * noise, sigma, batch.cond, batch.mask, text)
    mask = batch.loss_mask * channel_weights(base, *batch.target.shape[3:], power)
    mask = mask.expand_as(v)
    expected = ((v - (noise - batch.target)) ** 2 * mask).sum() / mask.sum()
    assert metrics.read(tmp_path)[0]["loss"] == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("trainable", ["full", "lora"])
def test_only_what_is_to_learn_changes(tmp_path: Path, trainable: str) -> None:
    base = backbone()
    before = {name: p.detach().clone() for name, p in modules(base).named_parameters()}
    vae = {name: p.detach().clone() for name, p in base.vae.named_parameters()}
    run(tmp_path, base=base, trainable=trainable, text_dropout=0.5)
    after = {name.replace(".base_layer", ""): p.detach() for name, p in modules(base).named_parameters()}
    changed_names = {name for name, value in before.items() if not torch.equal(after[name], value)}
    if trainable == "lora":
        layers = [f"transformer.blocks.{n}.ffn.net.{part}" for n in (0, 1) for part in ("0.proj", "2")]
        added = {f"{layer}.lora_{half}.pose.weight" for layer in layers for half in "AB"}
        assert changed_names == set()
        assert set(after) - set(before) == added
        assert all(after[name].abs().max() > 0 for name in added)
    else:
        assert set(before) - changed_names == set()
        assert set(after) == set(before)
    assert all(torch.equal(p, vae[name]) for name, p in base.vae.named_parameters())


class Pictured(Patterns):
    """Samples with an embedding of the reference, 5 tokens of 16 numbers."""

    def read(self, indices: Sequence[int]) -> Batch:
        return replace(super().read(indices), image=torch.full((len(indices), 5, 16), 0.1))


def test_a_lora_learns_on_the_image_to_video_base_too(tmp_path: Path) -> None:
    base = wan_i2v()
    sources = (Pictured(6, channels=16), Pictured(4, "held out", channels=16))
    config = changed(CONFIG, trainable="lora", steps=2, peak_tflops=1.0)
    done = train(config, base, PoseDriven(), *sources, tmp_path)
    assert all(".ffn.net." in name for name in weights(done.checkpoint))
    assert metrics.read(tmp_path)[0]["mfu"] > 0


def test_a_layer_with_draws_of_its_own_is_refused(tmp_path: Path) -> None:
    base = backbone()
    base.transformer.blocks[1].ffn.net[1].p = 0.1
    with pytest.raises(RandomLayerError, match=r"transformer.blocks.1.ffn.net.1 drops out with p = 0.1"):
        run(tmp_path, base=base)


@pytest.mark.train
def test_the_loss_falls_on_a_few_samples(tmp_path: Path) -> None:
    run(tmp_path, source=Patterns(4), steps=400, optimizer__lr=3e-3, text_dropout=0.0, checkpoint__every=400)
    losses = [line["loss"] for line in metrics.read(tmp_path) if "loss" in line]
    assert sum(losses[-50:]) < 0.4 * sum(losses[:50])


def test_bf16_learns_what_fp32_learns_within_rounding(tmp_path: Path) -> None:
    exact, rounded = (run(tmp_path / precision, precision=precision) for precision in ("fp32", "bf16"))
    assert exact.loss == pytest.approx(rounded.loss, rel=0.02)
    assert exact.loss != rounded.loss
    assert all(tensor.dtype == torch.float32 for tensor in weights(rounded.checkpoint).values())


def test_recomputing_activations_changes_nothing(tmp_path: Path) -> None:
    kept, recomputed = (run(tmp_path / str(on), recompute=on, steps=3) for on in (False, True))
    assert largest_difference(weights(kept.checkpoint), weights(recomputed.checkpoint)) < 1e-6


@pytest.mark.train
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("default")  # torch's compiler warns of itself
def test_generated_code_learns_the_same_and_goes_on_to_the_bit(tmp_path: Path) -> None:
    written, generated = (run(tmp_path / str(on), compile=on, precision="bf16") for on in (False, True))
    assert written.loss == pytest.approx(generated.loss, rel=0.01)
    assert written.loss != generated.loss  # or it was not used
    run(tmp_path / "parts", steps=2, validation__every=0, compile=True, precision="bf16")
    parts = run(tmp_path / "parts", compile=True, precision="bf16")
    assert same_to_the_bit(weights(generated.checkpoint), weights(parts.checkpoint))


def test_generated_code_without_a_compiler_is_refused_before_the_first_step(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(NoCompilerError, match="no C\\+\\+ compiler was found; install g\\+\\+"):
        run(tmp_path, compile=True)


def test_a_loss_that_is_no_number_ends_the_training_and_names_its_samples(tmp_path: Path) -> None:
    source = Patterns(10, spoilt=4)
    place = next(p for p in (order.indices(0, step, 4, [(0, 10)]) for step in range(9)) if 4 in p.indices)
    step = place.first // 4 + 1
    with pytest.raises(TrainingDiverged, match=f"step {step}: the loss is nan.*positions {place.first} to ") as ended:
        run(tmp_path, source=source, checkpoint__every=1)
    assert str(place.indices) in str(ended.value)
    kept = sorted(path.name for path in (tmp_path / "checkpoints").glob("*"))
    assert (kept or ["step-00000000"])[-1] == f"step-{step - 1:08d}"


def test_validation_depends_neither_on_the_seed_nor_on_the_micro_batch(tmp_path: Path) -> None:
    """It is taken before anything learns (a rate of nearly nothing), so that only its own noise could differ."""
    values = {"steps": 1, "optimizer__lr": 1e-30, "optimizer__weight_decay": 0.0}
    told = []
    for number, (seed, micro_batch) in enumerate([(0, 4), (1, 1)]):
        run(tmp_path / str(number), seed=seed, micro_batch=micro_batch, **values)
        told.append(metrics.read(tmp_path / str(number))[-1]["validation"]["raw"])
    assert told[0] == pytest.approx(told[1], rel=1e-5)
    assert set(told[0]) == {"0.3", "0.7", "mean"}


def test_validation_is_of_the_weights_and_of_their_mean(tmp_path: Path) -> None:
    """The step-6 values, made again from the checkpoint by another way: diffusers' loaded weights and the formula."""
    done = run(tmp_path)
    told = metrics.read(tmp_path)[-1]["validation"]
    tensors, base, source = weights(done.checkpoint), backbone(), Patterns(4, "held out")
    batch = source.read([0, 1, 2])
    noise = order.fixed_noise(batch.target, [0, 1, 2])
    for kind, prefix in (("raw", "weights"), ("ema", "ema")):
        with torch.no_grad():
            for name, parameter in modules(base).named_parameters():
                parameter.copy_(tensors[f"{prefix}.{name}"])
            noisy = 0.7 * batch.target + 0.3 * noise
            v = base.velocity(noisy, torch.full((3,), 0.3), batch.cond, batch.mask, base.text.encode(batch.prompts))
        left = slice(0, v.shape[-1] // 2)
        expected = ((v - (noise - batch.target)) ** 2)[..., left].mean().item()
        assert told[kind]["0.3"] == pytest.approx(expected, rel=1e-5)
    assert told["raw"]["0.3"] != told["ema"]["0.3"]
    with torch.no_grad():  # the EMA's are in place: now each sample is driven by the next
        after, half = [1, 2, 0], v.shape[-1] // 2
        noisy[..., half:] = (0.7 * batch.target[after] + 0.3 * noise)[..., half:]
        cond = torch.cat([batch.cond[..., :half], batch.cond[after][..., half:]], dim=-1)
        v = base.velocity(noisy, torch.full((3,), 0.3), cond, batch.mask, base.text.encode(batch.prompts))
    expected = ((v - (noise - batch.target)) ** 2)[..., left].mean().item()
    assert told["other_driving"]["0.3"] == pytest.approx(expected, rel=1e-5)
    assert told["other_driving"]["0.3"] != told["ema"]["0.3"]


def test_samples_are_made_with_the_mean_weights_and_leave_no_trace(tmp_path: Path) -> None:
    base, seen = backbone(), []

    def on_sample(step: int) -> None:
        torch.rand(3)  # whoever makes samples may use torch's own generator
        seen.append((step, base.transformer.proj_out.weight.detach().clone()))

    config = changed(CONFIG, sample_every=2, steps=4)
    arguments = (PoseDriven(), Patterns(10), Patterns(4, "held out"))
    done = train(config, base, *arguments, tmp_path / "sampled", on_sample=on_sample)
    plain = run(tmp_path / "plain", steps=4)
    assert [step for step, _ in seen] == [2, 4]
    assert torch.equal(seen[1][1], weights(done.checkpoint)["ema.transformer.proj_out.weight"])
    assert same_to_the_bit(weights(done.checkpoint), weights(plain.checkpoint))


def test_a_curriculum_goes_from_one_source_to_the_next(tmp_path: Path) -> None:
    class Heard(Patterns):
        def read(self, indices: Sequence[int]) -> Batch:
            heard.append((self.size, list(indices)))
            return super().read(indices)

    heard: list[tuple[int, list[int]]] = []
    done = run(tmp_path, source=[(0, Heard(10)), (4, Heard(20))])
    assert [size for size, _ in heard] == [10] * 4 + [20] * 2
    assert read_state(done.checkpoint).sources == [(0, "patterns train 10", 10), (4, "patterns train 20", 20)]


def test_every_step_is_told(tmp_path: Path) -> None:
    told: list[Any] = []
    run(tmp_path, on_step=told.append, log_every=4, peak_tflops=0.02)
    assert [line["step"] for line in told] == [1, 2, 3, 4, 5, 6]
    assert [line["samples"] for line in told] == [4, 8, 12, 16, 20, 24]
    assert all(0 < line["mfu"] < 1 and line["tokens_per_s"] > 0 for line in told)
    assert [line["step"] for line in metrics.read(tmp_path) if "loss" in line] == [4, 6]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seed": 1}, "seed: 0 -> 1"),
        ({"global_batch": 8}, "global_batch: 4 -> 8"),
        ({"optimizer__lr": 0.1}, "optimizer.lr: 0.001 -> 0.1"),
        ({"trainable": "lora"}, "trainable: 'full' -> 'lora'"),
        ({"source": Patterns(11)}, "10 samples patterns tra.* now it is given 11"),
    ],
)
def test_going_on_otherwise_than_begun_is_refused(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    run(tmp_path, steps=2)
    before = (tmp_path / metrics.FILE).read_bytes()
    with pytest.raises(ResumeError, match=said):
        run(tmp_path, steps=4, **change)
    assert (tmp_path / metrics.FILE).read_bytes() == before


def test_going_on_from_another_frozen_base_is_refused(tmp_path: Path) -> None:
    run(tmp_path, steps=2, trainable="lora")
    with pytest.raises(ResumeError, match="base: "):
        run(tmp_path, steps=4, trainable="lora", base=backbone(seed=1))


@pytest.mark.parametrize(
    ("heads", "head_dim", "layers", "said"),
    [
        (4, 8, 2, r"transformer.attention_head_dim: 16 -> 8, transformer.num_attention_heads: 2 -> 4"),
        (2, 16, 1, r"transformer.num_layers: 2 -> 1"),
    ],
)
def test_going_on_with_another_model_whose_weights_would_fit_is_refused(
    tmp_path: Path, heads: int, head_dim: int, layers: int, said: str
) -> None:
    run(tmp_path, steps=2)
    first = backbone()
    sizes = TinyTransformer(layers=layers, heads=heads, head_dim=head_dim, ffn_dim=48, freq_dim=32)
    other = new_tiny(first.vae, TinyText(dim=16, length=4, words=64), sizes, 0)
    state, mine = first.transformer.state_dict(), other.transformer.state_dict()
    assert all(state[name].shape == value.shape for name, value in mine.items())
    with pytest.raises(ResumeError, match=said):
        run(tmp_path, steps=4, base=other)


def test_going_on_with_a_text_encoder_of_another_size_is_refused(tmp_path: Path) -> None:
    run(tmp_path, steps=2)
    other = new_tiny(
        backbone().vae, TinyText(dim=16, length=5, words=64),
        TinyTransformer(layers=2, heads=2, head_dim=16, ffn_dim=48, freq_dim=32), 0,
    )  # fmt: skip
    with pytest.raises(ResumeError, match=r"text.place was \[4, 16\] and is \[5, 16\]; put the model's sizes back"):
        run(tmp_path, steps=4, base=other)


def test_what_does_not_shape_the_result_may_change(tmp_path: Path) -> None:
    run(tmp_path, steps=2)
    assert run(tmp_path, steps=3, micro_batch=2, log_every=2, checkpoint__every=1, validation__every=1).step == 3


def test_a_training_that_is_done_says_so(tmp_path: Path) -> None:
    done = run(tmp_path, steps=2)
    again = run(tmp_path, steps=2)
    assert again.message == f"nothing to do: {done.checkpoint} has 2 steps, and 2 are wanted"
    assert run(tmp_path, steps=1).message == f"nothing to do: {done.checkpoint} has 2 steps, and 1 are wanted"


def test_the_learning_rate_warms_up_and_falls_as_its_schedule_says() -> None:
    constant = Optimizer(lr=2.0, warmup_steps=4)
    assert [learning_rate(constant, n) for n in (0, 1, 3, 4, 99)] == [0.5, 1.0, 2.0, 2.0, 2.0]
    cosine = Optimizer(lr=2.0, warmup_steps=4, schedule="cosine", horizon_steps=24)
    for n in range(4, 30):
        share = min((n - 4) / 20, 1)
        assert learning_rate(cosine, n) == pytest.approx(2.0 * math.cos(share * math.pi / 2) ** 2, abs=1e-12)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"steps": 0}, "training.steps: is 0; it must be above 0"),
        ({"text_dropout": 1.5}, "training.text_dropout: is 1.5"),
        ({"ema_decay": 1.0}, "training.ema_decay"),
        ({"channel_power": 2.0}, "training.channel_power: is 2.0"),
        ({"optimizer__lr": -1.0}, "training.optimizer.lr"),
        ({"optimizer__lr": math.nan}, "training.optimizer.lr"),
        ({"optimizer__betas": (0.9, 1.0)}, "training.optimizer.betas"),
        ({"optimizer__schedule": "cosine"}, "training.optimizer.horizon_steps: is None"),
        ({"validation__sigmas": ()}, "training.validation.sigmas"),
        ({"validation__sigmas": (0.5, 1.0)}, "training.validation.sigmas"),
        ({"sigma__shift": 0.0}, "training.sigma.shift"),
        ({"checkpoint__keep": 0}, "training.checkpoint.keep"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused_by_name(change: dict[str, Any], said: str) -> None:
    with pytest.raises(TrainConfigError) as refused:
        changed(CONFIG, **change)
    assert said in str(refused.value)


def test_every_field_either_shapes_the_result_or_is_known_to_be_free() -> None:
    shaping = {name.split(".")[0] for name in CONFIG.mathematics()}
    assert shaping | FREE == set(TrainConfig.__dataclass_fields__)
    assert not shaping & FREE


def test_errors_are_sentences_for_users() -> None:
    for error in (TrainingDiverged, ResumeError, TrainConfigError, TooManyRanksError):
        assert issubclass(error, UserError)
