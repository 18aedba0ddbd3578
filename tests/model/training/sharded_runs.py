"""A program for torchrun: small trainings whose weights are shared out, one after the other in one group of processes.

python -m torch.distributed.run ... -m tests.model.training.sharded_runs FOLDER NAME...

Each trains in FOLDER/NAME; what a user would be told is written to FOLDER/NAME/said-RANK.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from manifests.errors import UserError
from model.training import checkpoint, parallel, sharded_checkpoint, sharding
from model.training.config import Parallel
from model.training.learner import Learner
from model.training.muon import GatheredMuon
from model.training.strategy import PoseDriven
from tests.model.training.small_training import CONFIG, Patterns, backbone, changed, run

FSDP = {"parallel": Parallel(shard="fsdp")}
FULL = {"text_dropout": 0.9}
LORA = {"trainable": "lora", "global_batch": 5, "micro_batch": 2}  # 2 and 3 samples: one micro-batch and two
MUON = {"optimizer__kind": "muon", "recompute": True, "checkpoint__dtype": "fp16"}
RUNS: dict[str, list[dict[str, Any]]] = {
    "full": [FULL],
    "parts": [FULL | {"steps": 2}, FULL],
    "lora": [LORA],
    "lora parts": [LORA | {"steps": 4}, LORA],
    "muon": [MUON],
    "begun by one": [FULL],
    "gone on": [FULL | {"steps": 8}],
    "spoilt": [{"steps": 20, "checkpoint__every": 1}],
    "too small": [{"global_batch": 1, "micro_batch": 1}],
}


def told_to(folder: Path, name: str) -> None:
    """Train as `name` says, and write down what came of it."""
    rank = torch.distributed.get_rank()
    (folder / name).mkdir(exist_ok=True)
    source = Patterns(10, spoilt=4) if name == "spoilt" else None
    try:
        for values in RUNS[name]:
            said = run(folder / name, source, **FSDP, **values).message
    except UserError as error:
        said = str(error)
    (folder / name / f"said-{rank}").write_text(said)


def gathered(folder: Path) -> None:
    """Read the newest checkpoint of FOLDER/full, shared out among these processes, and write all of it as one file."""
    config = changed(CONFIG, **FSDP, **FULL)
    with parallel.ranks("cpu") as ranks:
        learner = Learner(config, backbone(), PoseDriven(), ranks)
        checkpoints = folder / "full" / "checkpoints"
        step = checkpoint.steps(checkpoints)[-1]
        now = checkpoint.read_state(checkpoint.at(checkpoints, step))
        learner.restore(sharded_checkpoint.load(checkpoints, step, now, learner.parameters))
        whole = {name: sharding.whole(tensor).contiguous() for name, tensor in learner.tensors().items()}
        if ranks.main:
            save_file(whole, folder / f"gathered-{ranks.world}.safetensors")
            held = {name: sharding.part(parameter).numel() for name, parameter in learner.parameters.items()}
            (folder / f"held-{ranks.world}.json").write_text(json.dumps(held))


def stepped_by_muon(folder: Path) -> None:
    """Step a matrix that is shared out, and the whole one by torch's own Muon, along the same gradients."""
    drawn = torch.Generator().manual_seed(0)
    first, *gradients = (torch.randn(5, 6, generator=drawn) for _ in range(4))  # of 5 rows, 3 and 2
    module = torch.nn.Linear(6, 5, bias=False)
    with torch.no_grad():
        module.weight.copy_(first)
    world = torch.distributed.get_world_size()
    sharding.shard(module, world, torch.device("cpu"))
    alone = torch.nn.Parameter(first.clone())
    settings: dict[str, Any] = {"lr": 0.1, "weight_decay": 0.1, "momentum": 0.95, "adjust_lr_fn": "match_rms_adamw"}
    ours, theirs = GatheredMuon([module.weight], **settings), torch.optim.Muon([alone], **settings)
    for gradient in gradients:
        module.weight.grad = sharding.like(gradient, module.weight)
        alone.grad = gradient
        ours.step()
        theirs.step()
    whole = sharding.whole(module.weight.detach())
    if torch.distributed.get_rank() == 0:
        save_file({"ours": whole.contiguous(), "torch's": alone.detach()}, folder / "muon.safetensors")


def main() -> None:
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    with parallel.ranks("cpu"):
        for name in sys.argv[2:]:
            if name == "gathered":
                gathered(folder)
            elif name == "stepped by muon":
                stepped_by_muon(folder)
            else:
                told_to(folder, name)


if __name__ == "__main__":
    main()
