"""The commands. Libraries that only some of them need are imported where they are needed: `--help` answers at once."""

import json
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import click

from manifests.errors import UserError
from pipeline.importing import import_
from pipeline.manifest_commands import manifest
from pipeline.options import root_option

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


class Commands(click.Group):
    """A group that prints an error which the user can mend as one line, without a traceback."""

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


main.add_command(import_, "import")
main.add_command(manifest, "manifest")

_config = click.argument("config", metavar="RUN.YAML", type=click.Path(dir_okay=False))
_sets = click.option(
    "--set", "sets", multiple=True, metavar="A.B=C", help="Change one value of the config; repeatable."
)
_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")


def _print_json(data: Any) -> None:
    click.echo(json.dumps(data, indent=2, ensure_ascii=False, default=str))


@main.command()
@_config
@_sets
@_as_json
@click.option("--limit", type=click.IntRange(1), help="Only the first N rows of each table, by id.")
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
    from pipeline import funnel as funnels
    from pipeline.config import load
    from pipeline.progress import Progress
    from pipeline.run import execute

    loaded = load(config, sets)
    progress = Progress(quiet)
    signal.signal(signal.SIGTERM, _like_ctrl_c)
    try:
        plans = execute(loaded, limit, until, progress, verify)
    except KeyboardInterrupt:
        progress.end()
        click.echo("stopped; what was finished is kept: run the same command again to go on", err=True)
        sys.exit(130)
    finally:
        progress.end()
    idle = limit is None and until is None and all(position < 0 for plan in plans for position in plan.position)
    counts = {plan.track: plan.counts for plan in plans} if idle else funnels.funnel(loaded)
    if as_json:
        _print_json(funnels.as_json(counts))
        return
    _print_table(funnels.as_table(counts))
    if any(line.quarantined for lines in counts.values() for line in lines):
        click.echo(f"\nRows in quarantine wait for you: bodydouble quarantine --root {loaded.config.root}")


def _like_ctrl_c(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _print_table(table: Any) -> None:
    from rich.console import Console

    # without a terminal (a pipe, a log file) nothing is known of its width: then nothing is cut
    Console(width=None if sys.stdout.isatty() else 200).print(table)


@main.command()
@_config
@_sets
@_as_json
@click.option("--limit", type=click.IntRange(1), help="Only the first N rows of each table, by id.")
@click.option("--until", metavar="STAGE", help="Leave out the stages after this one.")
@click.option("--diff", "other", metavar="OTHER.YAML", type=click.Path(dir_okay=False), help="What would run again.")
def plan(
    config: str, sets: tuple[str, ...], as_json: bool, limit: int | None, until: str | None, other: str | None
) -> None:
    """Say what is cached, to do and quarantined in each stage, without doing anything.

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
            _print_json({"again": changes})
        elif not changes:
            click.echo(f"{other} finds every result of {config}: nothing runs again")
        for change in changes if not as_json else []:
            causes = [*change["fields"], *(f"upstream stage {stage} runs again" for stage in change["upstream"])]
            click.echo(f"{change['track']}.{change['stage']} runs again: {'; '.join(causes)}")
        return
    tables = Tables(loaded.config.root)
    counts = plans.summary(plans.plan_run(loaded, tables, ledger.fold(tables), limit, until))
    if as_json:
        _print_json({"tables": counts})
    else:
        _print_table(plan_table(counts))


@main.command()
@_config
@_sets
@_as_json
def funnel(config: str, sets: tuple[str, ...], as_json: bool) -> None:
    """Count what went into each stage and what became of it; `in` is always the sum of the rest.

    \b
    bodydouble funnel run.yaml
    bodydouble funnel run.yaml --json | jq '.tables.sources[] | {stage, rejected}'
    """
    from pipeline import funnel as funnels
    from pipeline.config import load

    counts = funnels.funnel(load(config, sets))
    if as_json:
        _print_json(funnels.as_json(counts))
    else:
        _print_table(funnels.as_table(counts))


@main.command()
@root_option
@_as_json
@click.option("--where", metavar="SQL", help="Only those that fit, e.g. \"stage = 'skeleton' and reason = 'timeout'\".")
def quarantine(root: str, as_json: bool, where: str | None) -> None:
    """List the rows that crashed, hung or hit an error, with the last words of each.

    \b
    bodydouble quarantine --root runs/mine
    bodydouble quarantine --root run.yaml --where "reason = 'crashed'" --json
    """
    from manifests import ledger
    from manifests.tables import Tables
    from pipeline.inspecting import settled

    rows = settled(Tables(root), (ledger.QUARANTINED,), where)
    if as_json:
        _print_json(rows)
        return
    for row in rows:
        click.echo(f"{row['item']}  {row['track']}.{row['stage']}  {row['reason']}  {row['written_at']:%Y-%m-%d %H:%M}")
        click.echo("\n".join(f"    {line}" for line in (row["detail"] or "").splitlines()[-12:]))
    click.echo(
        f"{len(rows)} in quarantine" + (f"; to try again: bodydouble requeue --root {root} --where ..." if rows else "")
    )


@main.command()
@root_option
@_as_json
@click.option("--where", metavar="SQL", required=True, help='Which, as for `quarantine`; "true" for all.')
@click.option("--rejected", is_flag=True, help="Rejected rows too (their stage will judge them anew).")
def requeue(root: str, as_json: bool, where: str, rejected: bool) -> None:
    """Send quarantined rows round again: the next `run` tries them.

    \b
    bodydouble requeue --root runs/mine --where "reason = 'timeout'"
    bodydouble requeue --root run.yaml --where "stage = 'skeleton' and detail like '%missing%'"
    """
    from pipeline.inspecting import requeue as send

    rows = send(root, where, rejected)
    if as_json:
        _print_json([{name: row[name] for name in ("item", "track", "stage", "reason")} for row in rows])
    else:
        click.echo(f"{len(rows)} requeued; the next `bodydouble run` tries them again")


@main.command()
@click.argument("item", metavar="ID")
@root_option
@_as_json
def trace(item: str, root: str, as_json: bool) -> None:
    """Say all that is known of one row: where it came from, what was made of it, by what, and when.

    \b
    bodydouble trace src_4f0c --root runs/mine            the beginning of an id is enough
    """
    from pipeline.inspecting import as_text
    from pipeline.inspecting import trace as history

    told = history(root, item)
    if as_json:
        _print_json(told)
    else:
        click.echo(as_text(told))


@main.command()
@click.argument("items", metavar="ID...", nargs=-1)
@root_option
@_as_json
@click.option("--all", "every", is_flag=True, help="Every source and character that has a skeleton.")
@click.option("--out", type=click.Path(file_okay=False), help="Folder for the pictures; ROOT/look if not given.")
def look(items: tuple[str, ...], root: str, as_json: bool, every: bool, out: str | None) -> None:
    """Draw a row's skeleton over its frames: an overlay video and a contact sheet.

    \b
    bodydouble look src_4f0c --root runs/mine
    bodydouble look --all --root runs/mine --out /tmp/sheets
    """
    from pipeline.inspecting import look as draw

    if not items and not every:
        raise click.UsageError("name an ID, or --all")
    drawn = draw(root, list(items), Path(out) if out else None)
    if as_json:
        _print_json(drawn)
    else:
        for each in drawn:
            click.echo("  ".join(str(each[name]) for name in ("id", "sheet", "video") if each.get(name)))


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
@_as_json
def validate(config: str, sets: tuple[str, ...], as_json: bool) -> None:
    """Check a config as `run` would, and say what it means in full.

    \b
    bodydouble config validate run.yaml
    """
    from pipeline.config import load

    loaded = load(config, sets)
    recipes = {track: {spec.name: spec.recipe for spec in specs} for track, specs in loaded.tracks.items()}
    if as_json:
        _print_json({"root": loaded.config.root, "stages": recipes})
    else:
        stages = ", ".join(f"{track}.{name}" for track, listed in recipes.items() for name in listed)
        click.echo(f"{config} is sound: {stages} under {os.path.abspath(loaded.config.root)}")


@main.command()
@click.option("--folder", default="runs/demo", show_default=True, type=click.Path(file_okay=False), help="Where to.")
def demo(folder: str) -> None:
    """Fetch the demo's clips, import them, run to skeletons, and draw what was found."""
    from pipeline.demo import run_demo

    run_demo(Path(folder))


if __name__ == "__main__":
    main(prog_name="bodydouble")
