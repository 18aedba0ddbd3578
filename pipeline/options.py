"""Options that many commands share."""

from collections.abc import Callable
from typing import Any

import click


def root_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--root`: a folder, a URL, or the run.yaml that names it; also from the environment."""
    return click.option(
        "--root",
        required=True,
        envvar="BODYDOUBLE_ROOT",
        callback=lambda _ctx, _option, value: _root_of(value),
        help="Folder or URL of the tables and artifacts, or the run.yaml that names it (or set BODYDOUBLE_ROOT).",
    )(command)


def _root_of(value: str) -> str:
    if not value.endswith((".yaml", ".yml")):
        return value
    from pipeline.config import load

    return load(value).config.root
