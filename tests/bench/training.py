"""Training: what a frozen base saves of a step, and how much of a step is spent waiting for samples."""

import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from model.text import TinyText
from model.tiny import TinyTransformer, TinyVae, new_vae
from model.training import metrics, order, parallel
from model.training.config import Lora, TrainConfig
from model.training.learner import Learner
from model.training.strategy import Batch, PoseDriven
from model.wan import Wan, new_tiny
from model.wan_config import SETTINGS_OF
from pipeline.train import Training, load
from tests.model.training import small_cuts
from tests.pipeline.small_runs import saved_vae, write
from tests.pipeline.small_shard_runs import shard_run

Measured = dict[str, Any]
ROUNDS, BATCH = 8, 2
LATENT = (16, 6, 8, 16)  # channels, frames, rows, columns of a composite: 192 tokens, as the embedded teacher's
SIZES = TinyTransformer(layers=6, heads=4, head_dim=64, ffn_dim=1024, freq_dim=64)
RANK = 16  # of 256 channels, as 256 of 5120 in Wan-14B
STEPS, BEGINNING, WORKERS = 30, 5, 2


class Noise:
    """Samples of the teacher's size that are not worth learning."""

    digest = "noise"

    def __len__(self) -> int:
        return 100

    def read(self, indices: Sequence[int]) -> Batch:
        shape = (len(indices), *LATENT)
        left = torch.zeros(len(indices), 1, *LATENT[1:])
        left[..., : LATENT[3] // 2] = 1
        mask = torch.ones(len(indices), 4, *LATENT[1:])
        return Batch(torch.randn(shape), torch.randn(shape), mask, left, ["a red bird waves"] * len(indices))


def measure() -> list[Measured]:
    """Measure both."""
    torch.set_num_threads(1)
    return [frozen(), waiting()]


def frozen() -> Measured:
    """Seconds of a step of a LoRA on a frozen base over those of a step of all weights, one after the other."""
    config = TrainConfig(
        steps=1, global_batch=BATCH, micro_batch=BATCH, precision="fp32", lora=Lora(rank=RANK), device="cpu"
    )
    with parallel.ranks("cpu") as alone:
        learners = {
            trainable: Learner(replace(config, trainable=trainable), _backbone(), PoseDriven(), alone)
            for trainable in ("full", "lora")
        }
        taken: dict[str, list[float]] = {trainable: [] for trainable in learners}
        for done in range(ROUNDS):
            place = order.indices(0, done, BATCH, [(0, 100)])
            for trainable, learner in learners.items():
                began_s = time.perf_counter()
                learner.step(Noise(), place, done, stop=False)
                taken[trainable].append(time.perf_counter() - began_s)
    ratio = statistics.median(b / a for a, b in zip(taken["full"][1:], taken["lora"][1:], strict=True))
    name = "a step of a LoRA on a frozen base, over one of all weights (fp32, one CPU thread, 192 tokens)"
    return _row(name, ratio, "", at_most=0.75)


def waiting() -> Measured:
    """Share of the time of a training that decodes and encodes in each step in which it waits for two readers."""
    with tempfile.TemporaryDirectory() as folder:
        cut, vae = small_cuts.make(Path(folder, "cut")), saved_vae(Path(folder, "vae"))
        data = {"encode": "each_step", "workers": WORKERS}
        said = shard_run(Path(folder, "run"), cut.root, vae, data, steps=STEPS, validation={"every": 0})
        said["backbone"]["fresh"]["transformer"] = {
            "layers": 6, "heads": 4, "head_dim": 64, "ffn_dim": 1024, "freq_dim": 64
        }  # fmt: skip
        Training(load(write(Path(folder, "run.yaml"), said), [])).start()
        lines = [line for line in metrics.read(Path(folder, "run")) if line["step"] > BEGINNING and "loss" in line]
    share = sum(line["waited_s"] for line in lines) / sum(line["seconds"] for line in lines)
    name = f"waiting for samples, of a step that encodes 32 x 32 px, {WORKERS} readers, after {BEGINNING} steps"
    return _row(name, 100 * share, "%", at_most=5.0)


def _backbone() -> Wan:
    vae = new_vae(TinyVae(z_dim=LATENT[0], base_dim=4, dim_mult=(1, 1, 1)), 0)
    text = TinyText(dim=64, length=8, words=64, seed=0)
    return new_tiny(vae, text, SIZES, 0, replace(SETTINGS_OF["tiny"], tile_px=0))


def _row(name: str, value: float, unit: str, at_most: float) -> Measured:
    return {"name": name, "value": value, "unit": unit, "target": f"<= {at_most:g}", "holds": value <= at_most}


if __name__ == "__main__":
    for each in measure():
        print(each)
