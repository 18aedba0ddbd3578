"""The commands about shards: pack, verify."""

import sys
from typing import TYPE_CHECKING, Any

import click

from pipeline.config_commands import config_argument, sets_option
from pipeline.terminal import json_option, print_json, print_table, root_option, say_if_nothing_was_imported

if TYPE_CHECKING:
    from pipeline.packing import Summary

_SHOWN = 10  # problems


@click.command()
@config_argument
@sets_option
@json_option
@click.option("--dry-run", is_flag=True, help="Only say what would be written, and why so few.")
@click.option("--prune", is_flag=True, help="Then remove shards of earlier packs that the index no longer names.")
@click.option("--quiet", is_flag=True, help="No line for each shard.")
def pack(config: str, sets: tuple[str, ...], as_json: bool, dry_run: bool, prune: bool, quiet: bool) -> None:
    """Cut kept pairs into shards that plain webdataset reads.

    What stands is not written again, and equal pairs, verdicts and config give equal bytes. The index is written last:
    ROOT/shards/CUT/index.json.

    \b
    bodydouble pack run.yaml --dry-run                    how many, and why so few
    bodydouble pack run.yaml
    bodydouble pack run.yaml --set pack.kinds=[reverse,forward,self] --set pack.cut=mixed
    bodydouble pack run.yaml --prune --json | jq .index_sha256
    """
    from manifests.tables import Tables
    from pipeline.config import load
    from pipeline.packing import pack as write
    from pipeline.packing import planned

    loaded = load(config, sets)
    if dry_run:
        summary = planned(loaded, Tables(loaded.config.root))
    else:
        silent = quiet or as_json or not sys.stderr.isatty()
        summary = write(loaded, prune, (lambda _: None) if silent else _tell)
    if as_json:
        print_json(summary.as_json())
    else:
        keep = loaded.config.keep
        _print(summary, config, dry_run, not (keep.min or keep.max or keep.min_percentile or keep.max_percentile))
    say_if_nothing_was_imported(loaded.config.root)
    if summary.problems:
        sys.exit(1)


def _tell(summary: "Summary") -> None:
    done = summary.known + summary.written + summary.adopted
    click.echo(f"\r{done:,} of {summary.shards:,} shards, {summary.bytes / 1e6:,.1f} MB written", nl=False, err=True)


def _print(summary: "Summary", config: str, dry_run: bool, unlimited: bool) -> None:
    from pipeline.funnel import as_table

    print_table(as_table({"pairs": summary.counts}))
    click.echo(f"\n{summary.samples:,} samples in {summary.shards:,} shards of the cut {summary.cut!r}")
    if unlimited:
        click.echo("keep names no limit, so every pair counts as good; to see what one would do: bodydouble whatif")
    if dry_run:
        click.echo(f"{summary.known:,} shards stand; nothing was written; to write: bodydouble pack {config}")
        return
    said = [f"{summary.known:,} stood already", f"{summary.written:,} written ({summary.bytes / 1e6:,.1f} MB)"]
    if summary.adopted:
        said.append(f"{summary.adopted:,} adopted")
    if summary.removed:
        said.append(f"{summary.removed:,} old ones removed")
    click.echo(", ".join(said))
    if not summary.problems:
        click.echo(f"index: {summary.root}/shards/{summary.cut}/index.json  sha256 {summary.index_sha256}")
        return
    for problem in summary.problems[:_SHOWN]:
        click.echo(f"{problem['name']}: {problem['detail']}", err=True)
    if len(summary.problems) > _SHOWN:
        click.echo(f"... and {len(summary.problems) - _SHOWN} more (--json for all)", err=True)
    shards = len({problem["shard"] for problem in summary.problems})
    click.echo(
        f"bodydouble: {shards} of {summary.shards} shards could not be written, so the index was left as it was; "
        f"`bodydouble run {config}` makes lost artifacts again, then pack again",
        err=True,
    )


@click.command()
@root_option
@json_option
def verify(root: str, as_json: bool) -> None:
    """Read artifacts and shards, and name what has changed.

    Nothing is written. `bodydouble run RUN.yaml --verify` writes down what is lost and makes it again, and
    `bodydouble pack RUN.yaml` writes shards that are gone.

    \b
    bodydouble verify --root runs/mine
    bodydouble verify --root run.yaml --json
    """
    from manifests.tables import Tables
    from pipeline.verify import find_damaged

    damaged: list[dict[str, Any]] = [
        {"address": address, "what": what} for address, what in sorted(find_damaged(Tables(root)))
    ]
    say_if_nothing_was_imported(root)
    if as_json:
        print_json(damaged)
    else:
        for each in damaged:
            click.echo(each["what"])
        click.echo(f"{len(damaged)} damaged or missing" if damaged else "every byte is as it was written")
    if damaged:
        sys.exit(1)
