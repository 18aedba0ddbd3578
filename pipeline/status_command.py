"""The command `status`: a live run, seen from outside."""

import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from pipeline.terminal import json_option, print_json, print_json_line, print_table, root_option

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

    from pipeline.fitting import Fitting
    from pipeline.status import StageStatus, Status, View

WATCH_EVERY_S = 2.0


@click.command()
@root_option
@json_option
@click.option("--watch", is_flag=True, help="Look again every two seconds, until the run ends.")
def status(root: str, as_json: bool, watch: bool) -> None:
    """See what a run does now, from outside.

    Who holds the root, whether it lives, and how far each stage has come. It takes no lease and needs no cluster, only
    to read the root. With --watch and --json: one line of JSON at each look.

    \b
    bodydouble status --root runs/mine
    bodydouble status --root run.yaml --watch
    bodydouble status --root s3://bucket/mine --json | jq .state
    """
    from manifests.holder import Onlooker
    from pipeline.status import follow, look

    onlooker = Onlooker(root)
    if watch:
        try:
            _show(follow(onlooker, WATCH_EVERY_S), as_json)
        except KeyboardInterrupt:  # the way to leave it; the run goes on
            sys.exit(130)
    elif as_json:
        print_json(look(onlooker).as_json())
    else:
        print_table(_screen(look(onlooker)))


def _show(views: "Iterator[View]", as_json: bool) -> None:
    """Show one view after the other: in one place on a terminal, elsewhere one below the other where they differ."""
    from rich.console import Console
    from rich.live import Live

    if as_json:
        for view in views:
            print_json_line(view.as_json())
    elif sys.stdout.isatty():
        with Live(console=Console(), auto_refresh=False) as live:
            for view in views:
                live.update(_screen(view), refresh=True)
    else:
        before = None
        for view in views:
            if view.page != before:
                print_table(_screen(view))
                click.echo()
            before = view.page


def _screen(view: "View") -> "Group":
    """Return a view as a person reads it."""
    from rich.console import Group
    from rich.text import Text

    parts: list[Text | Fitting] = [Text(line, overflow="fold") for line in _heading(view)]
    if view.page is not None:
        parts += [Text(), _stages(view.page, view.lives)]
        if view.page.stalled is not None and view.lives:
            stalled = view.page.stalled
            what = f"{stalled.stage} works on {stalled.item} in worker {stalled.worker}"
            parts += [Text(), Text(f"nothing was finished for {stalled.for_s:.0f} s: {what}", style="red")]
    return Group(*parts)


def _heading(view: "View") -> Iterator[str]:
    page, holder = view.page, view.holder
    who = "" if holder is None else f"`{holder.who}` (process {holder.pid} on {holder.host})"
    if view.word == "never":
        yield f"{view.root}: no run has written its state here yet"
        return
    if view.word == "held":
        of = "no run has written its state yet" if page is None else "what follows is of the run before"
        yield f"{view.root} is held by {who}; {of}"
    if page is None:
        yield f"{view.root}: {view.word}; {who} has written no state"
        return
    span = f"began {_clock(page.started_at)}, last heard of {_clock(page.updated_at)}{_ago(page)}"
    if view.word == "running":
        yield f"{view.root}: running {_where(page)}, {who}"
    elif view.word == "standing still":
        yield f"{view.root}: {who} is there and stands still: let it go on (`fg`, or SIGCONT), or end it"
    elif view.word == "died":
        yield f"{view.root}: died: {who} went without a word; what was finished is kept: run again to go on"
    elif view.word == "stopped":
        yield f"{view.root}: stopped: {page.why}; what was finished is kept: run again to go on"
    elif view.word == "ended":
        yield f"{view.root}: ended"
    yield span


def _where(page: "Status") -> str:
    return "on Ray" if page.engine == "ray" else "on one machine"


def _clock(time: str) -> str:
    return f"{datetime.fromisoformat(time).astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _ago(page: "Status") -> str:
    """Say how long ago, if both clocks agree at all."""
    from pipeline.cost_page import duration

    seconds = (datetime.now(UTC) - datetime.fromisoformat(page.updated_at)).total_seconds()
    return f" ({duration(seconds)} ago)" if seconds >= 1 else ""


def _stages(page: "Status", lives: bool) -> "Fitting":
    """Return the stages; on a narrow terminal without what can be done without."""
    from pipeline.fitting import Fitting

    ended = ["done", "rejected", "quarantined", "to do"]
    held = ["in work", "waiting"] if any(line.in_flight is not None for line in page.stages) else []
    if not lives:
        return Fitting(_table(page, [*ended, "an item"]))
    wide = [*ended, *held, "an item", "an hour", "left"]
    return Fitting(_table(page, wide), _table(page, [*ended, *held, "left"]), _table(page, [*ended, "left"]))


def _table(page: "Status", columns: list[str]) -> "Table":
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("stage")
    for column in columns:
        table.add_column(column, justify="right")
    for line in page.stages:
        cells = _cells(line)
        table.add_row(f"{line.track}.{line.stage}", *(cells[column] for column in columns))
    return table


def _cells(line: "StageStatus") -> dict[str, str]:
    from pipeline.cost_page import duration

    counts = {"done": line.done, "rejected": line.rejected, "quarantined": line.quarantined, "to do": line.to_do}
    counts |= {"in work": line.in_flight or 0, "waiting": line.waiting or 0}
    return {name: f"{count:,}" for name, count in counts.items()} | {
        "an item": "-" if line.seconds_median is None else duration(line.seconds_median),
        "an hour": f"{line.per_s * 3600:,.0f}",
        "left": "-" if not line.per_s or not line.to_do else duration(line.to_do / line.per_s),
    }
