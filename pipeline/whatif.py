"""What if the limits were others: yield and composition of both, from the same scores, with nothing written."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from rich.table import Table

from manifests.tables import Tables
from manifests.verdicts import Verdicts
from pipeline.config import Run
from pipeline.keeping import Judged, judged, labels_of, limits_of, verdicts_on

Truths = NDArray[np.bool_]
UNSAID: Final = "-"  # as in `manifest stats`
_SHOWN: Final = 12  # characters and tags, by how much changes


@dataclass(frozen=True)
class Share:
    """Of one group of pairs, how many there are, are kept now, and would be kept then."""

    name: str
    pairs: int
    now: int
    then: int


@dataclass(frozen=True)
class WhatIf:
    """Two verdicts on the same pairs; `groups` is kind (domain, character, tag) -> its shares."""

    now: Verdicts
    then: Verdicts
    groups: dict[str, list[Share]]

    def as_json(self) -> dict[str, Any]:
        """Return it as `--json` prints it."""
        now, then = self.now.kept, self.then.kept
        return {
            "pairs": len(now),
            "kept": {"now": int(now.sum()), "then": int(then.sum())},
            "gained": int((then & ~now).sum()),
            "lost": int((now & ~then).sum()),
            "limits": {"now": limit_lines(self.now), "then": limit_lines(self.then)},
            "dropped": {"now": self.now.counts(), "then": self.then.counts()},
            "groups": {kind: [vars(share) for share in shares] for kind, shares in self.groups.items()},
        }


def whatif(now: Run, then: Run, tables: Tables) -> WhatIf:
    """Judge the pairs of `now` by its own `keep`, and by that of `then`.

    Raises:
        KeepError: A limit names a score that no pair has, or a percentile has nothing to be taken of.
    """
    found = judged(now, tables)
    by_now, by_then = (
        verdicts_on(found, limits_of(now, tables, keep), labels_of(keep.labels))
        for keep in (now.config.keep, then.config.keep)
    )
    return WhatIf(by_now, by_then, dict(_groups(found, tables, by_now.kept, by_then.kept)))


def limit_lines(verdicts: Verdicts) -> list[dict[str, Any]]:
    """Return a line for each limit: what is beyond it, and what it alone drops."""
    counts = zip(verdicts.limits, verdicts.beyond.sum(axis=1).tolist(), verdicts.alone(), strict=True)
    return [
        {"score": limit.score, "side": limit.side, "value": limit.value, "percentile": limit.percentile}
        | {"beyond": beyond, "alone": alone}
        for limit, beyond, alone in counts
    ]


def _groups(found: Judged, tables: Tables, now: Truths, then: Truths) -> Iterator[tuple[str, list[Share]]]:
    """Give the shares of each domain of characters, each character, and each tag of either."""
    sources, characters = (tables.read(track, columns=["id", "domain", "tags"]) for track in ("sources", "characters"))
    source, character = (
        pc.fill_null(
            pc.index_in(found.rows[name].combine_chunks(), value_set=side["id"].combine_chunks()), -1
        ).to_numpy()
        for name, side in (("source", sources), ("character", characters))
    )
    domains = [name or UNSAID for name in characters["domain"].to_pylist()] + [UNSAID]  # the last: is gone
    names = sorted(set(domains))
    of_domain = np.array([names.index(name) for name in domains])[character]
    yield "domain", _shares(names, of_domain, now, then)
    ids = [*characters["id"].to_pylist(), UNSAID]
    yield "character", _shares(ids, np.where(character < 0, len(ids) - 1, character), now, then)
    of_source, of_character = (_by_tag(side) for side in (sources, characters))
    nobody = [np.zeros(side.num_rows + 1, bool) for side in (sources, characters)]
    tags = []
    for tag in sorted({*of_source, *of_character}):
        has = of_source.get(tag, nobody[0])[source] | of_character.get(tag, nobody[1])[character]
        tags.append(Share(tag, int(has.sum()), int((has & now).sum()), int((has & then).sum())))
    yield "tag", [share for share in tags if share.pairs]


def _shares(names: Sequence[str], of_pair: NDArray[np.int64], now: Truths, then: Truths) -> list[Share]:
    counts = [np.bincount(of_pair[chosen], minlength=len(names)).tolist() for chosen in (slice(None), now, then)]
    return [Share(*line) for line in zip(names, *counts, strict=True) if line[1]]


def _by_tag(side: pa.Table) -> dict[str, Truths]:
    """Return tag -> which rows carry it, bool [rows + 1]; the last stands for a row that is gone."""
    lists = side["tags"].combine_chunks()
    rows = pc.list_parent_indices(lists).to_numpy()
    words = pc.list_flatten(lists).dictionary_encode()
    codes = words.indices.to_numpy()
    found = {}
    for code, tag in enumerate(words.dictionary.to_pylist()):
        found[tag] = np.zeros(side.num_rows + 1, bool)
        found[tag][rows[codes == code]] = True
    return found


def whatif_table(found: WhatIf) -> Table:
    """Return the composition as a person reads it: of characters and tags, those that change most."""
    table = Table(box=None, pad_edge=False)
    table.add_column("kept pairs")
    table.add_column("")
    for column in ("pairs", "now", "then", "change"):
        table.add_column(column, justify="right")
    total = Share("", len(found.now.kept), int(found.now.kept.sum()), int(found.then.kept.sum()))
    _add(table, "all", total)
    for kind, shares in found.groups.items():
        most = sorted(shares, key=lambda share: (-abs(share.then - share.now), -share.pairs, share.name))
        shown = shares if kind == "domain" else most[:_SHOWN]
        for place, share in enumerate(shown):
            _add(table, kind * (place == 0), share)
        if len(shown) < len(shares):
            table.add_row("", f"... {len(shares) - len(shown):,} more", "", "", "", "")
    return table


def _add(table: Table, kind: str, share: Share) -> None:
    numbers = (f"{count:,} ({count / max(share.pairs, 1):.1%})" for count in (share.now, share.then))
    change = share.then - share.now
    table.add_row(kind, share.name, f"{share.pairs:,}", *numbers, f"{change:+,}" if change else "")


def limits_table(found: WhatIf) -> Table:
    """Return the limits of both, with what is beyond each and what each alone drops."""
    table = Table(box=None, pad_edge=False)
    for column in ("", "limit", "number", "beyond it", "it alone drops"):
        table.add_column(column, justify="left" if column in ("", "limit") else "right")
    for when, verdicts in (("now", found.now), ("then", found.then)):
        for place, line in enumerate(limit_lines(verdicts)):
            from_ = "" if line["percentile"] is None else f" (percentile {line['percentile']:g})"
            number = f"{line['value']:.4g}{from_}"
            name = f"{line['score']} {line['side']}"
            table.add_row(when * (place == 0), name, number, f"{line['beyond']:,}", f"{line['alone']:,}")
    return table
