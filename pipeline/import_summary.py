"""What an import did, for people and as JSON."""

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class ImportSummary:
    """What an import did; `new`, `merged` and `unchanged` count rows, `rejected` those of them that cannot be used."""

    kind: str
    root: str
    list: str
    entries: int = 0
    new: int = 0
    merged: int = 0
    unchanged: int = 0
    replaced: int = 0  # rows of a place that once failed, removed because it works now
    rejected: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)  # for each reason, what was said of the first such row
    decoded: int = 0  # files; the others were known by content
    fetched: int = 0  # URLs
    contradictions: int = 0  # rows that give another identity or domain than the one that stands
    secrets: int = 0  # URLs whose credentials were not stored
    version: int = 0
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """Return the summary as plain values."""
        return {**asdict(self), "rejected": dict(sorted(self.rejected.items())), "seconds": round(self.seconds, 3)}


def told(summary: ImportSummary) -> str:
    """Return a summary as lines for a person."""
    rows = summary.new + summary.merged + summary.unchanged
    lines = [f"{summary.entries} entries of {summary.list}: {rows} rows of {summary.kind}"]
    lines.append(f"  {summary.new} new, {summary.merged} merged, {summary.unchanged} unchanged")
    if summary.replaced:
        lines.append(f"  {summary.replaced} earlier failures of the same places removed")
    if summary.rejected:
        lines.append(f"  {summary.rejected.total()} cannot be used:")
        for reason, number in summary.rejected.most_common():
            lines.append(f"    {number:6} {reason:<20} {summary.examples[reason]}")
    if summary.contradictions:
        lines.append(f"  {summary.contradictions} give another identity or domain than before; the first stands")
    if summary.secrets:
        lines.append(f"  {summary.secrets} URLs held credentials, which were used and not stored")
    if not summary.entries:
        lines.append("  the list names no files")
    if summary.new + summary.merged + summary.replaced == 0:
        lines.append(f"nothing to write: version {summary.version} has it all")
    else:
        lines.append(f"now version {summary.version}, after {summary.seconds:.1f} s")
    return "\n".join(lines)
