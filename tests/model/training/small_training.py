"""A small real training for tests: diffusers' Wan at toy size on made-up latents; also a program, to be killed.

python -m tests.model.training.small_training FOLDER --set steps=6 --set checkpoint.every=2
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from manifests.errors import UserError
from model.text import TinyText
from model.tiny import TinyTransformer, TinyVae, new_vae
from model.training.config import Checkpoints, Lora, Optimizer, TrainConfig, Validation
from model.training.loop import Summary, train
from model.training.strategy import Batch, PoseDriven
from model.wan import Wan, new_tiny
from model.wan_config import SETTINGS_OF

CHANNELS, FRAMES, HEIGHT, WIDTH = 4, 2, 2, 4  # latent cells; WIDTH is of the composite
TOKENS = FRAMES * (HEIGHT // 2) * (WIDTH // 2)

CONFIG = TrainConfig(
    steps=6,
    global_batch=4,
    micro_batch=4,
    trainable="full",
    precision="fp32",
    text_dropout=0.25,
    ema_decay=0.9,
    lora=Lora(rank=4),
    optimizer=Optimizer(lr=1e-3, warmup_steps=2),
    validation=Validation(every=3, samples=3, sigmas=(0.3, 0.7)),
    checkpoint=Checkpoints(every=2, keep=2),
    device="cpu",
    sample_every=0,
    tensorboard=False,
)


class Patterns:
    """A source of latents that a model can learn: the target is a mix of a few patterns, and the condition tells which.

    Sample n is a pure function of (name, n).
    """

    def __init__(self, size: int, name: str = "train", *, channels: int = CHANNELS, spoilt: int | None = None) -> None:
        self.size, self.channels, self.spoilt = size, channels, spoilt
        self.digest = f"patterns {name} {size}"
        self._first = sum(name.encode()) * 1000

    def __len__(self) -> int:
        return self.size

    def read(self, indices: Sequence[int]) -> Batch:
        """Return the samples of these numbers; the spoilt one, if any, is not a number."""
        targets = torch.stack([self._target(n) for n in indices])
        cond = targets.flip(-1)
        mask = torch.zeros(len(indices), 4, FRAMES, HEIGHT, WIDTH)
        mask[:, :, 0] = 1
        left = torch.zeros(len(indices), 1, FRAMES, HEIGHT, WIDTH)
        left[..., : WIDTH // 2] = 1
        return Batch(targets, cond, mask, left, prompts=[f"pattern {n % 3}" for n in indices])

    def _target(self, number: int) -> Tensor:
        generator = torch.Generator().manual_seed(self._first + number)
        made = torch.randn(self.channels, FRAMES, HEIGHT, WIDTH, generator=generator)
        return made * float("nan") if number == self.spoilt else made


def backbone(seed: int = 0, layers: int = 2) -> Wan:
    """Return a tiny Wan with fresh weights; the last layer is drawn too, so that gradients reach every parameter."""
    vae = new_vae(TinyVae(z_dim=CHANNELS, base_dim=4, dim_mult=(1, 1, 1)), seed)
    text = TinyText(dim=16, length=4, words=64, seed=seed)
    sizes = TinyTransformer(layers=layers, heads=2, head_dim=16, ffn_dim=48, freq_dim=32)
    wan = new_tiny(vae, text, sizes, seed, replace(SETTINGS_OF["tiny"], tile_px=0))
    with torch.no_grad():
        wan.transformer.proj_out.weight.normal_(std=0.02, generator=torch.Generator().manual_seed(seed))
    return wan


def changed(config: TrainConfig, **values: Any) -> TrainConfig:
    """Return the config with fields replaced; `optimizer__lr=1` reaches into a part."""
    for name, value in values.items():
        part, _, inner = name.partition("__")
        config = replace(config, **{part: replace(getattr(config, part), **{inner: value}) if inner else value})
    return config


def run(folder: Path, source: Any = None, base: Wan | None = None, on_step: Any = None, **values: Any) -> Summary:
    """Train `CONFIG` with some fields replaced on 10 samples, with 4 held out."""
    config, wan = changed(CONFIG, **values), base or backbone()
    held_out = Patterns(4, "held out")
    return train(config, wan, PoseDriven(), source or Patterns(10), held_out, folder, on_step=on_step)


def weights(checkpoint: Path) -> dict[str, Tensor]:
    """Return all tensors that training goes on from."""
    from safetensors.torch import load_file

    return load_file(checkpoint / "trainer.safetensors")


def without_times(lines: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return lines of metrics without what a clock says."""
    return [
        {k: v for k, v in line.items() if k not in {"seconds", "tokens_per_s", "mfu", "waited_s"}} for line in lines
    ]


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--set", action="append", default=[])
    given = parser.parse_args()
    values = dict(setting.split("=", 1) for setting in given.set)
    torch.set_num_threads(1)
    try:
        done = run(
            given.folder,
            on_step=lambda line: print(line["step"], flush=True),
            **{name.replace(".", "__"): json.loads(value) for name, value in values.items()},
        )
    except UserError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    if done.message:
        print(done.message, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
