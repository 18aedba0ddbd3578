"""Sources x characters -> pairs, stable under additions.

Every source s has `per_source` slots. Each slot draws a domain, and takes the character that wins there, by highest
random weight (rendezvous hashing: D. Thaler, C. Ravishankar, 1998): everybody is drawn against everybody by a hash of
the two names alone, so who comes or goes changes only what he wins or held.

    u(s, x)     hash of the two names, uniform in (0, 1)
    domain      d with the least -ln u(s, slot d) / weight_d      wins with probability weight_d / sum of weights
    character   c with the greatest u(s, c), in that domain, of a framing that fits

A domain without a character that fits does not take part. Framings fit if they are equal, or one is unknown. A source
is crossed (a `half` source with `full` characters) if u(s, "crossed") < `crossed_share`, in domains that have such a
character. The characters of one source are of different identities where those are known. So whom a source may have
does not depend on the slot: one that stayed open has nobody left, and drawing again adds nothing.

Of N characters in a domain, one more wins each of its slots with probability 1 / (N + 1) and changes no other; a new
source changes nothing of others. Quotas are the exception: sources take their turn in the order of a hash, and one that
comes in may take the last place of a tag from one behind it. Pairs that are `existing` keep their slots and their
places in the quotas in any case: what is new comes beside them.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from manifests.identities import codes_of
from manifests.keys import digest
from manifests.quotas import Quotas
from manifests.rendezvous import Words, mixed, random_words, uniform
from manifests.schema import DOMAINS

FRAMINGS: Final = ("full", "half", "portrait", "unknown")
UNKNOWN: Final = "unknown"
NO_CHARACTER: Final = "no_character"  # no other identity of a weighted domain and a fitting framing is left
QUOTA: Final = "quota"  # the source carries a tag whose quota is full
_ROWS: Final = 256  # sources at a time: their scores against a thousand characters stay in the cache

Numbers = NDArray[np.int64]
Truths = NDArray[np.bool_]


@dataclass(frozen=True)
class Members:
    """Sources or characters that may be paired, as columns of one length, in any order; ids are unique."""

    ids: Sequence[str]
    identities: Sequence[str | None]
    domains: Sequence[str | None]  # of `schema.DOMAINS`
    framings: Sequence[str | None]  # of `FRAMINGS`; None is unknown
    tags: Sequence[Collection[str]]

    def sorted(self) -> "Members":
        """Return the same in the order of the ids."""
        order = sorted(range(len(self.ids)), key=self.ids.__getitem__)
        columns = (self.ids, self.identities, self.domains, self.framings, self.tags)
        return Members(*([column[row] for row in order] for column in columns))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Rules:
    """How pairs are drawn."""

    per_source: int = 1
    domains: Mapping[str, float] = field(default_factory=lambda: dict.fromkeys(DOMAINS, 1.0))  # weight of each
    crossed_share: float = 0.0  # of the sources that can be crossed
    crossings: Sequence[tuple[str, str]] = (("half", "full"),)  # framing of the source, of the character
    quotas: Mapping[str, int] = field(default_factory=dict)  # tag -> pairs at most of which a member carries it
    pair_unknown_identities: bool = True  # False: only where the domains are known and differ
    seed: int = 0


@dataclass
class Drawn:
    """Pairs that were drawn, as columns, by source id and slot; `open_slots` counts slots without a pair, by reason."""

    sources: list[str] = field(default_factory=list)
    characters: list[str] = field(default_factory=list)
    crossed: list[bool] = field(default_factory=list)
    open_slots: Counter[str] = field(default_factory=Counter)


def pair_id(source: str, character: str) -> str:
    """Return the id of a pair."""
    return "par_" + digest([source, character])


def draw(
    sources: Members,
    characters: Members,
    rules: Rules,
    existing: Iterable[tuple[str, str]] = (),
    resting: Collection[str] = (),
) -> Drawn:
    """Draw a pair for every free slot. A pure function of sets: the order of rows does not matter.

    `existing` pairs (source id, character id) take slots of their sources and places in the quotas, and are not drawn
    again; pairs of sources or characters that are not among the members are passed over. Members that are `resting`
    keep their pairs and get no new one. 100,000 sources against 1,000 characters take seconds (docs/benchmarks.md).
    """
    return _Draw(sources.sorted(), characters.sorted(), rules, existing, resting).all()


class _Draw:
    """The characters lie by cell (domain, framing), so that the best of a cell is the best of a run of columns."""

    def __init__(
        self,
        sources: Members,
        characters: Members,
        rules: Rules,
        existing: Iterable[tuple[str, str]],
        resting: Collection[str],
    ) -> None:
        self.rules, self.sources, self.resting = rules, sources, frozenset(resting)
        self.domains = [name for name in DOMAINS if rules.domains.get(name, 0) > 0]
        self._lay_out(characters)
        self.words = random_words(rules.seed, "source", sources.ids)
        self.framing = _places(sources.framings, FRAMINGS, FRAMINGS.index(UNKNOWN))
        self.source_domain = _places(sources.domains, DOMAINS, -1)
        slots = range(rules.per_source)
        names = [f"{slot}:{domain}" for slot in slots for domain in self.domains]
        self.domain_words = random_words(rules.seed, "slot", names).reshape(len(slots), len(self.domains))
        crossed = uniform(mixed(self.words ^ random_words(rules.seed, "crossed", [""])))
        self.is_crossed = crossed < rules.crossed_share
        self.weights = np.array([rules.domains[name] for name in self.domains])
        self._pin(existing)

    def _lay_out(self, characters: Members) -> None:
        domain = _places(characters.domains, self.domains, -1)
        framing = _places(characters.framings, FRAMINGS, FRAMINGS.index(UNKNOWN))
        cell = domain * len(FRAMINGS) + framing
        order = np.argsort(cell, kind="stable")
        self.ids = [characters.ids[column] for column in order]
        self.column = {name: column for column, name in enumerate(self.ids)}
        self.words_of_characters = random_words(self.rules.seed, "character", self.ids)
        cells, self.begins = np.unique(cell[order], return_index=True)
        self.ends = np.append(self.begins[1:], len(order))
        self.cell_domain, self.cell_framing = np.divmod(cells, len(FRAMINGS))
        self.domain = domain[order]  # -1 without a weight: such characters are never drawn
        self.domain_name = _places(characters.domains, DOMAINS, -1)[order]
        rests = [name in self.resting for name in self.ids]
        self.out = (self.domain < 0) | np.array(rests, bool)
        self.tags = [characters.tags[column] for column in order]
        identities = [characters.identities[column] for column in order]
        self.identity, self.source_identity = codes_of(identities, self.sources.identities)
        self.fits, self.crosses = self._framings()

    def _framings(self) -> tuple[Truths, Truths]:
        """Return which cells fit a source of each framing, and which cross it, bool [framing, cell]."""
        source, unknown = np.arange(len(FRAMINGS))[:, None], FRAMINGS.index(UNKNOWN)
        fits = (source == self.cell_framing) | (source == unknown) | (self.cell_framing == unknown)
        crosses = np.zeros_like(fits)
        for of_source, of_character in self.rules.crossings:
            crosses[FRAMINGS.index(of_source)] |= self.cell_framing == FRAMINGS.index(of_character)
        return fits, crosses & ~fits

    def _pin(self, existing: Iterable[tuple[str, str]]) -> None:
        """Note what is taken: columns of each source's characters, and places in the quotas."""
        row_of = {name: row for row, name in enumerate(self.sources.ids)}
        self.pinned: dict[int, list[int]] = {}
        self.quota = Quotas(self.rules.quotas, self.sources.tags, self.tags)
        for source, character in existing:
            row, column = row_of.get(source), self.column.get(character)
            if row is not None and column is not None:
                self.pinned.setdefault(row, []).append(column)
                self.quota.take(row, column)

    def all(self) -> Drawn:
        rows = np.array(
            [
                row
                for row, name in enumerate(self.sources.ids)
                if len(self.pinned.get(row, ())) < self.rules.per_source and name not in self.resting
            ],
            np.int64,
        )
        if self.rules.quotas:
            rows = rows[np.argsort(self.words[rows], kind="stable")]
        drawn = Drawn()
        found = [self._of_block(rows[begin : begin + _ROWS], drawn) for begin in range(0, len(rows), _ROWS)]
        for row, chosen in sorted(entry for block in found for entry in block):
            for column, crossed in chosen:
                drawn.sources.append(self.sources.ids[row])
                drawn.characters.append(self.ids[column])
                drawn.crossed.append(crossed)
        return drawn

    def _of_block(self, rows: Numbers, drawn: Drawn) -> list[tuple[int, list[tuple[int, bool]]]]:
        """Draw for some sources, and count their open slots."""
        columns, crossed = self.propose(rows)
        found = []
        for place, row in enumerate(rows.tolist()):
            free = self.rules.per_source - len(self.pinned.get(row, ()))
            if self.quota and not self.quota.take_all(row, columns[place]):
                # a tag became full within this block: one slot after the other, by what is left now
                chosen = self._one_by_one(row, free)
            else:
                chosen = [
                    (column, bool(crossed[place, slot]))
                    for slot, column in enumerate(columns[place].tolist())
                    if column >= 0
                ]
            if len(chosen) < free:
                why = QUOTA if self.quota and self.quota.is_full_for(row) else NO_CHARACTER
                drawn.open_slots[why] += free - len(chosen)
            found.append((row, chosen))
        return found

    def _one_by_one(self, row: int, free: int) -> list[tuple[int, bool]]:
        chosen: list[tuple[int, bool]] = []
        before = list(self.pinned.get(row, ()))
        for _ in range(free):
            columns, crossed = self.propose(np.array([row]))
            slots = np.flatnonzero(columns[0] >= 0)
            if not len(slots):
                break
            column = int(columns[0, slots[0]])
            chosen.append((column, bool(crossed[0, slots[0]])))
            self.quota.take(row, column)
            self.pinned[row] = [*before, *(each for each, _ in chosen)]
        self.pinned[row] = before
        return chosen

    def propose(self, rows: Numbers) -> tuple[Numbers, Truths]:
        """Return the column that each slot takes, -1 if none, and whether it is crossed, [rows, per_source]."""
        chosen = np.full((len(rows), self.rules.per_source), -1)
        crossed = np.zeros(chosen.shape, bool)
        if not len(self.ids):
            return chosen, crossed
        scores = self._scores(rows)
        pins = np.zeros((len(rows), len(self.domains)), np.int64)
        free = np.full(len(rows), self.rules.per_source)
        for place, row in enumerate(rows.tolist()):
            for pinned in self.pinned.get(row, ()):
                if self.domain[pinned] >= 0:
                    pins[place, self.domain[pinned]] += 1
                free[place] -= 1
                self._leave_out(scores, np.array([place]), np.array([pinned]))
            if self.quota and self.quota.is_full_for(row):
                free[place] = 0
        for slot in range(self.rules.per_source):
            column, cross = self._slot(rows, slot, scores, pins)
            column[free <= 0] = -1
            taken = np.flatnonzero(column >= 0)
            free[taken] -= 1
            chosen[:, slot], crossed[:, slot] = column, cross & (column >= 0)
            self._leave_out(scores, taken, column[taken])
        return chosen, crossed

    def _scores(self, rows: Numbers) -> Words:
        """Return the weight of every character for each source, uint64 [rows, characters]; 0 where it may not be."""
        scores = mixed(self.words[rows, None] ^ self.words_of_characters)
        mine = self.source_identity[rows, None]
        scores[(mine == self.identity) & (mine >= 0)] = 0
        if not self.rules.pair_unknown_identities:
            domain = self.source_domain[rows, None]
            alike = (domain == self.domain_name) | (domain < 0)
            scores[alike & ((mine < 0) | (self.identity < 0))] = 0
        scores[:, self.out | self.quota.full_columns() if self.quota else self.out] = 0
        return scores

    def _leave_out(self, scores: Words, places: Numbers, columns: Numbers) -> None:
        """Take characters out of their sources' further slots, with all others of their identity."""
        scores[places, columns] = 0
        same = np.where(self.identity[columns] >= 0, self.identity[columns], -2)
        for place, code in zip(places[same >= 0].tolist(), same[same >= 0].tolist(), strict=True):
            scores[place, self.identity == code] = 0

    def _slot(self, rows: Numbers, slot: int, scores: Words, pins: Numbers) -> tuple[Numbers, Truths]:
        """Draw domain, framing and character; a pinned pair of that domain takes the slot instead, which gives -1."""
        every = np.arange(len(rows))
        best = np.stack([scores[:, a:b].argmax(axis=1) + a for a, b in zip(self.begins, self.ends, strict=True)], 1)
        value = scores[every[:, None], best]
        crosses = (value > 0) & self.crosses[self.framing[rows]] & self.is_crossed[rows, None]
        fits = (value > 0) & self.fits[self.framing[rows]]
        drawn = -np.log(uniform(mixed(self.words[rows, None] ^ self.domain_words[slot]))) / self.weights
        for number in range(len(self.domains)):
            there = (crosses | fits)[:, self.cell_domain == number].any(axis=1) | (pins[:, number] > 0)
            drawn[~there, number] = np.inf
        domain = drawn.argmin(axis=1)
        inside = self.cell_domain == domain[:, None]
        cross = (crosses & inside).any(axis=1)
        value = np.where(np.where(cross[:, None], crosses, fits) & inside, value, 0)
        cell = value.argmax(axis=1)
        column = np.where(value[every, cell] > 0, best[every, cell], -1)
        pinned = pins[every, domain] > 0
        pins[every[pinned], domain[pinned]] -= 1
        column[pinned] = -1
        return column, cross


def _places(values: Sequence[str | None], known: Sequence[str], otherwise: int) -> Numbers:
    """Return the place of each value in `known`, int64 [n]."""
    place = {name: number for number, name in enumerate(known)}
    return np.array([otherwise if value is None else place.get(value, otherwise) for value in values], np.int64)
