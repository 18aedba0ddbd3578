"""The demo: the whole way, from real clips to a model that raw video drives, on this machine.

Each part is done by what its command calls (`import`, `pair`, `run`, `funnel`, `look`, `pack`, `report`, `train`,
`animate`), and is not done again when the demo is run again.
"""

import hashlib
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from pipeline.demo_clips import DemoError, fetch_demo
from pipeline.terminal import bars, print_json, print_table

if TYPE_CHECKING:
    from pipeline.config import Run

CONFIG: Final = Path(__file__).parent / "configs" / "demo.yaml"
STAGE_TWO: Final = Path(__file__).parent / "configs" / "demo_stage_two.yaml"
TEACHER: Final = Path(__file__).parent.parent / "model" / "tiny_weights" / "teacher"
FPS: Final = 15.0  # the clips have 30 and 60 frames a second; a quarter of them shows the motion, and is quick


class _Parts:
    """Says which part begins, and how long each took."""

    def __init__(self, count: int) -> None:
        self.count, self.done, self.seconds = count, 0, dict[str, float]()
        self.began = time.monotonic()

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        self.done += 1
        click.echo(f"\n[{self.done}/{self.count}] {name}", err=True)
        began = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - began, 1)


def run_demo(folder: Path, as_json: bool = False) -> None:
    """Go the whole way in `folder`, and say where everything lies.

    As JSON: the folder, the funnel's `tables`, for each row that was `drawn` its id and where its pictures lie, the
    paths of `report`, `index` and `video`, and the `seconds` of each part.

    Raises:
        UserError: The clips cannot be fetched, or no pair was kept.
    """
    part = _Parts(7)
    try:
        with part("clips and characters: fetch, draw, import"):
            _members(folder, as_json)
        with part("who gets whose motion"):
            loaded = _paired(folder, as_json)
        with part("skeletons, prompts, pseudo videos, measures, verdicts"):
            _run(loaded)
        counts, drawn = _seen(loaded, folder, as_json)
        with part("shards"):
            index = _packed(loaded)
        with part("stage two: raw video learns to drive"):
            training = training_folder(folder, index)
            _train(folder, training)
        with part("an end-to-end video"):
            video = _driven(folder, training)
        with part("report"):
            report = _reported(loaded, training)
    except KeyboardInterrupt:
        click.echo("stopped; what was finished is kept: run the same command again to go on", err=True)
        sys.exit(130)
    told = {"report": str(report), "index": str(index), "video": str(video), "seconds": part.seconds}
    if as_json:
        print_json({"folder": str(folder), **counts, "drawn": drawn, **told})
        return
    click.echo(
        f"\nthe report, to open first:         {report}\nshards, and their index:            {index}\n"
        f"raw video drives, no skeleton:      {video}, {video.with_suffix('.png').name} beside it\n"
        f"overlay videos and contact sheets:  {folder / 'look'}\n"
        f"more of one row: bodydouble trace ID --root {folder}; all of it took {time.monotonic() - part.began:.0f} s"
    )


def _members(folder: Path, as_json: bool) -> None:
    """Import the real clips, and theatre's clips and pictures."""
    from manifests.segments import Cutting
    from pipeline.demo_theatre import make_members
    from pipeline.import_summary import told
    from pipeline.importing import import_list
    from pipeline.intake import ImportOptions

    lists = [("sources", fetch_demo(folder / "clips"), Cutting(fps=FPS))]
    with bars() as heard:
        lists += [(table, listed, Cutting()) for table, listed in make_members(folder / "theatre", heard).items()]
    for table, listed, cutting in lists:
        imported = import_list(table, str(listed), str(folder), ImportOptions(cutting), show=True)
        click.echo(told(imported), err=as_json)


def _paired(folder: Path, as_json: bool) -> "Run":
    from pipeline.config import load
    from pipeline.mix import mix_of, mix_sentences
    from pipeline.pairing import write_pairs

    loaded = load(CONFIG, [f"root={folder}"])
    for sentence in mix_sentences(mix_of(write_pairs(loaded))):
        click.echo(sentence, err=as_json)
    return loaded


def _run(loaded: "Run") -> None:
    from pipeline.progress import Progress
    from pipeline.run import execute

    progress = Progress()
    try:
        execute(loaded, None, None, progress)
    finally:
        progress.end()


def _seen(loaded: "Run", folder: Path, as_json: bool) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Draw what was found, and print the funnel; return it, and what was drawn."""
    from pipeline import funnel
    from pipeline.inspecting import look

    counts = funnel.funnel(loaded)
    drawn = look(str(folder), [], None)
    if not as_json:
        print_table(funnel.as_table(counts))
        click.echo()
        for line in _clip_by_clip(str(folder), {each["id"]: Path(each["sheet"]).name for each in drawn}):
            click.echo(line)
    return funnel.as_json(counts), drawn


def _packed(loaded: "Run") -> Path:
    """Write the shards, and return the path of their index."""
    from pipeline.packing import pack

    summary = pack(loaded)
    click.echo(f"{summary.samples:,} samples in {summary.shards:,} shards", err=True)
    if not summary.samples:
        raise DemoError(
            "no pair was kept, so there is nothing to train on; `bodydouble whatif` tells which limit it was"
        )
    return Path(summary.root) / "shards" / summary.cut / "index.json"


def training_folder(folder: Path, index: Path) -> Path:
    """Return where stage two trains: on other shards (other clips, another teacher), or otherwise, in another folder.

    A training does not go on with other weights or samples: a demo that is run again after an update starts one anew.
    """
    drawn_from = hashlib.sha256(STAGE_TWO.read_bytes() + index.read_bytes())
    return folder / f"stage_two-{drawn_from.hexdigest()[:8]}"


def _train(folder: Path, training: Path) -> None:
    """Train stage two on the shards."""
    from pipeline.train import Training, load

    weights = json.dumps(str(TEACHER))
    cuts = json.dumps([{"root": str(folder)}])
    run = load(STAGE_TWO, [f"folder={training}", f"backbone.weights={weights}", f"data.cuts={cuts}"])

    def told(line: Mapping[str, Any]) -> None:
        if "loss" in line and line["step"] % 10 == 0:
            click.echo(f"step {line['step']} of {run.training.steps}: loss {line['loss']:.4f}", err=True)

    Training(run).start(told)


def _driven(folder: Path, training: Path) -> Path:
    """Let a clip of theatre drive a picture by the trained model, and return the video."""
    from pipeline.animate_order import Order
    from pipeline.animating import animate_files

    lora = sorted((training / "checkpoints").glob("step-*/lora"))[-1]
    clip, picture = (sorted((folder / "theatre").glob(f"*.{ending}"))[0] for ending in ("mp4", "png"))
    out = folder / "end_to_end.mp4"
    with bars() as told:
        animate_files(
            Order(
                reference=picture,
                driving=clip,
                rgb=True,
                out=out,
                loras=(lora,),
                steps=12,
                sheet=out.with_suffix(".png"),
            ),
            told,
        )
    return out


def _reported(loaded: "Run", training: Path) -> Path:
    from pipeline.report import write_report

    return Path(write_report(loaded, str(CONFIG), trainings=[str(training)])["page"])


def _clip_by_clip(root: str, sheets: Mapping[str, str]) -> Iterator[str]:
    """Say of each clip how it ended: its contact sheet, or why there is none."""
    from manifests import ledger
    from manifests.tables import Tables

    tables = Tables(root)
    ends = {row["item"]: row for row in ledger.latest(tables, "track = 'sources'")}  # the last stage's row comes last
    for row in sorted(tables.read("sources").to_pylist(), key=lambda row: str(row["file"])):
        end = ends.get(row["id"]) or {"state": "rejected", "reason": row["reject"], "detail": row["reject_detail"]}
        why = f"{end['state']}, {end['reason']}: {end['detail']}" if end["reason"] else ""
        yield f"{os.path.basename(row['file']):<14} {sheets.get(row['id'], why)}"
