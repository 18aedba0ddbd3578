"""A report as a page: the template filled in. All that comes from data is escaped, and nothing is asked for outside."""

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from pipeline import cost_page
from pipeline.report_charts import histogram, said, strip
from pipeline.report_films import HEIGHT_PX, LONGEST, Part
from pipeline.report_pairs import GROUPS
from pipeline.report_training import Training
from pipeline.takedown import REPORT_MARK

_FOLDER: Final = Path(__file__).parent
_STATES: Final = ("done", "rejected", "quarantined", "pending", "forgotten")
_GROUPS_SAY: Final = {
    "best": "farthest within the limits",
    "worst": "farthest beyond them",
    "borderline": "nearest to a limit, on either side: here a limit is right or wrong",
    "random": "drawn from all finished pairs: what the others look like",
}
_NUMBERS: Final[dict[str, Callable[[float], str]]] = {
    "number": "{:,}".format, "share": "{:.0%}".format, "said": said,
    "time": cost_page.duration, "hours": cost_page.hours, "money": cost_page.money,
}  # fmt: skip
_SHOWN: Final = 12  # characters and sources, before they are folded away
_MOST: Final = 200


def html(told: Mapping[str, Any], films: Mapping[str, Sequence[Part]], trainings: Sequence[Training]) -> str:
    """Return the page.

    Args:
        told: The report's numbers (pipeline/report.py).
        films: Pair -> its parts.
        trainings: In the order of `told["training"]`.
    """
    room = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = _asset("report_page.js")
    room.filters |= {
        **{name: _or_dash(as_text) for name, as_text in _NUMBERS.items()},
        "coded": _coded,
        "broken": lambda name: Markup("_<wbr>").join(name.split("_")),
    }
    return room.get_template("report_page.html").render(
        told=told, films=films, trainings=trainings, mark=Markup(REPORT_MARK), style=_asset("report_page.css"),
        script=script, script_digest=_digest(script), states=_STATES, name=told["root"].rstrip("/").rpartition("/")[2],
        charts={score["name"]: histogram(score) for score in told["scores"]},
        funnel=[(track, _lines(lines)) for track, lines in told["tables"].items()],
        groups=[(name, _GROUPS_SAY[name], _of_group(told, name)) for name in GROUPS],
        scored=_scored(told), most=_MOST, few=_SHOWN, longest=LONGEST, height_px=HEIGHT_PX,
    )  # fmt: skip


def _or_dash(as_text: Callable[[float], str]) -> Callable[[float | None], str]:
    return lambda value: "–" if value is None else as_text(value)


def _asset(name: str) -> Markup:
    return Markup((_FOLDER / name).read_text(encoding="utf-8"))


def _coded(sentence: str) -> Markup:
    """Return a sentence of ours with what stands in backticks as code."""
    parts = enumerate(sentence.split("`"))
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if number % 2 else escape(part) for number, part in parts
    )


def _digest(script: str) -> str:
    """Return what a Content-Security-Policy calls a script by: with it, the browser runs no other one."""
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"


def _lines(lines: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return a track's lines with sums of reasons, and each state's share of the rows that came in first."""
    first = max(lines[0]["in"], 1)
    shown = []
    for line in lines:
        counts = {state: line.get(state, 0) for state in _STATES}
        reasons = {state: counts[state] for state in ("rejected", "quarantined")}
        counts |= {state: sum(each.values()) for state, each in reasons.items()}
        shares = {state: 100 * count / first for state, count in counts.items()}
        why = sorted(
            ((count, reason, state) for state, each in reasons.items() for reason, count in each.items()), reverse=True
        )
        shown.append({"stage": line["stage"], "in": line["in"], "counts": counts, "shares": shares, "why": why})
    return shown


def _of_group(told: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    return [pair for pair in told["shown"]["pairs"] if pair["group"] == name]


def _scored(told: Mapping[str, Any]) -> dict[str, list[tuple[Mapping[str, Any], float | None, Markup]]]:
    """Return pair -> its scores in the order of the page: the score's line, the pair's value, and where it stands."""
    return {
        pair["id"]: [
            (line, value, strip(value, line["min"], line["max"], line["limits"]))
            for line in told["scores"]
            for value in [pair["scores"].get(line["name"])]
        ]
        for pair in told["shown"]["pairs"]
    }  # fmt: skip
