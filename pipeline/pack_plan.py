"""What a run packs: kept pairs (and sources, of kind self) to a plan of shards, and where each row ends that is not in.

The plan is a function of the tables, the verdicts and the config. It holds a line of a few hundred bytes for a sample;
all else is read when a shard is written.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from manifests import ledger
from manifests.errors import UserError
from manifests.keys import digest
from manifests.shards.plan import PREFIX as SHARD
from manifests.shards.plan import Bucket, Group, assign, places_of
from manifests.tables import Tables
from manifests.tombstones import slots_of
from pipeline.config import Run
from pipeline.keeping import Judged, columns_made, labels_of, limits_of, verdicts_on
from pipeline.outcome_prints import prints_of
from pipeline.pack_sides import Side, side_to_pack
from pipeline.plan import StageCount, TrackPlan, plan_run, plan_track
from pipeline.scores import scores_of
from stages.pack import PREFIX, Kind

Mask = NDArray[np.bool_]
Places = NDArray[np.int64]

_UNIT: Final = "\x1f"  # between the parts of what a digest is taken of


class PackError(UserError):
    """A run cannot be packed as asked; the message is one sentence for the user."""


@dataclass(frozen=True)
class PlannedShard:
    """A shard before it is written; `samples` are places in the plan's columns."""

    group: Group
    number: int
    key: str
    samples: Places

    @property
    def id(self) -> str:
        """Its id in table `shards`."""
        return SHARD + self.key

    @property
    def name(self) -> str:
        """The name of its files, without the ending."""
        return self.group.name(self.number, self.key)


@dataclass
class PackPlan:
    """A run's samples, column by column, and its shards."""

    run: Run
    sources: Side
    characters: Side
    pairs: TrackPlan
    counts: list[StageCount]  # a line for each kind: rows in, packed, left out and why
    limits: tuple[Any, ...] = ()
    kind: list[Kind] = field(default_factory=list)  # [sample]
    row: list[str] = field(default_factory=list)  # [sample] id of its pair or source
    source: list[int] = field(default_factory=list)  # [sample] row of `sources.rows`
    character: list[int] = field(default_factory=list)  # [sample] row of `characters.rows`; -1 for none
    pair: list[int] = field(default_factory=list)  # [sample] row of `pairs.rows`; -1 for none
    digests: list[str] = field(default_factory=list)  # [sample] of all that shapes its bytes
    shards: list[PlannedShard] = field(default_factory=list)

    def key_of(self, sample: int) -> str:
        """Return a sample's name in its tar."""
        return PREFIX[self.kind[sample]] + self.row[sample]


def plan_pack(run: Run, tables: Tables, folded: ledger.Fold, record: bool = False) -> PackPlan:
    """Plan the shards of a run; with `record`, under the lease, percentiles are written down as numbers.

    Raises:
        PackError: No stage of the run makes pseudo videos, though pairs are to be packed.
        KeepError: A limit names a score that no pair has, or a percentile has nothing to be taken of.
    """
    planned = {plan.track: plan for plan in plan_run(run, tables, folded)}
    sources, characters, pairs = (
        planned.get(track) or plan_track([], track, tables, folded) for track in ("sources", "characters", "pairs")
    )
    sides = [side_to_pack(run, tables, track, folded) for track in (sources, characters)]
    plan = PackPlan(run, sides[0], sides[1], pairs, [])
    kinds = run.config.pack.kinds
    if set(kinds) & {"reverse", "forward"}:
        _add_pairs(plan, tables, folded, [kind for kind in kinds if kind != "self"], record)
    if "self" in kinds:
        _add_sources(plan)
    plan.shards = list(_shards(plan, slots_of(tables, run.config.pack.cut)))
    return plan


def _add_pairs(plan: PackPlan, tables: Tables, folded: ledger.Fold, kinds: Sequence[Kind], record: bool) -> None:
    """Add the samples of kept pairs, and say what became of every other."""
    run, specs = plan.run, plan.pairs.specs
    if not any("pseudo" in spec.cls.makes for spec in specs):
        raise PackError(
            "no stage of the pairs track makes `pseudo`, so there is no pair to pack: add `render` to stages.pairs, or "
            "set pack.kinds to [self]"
        )
    every = tables.read("pairs", columns=["id", "source", "character", "reject"]).sort_by("id")
    couples = every.filter(pc.is_null(every["reject"]))
    count = StageCount("pack", entered=every.num_rows)
    count.rejected.update(reason for reason in every["reject"].to_pylist() if reason is not None)
    alive = np.ones(couples.num_rows, bool)
    places = [_index(couples[name], side.rows["id"]) for name, side in _members(plan)]
    for (_, side), found in zip(_members(plan), places, strict=True):
        why = np.array([*side.why_not, "gone"], object)[found]  # the last: -1, no such row
        _leave_out(count, alive, why)
    _count_stages(count, alive, plan.pairs, folded)
    scores = scores_of(tables, specs, plan.pairs.keys)
    judged = Judged(couples.select(["id", "source", "character"]), scores, columns_made(specs))
    plan.limits = limits_of(run, tables, record=record)
    verdicts = verdicts_on(judged, plan.limits, labels_of(run.config.keep.labels))
    dropped = np.array(verdicts.reasons, object)[verdicts.reason]
    dropped[verdicts.kept] = None
    _leave_out(count, alive, dropped)
    count.done = int(alive.sum())
    plan.counts.append(count)
    chosen = np.flatnonzero(alive).tolist()
    source_of, character_of = (found.tolist() for found in places)
    ids = plan.pairs.rows["id"].to_pylist()
    stages = plan.pairs.keys
    wanted = {keys[place] for keys in stages for place in chosen}
    made = prints_of(tables, "pairs", wanted)
    of_source, of_character = plan.sources.prints, plan.characters.prints
    sources, characters = [source_of[place] for place in chosen], [character_of[place] for place in chosen]
    names = [ids[place] for place in chosen]
    parts = [
        _UNIT.join((names[n], of_source[sources[n]], of_character[characters[n]], *(made[keys[at]] for keys in stages)))
        for n, at in enumerate(chosen)
    ]
    for kind in kinds:
        _add(plan, kind, names, sources, characters, chosen, parts)


def _add_sources(plan: PackPlan) -> None:
    """Add a sample of kind self for each source that may be packed and has its skeleton."""
    side = plan.sources
    if side.maker_of("skeleton") is None:
        raise PackError("kind self is driven by skeletons, and no stage of the sources track makes `skeleton`")
    count = StageCount("pack self", entered=side.rows.num_rows)
    alive = np.ones(side.rows.num_rows, bool)
    _leave_out(count, alive, np.array(side.why_not, object))
    count.done = int(alive.sum())
    plan.counts.append(count)
    ids = side.rows["id"].to_pylist()
    chosen = np.flatnonzero(alive).tolist()
    names, nothing = [ids[source] for source in chosen], [-1] * len(chosen)
    parts = [_UNIT.join((ids[source], side.prints[source])) for source in chosen]
    _add(plan, "self", names, chosen, nothing, nothing, parts)


def _add(
    plan: PackPlan, kind: Kind, rows: list[str], sources: list[int], characters: list[int], pairs: list[int],
    texts: list[str],
) -> None:  # fmt: skip
    """Add the samples of one kind, column by column; `texts` hold all that shapes their bytes beside the kind."""
    plan.kind += [kind] * len(rows)
    plan.row += rows
    plan.source += sources
    plan.character += characters
    plan.pair += pairs
    plan.digests += [hashlib.sha256(f"{kind}{_UNIT}{text}".encode()).hexdigest()[:32] for text in texts]


def _members(plan: PackPlan) -> tuple[tuple[str, Side], tuple[str, Side]]:
    return ("source", plan.sources), ("character", plan.characters)


def _index(column: pa.ChunkedArray, ids: pa.ChunkedArray) -> Places:
    """Return for each name its place among `ids`; -1 if it is not there."""
    found: Places = pc.fill_null(pc.index_in(column, value_set=ids.combine_chunks()), -1).to_numpy().astype(np.int64)
    return found


def _leave_out(count: StageCount, alive: Mask, why: NDArray[Any]) -> None:
    """Take out the living rows that have a reason; an empty one means that something is still to be done."""
    out = alive & np.array([reason is not None for reason in why], bool)
    found = Counter(why[out].tolist())
    count.pending += found.pop("", 0)
    count.rejected.update(found)
    alive &= ~out


def _count_stages(count: StageCount, alive: Mask, pairs: TrackPlan, folded: ledger.Fold) -> None:
    """Take out the pairs that did not come through all stages."""
    for keys in pairs.keys:
        states = np.array([folded.state.get(key) for key in keys], object)
        for place in np.flatnonzero(alive & (states != ledger.DONE)).tolist():
            state, alive[place] = states[place], False
            if state == ledger.REJECTED:
                count.rejected[folded.reason[keys[place]]] += 1
            elif state == ledger.QUARANTINED:
                count.quarantined[folded.reason[keys[place]]] += 1
            elif state == ledger.FORGOTTEN:
                count.forgotten += 1
            else:
                count.pending += 1


def _shards(plan: PackPlan, forgotten: Mapping[str, int]) -> Iterator[PlannedShard]:
    """Group the samples by kind and bucket, and each group into shards; `forgotten` counts those taken down."""
    if not plan.row:
        return
    recipes = {kind: recipe_of(plan.run, kind) for kind in plan.run.config.pack.kinds}
    buckets = _buckets(plan.sources.rows)
    codes: dict[Group, int] = {}
    groups = np.array([
        codes.setdefault(Group(kind, buckets[source], recipes[kind]), len(codes))
        for kind, source in zip(plan.kind, plan.source, strict=True)
    ])  # fmt: skip
    by_code = list(codes)
    sources = places_of(plan.sources.rows["id"].to_pylist())[np.array(plan.source)]
    samples = places_of(plan.row)
    slots = [forgotten.get(group.label, 0) for group in by_code]
    for code, number, members in assign(groups, sources, samples, plan.run.config.pack.samples_per_shard, slots):
        group = by_code[code]
        yield PlannedShard(group, number, group.key([plan.digests[sample] for sample in members.tolist()]), members)


def recipe_of(run: Run, kind: Kind) -> str:
    """Return the digest of all that shapes every sample of a kind alike: config of pack, recipes of the stages."""
    tracks = ("sources",) if kind == "self" else ("sources", "pairs")
    return digest([run.config.pack.recipe, {track: [s.digest for s in run.tracks.get(track, [])] for track in tracks}])


def _buckets(rows: pa.Table) -> list[Bucket]:
    """Return the bucket of each source: the size of its picture after the crop; of one that cannot be read, zeros."""
    columns = [rows[name].to_pylist() for name in ("width", "height", "crop", "frames", "fps")]
    known: dict[tuple[Any, ...], Bucket] = {}
    found: list[Bucket] = []
    for width, height, crop, frames, fps in zip(*columns, strict=True):
        wide, high = (crop[2], crop[3]) if crop else (width, height)
        values = (int(wide or 0), int(high or 0), int(frames or 0), float(fps or 0))
        found.append(known.setdefault(values, Bucket(*values)))
    return found
