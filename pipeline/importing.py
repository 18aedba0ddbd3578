"""`bodydouble import`: a list of films or pictures into the manifest."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import click

from manifests.errors import UserError, is_full
from pipeline.terminal import root_option

if TYPE_CHECKING:
    from pipeline.import_summary import ImportSummary
    from pipeline.intake import ImportOptions

PLAIN_EVERY_S: Final = 10.0  # without a terminal: one line at this interval


class ImportFailedError(UserError):
    """An import came to an end that the user can do something about; what was written before is whole."""

    exit_code = 1


def import_list(
    kind: str,
    list_: str,
    root: str,
    options: "ImportOptions | None" = None,
    *,
    base: str | None = None,
    ignore_unknown_columns: bool = False,
    show: bool = False,
) -> "ImportSummary":
    """Import a list (a folder, a glob, or a CSV, JSONL, Parquet or YAML file) into the table `kind` under `root`.

    Importing a list again changes nothing, and writes nothing. A killed import is simply repeated. What cannot be used
    gets a row with its reason. With `show`, progress goes to stderr.

    Raises:
        ListError: the list as a whole cannot be read (manifests/lists.py).
        LeaseTaken: another process writes to this root.
        ImportFailedError: the disk is full.
    """
    from manifests.lists import open_list
    from pipeline.intake import ImportOptions, Intake

    found = open_list(list_, kind, base=base, ignore_unknown_columns=ignore_unknown_columns)
    intake = Intake(found, root, options or ImportOptions())
    with _progress(found.size, show) as advance, _full_disk_in_one_line(root):
        for entries in intake.steps():
            advance(entries)
    return intake.summary


@contextmanager
def _progress(size: int, show: bool) -> Iterator[Callable[[int], None]]:
    """Give a function that counts entries: a bar on a terminal, a line now and then elsewhere."""
    if not show:
        yield lambda _entries: None
    elif sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("import"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task("", total=size)
            yield lambda entries: bar.advance(task, entries)
    else:
        yield _PlainLines(size).advance


class _PlainLines:
    """Progress for a log file."""

    def __init__(self, size: int) -> None:
        self._size, self._done = size, 0
        self._began = self._shown = time.monotonic()

    def advance(self, entries: int) -> None:
        self._done += entries
        now = time.monotonic()
        if now - self._shown >= PLAIN_EVERY_S:
            self._shown = now
            rate = self._done / (now - self._began)
            print(f"import {self._done}/{self._size} {rate:.1f}/s", file=sys.stderr, flush=True)


@contextmanager
def _full_disk_in_one_line(root: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if is_full(error):
            raise ImportFailedError(f"{root}: the disk is full; make room and import again: it goes on") from error
        raise


@click.group()
def import_() -> None:
    """Import a list of films (sources) or of pictures (characters) into the manifest.

    LIST is a folder, a glob in quotes, or a file that ends in .csv, .tsv, .jsonl, .parquet or .yaml with a column
    `path` (paths relative to the list, or URLs) and any of licence, consent, origin, identity, domain, tags, crop; for
    sources also start_s, end_s or frames, fps.
    """


def _shared(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that both commands have."""
    options = (
        click.argument("list_", metavar="LIST"),
        root_option,
        click.option("--base", metavar="DIR", help="Files must lie under it. [default: the folder of LIST]"),
        click.option("--licence", help="For rows that name none."),
        click.option("--consent", help="granted, unknown or refused; for rows that name none."),
        click.option("--origin", help="Where the files come from (page, package, owner); for rows that name none."),
        click.option("--identity", help="Who or what is seen, if all are of one; for rows that name none."),
        click.option("--domain", help="human, cartoon, animal or object; for rows that name none."),
        click.option("--tag", "tags", multiple=True, help="A tag for all rows; repeatable."),
        click.option("--ignore-unknown-columns", is_flag=True, help="Pass over columns that have no meaning here."),
        click.option("--allow-private-hosts", is_flag=True, help="Fetch from private addresses too, as of a mirror."),
        click.option("--refetch", is_flag=True, help="Fetch URLs again that were fetched before."),
        click.option("--max-mb", type=click.IntRange(1), default=2048, show_default=True, help="Largest file, MB."),
        click.option(
            "--workers", type=click.IntRange(1), default=_cores(), help="Files decoded at once. [default: cores]"
        ),
        click.option(
            "--on",
            type=click.Choice(["here", "ray"]),
            default="here",
            show_default=True,
            help="Where files are hashed and decoded: in processes of this machine, or on a Ray cluster.",
        ),
        click.option("--timeout-s", type=click.FloatRange(1), default=300, show_default=True, help="To decode a file."),
        click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON."),
        click.option("--quiet", is_flag=True, help="No progress."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@import_.command()
@_shared
@click.option("--fps", type=click.FloatRange(0.1), help="Frames a second of the segments. [default: each film's own]")
@click.option("--max-frames", type=click.IntRange(1), help="Cut longer segments into pieces of this many frames.")
@click.option("--min-frames", type=click.IntRange(1), default=1, show_default=True, help="Reject shorter segments.")
@click.option("--shots", is_flag=True, help="Cut at shots (needs the extra `shots`).")
@click.option("--shot-threshold", type=click.FloatRange(0, 1), default=0.5, show_default=True, help="Lower: more cuts.")
def sources(
    *, list_: str, root: str, fps: float | None, max_frames: int | None, min_frames: int, shots: bool,
    shot_threshold: float, **shared: Any,
) -> None:  # fmt: skip
    """Import films. Each becomes one segment or more: a row of the table `sources`.

    \b
    bodydouble import sources clips/ --root runs/mine --licence CC-BY-4.0 --consent granted
    bodydouble import sources "clips/**/*.mp4" --root runs/mine --fps 15 --max-frames 120 --min-frames 30
    bodydouble import sources clips.csv --root runs/mine --base /data --shots
    bodydouble import sources clips.parquet --root s3://bucket/mine --on ray
    """
    from manifests.segments import Cutting

    if max_frames is not None and max_frames < min_frames:
        raise click.UsageError(f"--max-frames {max_frames} is below --min-frames {min_frames}: nothing would be left")
    cutting = Cutting(fps, min_frames, max_frames)
    _import("sources", list_, root, shared, cutting=cutting, shots=shots, shot_threshold=shot_threshold)


@import_.command()
@_shared
def characters(list_: str, root: str, **shared: Any) -> None:
    """Import pictures of other identities. Each becomes a row of the table `characters`.

    \b
    bodydouble import characters pictures/ --root runs/mine --domain cartoon --licence CC0-1.0
    bodydouble import characters pictures.jsonl --root runs/mine --json
    """
    _import("characters", list_, root, shared)


def _import(kind: str, list_: str, root: str, shared: dict[str, Any], **how: Any) -> None:
    from manifests.download import DownloadLimits
    from manifests.entries import EntryError, given_of
    from manifests.inspection import Limits
    from pipeline.import_summary import told
    from pipeline.intake import ImportOptions

    try:
        given = given_of(
            {name: shared[name] for name in ("licence", "consent", "origin", "identity", "domain", "tags")}
        )
    except EntryError as error:
        raise click.UsageError(f"--{error}") from error
    max_bytes = shared["max_mb"] * 1_000_000
    options = ImportOptions(
        given=given,
        limits=Limits(max_bytes=max_bytes),
        downloads=DownloadLimits(max_bytes=max_bytes),
        allow_private_hosts=shared["allow_private_hosts"],
        refetch=shared["refetch"],
        workers=shared["workers"],
        timeout_s=shared["timeout_s"],
        on=shared["on"],
        **how,
    )
    try:
        summary = import_list(
            kind,
            list_,
            root,
            options,
            base=shared["base"],
            ignore_unknown_columns=shared["ignore_unknown_columns"],
            show=not (shared["quiet"] or shared["as_json"]),
        )
    except KeyboardInterrupt:
        click.echo("stopped; what was imported is kept: run the same command again to go on", err=True)
        sys.exit(130)
    click.echo(json.dumps(summary.as_json(), indent=2, ensure_ascii=False) if shared["as_json"] else told(summary))
