"""Measure everything and write docs/benchmarks.md; with names, only those parts, printed and not written."""

import importlib
import os
import platform
import sys
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[2] / "docs" / "benchmarks.md"
PARTS = {
    "engine": "The engine",
    "decode": "Decoding",
    "accuracy": "Accuracy of the skeletons",
    "dwpose": "Skeletons by DWPose",
    "ray": "On Ray",
    "filter": "The filter of pairs",
    "filter_teacher": "The filter on what the teacher draws",
    "judge": "The judge and its server",
    "verdicts": "Verdicts on a million pairs",
    "pack": "Shards",
    "reader": "Reading shards",
    "training": "Training",
    "teacher": "The embedded teacher",
}
HEAD = """# Benchmarks

Written by `make bench` on {machine}. Medians; ratios are taken in one run. `OMP_NUM_THREADS=1`.
A figure that falls short of its target stays here as it is.
"""


def table(rows: list[dict[str, Any]]) -> str:
    """Return measured rows as a Markdown table."""
    lines = ["| what | measured | target | holds |", "|---|---|---|---|"]
    for row in rows:
        target = "" if row["target"] is None else str(row["target"])
        holds = {True: "yes", False: "**no**", None: ""}[row["holds"]] if target else ""
        lines.append(f"| {row['name']} | {row['value']:.3g} {row['unit']} | {target} | {holds} |")
    return "\n".join(lines)


def main(names: list[str]) -> None:
    """Measure the parts named, or all and write the page."""
    sections = []
    for name in names or PARTS:
        rows = importlib.import_module(f"tests.bench.{name}").measure()
        sections.append(f"## {PARTS[name]}\n\n{table(rows)}\n")
        print(sections[-1], flush=True)
    if not names:
        machine = f"{os.cpu_count()} cores ({platform.machine()}), Python {platform.python_version()}"
        PAGE.write_text("\n".join([HEAD.format(machine=machine), *sections]))


if __name__ == "__main__":
    main(sys.argv[1:])
