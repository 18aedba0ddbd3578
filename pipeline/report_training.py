"""Trainings as a report shows them: their curves out of `metrics.jsonl`, and their newest sheet of samples."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from markupsafe import Markup
from PIL import Image

from manifests.errors import UserError
from manifests.shards.index import READING
from pipeline.report_charts import Line, curves
from pipeline.report_films import Part, still

FILE: Final = "metrics.jsonl"
_POINTS: Final = 400  # of a line, at most
_SHEET_PX: Final = (1400, 2200)
_OF: Final = {"pose_driven": "stage one: skeletons drive", "rgb_driven": "stage two: raw video drives"}
_NAMES: Final = {"raw": "weights", "ema": "their mean (EMA)", "other_driving": "EMA, another's driving half"}


class ReportError(UserError):
    """A report cannot be made as asked; the message is one sentence for the user."""


@dataclass(frozen=True)
class Training:
    """One training: its numbers, its charts, and its newest sheet."""

    facts: dict[str, Any]
    charts: list[tuple[str, Markup, list[Line]]]
    sheet: Part | None


def training_of(folder: Path) -> Training:
    """Read a training's folder; one that is still going on is read as far as it is written.

    Raises:
        ReportError: It holds no metrics, or a line of them is none.
    """
    lines = _lines(folder)
    steps = [line for line in lines if "loss" in line]
    looks = [line for line in lines if "validation" in line]
    strategy = _strategy(folder)
    facts: dict[str, Any] = {"folder": str(folder), "strategy": strategy, "of": _OF.get(strategy or "", "")}
    facts |= {"steps": max((line["step"] for line in lines), default=0), "loss": None, "validation": None}
    facts |= {"reads_shards": (folder / READING).exists(), "broken": sum(line.get("broken", 0) for line in steps)}
    charts: list[tuple[str, Markup, list[Line]]] = []
    if steps:
        last = steps[-max(1, len(steps) // 10) :]
        facts |= {"loss": float(np.mean([line["loss"] for line in last])), "samples": steps[-1]["samples"]}
        facts |= {"tokens_per_s": float(np.median([line["tokens_per_s"] for line in last]))}
        loss = _loss_lines(steps)
        charts.append(("Loss while training", curves(loss, "loss"), loss))
    if looks:
        facts["validation"] = {name: each["mean"] for name, each in looks[-1]["validation"].items()}
        facts["validation_step"] = looks[-1]["step"]
        held_out = _validation_lines(looks)
        charts.append(("Loss on held-out samples", curves(held_out, "loss"), held_out))
    return Training(facts, charts, _sheet(folder, facts))


def _lines(folder: Path) -> list[dict[str, Any]]:
    try:
        written = (folder / FILE).read_bytes()
    except OSError as error:
        raise ReportError(
            f"{folder} holds no {FILE} that can be read ({error.strerror}): name a training's folder, as its "
            "config says it"
        ) from error
    try:
        return [json.loads(line) for line in written.split(b"\n")[:-1]]  # the last one may be half written
    except ValueError as error:
        raise ReportError(f"{folder / FILE} holds a line that is no JSON ({error}): it is no training's") from error


def _strategy(folder: Path) -> str | None:
    """Return how it trains, as its newest checkpoint says."""
    for state in sorted(folder.glob("checkpoints/step-*/state.json"), reverse=True):
        try:
            found = json.loads(state.read_text())["mathematics"]["strategy"]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        return str(found)
    return None


def _loss_lines(steps: Sequence[dict[str, Any]]) -> list[Line]:
    """Return the loss as it was written, and its running mean."""
    x, y = np.array([line["step"] for line in steps], float), np.array([line["loss"] for line in steps], float)
    over = max(1, len(y) // 30)
    sums, places = np.cumsum(np.pad(y, (1, 0))), np.arange(1, len(y) + 1)
    smooth = (sums[places] - sums[np.maximum(places - over, 0)]) / np.minimum(places, over)
    chosen = np.unique(np.linspace(0, len(x) - 1, min(_POINTS, len(x))).astype(int))
    lines = [Line("each logged step", x[chosen].tolist(), y[chosen].tolist(), "faint")]
    if over > 1:
        lines.append(Line(f"mean of the last {over}", x[chosen].tolist(), smooth[chosen].tolist(), "one"))
    return lines


def _validation_lines(looks: Sequence[dict[str, Any]]) -> list[Line]:
    names = dict.fromkeys(name for line in looks for name in line["validation"])
    lines = []
    for name, style in zip(names, ("two", "one", "three", "four"), strict=False):
        those = [line for line in looks if name in line["validation"]]
        y = [line["validation"][name]["mean"] for line in those]
        lines.append(Line(_NAMES.get(name, name), [line["step"] for line in those], y, style))
    return lines


def _sheet(folder: Path, facts: dict[str, Any]) -> Part | None:
    """Return the newest sheet of samples, and write its step down."""
    sheets = sorted(folder.glob("samples/step-*.png"))
    facts["sheet_step"] = int(sheets[-1].stem.removeprefix("step-")) if sheets else None
    facts["sheets"] = len(sheets)
    if not sheets:
        return None
    try:
        with Image.open(sheets[-1], formats=("PNG",)) as picture:
            return still("sheet", picture, _SHEET_PX[1], _SHEET_PX[0])
    except (OSError, SyntaxError) as error:  # one that is being written this moment
        return Part("sheet", problem=f"{sheets[-1].name} cannot be read: {error}")
