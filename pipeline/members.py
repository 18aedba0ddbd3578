"""What a pair sees of its source and its character: their files, their columns, and what their stages made.

source, character       the clip and the picture
source_NAME             a column of the source's row in the manifest, or what a stage of its track made
character_NAME          likewise of the character
NAME                    what a stage of either track made: the source's, where both make one (`skeleton`), and a
                        pair's own, where a stage of the pairs does (`sharpness`)
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import pyarrow as pa
import pyarrow.compute as pc

from manifests import ledger, rights
from manifests.keys import canonical
from manifests.ledger import Fold, Results
from manifests.media import Clip, Picture
from manifests.schema import TABLES
from manifests.store import Artifact
from manifests.tables import Tables
from pipeline.config import TRACK_OF, Run, StageSpec, columns_of_members
from pipeline.errands import Errand
from pipeline.row_keys import keys_of

_SEGMENT: Final = ("file", "start_s", "fps", "frames", "crop")
_DONE: Final = (ledger.DONE, "")


@dataclass
class _Side:
    """One table of members, with the keys of their stages."""

    name: str  # source or character
    track: str
    specs: list[StageSpec]  # up to the last that is needed
    rows: pa.Table  # all of them, sorted by id
    place: dict[str, int]  # id -> row
    keys: list[list[str]]  # [stage][row]

    def maker_of(self, column: str) -> int:
        """Return the stage that makes a column; -1 if it is one of the manifest."""
        return next((n for n, spec in enumerate(self.specs) if column in spec.cls.makes), -1)


class Members:
    """Sources and characters, as the pairs of a run see them."""

    def __init__(self, run: Run, tables: Tables, folded: Fold, specs: Sequence[StageSpec]) -> None:
        self._run, self._tables, self._folded = run, tables, folded
        known = columns_of_members(run.tracks)
        needs = {need for spec in specs for need in spec.cls.needs}
        self._seen = {need: known[need] for need in sorted(needs) if need in known}  # name -> side, column
        self._needs = needs
        self._sides = {side: self._side(side) for side in TRACK_OF}

    @classmethod
    def of(cls, run: Run, tables: Tables, folded: Fold, specs: Sequence[StageSpec]) -> Self | None:
        """Return the members that the stages of pairs need; None for the stages of another track."""
        return cls(run, tables, folded, specs) if specs and specs[0].track == "pairs" else None

    def _side(self, name: str) -> _Side:
        track = TRACK_OF[name]
        columns = {column for side, column in self._seen.values() if side == name}
        listed = self._run.tracks.get(track, [])
        last = max((n for n, spec in enumerate(listed) if columns & set(spec.cls.makes)), default=-1)
        specs = listed[: last + 1]
        wanted = {"reject", *_SEGMENT, *rights.COLUMNS, *columns, *(need for spec in specs for need in spec.cls.needs)}
        rows = self._tables.read(track, columns=sorted(wanted & set(TABLES[track].names))).sort_by("id")
        place = {name: row for row, name in enumerate(rows["id"].to_pylist())}
        return _Side(name, track, specs, rows, place, keys_of(rows, specs))

    def parts(self, pairs: pa.Table) -> dict[str, list[str]]:
        """Return name -> [pair] what of it goes into a key: values of the manifest, keys of results."""
        parts: dict[str, list[str]] = {}
        for name, (side_name, column) in self._seen.items():
            side = self._sides[side_name]
            maker = side.maker_of(column)
            if maker >= 0:
                of_member = [f"{name}={key}" for key in side.keys[maker]]
            else:
                of_member = [f"{name}={canonical(value)}" for value in side.rows[column].to_pylist()]
            places = self._places(side, pairs)
            parts[name] = ["" if place is None else of_member[place] for place in places]
        return parts

    def ends(self, pairs: pa.Table) -> Iterator[tuple[str | None, str]]:
        """Give for each pair the state of its members and why: `done` if both are ready, None if it is to wait."""
        ends = {name: self._ends_of(side) for name, side in self._sides.items()}
        for places in zip(*(self._places(side, pairs) for side in self._sides.values()), strict=True):
            found = [
                (ledger.REJECTED, f"{name}_gone") if place is None else ends[name][place]
                for name, place in zip(self._sides, places, strict=True)
            ]
            bad = [end for end in found if end[0] not in (ledger.DONE, None)]
            yield bad[0] if bad else min(found, key=lambda end: end[0] is not None)

    def _ends_of(self, side: _Side) -> list[tuple[str | None, str]]:
        """Return [member] its state, with the reason under which its pairs are counted."""
        pairing = self._run.config.pairs
        ends: list[tuple[str | None, str]] = []
        for row, about in enumerate(side.rows.select([*rights.COLUMNS, "reject"]).to_pylist()):
            against = rights.objection(about, pairing.reject_tags, pairing.allow_unknown_licence)
            if about["reject"] is not None or against is not None:
                ends.append((ledger.REJECTED, f"{side.name}_{about['reject'] or (against or ('',))[0]}"))
                continue
            end: tuple[str | None, str] = _DONE
            for keys in side.keys:
                state = self._folded.state.get(keys[row])
                if state != ledger.DONE:
                    settled = state in ledger.SETTLED
                    end = (state, f"{side.name}_{self._folded.reason.get(keys[row], state)}") if settled else (None, "")
                    break
            ends.append(end)
        return ends

    def seen_by(self, pairs: pa.Table) -> list[tuple[dict[str, Any], dict[str, Errand]]]:
        """Return for each of some pairs, all of them ready, the columns of its members, and who makes each of them."""
        seen: list[tuple[dict[str, Any], dict[str, Errand]]] = [({}, {}) for _ in range(pairs.num_rows)]
        for side in self._sides.values():
            places = [place for place in self._places(side, pairs) if place is not None]
            taken = dict(zip(places, side.rows.take(pa.array(places, pa.int64())).to_pylist(), strict=True))
            results = Results(self._tables, (keys[place] for keys in side.keys for place in taken))
            for (columns, makers), place in zip(seen, places, strict=True):
                row = taken[place]
                made = row | _media(side.name, row)
                for keys in side.keys:
                    values, artifacts = results[keys[place]]
                    made |= values
                    made |= {artifact["column"]: Artifact(**artifact) for artifact in artifacts}
                columns[side.name] = made[side.name]
                for name, (owner, column) in self._seen.items():
                    if owner != side.name:
                        continue
                    columns[name], maker = made[column], side.maker_of(column)
                    if maker >= 0:
                        makers[name] = Errand(side.track, side.specs[maker].name, row["id"], side.keys[maker][place])
        return seen

    def _places(self, side: _Side, pairs: pa.Table) -> list[int | None]:
        found: list[int | None] = pc.index_in(pairs[side.name], value_set=side.rows["id"].combine_chunks()).to_pylist()
        return found


def _media(side: str, row: dict[str, Any]) -> dict[str, Any]:
    crop = tuple(row["crop"]) if row["crop"] else None
    if side == "source":
        return {"source": Clip(row["file"], row["start_s"], row["fps"], row["frames"], crop)}
    return {"character": Picture(row["file"], crop)}
