"""Sources and characters as packing sees them: who may be packed, and what a sample says of each."""

import hashlib
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from manifests import ledger
from manifests.tables import Tables
from pipeline.config import Run, StageSpec
from pipeline.outcome_prints import prints_of
from pipeline.pairing import side_of
from pipeline.plan import TrackPlan

SAID: Final = (  # of a member, in the `json` of a sample; sources have their segment beside it
    "id", "file_sha256", "crop", "licence", "licences", "consent", "consents", "origins", "identity", "domain", "tags",
)  # fmt: skip
SEGMENT: Final = ("start_s", "fps", "frames")
_MAY_CHANGE: Final = ("licence", "consent", "identity", "domain")  # while the id stays
_MAY_GROW: Final = ("licences", "consents", "origins", "tags")
_UNIT: Final = "\x1f"
PENDING: Final = ""  # the reason of a row of which something is still to be made


@dataclass
class Side:
    """One table, with what makes its rows fit to be packed."""

    rows: pa.Table  # all rows, by id
    specs: list[StageSpec]
    keys: list[list[str]]  # [stage][usable row], as in the plan of the track
    place: dict[str, int]  # id -> its column in `keys`
    why_not: list[str | None]  # [row] why it is left out; None if it may be packed
    prints: list[str]  # [row] of all that a sample says of it

    def maker_of(self, column: str) -> int | None:
        """Return which stage makes a column."""
        return next((number for number, spec in enumerate(self.specs) if column in spec.cls.makes), None)


def side_to_pack(run: Run, tables: Tables, track: TrackPlan, folded: ledger.Fold) -> Side:
    """Return a table with the rows that may not be packed named, and prints of what samples say of its rows."""
    name = track.track
    columns = ["file", *SAID] + (["width", "height", *SEGMENT] if name == "sources" else [])
    rows = tables.read(name, columns=columns).sort_by("id").combine_chunks()
    seen = side_of(tables, name, track, folded, run.config.pairs)
    ids = rows["id"].to_pylist()
    reasons = {**dict.fromkeys(seen.quarantined, "quarantined"), **seen.rejected}
    reasons |= {row: reason for row, (reason, _) in seen.unusable.items()}
    place = {row: number for number, row in enumerate(track.rows["id"].to_pylist())}
    side = Side(rows, track.specs, track.keys, place, [reasons.get(row) for row in ids], [])
    prints = _prints_of_rows(rows)
    if name == "sources":
        made = prints_of(tables, name, {key for stage in track.keys for key in stage})
        skeleton = side.maker_of("skeleton")
        for number, row in enumerate(ids):
            if row in place:
                keys = [stage[place[row]] for stage in track.keys]
                prints[number] += "".join(made.get(key, "-") for key in keys)
                if skeleton is not None and side.why_not[number] is None and keys[skeleton] not in made:
                    side.why_not[number] = PENDING
    side.prints = [hashlib.sha256(text.encode()).hexdigest()[:32] for text in prints]
    return side


def _prints_of_rows(rows: pa.Table) -> list[str]:
    """Return for each row its id and what may change while that stays: the id says file, segment and crop."""
    if not rows.num_rows:
        return []
    columns = [rows["id"], *(pc.fill_null(rows[name], "\x00") for name in _MAY_CHANGE)]
    for name in _MAY_GROW:
        lists = rows[name].combine_chunks()
        columns.append(pc.fill_null(pc.binary_join(lists, _UNIT), "\x00"))
    texts: list[str] = pc.binary_join_element_wise(*columns, "\x1e").to_pylist()
    return texts
