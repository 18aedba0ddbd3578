"""The table `pairs`: what of sources and characters may be paired, which pairs are drawn, and how they mix.

What is written stays written. A pair whose source or character has become unusable keeps its row, with the reason, and
its slot is drawn anew; one whose source or character a stage rejected keeps its row as it is (the funnel counts it
there), and its slot is drawn anew too; one that becomes usable again counts again, beside the one that replaced it. A
quarantined source or character gets no new pair, and keeps those it has.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow as pa

from manifests import ledger, rights
from manifests.errors import NoSpaceError, is_full
from manifests.identities import same_name
from manifests.lease import Lease
from manifests.pairs import FRAMINGS, UNKNOWN, Drawn, Members, Rules, draw, pair_id
from manifests.schema import PAIRS
from manifests.tables import Tables
from pipeline.config import Run
from pipeline.pair_config import PairsConfig
from pipeline.plan import TrackPlan, plan_track

_COLUMNS: Final = sorted({*rights.COLUMNS, "identity", "reject", "reject_detail"})
_FRAMING_TAG: Final = "framing:"  # a person's word on what is seen, as a tag: framing:half
_FORGOTTEN: Final = "forgotten"  # a pair that was taken down stays so


@dataclass(frozen=True)
class About:
    """What pairing knows of one source or character."""

    identity: str | None
    domain: str | None
    framing: str
    tags: frozenset[str]


@dataclass
class Side:
    """One table as pairing sees it."""

    track: str
    about: dict[str, About] = field(default_factory=dict)
    unusable: dict[str, tuple[str, str]] = field(default_factory=dict)  # id -> reason and sentence; so are its pairs
    rejected: dict[str, str] = field(default_factory=dict)  # id -> reason, by a stage
    quarantined: set[str] = field(default_factory=set)
    pending: int = 0  # usable, and not through the stages of its track

    def members(self) -> Members:
        """Return those whose pairs count; of them, the quarantined get no new ones."""
        barred = {*self.unusable, *self.rejected}
        free = [(name, about) for name, about in self.about.items() if name not in barred]
        return Members(
            [name for name, _ in free],
            [about.identity for _, about in free],
            [about.domain for _, about in free],
            [about.framing for _, about in free],
            [about.tags for _, about in free],
        )

    def left_out(self) -> Counter[str]:
        """Return reason -> how many may not be drawn."""
        reasons = {name: reason for name, (reason, _) in self.unusable.items()}
        return Counter({**dict.fromkeys(self.quarantined, "quarantined"), **self.rejected, **reasons}.values())


@dataclass
class Pairing:
    """What is written, and what would be: nothing of it touches the table."""

    config: PairsConfig
    sources: Side
    characters: Side
    written: list[dict[str, Any]]  # rows of the table, with their `reject` as it is now
    changed: list[dict[str, Any]]  # those of them whose `reject` differs from the table's
    standing: list[tuple[str, str]]  # source and character of those that count
    drawn: Drawn

    def couples(self) -> list[tuple[str, str]]:
        """Return source and character of each pair that counts: written, or new."""
        return [*self.standing, *zip(self.drawn.sources, self.drawn.characters, strict=True)]

    def new_rows(self) -> list[dict[str, Any]]:
        """Return the rows of the pairs that were drawn."""
        couples = zip(self.drawn.sources, self.drawn.characters, strict=True)
        return [{"id": pair_id(*each), "source": each[0], "character": each[1]} for each in couples]


def write_pairs(run: Run) -> Pairing:
    """Draw a pair for every free slot and write them, in one commit under the lease: all or nothing.

    Doing it again writes nothing.

    Raises:
        LeaseTaken: A run is going on under this root.
        NoSpaceError: The disk is full.
    """
    tables = Tables(run.config.root)
    try:
        with Lease.take(run.config.root, "bodydouble pair", above=ledger.highest_epoch(tables)) as lease:
            pairing = pairing_of(run, tables, ledger.fold(tables))
            rows = [*pairing.changed, *pairing.new_rows()]
            if rows:
                lease.check()
                tables.upsert("pairs", pa.Table.from_pylist(rows, schema=PAIRS))
    except OSError as error:
        if is_full(error):
            raise NoSpaceError(run.config.root) from error
        raise
    return pairing


def pairing_of(run: Run, tables: Tables, folded: ledger.Fold) -> Pairing:
    """Draw what `pair` would write now."""
    config = run.config.pairs
    sources, characters = (
        side_of(tables, track, plan_track(run.tracks.get(track, []), track, tables, folded), folded, config)
        for track in ("sources", "characters")
    )
    written, changed, standing = [], [], []
    for row in tables.read("pairs").to_pylist():
        now = row if row["reject"] == _FORGOTTEN else row | _rejection(row, sources, characters)
        written.append(now)
        if now != row:
            changed.append(now)
        if now["reject"] is None and not (row["source"] in sources.rejected or row["character"] in characters.rejected):
            standing.append((row["source"], row["character"]))
    resting = sources.quarantined | characters.quarantined
    drawn = draw(sources.members(), characters.members(), rules_of(config), standing, resting)
    return Pairing(config, sources, characters, written, changed, standing, drawn)


def rules_of(config: PairsConfig) -> Rules:
    """Return the rules of drawing that a config means."""
    return Rules(
        per_source=config.per_source,
        domains=config.weights(),
        crossed_share=config.crossed_share,
        crossings=config.crossings,
        quotas=config.quotas,
        pair_unknown_identities=config.unknown_identity == "pair",
        seed=config.seed,
    )


def side_of(tables: Tables, track: str, plan: TrackPlan, folded: ledger.Fold, config: PairsConfig) -> Side:
    """Return a table as pairing sees it: rights, held-out identities, and what the stages of its track found."""
    side = Side(track)
    measured = _framings(tables, plan, folded)
    held_out = {same_name(name) for name in config.held_out}
    for row in tables.read(track, columns=_COLUMNS).to_pylist():
        name, tags = row["id"], frozenset(row["tags"] or ())
        framing = _framing_of(tags) or measured.get(name, UNKNOWN)
        side.about[name] = About(row["identity"], row["domain"], framing, tags)
        against = rights.objection(row, config.reject_tags, config.allow_unknown_licence)
        if row["reject"] is not None:
            against = row["reject"], row["reject_detail"] or ""
        elif against is None and row["identity"] and same_name(row["identity"]) in held_out:
            against = "held_out", f"the identity {row['identity']!r} of {name} is held out for evaluation"
        if against is not None:
            side.unusable[name] = against
    _ends(side, plan, folded)
    return side


def _ends(side: Side, plan: TrackPlan, folded: ledger.Fold) -> None:
    """Note whom the stages rejected or quarantined, and how many are still on their way."""
    names = plan.rows["id"].to_pylist()
    for row, name in enumerate(names):
        if name in side.unusable:
            continue
        if plan.position[row] >= 0:
            side.pending += 1
        for stage in plan.keys:
            state = folded.state.get(stage[row])
            if state in (ledger.REJECTED, ledger.FORGOTTEN):
                side.rejected[name] = folded.reason.get(stage[row], state)
            elif state == ledger.QUARANTINED:
                side.quarantined.add(name)


def _framings(tables: Tables, plan: TrackPlan, folded: ledger.Fold) -> dict[str, str]:
    """Return id -> framing, of the stage of this track that makes it, if one does."""
    for spec, keys in zip(plan.specs, plan.keys, strict=True):
        if "framing" in spec.cls.makes:
            done = dict(zip(keys, plan.rows["id"].to_pylist(), strict=True))
            wanted = [key for key in done if folded.state.get(key) == ledger.DONE]
            found = ledger.Results(tables, wanted)
            return {done[key]: str(found[key][0]["framing"]) for key in wanted if key in found}
    return {}


def _framing_of(tags: frozenset[str]) -> str | None:
    said = sorted(tag.removeprefix(_FRAMING_TAG) for tag in tags if tag.startswith(_FRAMING_TAG))
    return next((name for name in said if name in FRAMINGS), None)


def _rejection(row: Mapping[str, Any], sources: Side, characters: Side) -> dict[str, str | None]:
    """Return why a written pair cannot be used as things stand, as its columns; nulls if it can."""
    for side, name in ((sources, row["source"]), (characters, row["character"])):
        if name not in side.about:
            return {"reject": "gone", "reject_detail": f"{name} is no longer in table {side.track}"}
        if name in side.unusable:
            reason, detail = side.unusable[name]
            return {"reject": reason, "reject_detail": detail}
    one, other = sources.about[row["source"]].identity, characters.about[row["character"]].identity
    if one and other and same_name(one) == same_name(other):
        return {"reject": "same_identity", "reject_detail": f"source and character are both {one!r}"}
    return {"reject": None, "reject_detail": None}
