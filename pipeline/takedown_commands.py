"""The commands of a takedown: impact, forget."""

import click

from pipeline.terminal import json_option, print_json, root_option

_runs = click.option(
    "--runs",
    multiple=True,
    default=("runs",),
    show_default=True,
    type=click.Path(file_okay=False),
    help="Folder in which trainings lie; may be given several times.",
)


@click.command()
@click.argument("item", metavar="ID")
@root_option
@_runs
@json_option
def impact(item: str, root: str, runs: tuple[str, ...], as_json: bool) -> None:
    """Say what a source or a character touches.

    Pairs, artifacts, shards, labels, reports and trainings. All rows of its file count. Nothing is written.

    \b
    bodydouble impact src_4f0c --root runs/mine           the beginning of an id is enough
    bodydouble impact chr_77aa --root run.yaml --runs /trainings --json
    """
    from pipeline.takedown import impact as touched_by

    found = touched_by(root, item, runs)
    if as_json:
        print_json(found.as_json())
        return
    about = found.as_json()
    click.echo(f"{found.track}: {', '.join(found.items)}")
    click.echo("\n".join(f"    {file}" for file in found.files))
    size_mb = about["artifacts"]["bytes"] / 1e6
    click.echo(f"{len(found.pairs):,} pairs, {found.outcomes:,} outcomes")
    click.echo(f"{len(found.artifacts):,} artifacts ({size_mb:,.1f} MB)")
    for title, lines in (
        ("shards", [f"{row['cut']}/{row['name']}.tar" for row in found.shards]),
        ("labels", found.labels),
        ("reports and pages", found.reports),
        ("tags", found.tags),
        ("trainings", [f"{each['folder']}: {each['how']}" for each in found.trainings]),
    ):
        click.echo(f"{len(lines):,} {title}")
        click.echo("".join(f"    {line}\n" for line in lines), nl=False)
    click.echo(f"to take it down: bodydouble forget {found.items[0]} --root {root} --reason ...")


@click.command()
@click.argument("item", metavar="ID")
@root_option
@click.option("--reason", required=True, help="Why; it is kept in the tombstone.")
@click.option("--by", help="Who asked; the user of this machine if not given.")
@_runs
@json_option
def forget(item: str, root: str, reason: str, by: str | None, runs: tuple[str, ...], as_json: bool) -> None:
    """Take a source or a character down, and all made of it.

    All rows of its file go: from tables and their old versions, artifacts, shards (those that hold it are written anew
    without it), pages and caches. A tombstone stays and refuses to import the file again. Killed, the same command
    finishes it. See first what it touches: `bodydouble impact ID`.

    \b
    bodydouble forget src_4f0c... --root runs/mine --reason "consent withdrawn"
    """
    from pipeline.takedown_forget import forget as take_down

    done = take_down(root, item, reason, by, runs)
    if as_json:
        print_json(done.as_json())
        return
    click.echo(f"forgotten: {', '.join(done.items)} and {done.pairs:,} pairs; tombstone {done.tombstone}")
    for name, count in sorted(done.found.items()):
        if isinstance(count, int) and count:
            click.echo(f"    {name.replace('_', ' ')}: {count:,}")
    for line in done.found["notes"]:
        click.echo(f"    {line}")
    click.echo("out of reach:")
    for line in done.beyond:
        click.echo(f"    {line}")
