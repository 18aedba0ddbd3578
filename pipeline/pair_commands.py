"""The commands about pairs: pair, whatif."""

import click

from pipeline.config_commands import config_argument, sets_option
from pipeline.terminal import json_option, print_json, print_table, say_if_nothing_was_imported


@click.command()
@config_argument
@sets_option
@json_option
@click.option("--dry-run", is_flag=True, help="Only say what would be written, and how it would mix.")
def pair(config: str, sets: tuple[str, ...], as_json: bool, dry_run: bool) -> None:
    """Draw characters for sources, and write the pairs.

    Pairs that are written stay: only free slots are drawn, so that nothing rendered is orphaned when sources and
    characters come in. Doing it again writes nothing.

    \b
    bodydouble pair run.yaml --dry-run                    the mix, before anything is spent
    bodydouble pair run.yaml
    bodydouble pair run.yaml --set pairs.per_source=3     one more for each source that had two
    bodydouble pair run.yaml --json | jq .domains
    """
    from manifests import ledger
    from manifests.tables import Tables
    from pipeline.config import load
    from pipeline.mix import mix_of, mix_sentences, mix_table
    from pipeline.pairing import pairing_of, write_pairs

    loaded = load(config, sets)
    if dry_run:
        tables = Tables(loaded.config.root)
        pairing = pairing_of(loaded, tables, ledger.fold(tables))
    else:
        pairing = write_pairs(loaded)
    mix = mix_of(pairing)
    if as_json:
        print_json(mix)
    else:
        print_table(mix_table(mix))
        click.echo("\n".join(mix_sentences(mix)))
        if dry_run:
            click.echo(f"nothing was written; to write: bodydouble pair {config}")
        elif mix["new"]:
            click.echo(f"{mix['new']:,} pairs were written; to go on: bodydouble plan {config}")
    say_if_nothing_was_imported(loaded.config.root)


@click.command()
@config_argument
@sets_option
@json_option
def whatif(config: str, sets: tuple[str, ...], as_json: bool) -> None:
    """Count what other limits would keep.

    Yield and composition, from the scores that are there: no GPU is used, and nothing is written. `now` is what
    RUN.YAML says, `then` what it would be with --set.

    \b
    bodydouble whatif run.yaml --set keep.min.motion=4.2
    bodydouble whatif run.yaml --set keep.min_percentile.identity=20 --set keep.at=judged
    bodydouble whatif run.yaml --set keep.min.motion=null --json | jq .kept
    """
    from manifests.tables import Tables
    from pipeline import whatif as asked
    from pipeline.config import load

    now, then = load(config), load(config, sets)
    found = asked.whatif(now, then, Tables(now.config.root))
    if as_json:
        print_json(found.as_json())
        return
    if found.now.limits or found.then.limits:
        print_table(asked.limits_table(found))
        click.echo()
    else:
        click.echo("`keep` names no limit, so every pair is kept; try --set keep.min.SCORE=NUMBER\n")
    print_table(asked.whatif_table(found))
    for when, verdicts in (("now", found.now), ("then", found.then)):
        dropped = ", ".join(f"{reason} {count:,}" for reason, count in verdicts.counts().items())
        click.echo(f"dropped {when}: {dropped or 'nothing'}")
    say_if_nothing_was_imported(now.config.root)
