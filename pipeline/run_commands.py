"""The commands that plan, do and count a run: plan, run, funnel."""

import signal
import sys
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

import click

from manifests.errors import UserError
from pipeline.config_commands import config_argument, sets_option
from pipeline.terminal import json_option, print_json, print_table, say_if_nothing_was_imported

if TYPE_CHECKING:
    from pipeline.config import Run
    from pipeline.cost import Cost
    from pipeline.plan import StageCount

    Counts = dict[str, list[StageCount]]

_rows = click.IntRange(1, sys.maxsize)


@click.command()
@config_argument
@sets_option
@json_option
@click.option("--limit", type=_rows, help="Only the first N rows of each table, by id.")
@click.option("--canary", type=_rows, help="Only N rows of each table; then say what the whole will cost.")
@click.option("--until", metavar="STAGE", help="Leave out the stages after this one.")
@click.option("--verify", is_flag=True, help="First read every artifact; what is missing or changed is made again.")
@click.option(
    "--on",
    type=click.Choice(["here", "ray"]),
    default="here",
    show_default=True,
    help="In processes of this machine, or on a Ray cluster.",
)
@click.option("--quiet", is_flag=True, help="No live lines.")
def run(
    config: str, sets: tuple[str, ...], as_json: bool, limit: int | None, canary: int | None, until: str | None,
    verify: bool, on: str, quiet: bool,
) -> None:  # fmt: skip
    """Do what is left to do, on this machine or on a cluster.

    It may be killed at any moment, and started again: what was finished is kept, what was in flight is done again.
    Ctrl-C ends it in good order. From elsewhere `bodydouble status` tells how far it is.

    \b
    bodydouble run run.yaml
    bodydouble run run.yaml --limit 20 --until probe      a first look
    bodydouble run run.yaml --canary 20                   measure, then say what the whole will cost
    bodydouble run run.yaml --set workers=4
    bodydouble run run.yaml --on ray                      on the cluster of RAY_ADDRESS, or of this machine
    ray job submit --working-dir . -- python -m pipeline run run.yaml --on ray
    """
    if limit is not None and canary is not None:
        raise click.UsageError("--limit and --canary both say how many rows; name one of them")
    signal.signal(signal.SIGTERM, _like_ctrl_c)
    try:
        loaded, counts = _execute(config, sets, limit or canary, until, verify, on, quiet)
    except (KeyboardInterrupt, UserError, ValueError, OSError, RuntimeError) as error:
        # an interrupt that meets Lance at work comes out as one of Lance's own errors, with the name in its text
        if not isinstance(error, KeyboardInterrupt) and "KeyboardInterrupt" not in str(error):
            raise
        click.echo("stopped; what was finished is kept: run the same command again to go on", err=True)
        sys.exit(130)
    if canary is not None:
        _print_canary(loaded, config, canary, until, as_json)
    else:
        _print_funnel(counts, as_json)
    if not as_json and any(line.quarantined for lines in counts.values() for line in lines):
        click.echo(f"\nRows in quarantine wait for you: bodydouble quarantine --root {loaded.config.root}")
    say_if_nothing_was_imported(loaded.config.root)


def _execute(
    config: str, sets: tuple[str, ...], limit: int | None, until: str | None, verify: bool, on: str, quiet: bool
) -> "tuple[Run, Counts]":
    """Run a config, and count what became of its rows."""
    from pipeline import funnel as funnels
    from pipeline.config import load
    from pipeline.progress import Progress
    from pipeline.run import execute

    loaded = load(config, sets)
    with Progress(quiet, loaded.config.root, engine=on) as progress:
        plans = execute(loaded, limit, until, progress, verify, on)
    idle = limit is None and until is None and all(position < 0 for plan in plans for position in plan.position)
    return loaded, {plan.track: plan.counts for plan in plans} if idle else funnels.funnel(loaded)


def _print_canary(loaded: "Run", config: str, rows: int, until: str | None, as_json: bool) -> None:
    """Print the funnel of the first rows, and what the whole will cost."""
    from manifests import ledger
    from manifests.tables import Tables
    from pipeline import cost_page
    from pipeline import funnel as funnels
    from pipeline.cost import cost_of
    from pipeline.plan import plan_run

    tables = Tables(loaded.config.root)
    folded = ledger.fold(tables)
    counts = {plan.track: plan.counts for plan in plan_run(loaded, tables, folded, rows, until)}
    cost = cost_of(loaded, plan_run(loaded, tables, folded, None, until), tables)
    if as_json:
        print_json(funnels.as_json(counts) | {"cost": cost_page.as_json(cost)})
        return
    click.echo(f"the first {rows:,} rows of each table, by id:\n")
    print_table(funnels.as_table(counts))
    _print_cost(cost, loaded, config)


def _print_cost(cost: "Cost", loaded: "Run", config: str) -> None:
    from pipeline import cost_page

    click.echo()
    if any(stage.at_most for stage in cost.stages):
        click.echo("what is left will cost:\n")
        print_table(cost_page.as_table(cost))
        click.echo()
    for line in cost_page.sentences(cost, config, loaded.config.price_per_gpu_hour):
        click.echo(line)


def _print_funnel(counts: "Counts", as_json: bool) -> None:
    from pipeline import funnel as funnels

    if as_json:
        print_json(funnels.as_json(counts))
    else:
        print_table(funnels.as_table(counts))


def _like_ctrl_c(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


@click.command()
@config_argument
@sets_option
@json_option
@click.option("--limit", type=_rows, help="Only the first N rows of each table, by id.")
@click.option("--until", metavar="STAGE", help="Leave out the stages after this one.")
@click.option("--diff", "other", metavar="OTHER.YAML", type=click.Path(dir_okay=False), help="What would run again.")
def plan(
    config: str, sets: tuple[str, ...], as_json: bool, limit: int | None, until: str | None, other: str | None
) -> None:
    """Say what is cached, what is to do, and what it will cost.

    For each stage, and without doing anything. Costs come from what this root has measured: of a stage that never ran,
    nothing is known until `bodydouble run RUN.YAML --canary 20` has measured it.

    \b
    bodydouble plan run.yaml
    bodydouble plan run.yaml --set workers=16 --set price_per_gpu_hour=2.5
    bodydouble plan run.yaml --diff other.yaml            the fields that make stages run again
    bodydouble plan run.yaml --json | jq .cost.gpu_hours
    """
    from manifests import ledger
    from manifests.tables import Tables
    from pipeline import cost_page
    from pipeline import plan as plans
    from pipeline.config import load
    from pipeline.cost import cost_of
    from pipeline.funnel import plan_table
    from pipeline.mix import mix_of, mix_sentences, mix_table
    from pipeline.pairing import pairing_of

    loaded = load(config, sets)
    if other is not None:
        _print_changes(plans.why_again(loaded, load(other)), config, other, as_json)
        return
    tables = Tables(loaded.config.root)
    folded = ledger.fold(tables)
    mix = mix_of(pairing_of(loaded, tables, folded))
    planned = plans.plan_run(loaded, tables, folded, limit, until)
    counts, cost = plans.summary(planned), cost_of(loaded, planned, tables)
    if as_json:
        print_json({"tables": counts, "pairs": mix, "cost": cost_page.as_json(cost)})
    else:
        print_table(plan_table(counts))
        if mix["pairs"]:
            print_table(mix_table(mix))
            click.echo("\n".join(mix_sentences(mix)))
        _print_cost(cost, loaded, config)
    say_if_nothing_was_imported(loaded.config.root)


def _print_changes(changes: list[dict[str, list[str]]], config: str, other: str, as_json: bool) -> None:
    if as_json:
        print_json({"again": changes})
        return
    if not changes:
        click.echo(f"{other} finds every result of {config}: nothing runs again")
    for change in changes:
        causes = [*change["fields"], *(f"upstream stage {stage} runs again" for stage in change["upstream"])]
        click.echo(f"{change['track']}.{change['stage']} runs again: {'; '.join(causes)}")


@click.command()
@config_argument
@sets_option
@json_option
def funnel(config: str, sets: tuple[str, ...], as_json: bool) -> None:
    """Count what went into each stage, and what became of it.

    `in` is always the sum of the other numbers. Rows that may be in no pair, for their licence, consent or tags, are
    counted below.

    \b
    bodydouble funnel run.yaml
    bodydouble funnel run.yaml --json | jq '.tables.sources[] | {stage, rejected}'
    """
    from pipeline import funnel as funnels
    from pipeline.config import load

    loaded = load(config, sets)
    counts, kept_out = funnels.funnel(loaded), funnels.kept_out(loaded)
    if as_json:
        print_json(funnels.as_json(counts) | {"kept_out": kept_out})
    else:
        print_table(funnels.as_table(counts))
        if kept_out:
            click.echo(funnels.kept_out_sentence(kept_out))
    say_if_nothing_was_imported(loaded.config.root)
