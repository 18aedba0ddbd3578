"""Rows on their way through a cluster: each travels as one string, with all that the stages before it made.

Media stay where they are: a ticket holds addresses of artifacts, never their bytes.
"""

import json
from collections.abc import Sequence
from typing import Any, Final

import pyarrow as pa

from manifests.media import Clip, Picture
from manifests.store import Artifact
from pipeline.config import StageSpec
from pipeline.errands import Errand
from pipeline.feed import Walk
from pipeline.plan import TrackPlan

SCHEMA: Final = pa.schema([("ticket", pa.string())])
_KINDS: Final = {"artifact": Artifact, "clip": Clip, "picture": Picture}


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
        name: next(({kind: vars(value)} for kind, cls in _KINDS.items() if isinstance(value, cls)), {"value": value})
        for name, value in walk.columns.items()
    }
    keys = [of_stage[walk.row] for of_stage in walk.plan.keys]
    ticket = {"columns": columns, "keys": keys, "stage": walk.stage, "done": sorted(walk.done)}
    makers = {column: maker._asdict() for column, maker in walk.makers.items()}
    return json.dumps(ticket | {"ended": sorted(walk.ended), "makers": makers})


def _walk(ticket: dict[str, Any], track: str, specs: list[StageSpec]) -> Walk:
    columns = {
        name: _value(*kind_and_value) for name, given in ticket["columns"].items() for kind_and_value in given.items()
    }
    alone = TrackPlan(track, specs, pa.table({}), [[key] for key in ticket["keys"]], [], [])
    makers = {column: Errand(**maker) for column, maker in ticket["makers"].items()}
    return Walk(alone, 0, ticket["stage"], columns, set(ticket["done"]), set(ticket["ended"]), makers)


def _value(kind: str, given: Any) -> Any:
    if kind == "value":
        return given
    if given.get("crop"):
        given = given | {"crop": tuple(given["crop"])}  # JSON knows lists alone
    return _KINDS[kind](**given)
