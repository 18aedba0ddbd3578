"""The commands that train."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from manifests.errors import UserError
from pipeline.terminal import json_option, print_json_line


class RayMissingError(UserError):
    """`--on ray` was asked for, and Ray is not installed."""


_config = click.argument("config", type=click.Path(path_type=Path, dir_okay=False))
_set = click.option("--set", "sets", multiple=True, metavar="A.B=C", help="Set one field of the config.")
_prepare = click.option("--prepare", is_flag=True, help="Only render (and encode) what the training will read.")
_part = click.option(
    "--part", default="1/1", show_default=True, metavar="I/N", help="With --prepare: this is process I of N."
)


def _share(text: str, prepare: bool) -> tuple[int, int]:
    first, _, all_ = text.partition("/")
    if not (first.isdigit() and all_.isdigit() and 1 <= int(first) <= int(all_)):
        raise click.BadParameter(f"{text!r} is no part; write 1/2 and, in the other process, 2/2", param_hint="--part")
    if all_ != "1" and not prepare:
        raise click.UsageError("--part goes with --prepare; a training shares its work by torchrun")
    return int(first) - 1, int(all_)


@click.command(short_help="Train a backbone, or go on training it.")
@_config
@_set
@_prepare
@_part
@click.option("--dry-run", is_flag=True, help="Say what it will cost (tokens, FLOP, memory, time), and end.")
@click.option("--on", type=click.Choice(["here", "ray"]), default="here", show_default=True, help="Or on a cluster.")
@click.option("--workers", type=click.IntRange(1), help="With --on ray: processes; as many as GPUs, if left out.")
@click.option("--address", metavar="HOST:PORT", help="With --on ray: of the cluster, if RAY_ADDRESS does not say.")
@click.option(
    "--restarts", type=click.IntRange(0), default=3, show_default=True, help="With --on ray: deaths of workers."
)
@click.option("--json", "as_json", is_flag=True, help="Print each step's metrics as JSON lines.")
def train(
    config: Path, sets: tuple[str, ...], prepare: bool, part: str, dry_run: bool, on: str, workers: int | None,
    address: str | None, restarts: int, as_json: bool,
) -> None:  # fmt: skip
    """Train a backbone on clips, from the newest checkpoint in the config's folder or from the beginning.

    \b
    bodydouble train pipeline/configs/teacher.yaml --dry-run
    bodydouble train pipeline/configs/teacher.yaml
    bodydouble train pipeline/configs/teacher.yaml --set training.steps=2000
    bodydouble train pipeline/configs/stage_two.yaml
    torchrun --standalone --local-addr 127.0.0.1 --nproc-per-node 2 -m pipeline train pipeline/configs/teacher.yaml
    bodydouble train pipeline/configs/stage_two.yaml --on ray --workers 8 --set training.parallel.shard=fsdp

    Several processes share a training by torchrun or on Ray; training.parallel says how. On Ray all nodes must see the
    config's folder: workers that die are started anew, and go on from the newest checkpoint there.

    Ctrl-C finishes the step, saves, and ends; the same command goes on.
    """
    share = _share(part, prepare)
    if on == "ray":
        if prepare or dry_run:
            raise click.UsageError("--prepare and --dry-run are for this machine; leave out --on ray")
        _train_on_ray(config, sets, workers, address, restarts, as_json)
        return
    if workers is not None or address is not None:
        raise click.UsageError("--workers and --address go with --on ray; here torchrun starts several processes")
    from pipeline import train as training

    whole = training.Training(training.load(config, sets))
    if share[0] == training.Share.of_ranks().part == 0:
        for note in whole.material.notes:
            click.echo(note, err=True)
    if prepare:
        whole.prepare(training.Share(*share))
        click.echo("all that the training will read is there")
    elif dry_run:
        click.echo(str(whole.estimate()))
    else:
        summary = whole.start(_on_step(whole.run.training.steps, as_json))
        if summary.message:
            click.echo(summary.message, err=as_json)


def _train_on_ray(
    config: Path, sets: tuple[str, ...], workers: int | None, address: str | None, restarts: int, as_json: bool
) -> None:
    from pipeline.train_config import load

    run = load(config, sets)
    try:
        from pipeline.ray_train import train_on_ray
    except ImportError as error:
        raise RayMissingError(
            f"--on ray needs Ray Train, and {error.name or error} cannot be imported; install bodydouble[train,ray], "
            "or leave out `--on ray`"
        ) from error
    told = train_on_ray(run, workers, address, restarts, _on_step(run.training.steps, as_json))
    click.echo(told, err=as_json)


@click.command("train-vae", short_help="Train the small VAE of the embedded backbone.")
@_config
@_set
@_prepare
@_part
@json_option
def train_vae(config: Path, sets: tuple[str, ...], prepare: bool, part: str, as_json: bool) -> None:
    """Train a small VAE, measure it inside held-out figures, and say whether it is good enough.

    \b
    bodydouble train-vae pipeline/configs/vae.yaml
    bodydouble train-vae pipeline/configs/vae.yaml --prepare --part 1/2

    Writes vae/ (diffusers' layout), measured.json and sheet.png into the config's folder. Exit code 1: not accepted.
    """
    share = _share(part, prepare)
    from pipeline import train_vae as training
    from pipeline.train import Share

    whole = training.VaeTraining(training.load(config, sets))
    if prepare:
        whole.prepare(Share(*share))
        click.echo("all that the training will read is there")
        return
    steps = whole.run.vae.steps
    told = _on_step(steps, as_json)
    verdict = whole.start(lambda step, loss: told({"step": step, "loss": loss}))
    if as_json:
        print_json_line(verdict.as_json())
    said = "accepted" if verdict.accepted else "NOT accepted"
    click.echo(f"{verdict.measured}; wanted {verdict.accept_db:g}: {said}", err=as_json)
    if not verdict.accepted:
        raise SystemExit(1)


@click.command("train-pose", short_help="Train the small pose estimator for small drawn figures.")
@_config
@_set
@_prepare
@_part
@json_option
def train_pose(config: Path, sets: tuple[str, ...], prepare: bool, part: str, as_json: bool) -> None:
    """Train a small pose estimator on theatre, measure it on held-out figures, and say whether it is good enough.

    \b
    bodydouble train-pose pipeline/configs/pose.yaml
    bodydouble train-pose pipeline/configs/pose.yaml --prepare --part 1/2

    Writes pose/, measured.json and sheet.png into the config's folder. Exit code 1: not accepted.
    """
    share = _share(part, prepare)
    from pipeline import train_pose as training
    from pipeline.train import Share

    whole = training.PoseTraining(training.load(config, sets))
    if prepare:
        whole.prepare(Share(*share))
        click.echo("all that the training will read is there")
        return
    told = _on_step(whole.run.pose.steps, as_json)
    verdict = whole.start(lambda step, loss: told({"step": step, "loss": loss}))
    if as_json:
        print_json_line(verdict.as_json())
    said = "accepted" if verdict.accepted else "NOT accepted"
    found = f"{verdict.near.mean():.3f} of the points of {len(verdict.near)} held-out clips within 0.2 trunks"
    click.echo(f"{found}; wanted {verdict.accept:g}: {said}", err=as_json)
    if not verdict.accepted:
        raise SystemExit(1)


def _on_step(steps: int, as_json: bool) -> Callable[[Mapping[str, Any]], None]:
    """Return what prints a step: one JSON line each, or one line of text every fifty steps."""

    def told(line: Mapping[str, Any]) -> None:
        for name in line.get("broken_samples", ()):
            click.echo(f"step {line['step']}: a broken sample, another stands in for it: {name}", err=True)
        if as_json:
            print_json_line(line)
        elif line["step"] % 50 == 0 or line["step"] in (1, steps):
            extra = f", {line['seconds']:.2f} s a step" if "seconds" in line else ""
            click.echo(f"step {line['step']} of {steps}: loss {line['loss']:.5f}{extra}")

    return told
