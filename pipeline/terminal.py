"""What many commands share: their options, and how they print."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")


def root_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--root`: a folder, a URL, or the run.yaml that names it; also from the environment."""
    return click.option(
        "--root",
        required=True,
        envvar="BODYDOUBLE_ROOT",
        callback=lambda _ctx, _option, value: _root_of(value),
        help="Folder or URL of the tables and artifacts, or the run.yaml that names it (or set BODYDOUBLE_ROOT).",
    )(command)


def _root_of(value: str) -> str:
    if not value:
        raise click.BadParameter("is empty; name a folder or a URL, or leave it out if BODYDOUBLE_ROOT names it")
    if not value.endswith((".yaml", ".yml")):
        return value
    from pipeline.config import load

    return load(value).config.root


def print_json(data: Any) -> None:
    """Print a value as JSON for programs; what JSON does not know, as text."""
    click.echo(json.dumps(data, indent=2, ensure_ascii=False, default=str))


def print_json_line(data: Any) -> None:
    """Print a value as one line of JSON, for programs that read a stream."""
    click.echo(json.dumps(data, ensure_ascii=False, default=str))


def print_table(table: Any) -> None:
    """Print a rich table; without a terminal (a pipe, a log file) nothing is known of its width, and nothing is cut."""
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else 200).print(table)


def say_if_nothing_was_imported(root: str) -> None:
    """Say on stderr what comes first, if the tables under a root hold no row: all counts are then 0, and no error."""
    from manifests.schema import TRACKS
    from manifests.tables import Tables

    tables = Tables(root)
    if not any(tables.count(track) for track in TRACKS):
        hint = f"bodydouble import sources LIST --root {root}"
        click.echo(f"nothing was imported under {root} yet: {hint}", err=True)


@contextmanager
def bars(quiet: bool = False) -> Iterator[Callable[[str, int, int], None]]:
    """Give what shows how far things are: bars on a terminal, elsewhere a line when a part is done.

    It is told what is being done, how much of it is, and how much there is.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    shown = console.is_terminal and not quiet
    with Progress(*columns, console=console, disable=not shown) as bars:
        tasks: dict[str, Any] = {}

        def told(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done)
            if done == total and not (shown or quiet):
                print(f"{what}: {done} of {total}", file=sys.stderr, flush=True)

        yield told
