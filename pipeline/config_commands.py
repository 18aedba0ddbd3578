"""The commands about a run's config: a template, and a check; and how other commands are given one."""

import click

from pipeline.terminal import json_option, print_json

config_argument = click.argument("config", metavar="RUN.YAML", type=click.Path(dir_okay=False))
sets_option = click.option(
    "--set", "sets", multiple=True, metavar="A.B=C", help="Change one value of the config; repeatable."
)


@click.group()
def config() -> None:
    """Print a config to start from, or check one."""


@config.command()
def template() -> None:
    """Print a config with every field, its default and what it means.

    \b
    bodydouble config template > run.yaml
    """
    from pipeline.config import template as text

    click.echo(text(), nl=False)


@config.command()
@config_argument
@sets_option
@json_option
def validate(config: str, sets: tuple[str, ...], as_json: bool) -> None:
    """Check a config as `run` would, and say what it means in full.

    \b
    bodydouble config validate run.yaml
    """
    from manifests.files import root_of
    from pipeline.config import load

    loaded = load(config, sets)
    recipes = {track: {spec.name: spec.recipe for spec in specs} for track, specs in loaded.tracks.items()}
    if as_json:
        print_json({"root": loaded.config.root, "stages": recipes})
    else:
        stages = ", ".join(f"{track}.{name}" for track, listed in recipes.items() for name in listed)
        click.echo(f"{config} is sound: {stages or 'no stage'} under {root_of(loaded.config.root)}")
