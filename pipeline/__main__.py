"""The commands. Libraries that only some of them need are imported where they are needed: `--help` answers at once."""

import sys
from pathlib import Path
from typing import Any

try:
    import click

    from manifests.errors import UserError
    from pipeline.animate_commands import animate
    from pipeline.config_commands import config
    from pipeline.importing import import_
    from pipeline.ledger_commands import look, quarantine, requeue, trace
    from pipeline.manifest_commands import manifest
    from pipeline.pack_commands import pack, verify
    from pipeline.pair_commands import pair, whatif
    from pipeline.report_command import report
    from pipeline.run_commands import funnel, plan, run
    from pipeline.status_command import status
    from pipeline.takedown_commands import forget, impact
    from pipeline.terminal import json_option
    from pipeline.train_commands import train, train_pose, train_vae
except KeyboardInterrupt:  # in the first tenths of a second there is nothing to stop yet
    sys.exit(130)

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}
ORDER = (
    "import", "manifest", "config", "pair", "plan", "run", "status", "funnel", "report", "quarantine", "requeue",
    "trace", "look", "whatif", "pack", "verify", "impact", "forget", "train-vae", "train-pose", "train",
    "animate", "demo",
)  # fmt: skip


class Commands(click.Group):
    """A group that prints an error which the user can mend as one line, without a traceback."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Name the commands in the order of use."""
        return sorted(self.commands, key=ORDER.index)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except UserError as error:
            click.echo(f"bodydouble: {error}", err=True)
            sys.exit(error.exit_code)


@click.group(cls=Commands, context_settings=CONTEXT)
@click.version_option(package_name="bodydouble")
def main() -> None:
    """The open data engine of the DreamActor-M2 method: real clips in, training pairs out.

    \b
    bodydouble import sources clips/ --root runs/mine     what there is
    bodydouble config template > run.yaml                 what to do
    bodydouble plan run.yaml                              what is left to do, and what it will cost
    bodydouble run run.yaml                               do it; kill it, run it again: nothing is lost
    bodydouble status --root run.yaml                     how far it is, from any machine
    bodydouble funnel run.yaml                            why so few survived
    bodydouble report run.yaml                            one page: numbers, films, and what to do next
    bodydouble animate --reference picture.png --driving clip.mp4 out.mp4
    """


import_.short_help = "Import a list of films or pictures."
manifest.short_help = "See what is in the tables; freeze and compare versions."
main.add_command(import_, "import")
main.add_command(train)
main.add_command(train_vae)
main.add_command(train_pose)
main.add_command(animate)
main.add_command(pack)
main.add_command(verify)
main.add_command(impact)
main.add_command(forget)
for _command in (manifest, config, pair, plan, run, status, funnel, report, quarantine, requeue, trace, look, whatif):
    main.add_command(_command)


@main.command()
@click.option("--folder", default="runs/demo", show_default=True, type=click.Path(file_okay=False), help="Where to.")
@json_option
def demo(folder: str, as_json: bool) -> None:
    """Real clips to pairs, shards, stage two and a report, in one go.

    Skeletons, pairs, pseudo videos, verdicts, shards, a small stage two, and a page with all of it.

    Killed at any moment, the same command goes on.

    \b
    bodydouble demo
    bodydouble demo --folder /tmp/demo --json
    """
    from pipeline.demo import run_demo

    run_demo(Path(folder), as_json)


if __name__ == "__main__":
    main(prog_name="bodydouble")
