"""A run's report: one HTML page that holds all it shows, and the same numbers as JSON.

All counts come from one fold of the ledger, so a report of a run that is going on is of one moment. The page shows
people: `forget` removes every report under the root (pipeline/takedown.py), and a report that is made while something
is forgotten is not left behind.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from manifests import tombstones
from manifests.errors import NoSpaceError, RootError, UserError, is_full
from manifests.files import files_of, root_of
from manifests.holder import Onlooker
from manifests.schema import TRACKS
from manifests.shards.index import INDEX, folder_of
from manifests.store import Store
from manifests.tables import Tables
from pipeline import funnel, report_numbers, status
from pipeline.config import Run
from pipeline.pack_plan import PackError
from pipeline.packing import planned
from pipeline.report_films import Part, parts_of
from pipeline.report_next import next_steps
from pipeline.report_numbers import Numbers
from pipeline.report_page import html
from pipeline.report_pairs import Shown, shown_pairs
from pipeline.report_training import ReportError, Training, training_of

PLACE: Final = "reports/report.html"
MOST_BYTES: Final = 14_000_000  # of films and pictures: a third more as text


@dataclass(frozen=True)
class Report:
    """A report's numbers as JSON, and what the page shows beside them."""

    told: dict[str, Any]
    films: dict[str, list[Part]]  # pair -> its parts
    trainings: list[Training]


def write_report(
    run: Run, config: str, out: str | None = None, trainings: Sequence[str] = (), films: int = 12, seed: int = 0
) -> dict[str, Any]:
    """Write a run's page, and return its numbers with `page` (where it is) and `bytes`.

    Args:
        run: The config.
        config: Its file as it was named, for the commands that the page names.
        out: File or URL; `reports/report.html` under the root if None.
        trainings: Folders of trainings to show.
        films: Pairs to show, at most.
        seed: Which of the pairs are shown at random.

    Raises:
        ReportError: A training's folder holds none; or something was forgotten, or is being forgotten, meanwhile.
        KeepError: A limit of `keep` names a score that no pair has.
        RootError: The page cannot be written there.
    """
    tables = Tables(run.config.root)
    before = _forgotten(tables)
    report = report_of(run, tables, config, trainings, films, seed)
    page = html(report.told, report.films, report.trainings).encode()
    place = f"{tables.root}/{PLACE}" if out is None else root_of(out)
    folder, _, name = place.rpartition("/")
    files = files_of(folder)
    try:
        files.write(name, page)
        if _forgotten(tables) != before:  # `forget` writes its tombstone first, so one of us finds the page
            files.remove(name)
            raise ReportError("something was forgotten while the report was made, so it was not kept; make it again")
    except OSError as error:
        if is_full(error):
            raise NoSpaceError(folder) from error
        raise RootError(f"the report cannot be written to {place}: {error.strerror or error}") from error
    return report.told | {"page": place, "bytes": len(page)}


def _forgotten(tables: Tables) -> frozenset[str]:
    """Return the tombstones of a root.

    Raises:
        ReportError: One was begun and not finished, so that some of what it names may still be there.
    """
    every = tombstones.all_of(tables)
    begun = next((each for each in every if each.state != tombstones.DONE), None)
    if begun is not None:
        raise ReportError(
            f"{begun.items[0]} is being forgotten, and a report might still show it; wait, or finish it: "
            f"bodydouble forget {begun.items[0]} --root {tables.root} --reason ..."
        )
    return frozenset(each.id for each in every)


def report_of(
    run: Run, tables: Tables, config: str, trainings: Sequence[str] = (), films: int = 12, seed: int = 0
) -> Report:
    """Gather a report; nothing is written. See `write_report`."""
    learned = [training_of(Path(folder)) for folder in trainings]
    view = status.look(Onlooker(tables.root))
    found = report_numbers.numbers_of(run, tables)
    counts = report_numbers.funnel_lines(found)
    shown, how = shown_pairs(found, films, seed)
    parts, left_out = _parts(shown, Store(tables.root), MOST_BYTES)
    told: dict[str, Any] = {
        "root": tables.root, "config": config, "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "rows": {track: tables.count(track) for track in TRACKS},
        "state": {"word": view.word, "lives": view.lives},
        **funnel.as_json(counts),
        "kept_out": funnel.kept_out(run),
        "pairs": report_numbers.pairs_json(found),
        "yield": report_numbers.yields_json(found),
        "scores": report_numbers.scores_json(found),
        "spent": report_numbers.spent_json(found),
        "left": report_numbers.left_json(found, config),
        "shown": how | {"pairs": [each.facts for each in shown if each.facts["id"] in parts], "left_out": left_out},
        "shards": _shards(found),
        "training": [each.facts for each in learned],
    }  # fmt: skip
    told["next"] = next_steps(told, counts, config)
    return Report(told, parts, learned)


def _parts(shown: Sequence[Shown], store: Store, most: int) -> tuple[dict[str, list[Part]], list[str]]:
    """Return pair -> its parts until so many bytes are full, and the ids of the pairs for which there was no room."""
    held: dict[str, list[Part]] = {}
    left_out: list[str] = []
    size = 0
    for each in shown:
        parts = [] if left_out else parts_of(each, store)
        size += sum(len(part.data) for part in parts)
        if left_out or size > most:
            left_out.append(each.facts["id"])
        else:
            held[each.facts["id"]] = parts
    return held, left_out


def _shards(found: Numbers) -> dict[str, Any]:
    """Return what `pack` would find: planned and missing shards, and whether the index names them."""
    cut = found.run.config.pack.cut
    rows = found.tables.read("shards", columns=["cut", "kind"]).to_pylist()
    told: dict[str, Any] = {"cut": cut, "problem": None, "planned": 0, "missing": 0, "samples": 0, "kinds": {}}
    told["index"] = files_of(found.tables.root).exists(f"{folder_of(cut)}/{INDEX}")
    told["written"] = sum(row["cut"] == cut for row in rows)
    try:
        summary = planned(found.run, found.tables)
    except (PackError, UserError) as error:
        return told | {"problem": str(error)}
    told |= {"planned": summary.shards, "missing": summary.shards - summary.known, "samples": summary.samples}
    return told | {"kinds": {line.stage: line.as_json() for line in summary.counts}}


def as_line(told: dict[str, Any]) -> str:
    """Say in a line what was written."""
    size, shown = told["bytes"] / 1e6, len(told["shown"]["pairs"])
    return f"{told['page']}  ({size:,.1f} MB, {shown} pairs with their films)"
