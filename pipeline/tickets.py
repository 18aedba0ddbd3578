"""Rows on their way through a cluster: each travels as one string, with all that the stages before it made.

Media stay where they are: a ticket holds addresses of artifacts, never their bytes.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

import pyarrow as pa

from manifests.store import Artifact
from pipeline.config import StageSpec
from pipeline.errands import Errand
from pipeline.feed import Walk, with_media
from pipeline.plan import TrackPlan

SCHEMA: Final = pa.schema([("ticket", pa.string())])
_MADE_ANEW: Final = ("source", "character")  # from the columns of the manifest, in the worker


def write(walks: Sequence[Walk]) -> pa.Table:
    """Return a block of tickets."""
    return pa.table({"ticket": [_text(walk) for walk in walks]}, schema=SCHEMA)


def read(block: pa.Table, track: str, specs: list[StageSpec]) -> list[Walk]:
    """Return the rows of a block, before the stages at which they stand."""
    return [_walk(json.loads(text), track, specs) for text in block["ticket"].to_pylist()]


def errand(walk: Walk) -> Errand:
    """Return what the desk needs to know of a row."""
    return Errand(walk.plan.track, walk.spec.name, walk.id, walk.key)


def _text(walk: Walk) -> str:
    columns = {
        name: {"artifact": asdict(value)} if isinstance(value, Artifact) else {"value": value}
        for name, value in walk.columns.items()
        if name not in _MADE_ANEW
    }
    keys = [of_stage[walk.row] for of_stage in walk.plan.keys]
    ticket = {"columns": columns, "keys": keys, "stage": walk.stage, "done": sorted(walk.done)}
    return json.dumps(ticket | {"ended": sorted(walk.ended)})


def _walk(ticket: dict[str, Any], track: str, specs: list[StageSpec]) -> Walk:
    columns = {
        name: Artifact(**given["artifact"]) if "artifact" in given else given["value"]
        for name, given in ticket["columns"].items()
    }
    alone = TrackPlan(track, specs, pa.table({}), [[key] for key in ticket["keys"]], [], [])
    columns = with_media(track, columns)
    return Walk(alone, 0, ticket["stage"], columns, set(ticket["done"]), set(ticket["ended"]))
