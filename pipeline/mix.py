"""How pairs mix: by domain, framing and tag, before anything is spent on them."""

import statistics
from collections import Counter
from typing import Any, Final

from rich.table import Table

from manifests.pairs import UNKNOWN
from pipeline.pairing import Pairing

_SHOWN: Final = 12  # tags without a quota, the most frequent


def mix_of(pairing: Pairing) -> dict[str, Any]:
    """Return the mix of a root's pairs as plain values.

    `pairs` counts those that stand, written ones and those that `bodydouble pair` would add; `rejected` those that are
    written and cannot be used. In `domains`, `share` is of the pairs, `wanted` by the weights. A pair with two tags
    counts under both.
    """
    couples, config = pairing.couples(), pairing.config
    domains: Counter[str] = Counter()
    framings: Counter[str] = Counter()
    tags: Counter[str] = Counter(dict.fromkeys(config.quotas, 0))
    uses: Counter[str] = Counter()
    unchecked = 0
    for source, character in couples:
        one, other = pairing.sources.about[source], pairing.characters.about[character]
        domains[other.domain or UNKNOWN] += 1
        framings[_framing(one.framing, other.framing)] += 1
        tags.update(one.tags | other.tags)
        uses[character] += 1
        unchecked += not (one.identity and other.identity) and (one.domain in (None, other.domain))
    total, wanted = len(couples), config.weights()
    new = len(pairing.drawn.sources)
    return {
        "pairs": total,
        "written": total - new,
        "new": new,
        "rejected": dict(Counter(row["reject"] for row in pairing.written if row["reject"]).most_common()),
        "open_slots": dict(pairing.drawn.open_slots),
        "domains": {
            name: {"pairs": domains[name], "share": domains[name] / total if total else 0.0, "wanted": wanted.get(name)}
            for name in [*wanted, *sorted(domains.keys() - wanted.keys())]
        },
        "framings": dict(framings.most_common()),
        "tags": {tag: {"pairs": count, "quota": config.quotas.get(tag)} for tag, count in tags.most_common()},
        "characters": {
            "used": len(uses), "median_pairs": statistics.median(uses.values()) if uses else 0,
            "most_pairs": max(uses.values(), default=0),
        },
        "identity_not_checked": unchecked,
        "left_out": {side.track: dict(side.left_out().most_common()) for side in (pairing.sources, pairing.characters)},
        "not_through_their_stages": {side.track: side.pending for side in (pairing.sources, pairing.characters)},
    }  # fmt: skip


def _framing(source: str, character: str) -> str:
    if UNKNOWN in (source, character):
        return "one unknown"
    return f"both {source}" if source == character else f"{source} to {character}"


def mix_table(mix: dict[str, Any]) -> Table:
    """Return a mix as a person reads it."""
    table = Table(box=None, pad_edge=False)
    table.add_column("pairs")
    table.add_column("")
    for column in ("count", "share", "wanted"):
        table.add_column(column, justify="right")
    total = mix["pairs"]
    for place, (name, line) in enumerate(mix["domains"].items()):
        wanted = "" if line["wanted"] is None else f"{line['wanted']:.1%}"
        table.add_row("domain" * (place == 0), name, f"{line['pairs']:,}", f"{line['share']:.1%}", wanted)
    for place, (name, count) in enumerate(mix["framings"].items()):
        table.add_row("framing" * (place == 0), name, f"{count:,}", f"{count / total:.1%}", "")
    limited = {name: line for name, line in mix["tags"].items() if line["quota"] is not None}
    shown = limited | dict(list(mix["tags"].items())[:_SHOWN])
    for place, (name, line) in enumerate(shown.items()):
        most = "" if line["quota"] is None else f"at most {line['quota']:,}"
        share = f"{line['pairs'] / total:.1%}" if total else ""
        table.add_row("tag" * (place == 0), name, f"{line['pairs']:,}", share, most)
    if len(shown) < len(mix["tags"]):
        table.add_row("", f"... {len(mix['tags']) - len(shown):,} more", "", "", "")
    return table


def mix_sentences(mix: dict[str, Any]) -> list[str]:
    """Return what a person should know beside the table."""
    used = mix["characters"]
    lines = [f"{mix['pairs']:,} pairs: {mix['written']:,} from before, {mix['new']:,} new"]
    if mix["pairs"]:
        lines[0] += f"; {used['used']:,} characters, the busiest in {used['most_pairs']:,} pairs"
    if mix["rejected"]:
        lines.append(f"written and not to be used: {_counted(mix['rejected'])}")
    if mix["open_slots"]:
        lines.append(f"slots without a pair: {_counted(mix['open_slots'])}")
    for track, reasons in mix["left_out"].items():
        if reasons:
            lines.append(f"{track} left out: {_counted(reasons)}")
    if mix["identity_not_checked"]:
        lines.append(
            f"in {mix['identity_not_checked']:,} pairs an identity is unknown, so that both may be one; "
            "pairs.unknown_identity=other_domain leaves them out"
        )
    waiting = {track: count for track, count in mix["not_through_their_stages"].items() if count}
    if waiting:
        lines.append(
            f"not through their stages: {_counted(waiting)}; those that will be rejected would take their pairs "
            "with them, so `bodydouble run` first"
        )
    return lines


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())
