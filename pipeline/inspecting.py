"""What the ledger knows: quarantined rows, one row's history, and sending rows round again."""

import json
from pathlib import Path
from typing import Any

from manifests import ledger
from manifests.lease import Lease
from manifests.ledger import Committer, Outcome
from manifests.schema import TRACKS
from manifests.store import Artifact, ArtifactDamaged, Store
from manifests.tables import TableError, Tables
from pipeline.feed import with_media

SHOWN = ["track", "item", "stage", "state", "reason", "detail", "written_at"]


def settled(tables: Tables, states: tuple[str, ...], where: str | None) -> list[dict[str, Any]]:
    """Return the newest outcome of each key that is in one of `states` and fits an SQL condition."""
    newest = ledger.latest(tables, None, [*SHOWN])
    chosen = [row for row in newest if row["state"] in states]
    if where is not None:
        fitting = tables.read("outcomes", columns=["key", "epoch", "seq"], where=where).to_pylist()
        fits = {(row["key"], row["epoch"], row["seq"]) for row in fitting}
        chosen = [row for row in chosen if (row["key"], row["epoch"], row["seq"]) in fits]
    return chosen


def requeue(root: str, where: str, rejected: bool = False) -> list[dict[str, Any]]:
    """Send quarantined rows (and with `rejected` also rejected ones) round again; returns those it sent.

    Raises:
        LeaseTaken: a run is going on under this root.
        TableError: the condition is not understood.
    """
    tables = Tables(root)
    states = (ledger.QUARANTINED, ledger.REJECTED) if rejected else (ledger.QUARANTINED,)
    settled(tables, states, where)  # a condition with a mistake ends here, before the lease
    with Lease.take(root, "bodydouble requeue") as lease:
        rows = settled(tables, states, where)
        committer = Committer(tables, lease.epoch)
        for row in rows:
            named = {name: row[name] for name in ("key", "track", "item", "stage")}
            committer.add(Outcome(**named, state=ledger.REQUEUED, reason=row["reason"]))
        committer.flush()
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
    """
    tables, store = Tables(root), Store(root)
    found = [find(tables, item) for item in items] or [
        (track, row)
        for track in ("sources", "characters")
        for row in tables.read(track, where="reject IS NULL").to_pylist()
    ]
    folder = out or Path(tables.root) / "look"
    drawn = []
    for track, row in sorted(found, key=lambda each: str(each[1]["id"])):
        made = _newest_skeleton(tables, row["id"])
        if isinstance(made, str):
            if items:
                raise TableError(f"{row['id']} has no skeleton to draw: {made}")
            continue
        try:
            arrays = {each["column"]: store.get(Artifact(**each)) for each in made}
            drawn.append(_draw(track, with_media(track, row), arrays, folder))
        except ArtifactDamaged as error:
            raise TableError(f"{error}; `bodydouble run RUN.yaml --verify` makes it again") from error
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
