"""The commands that ask the ledger: quarantine, requeue, trace, look."""

from pathlib import Path

import click

from pipeline.terminal import json_option, print_json, root_option, say_if_nothing_was_imported


@click.command()
@root_option
@json_option
@click.option("--where", metavar="SQL", help="Only those that fit, e.g. \"stage = 'skeleton' and reason = 'timeout'\".")
def quarantine(root: str, as_json: bool, where: str | None) -> None:
    """List the rows that crashed, hung or hit an error.

    With the reason and the last words of each.

    \b
    bodydouble quarantine --root runs/mine
    bodydouble quarantine --root run.yaml --where "reason = 'crashed'" --json
    """
    from manifests import ledger
    from manifests.tables import Tables
    from pipeline.inspecting import settled

    rows = settled(Tables(root), (ledger.QUARANTINED,), where)
    if not rows:
        say_if_nothing_was_imported(root)
    if as_json:
        print_json(rows)
        return
    for row in rows:
        click.echo(f"{row['item']}  {row['track']}.{row['stage']}  {row['reason']}  {row['written_at']:%Y-%m-%d %H:%M}")
        click.echo("\n".join(f"    {line}" for line in (row["detail"] or "").splitlines()[-12:]))
    click.echo(
        f"{len(rows)} in quarantine" + (f"; to try again: bodydouble requeue --root {root} --where ..." if rows else "")
    )


@click.command()
@root_option
@json_option
@click.option("--where", metavar="SQL", required=True, help='Which, as for `quarantine`; "true" for all.')
@click.option("--rejected", is_flag=True, help="Rejected rows too (their stage will judge them anew).")
def requeue(root: str, as_json: bool, where: str, rejected: bool) -> None:
    """Send quarantined rows round again at the next `run`.

    \b
    bodydouble requeue --root runs/mine --where "reason = 'timeout'"
    bodydouble requeue --root run.yaml --where "stage = 'skeleton' and detail like '%missing%'"
    """
    from pipeline.inspecting import requeue as send

    rows = send(root, where, rejected)
    if not rows:
        say_if_nothing_was_imported(root)
    if as_json:
        print_json([{name: row[name] for name in ("item", "track", "stage", "reason")} for row in rows])
    else:
        click.echo(f"{len(rows)} requeued; the next `bodydouble run` tries them again")


@click.command()
@click.argument("item", metavar="ID")
@root_option
@json_option
def trace(item: str, root: str, as_json: bool) -> None:
    """Say all that is known of one row.

    Where it came from, what was made of it, by what, and when.

    \b
    bodydouble trace src_4f0c --root runs/mine            the beginning of an id is enough
    """
    from pipeline.inspecting import as_text
    from pipeline.inspecting import trace as history

    told = history(root, item)
    if as_json:
        print_json(told)
    else:
        click.echo(as_text(told))


@click.command()
@click.argument("items", metavar="ID...", nargs=-1)
@root_option
@json_option
@click.option("--all", "every", is_flag=True, help="Every source and character that has a skeleton.")
@click.option("--out", type=click.Path(file_okay=False), help="Folder for the pictures; ROOT/look if not given.")
def look(items: tuple[str, ...], root: str, as_json: bool, every: bool, out: str | None) -> None:
    """Draw a row's skeleton over its frames.

    Makes an overlay video and a contact sheet.

    \b
    bodydouble look src_4f0c --root runs/mine
    bodydouble look --all --root runs/mine --out /tmp/sheets
    """
    from pipeline.inspecting import look as draw

    if not items and not every:
        raise click.UsageError("name an ID, or --all")
    drawn = draw(root, list(items), Path(out) if out else None)
    if not drawn:
        click.echo("no row has a skeleton yet; why: `bodydouble trace ID`, or `bodydouble funnel RUN.yaml`", err=True)
        say_if_nothing_was_imported(root)
    if as_json:
        print_json(drawn)
    else:
        for each in drawn:
            click.echo("  ".join(str(each[name]) for name in ("id", "sheet", "video") if each.get(name)))
