"""The commands. Libraries that only some of them need are imported where they are needed: `--help` answers at once."""

import signal
import sys
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

try:
    import click

    from manifests.errors import UserError
    from pipeline.importing import import_
    from pipeline.ledger_commands import look, quarantine, requeue, trace
    from pipeline.manifest_commands import manifest
    from pipeline.terminal import json_option, print_json, print_table, say_if_nothing_was_imported
    from pipeline.train_commands import train, train_vae
except KeyboardInterrupt:  # in the first tenths of a second there is nothing to stop yet
    sys.exit(130)

if TYPE_CHECKING:
    from pipeline.config import Run
    from pipeline.plan import StageCount

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}
ORDER = (
    "import", "manifest", "config", "plan", "run", "funnel", "quarantine", "requeue", "trace", "look", "train-vae",
    "train", "demo",
)  # fmt: skip


class Commands(click.Group):
    """A group that prints an error which the user can mend as one line, without a traceback."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Name the commands in the order of use."""
        return sorted(self.commands, key=ORDER.index)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except UserError as error:
            click.echo(f"bodydouble: {error}", err=True)
            sys.exit(error.exit_code)


@click.group(cls=Commands, context_settings=CONTEXT)
@click.version_option(package_name="bodydouble")
def main() -> None:
    """The open data engine of the DreamActor-M2 method: real clips in, training pairs out.

    \b
    bodydouble import sources clips/ --root runs/mine     what there is
    bodydouble config template > run.yaml                 what to do
    bodydouble plan run.yaml                              what is left to do
    bodydouble run run.yaml                               do it; kill it, run it again: nothing is lost
    bodydouble funnel run.yaml                            why so few survived
    """


import_.short_help = "Import a list of films or pictures."
manifest.short_help = "See what is in the tables; freeze and compare versions."
main.add_command(import_, "import")
main.add_command(train)
main.add_command(train_vae)
for _command in (manifest, quarantine, requeue, trace, look):
    main.add_command(_command)

_config = click.argument("config", metavar="RUN.YAML", type=click.Path(dir_okay=False))
_sets = click.option(
    "--set", "sets", multiple=True, metavar="A.B=C", help="Change one value of the config; repeatable."
)


@main.command()
@_config
@_sets
@json_option
@click.option("--limit", type=click.IntRange(1, sys.maxsize), help="Only the first N rows of each table, by id.")
@click.option("--until", metavar="STAGE", help="Leave out the stages after this one.")
@click.option("--verify", is_flag=True, help="First read every artifact; what is missing or changed is made again.")
@click.option("--quiet", is_flag=True, help="No live lines.")
def run(
    config: str, sets: tuple[str, ...], as_json: bool, limit: int | None, until: str | None, verify: bool, quiet: bool
) -> None:
    """Do what is left to do, on this machine.

    It may be killed at any moment, and started again: what was finished is kept, what was in flight is done again.
    Ctrl-C ends it in good order.

    \b
    bodydouble run run.yaml
    bodydouble run run.yaml --limit 20 --until probe      a first look
    bodydouble run run.yaml --set workers=4
    """
    signal.signal(signal.SIGTERM, _like_ctrl_c)
    try:
        loaded, counts = _execute(config, sets, limit, until, verify, quiet)
    except (KeyboardInterrupt, UserError, ValueError, OSError, RuntimeError) as error:
        # an interrupt that meets Lance at work comes out as one of Lance's own errors, with the name in its text
        if not isinstance(error, KeyboardInterrupt) and "KeyboardInterrupt" not in str(error):
            raise
        click.echo("stopped; what was finished is kept: run the same command again to go on", err=True)
        sys.exit(130)
    _print_funnel(counts, as_json)
    if not as_json and any(line.quarantined for lines in counts.values() for line in lines):
        click.echo(f"\nRows in quarantine wait for you: bodydouble quarantine --root {loaded.config.root}")
    say_if_nothing_was_imported(loaded.config.root)


def _execute(
    config: str, sets: tuple[str, ...], limit: int | None, until: str | None, verify: bool, quiet: bool
) -> "tuple[Run, dict[str, list[StageCount]]]":
    """Run a config, and count what became of its rows."""
    from pipeline import funnel as funnels
    from pipeline.config import load
    from pipeline.progress import Progress
    from pipeline.run import execute

    loaded = load(config, sets)
    progress = Progress(quiet)
    try:
        plans = execute(loaded, limit, until, progress, verify)
    finally:
        progress.end()
    idle = limit is None and until is None and all(position < 0 for plan in plans for position in plan.position)
    return loaded, {plan.track: plan.counts for plan in plans} if idle else funnels.funnel(loaded)


def _print_funnel(counts: "dict[str, list[StageCount]]", as_json: bool) -> None:
    from pipeline import funnel as funnels

    if as_json:
        print_json(funnels.as_json(counts))
    else:
        print_table(funnels.as_table(counts))


def _like_ctrl_c(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


@main.command()
@_config
@_sets
@json_option
@click.option("--limit", type=click.IntRange(1, sys.maxsize), help="Only the first N rows of each table, by id.")
@click.option("--until", metavar="STAGE", help="Leave out the stages after this one.")
@click.option("--diff", "other", metavar="OTHER.YAML", type=click.Path(dir_okay=False), help="What would run again.")
def plan(
    config: str, sets: tuple[str, ...], as_json: bool, limit: int | None, until: str | None, other: str | None
) -> None:
    """Say what is cached, what is to do, and what is quarantined.

    For each stage, and without doing anything.

    \b
    bodydouble plan run.yaml
    bodydouble plan run.yaml --diff other.yaml            the fields that make stages run again
    bodydouble plan run.yaml --set stages.sources.skeleton.max_people=2
    """
    from manifests import ledger
    from manifests.tables import Tables
    from pipeline import plan as plans
    from pipeline.config import load
    from pipeline.funnel import plan_table

    loaded = load(config, sets)
    if other is not None:
        changes = plans.why_again(loaded, load(other))
        if as_json:
            print_json({"again": changes})
        elif not changes:
            click.echo(f"{other} finds every result of {config}: nothing runs again")
        for change in changes if not as_json else []:
            causes = [*change["fields"], *(f"upstream stage {stage} runs again" for stage in change["upstream"])]
            click.echo(f"{change['track']}.{change['stage']} runs again: {'; '.join(causes)}")
        return
    tables = Tables(loaded.config.root)
    counts = plans.summary(plans.plan_run(loaded, tables, ledger.fold(tables), limit, until))
    if as_json:
        print_json({"tables": counts})
    else:
        print_table(plan_table(counts))
    say_if_nothing_was_imported(loaded.config.root)


@main.command()
@_config
@_sets
@json_option
def funnel(config: str, sets: tuple[str, ...], as_json: bool) -> None:
    """Count what went into each stage, and what became of it.

    `in` is always the sum of the other numbers.

    \b
    bodydouble funnel run.yaml
    bodydouble funnel run.yaml --json | jq '.tables.sources[] | {stage, rejected}'
    """
    from pipeline import funnel as funnels
    from pipeline.config import load

    loaded = load(config, sets)
    _print_funnel(funnels.funnel(loaded), as_json)
    say_if_nothing_was_imported(loaded.config.root)


@main.group()
def config() -> None:
    """Print a config to start from, or check one."""


@config.command()
def template() -> None:
    """Print a config with every field, its default and what it means.

    \b
    bodydouble config template > run.yaml
    """
    from pipeline.config import template as text

    click.echo(text(), nl=False)


@config.command()
@_config
@_sets
@json_option
def validate(config: str, sets: tuple[str, ...], as_json: bool) -> None:
    """Check a config as `run` would, and say what it means in full.

    \b
    bodydouble config validate run.yaml
    """
    from manifests.tables import root_of
    from pipeline.config import load

    loaded = load(config, sets)
    recipes = {track: {spec.name: spec.recipe for spec in specs} for track, specs in loaded.tracks.items()}
    if as_json:
        print_json({"root": loaded.config.root, "stages": recipes})
    else:
        stages = ", ".join(f"{track}.{name}" for track, listed in recipes.items() for name in listed)
        click.echo(f"{config} is sound: {stages or 'no stage'} under {root_of(loaded.config.root)}")


@main.command()
@click.option("--folder", default="runs/demo", show_default=True, type=click.Path(file_okay=False), help="Where to.")
@json_option
def demo(folder: str, as_json: bool) -> None:
    """Real clips to skeletons that can be looked at, in one go.

    Fetch the demo's clips, import them, run to skeletons, and draw what was found.

    \b
    bodydouble demo
    bodydouble demo --folder /tmp/demo --json
    """
    from pipeline.demo import run_demo

    run_demo(Path(folder), as_json)


if __name__ == "__main__":
    main(prog_name="bodydouble")
