"""`bodydouble manifest`: see what is there, take a subset, freeze a version, compare two."""

import json
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from manifests.errors import UserError
from pipeline.terminal import root_option

if TYPE_CHECKING:
    from rich.table import Table

# as manifests.schema, which is slow to load
TABLES: Final = ("sources", "characters", "pairs", "outcomes", "shards", "tombstones")
SHOWN: Final = {  # columns of `list`, unless others are asked for
    "sources": ("id", "file", "start_s", "fps", "frames", "licence", "consent", "reject"),
    "characters": ("id", "file", "width", "height", "domain", "licence", "consent", "reject"),
    "pairs": ("id", "source", "character", "reject"),
    "outcomes": ("item", "stage", "state", "reason", "key"),
    "shards": ("id", "cut", "name", "kind", "frames", "fps"),
    "tombstones": ("id", "track", "items", "reason", "by", "state"),
}
NARROW_WIDTH: Final = 200  # columns of text where no terminal says how many there are


class ManifestError(UserError):
    """What was asked of a manifest cannot be done; the message is one sentence."""


@click.group()
def manifest() -> None:
    """See what is in the tables, take a subset, freeze a version, compare two.

    Conditions are SQL (DataFusion's dialect), e.g. "licence = 'MIT' and frames >= 60 and array_has(tags, 'dance')".
    """


def _options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that all commands have."""
    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print JSON."),
        click.option("--table", type=click.Choice(TABLES), default="sources", show_default=True, help="Which table."),
        root_option,
    ):
        command = option(command)
    return command


_where = click.option("--where", metavar="SQL", help="Only rows that fit this condition.")
_version = click.option("--version", metavar="N|TAG", help="A version or tag. [default: the newest version]")


@manifest.command("list")
@_options
@_where
@_version
@click.option("--limit", type=click.IntRange(1), help="At most so many rows.")
@click.option("--columns", metavar="A,B,...", help="Which columns; `manifest columns` says what there is.")
@click.option("--ids", is_flag=True, help="Only the ids, one a line, for pipes.")
def list_rows(
    *, root: str, table: str, as_json: bool, where: str | None, version: str | None, limit: int | None,
    columns: str | None, ids: bool,
) -> None:  # fmt: skip
    """List rows.

    \b
    bodydouble manifest list --root runs/mine --where "reject is not null"
    bodydouble manifest list --root runs/mine --version frozen --columns id,file,tags --limit 20 --json
    bodydouble manifest list --root runs/mine --ids --where "consent = 'refused'" > refused.txt
    """
    from manifests.schema import TABLES as SCHEMAS

    names = ["id" if "id" in SCHEMAS[table].names else "item"] if ids else _names(columns)
    if not names:
        names = list(SCHEMAS[table].names) if as_json else list(SHOWN[table])
    rows = rows_of(root, table, columns=names, where=where, version=version, limit=limit)
    if ids:
        for row in rows:
            click.echo(row[names[0]])
    elif as_json:
        _print_json(rows)
    else:
        _print_table(_table_of(rows, names))
        click.echo(f"{len(rows)} rows" + (f" (the first {limit})" if limit == len(rows) else ""), err=True)


@manifest.command()
@_options
@_where
@_version
def stats(root: str, table: str, as_json: bool, where: str | None, version: str | None) -> None:
    """Count rows by licence, consent, domain, tag and reason of rejection, and measure what there is.

    \b
    bodydouble manifest stats --root runs/mine
    bodydouble manifest stats --root runs/mine --table characters --where "domain = 'cartoon'" --json
    """
    from pipeline.manifest_stats import stats_of

    found = stats_of(root, table, where=where, version=_number(version))
    if as_json:
        _print_json(found)
    else:
        _print_stats(found)


@manifest.command()
@click.argument("old", metavar="A")
@click.argument("new", metavar="B", required=False)
@_options
@_where
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="At most so many rows a kind.")
def diff(
    *, old: str, new: str | None, root: str, table: str, as_json: bool, where: str | None, limit: int
) -> None:  # fmt: skip
    """Compare two versions or tags, A and B (the newest version if B is left out): added, removed, changed rows.

    \b
    bodydouble manifest diff frozen --root runs/mine
    bodydouble manifest diff 3 5 --root runs/mine --where "licence = 'MIT'" --json
    """
    from pipeline.manifest_stats import diff_of

    found = diff_of(root, table, _number(old), _number(new), where=where)
    if as_json:
        _print_json(found)
        return
    for kind, sign in (("added", "+"), ("removed", "-"), ("changed", "~")):
        for row in found[kind][:limit]:
            said = "".join(
                f"\n    {name}: {_short(a)} -> {_short(b)}" for name, (a, b) in row.get("fields", {}).items()
            )
            click.echo(f"{sign} {row['id']}  {row['file'] or ''}{said}")
        if len(found[kind]) > limit:
            click.echo(f"{sign} ... and {len(found[kind]) - limit} more (--limit, or --json for all)")
    counts = ", ".join(f"{len(found[kind])} {kind}" for kind in ("added", "removed", "changed"))
    click.echo(f"{table}: version {found['old']} to {found['new']}: {counts}")


@manifest.command()
@click.argument("name", metavar="NAME", required=False)
@click.argument("number", metavar="VERSION", type=click.IntRange(1), required=False)
@_options
@click.option("--move", is_flag=True, help="Move a tag that names another version.")
def tag(
    *, name: str | None, number: int | None, root: str, table: str, as_json: bool, move: bool
) -> None:  # fmt: skip
    """Freeze a version (the newest if VERSION is left out) under NAME; without NAME, say what tags there are.

    \b
    bodydouble manifest tag paper-v1 --root runs/mine
    bodydouble manifest tag paper-v1 12 --root runs/mine --move
    bodydouble manifest tag --root runs/mine --json
    """
    from manifests.tables import Tables

    tables = Tables(root)
    tags = tables.tags(table)
    if name is not None:
        wanted = number or tables.version(table)
        if not name.replace("-", "").replace("_", "").replace(".", "").isalnum() or name.isdigit():
            raise ManifestError(f"{name!r} is no name for a tag; wanted letters, digits, - _ . and not digits alone")
        if tags.get(name, wanted) != wanted and not move:
            raise ManifestError(f"tag {name!r} names version {tags[name]} of {table}; --move moves it to {wanted}")
        tags[name] = tables.tag(table, name, wanted) if wanted else tables.tag(table, name)
    if as_json:
        _print_json({"table": table, "newest": tables.version(table), "tags": tags})
    else:
        for known in [name] if name is not None else tags:
            click.echo(f"{known}  version {tags[known]} of {table}")
        if not tags:
            click.echo(f"{table} has no tags; its newest version is {tables.version(table)}")


@manifest.command("columns")
@click.option("--table", type=click.Choice(TABLES), help="Which table. [default: all]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def columns_of(table: str | None, as_json: bool) -> None:
    """Say what each column of the tables means, with its unit.

    \b
    bodydouble manifest columns --table sources
    """
    from rich.table import Table

    from manifests.schema import TABLES as SCHEMAS
    from manifests.schema import comment_of

    found = [
        {"table": name, "column": field.name, "type": str(field.type), "comment": comment_of(field)}
        for name, schema in SCHEMAS.items()
        for field in schema
        if table in (None, name)
    ]
    if as_json:
        _print_json(found)
        return
    shown = Table("table", "column", "type", "comment", box=None, pad_edge=False)
    for row in found:
        shown.add_row(row["table"], row["column"], row["type"].replace("element: ", ""), row["comment"])
    _print_table(shown)


def rows_of(
    root: str,
    table: str,
    *,
    columns: Sequence[str] | None = None,
    where: str | None = None,
    version: str | None = None,
    limit: int | None = None,
) -> list[dict[str, Any]]:
    """Return rows of a table at a version or tag.

    Raises:
        TableError: the condition, a column, the version or the tag is not understood.
    """
    from manifests.tables import Tables

    names = None if columns is None else list(columns)
    found = Tables(root).read(table, columns=names, where=where, version=_number(version), limit=limit)
    rows: list[dict[str, Any]] = found.to_pylist()
    return rows


def _number(version: str | None) -> int | str | None:
    return int(version) if version is not None and version.isdigit() else version


def _names(columns: str | None) -> list[str]:
    return [name.strip() for name in (columns or "").split(",") if name.strip()]


def _short(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return ", ".join(map(_short, value))
    return str(value)


def _table_of(rows: Sequence[dict[str, Any]], names: Sequence[str]) -> "Table":
    from rich.markup import escape
    from rich.table import Table

    shown = Table(box=None, pad_edge=False)
    for name in names:
        shown.add_column(name, no_wrap=name in ("id", "item"), overflow="fold", min_width=36 if name == "id" else None)
    for row in rows:
        shown.add_row(*(escape(_short(row[name])) for name in names))
    return shown


def _figure(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _print_stats(found: dict[str, Any]) -> None:
    click.echo(f"{found['table']}, version {found['version']}: {found['rows']} rows, {found['usable']} usable")
    for name, total in found["totals"].items():
        click.echo(f"  {name}: {_figure(total)}")
    for name, counts in found["counts"].items():
        click.echo(f"\nby {name}")
        for value, number in counts.items():
            click.echo(f"  {number:8}  {value}")
    if found["quantiles"]:
        heads = ("least", "25 %", "median", "75 %", "most")
        click.echo(f"\n{'of the usable rows':20}" + "".join(f"{head:>13}" for head in heads))
    for name, values in found["quantiles"].items():
        click.echo(f"  {name:18}" + "".join(f"{_figure(value):>13}" for value in values))


def _print_json(data: Any) -> None:
    click.echo(json.dumps(data, indent=2, ensure_ascii=False, default=str))


def _print_table(table: Any) -> None:
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else NARROW_WIDTH).print(table)
