"""What the ledger knows: quarantined rows, one row's history, and sending rows round again."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from manifests import ledger
from manifests.errors import NoSpaceError, RootError, is_full
from manifests.lease import Lease
from manifests.ledger import Committer, Outcome
from manifests.media import MediaError
from manifests.schema import OUTCOMES, TRACKS
from manifests.store import Artifact, ArtifactDamaged, Store
from manifests.tables import TableError, Tables
from pipeline.feed import with_media

SHOWN = ["key", "track", "item", "stage", "state", "reason", "detail", "written_at"]
NAMED = ("key", "track", "item", "stage")
ROW_ID = "_rowid"  # Lance's own: the place of a row in one version of a table
REQUEUES_IN_ONE_COMMIT = 10_000


def newest(tables: Tables, states: tuple[str, ...], columns: list[str], where: str | None = None) -> Iterator[pa.Table]:
    """Yield, some thousand at a time, the newest outcome of each key where it is in one of `states`.

    All is read of one version of the ledger, in the order in which it lies there. What stays in memory is the place of
    each row that is chosen: 8 bytes each, and while they are found, 0.2 GB for a million outcomes.

    Raises:
        TableError: the SQL condition `where` is not understood.
    """
    if where is not None:
        tables.read("outcomes", columns=["seq"], where=where)  # all of it: some mistakes show in certain rows only
    ledger_now = tables.open("outcomes")
    if ledger_now is None:
        return
    places = _places_of_newest(ledger_now, states)
    condition = f"state IN ({', '.join(repr(state) for state in states)})"
    if where is not None:
        condition += f" AND ({where}\n)"  # a comment at its end must not swallow the bracket
    if len(places):
        scanner = ledger_now.scanner(columns=columns, filter=condition, with_row_id=True)
        for batch in scanner.to_batches():
            chosen = pa.Table.from_batches([batch.filter(pa.array(np.isin(batch[ROW_ID].to_numpy(), places)))])
            if chosen.num_rows:
                yield chosen.drop_columns([ROW_ID])


def _places_of_newest(ledger_now: Any, states: tuple[str, ...]) -> Any:
    """Return the row ids of the newest rows that are in one of `states`, uint64, sorted."""
    log = ledger_now.scanner(columns=["key", "state", "epoch", "seq"], with_row_id=True).to_table()
    keys = log["key"].combine_chunks().dictionary_encode()
    last = np.zeros(len(keys.dictionary), np.int64)
    order = np.lexsort((log["seq"].to_numpy(), log["epoch"].to_numpy()))
    last[keys.indices.to_numpy()[order]] = order  # where an index comes again, numpy keeps the last value
    found = log.select(["state", ROW_ID]).take(pa.array(last))
    fits = pc.is_in(found["state"], value_set=pa.array(states))
    return np.sort(found[ROW_ID].filter(fits).to_numpy())


def settled(tables: Tables, states: tuple[str, ...], where: str | None) -> list[dict[str, Any]]:
    """Return the newest outcome of each key that is in one of `states` and fits an SQL condition, oldest first."""
    empty = pa.schema([OUTCOMES.field(name) for name in (*SHOWN, "epoch", "seq")]).empty_table()
    found = pa.concat_tables([empty, *newest(tables, states, empty.column_names, where)])
    rows: list[dict[str, Any]] = found.sort_by([("epoch", "ascending"), ("seq", "ascending")]).to_pylist()
    return rows


def requeue(root: str, where: str, rejected: bool = False) -> list[dict[str, Any]]:
    """Send quarantined rows (and with `rejected` also rejected ones) round again; returns those it sent.

    Raises:
        LeaseTaken: a run is going on under this root.
        TableError: the condition is not understood.
        NoSpaceError: the disk is full.
    """
    tables = Tables(root)
    states = (ledger.QUARANTINED, ledger.REJECTED) if rejected else (ledger.QUARANTINED,)
    # a condition with a mistake ends here, before the lease; and where there is no ledger, none is made
    tables.read("outcomes", columns=["seq"], where=where)
    epochs = tables.read("outcomes", columns=["epoch"])["epoch"].to_numpy()
    if not len(epochs):
        return []
    try:
        with Lease.take(root, "bodydouble requeue", above=int(epochs.max())) as lease:
            rows = settled(tables, states, where)
            committer = Committer(tables, lease.epoch)
            for begin in range(0, len(rows), REQUEUES_IN_ONE_COMMIT):
                for row in rows[begin : begin + REQUEUES_IN_ONE_COMMIT]:
                    named = {name: row[name] for name in NAMED}
                    committer.add(Outcome(**named, state=ledger.REQUEUED, reason=row["reason"]))
                lease.check()
                committer.flush()
    except OSError as error:
        if is_full(error):
            raise NoSpaceError(tables.root) from error
        raise
    return rows


def trace(root: str, item: str) -> dict[str, Any]:
    """Return all that is known of one row: its manifest row, and every outcome in the order of writing.

    `item` may be the beginning of an id, if only one row begins so.

    Raises:
        TableError: no row begins so, or several do.
    """
    tables = Tables(root)
    track, row = find(tables, item)
    outcomes = tables.read("outcomes", where=f"item = '{row['id']}'").to_pylist()
    outcomes.sort(key=lambda each: (each["epoch"], each["seq"]))
    newest = {each["key"]: (each["epoch"], each["seq"]) for each in outcomes}
    for each in outcomes:
        each["newest"] = newest[each["key"]] == (each["epoch"], each["seq"])
        each["made"] = json.loads(each["made"] or "{}")
        each["made_with"] = json.loads(each["made_with"] or "{}")
        each["written_at"] = each["written_at"].isoformat()
    return {"table": track, "row": row, "outcomes": outcomes}


def find(tables: Tables, item: str) -> tuple[str, dict[str, Any]]:
    """Return the table and the row whose id is, or alone begins with, `item`."""
    if not item.replace("_", "").isalnum():
        raise TableError(f"{item!r} is no id: an id looks like src_4f0c..., as `bodydouble manifest list` shows it")
    found = [
        (track, row) for track in TRACKS for row in tables.read(track, where=f"id LIKE '{item}%'", limit=3).to_pylist()
    ]
    exact = [each for each in found if each[1]["id"] == item]
    if len(exact or found) == 1:
        return (exact or found)[0]
    if not found:
        raise TableError(f"no row of {', '.join(TRACKS)} under {tables.root} has an id that begins with {item!r}")
    raise TableError(f"several ids begin with {item!r}: {', '.join(row['id'] for _, row in found)}; give more of it")


def look(root: str, items: list[str], out: Path | None = None) -> list[dict[str, str]]:
    """Draw the skeleton of rows over their frames; returns for each its id and where the pictures lie.

    Without `items`, every row that has a skeleton.

    Raises:
        TableError: a row has no skeleton (and why), or its file or its skeleton is gone.
        RootError: the root is a URL, so that the pictures need a folder of their own; or theirs cannot be written to.
    """
    tables = Tables(root)
    if out is None and "://" in tables.root:
        raise RootError(f"{tables.root} is a URL, and pictures are drawn into a folder: name one with --out FOLDER")
    found = [find(tables, item) for item in items] or [
        (track, row)
        for track in ("sources", "characters")
        for row in tables.read(track, where="reject IS NULL").to_pylist()
    ]
    store, folder = Store(root), out or Path(tables.root) / "look"
    drawn = []
    for track, row in sorted(found, key=lambda each: str(each[1]["id"])):
        made = _newest_skeleton(tables, row["id"])
        if isinstance(made, str):
            if items:
                raise TableError(f"{row['id']} has no skeleton to draw: {made}")
            continue
        try:
            arrays = {each["column"]: store.get(Artifact(**each)) for each in made}
            there = with_media(track, row | {"file": store.fetch(row["file"])})
            drawn.append(_draw(track, there, arrays, folder))
        except ArtifactDamaged as error:
            raise TableError(f"{error}; `bodydouble run RUN.yaml --verify` makes it again") from error
        except MediaError as error:
            raise TableError(f"{row['id']} cannot be drawn: {error}") from error
        except OSError as error:
            if is_full(error):
                raise NoSpaceError(str(folder)) from error
            raise RootError(f"pictures cannot be drawn into {folder}: {error.strerror or error}") from error
    return drawn


def _newest_skeleton(tables: Tables, item: str) -> list[dict[str, Any]] | str:
    """Return the artifacts of the newest outcome with a skeleton, or why there is none."""
    rows = ledger.latest(tables, f"item = '{item}'")
    for row in reversed(rows):
        if row["state"] == ledger.DONE and any(each["column"] == "skeleton" for each in row["artifacts"] or []):
            return list(row["artifacts"])
    if not rows:
        return "no stage has seen it yet; `bodydouble run` it first"
    last = rows[-1]
    detail = (last["detail"] or "").strip().splitlines()
    why = f" {last['reason']}: {detail[-1]}" if detail else ""
    return f"stage {last['stage']} ended it as {last['state']}{why}"


def _draw(track: str, columns: dict[str, Any], arrays: dict[str, Any], folder: Path) -> dict[str, str]:
    from PIL import Image

    from pipeline.look import look_clip, overlay

    item, skeleton, boxes = columns["id"], arrays["skeleton"], arrays.get("boxes")
    if track == "sources":
        video, sheet = look_clip(columns["source"], skeleton, folder, item, boxes=boxes)
        return {"id": item, "sheet": str(sheet), "video": str(video)}
    folder.mkdir(parents=True, exist_ok=True)
    sheet = folder / f"{item}.png"
    Image.fromarray(overlay(columns["character"].rgb()[None], skeleton, boxes)[0]).save(sheet)
    return {"id": item, "sheet": str(sheet)}


def as_text(told: dict[str, Any]) -> str:
    """Return what `trace` found as a person reads it."""
    row = told["row"]
    lines = [f"{row['id']}  in {told['table']}"]
    lines += [f"    {name}: {value}" for name, value in row.items() if name != "id" and value not in (None, [])]
    for each in told["outcomes"]:
        mark = "" if each["newest"] else "  (older)"
        lines.append(f"{each['stage']}  {each['state']}{mark}  {each['written_at'][:19]}  key {each['key']}")
        if each["reason"]:
            lines.append(f"    {each['reason']}: {(each['detail'] or '').strip()}".rstrip(": "))
        lines += [f"    {name}: {value}" for name, value in each["made"].items()]
        for artifact in each["artifacts"] or []:
            lines.append(f"    {artifact['column']}: {artifact['address']}  {artifact['bytes']} bytes")
            lines.append(f"        sha256 {artifact['sha256']}")
        if each["made_with"]:
            lines.append(
                f"    made with {json.dumps(each['made_with'])}"
                + f" in {each['seconds']:.2f} s" * (each["seconds"] is not None)
            )
    return "\n".join(lines)
