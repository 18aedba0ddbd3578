"""Run the study in a folder; see the package."""

import argparse
import json
from pathlib import Path

from tests.bench.__main__ import table
from tests.bench.study.material import SMALL, Scale, cuts
from tests.bench.study.trainings import trained
from tests.bench.study.trials import measure, models
from tests.bench.teacher import WEIGHTS
from tests.bench.teacher.drawing import Teacher


def main() -> None:
    """Do all that is not done yet, and print the table; it lies in the folder too."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.study", description="What are pseudo pairs worth?")
    parser.add_argument("folder", type=Path, help="takes all that is made; some gigabytes")
    parser.add_argument("--small", action="store_true", help="a few clips and steps: that all parts fit, no more")
    given = parser.parse_args()
    scale = SMALL if given.small else Scale()
    given.folder.mkdir(parents=True, exist_ok=True)
    samples = cuts(given.folder, scale, WEIGHTS)
    loras = trained(given.folder, scale, WEIGHTS)
    rows = measure(Teacher.of(WEIGHTS), models(WEIGHTS, loras), scale)
    (given.folder / "study.json").write_text(json.dumps({"samples": samples, "rows": rows}, indent=1))
    print(f"samples: {json.dumps(samples)}\n\n{table(rows)}")


if __name__ == "__main__":
    main()
