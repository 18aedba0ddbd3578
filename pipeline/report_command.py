"""The command `report`."""

import sys

import click

from pipeline.config_commands import config_argument, sets_option
from pipeline.terminal import json_option, print_json, say_if_nothing_was_imported


@click.command()
@config_argument
@sets_option
@json_option
@click.option("-o", "--out", metavar="FILE", help="Where to; ROOT/reports/report.html if not given. May be a URL.")
@click.option(
    "--training", "trainings", multiple=True, metavar="FOLDER", type=click.Path(file_okay=False),
    help="Folder of a training, for its curves and samples; repeatable.",
)  # fmt: skip
@click.option(
    "--films", type=click.IntRange(0, 200), default=12, show_default=True, help="Pairs to show with films, at most."
)
@click.option(
    "--seed", type=click.IntRange(0, sys.maxsize), default=0, show_default=True, help="Which pairs are the random ones."
)
def report(
    config: str,
    sets: tuple[str, ...],
    as_json: bool,
    out: str | None,
    trainings: tuple[str, ...],
    films: int,
    seed: int,
) -> None:
    """Write one HTML page with all that a run has come to.

    What to do next, the funnel, yield, scores, cost, pairs as films in step, trainings, shards. The page needs nothing
    beside itself. It may be made while a run is going on. It shows people: mind their licence and consent.

    \b
    bodydouble report run.yaml
    bodydouble report run.yaml -o report.html --training runs/teacher --training runs/stage_two
    bodydouble report run.yaml --films 24 --seed 1
    bodydouble report run.yaml --json | jq .pairs.kept
    """
    from pipeline.config import load
    from pipeline.report import as_line, write_report

    loaded = load(config, sets)
    told = write_report(loaded, config, out, trainings, films, seed)
    if as_json:
        print_json(told)
    else:
        click.echo(as_line(told))
        for step in told["next"]:
            click.echo(f"  {step['say']}")
            if step["do"]:
                click.echo(f"      {step['do']}")
    say_if_nothing_was_imported(loaded.config.root)
