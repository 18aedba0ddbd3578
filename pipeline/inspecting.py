"""What the ledger knows: quarantined rows, one row's history, and sending rows round again."""

import json
from typing import Any

from manifests import ledger
from manifests.ledger import Committer, Outcome
from manifests.lease import Lease
from manifests.schema import TRACKS
from manifests.tables import TableError, Tables

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
            lines.append(f"    made with {json.dumps(each['made_with'])}" + f" in {each['seconds']:.2f} s" * (each["seconds"] is not None))
    return "\n".join(lines)
