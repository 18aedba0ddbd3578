"""Whether a row may be used at all: its licence, its consent and its tags. Not legal advice: what was said counts."""

from collections.abc import Collection, Mapping
from typing import Any, Final

from manifests.licences import UNKNOWN

COLUMNS: Final = ("id", "licence", "consent", "origins", "domain", "tags")  # what `objection` reads
EVERY_ROW: Final = "*"
REFUSED: Final = "refused"


def objection(row: Mapping[str, Any], reject_tags: Collection[str], allowed: Collection[str]) -> tuple[str, str] | None:
    """Return why a row may be neither rendered nor packed: a short reason and a sentence; None if it may.

    A row needs a licence that is known, and consent if a person may be seen (its domain is human or unknown). `allowed`
    names rows that may go without, by id or by one of their origins, or `*` for all; consent that was refused, and a
    tag in `reject_tags`, stop a row in any case.
    """
    unwanted = sorted(set(row["tags"] or ()) & set(reject_tags))
    if unwanted:
        return "reject_tag", f"{row['id']} carries the tag {unwanted[0]!r}, which `reject_tags` keeps out"
    if row["consent"] == REFUSED:
        return "consent_refused", f"consent to {row['id']} was refused"
    if EVERY_ROW in allowed or row["id"] in allowed or set(row["origins"] or ()) & set(allowed):
        return None
    hint = "import it again with one, or name the row or its origin in `allow_unknown_licence`"
    if row["licence"] in (None, UNKNOWN):
        return "no_licence", f"{row['id']} has no known licence; {hint}"
    if row["consent"] in (None, UNKNOWN) and row["domain"] in (None, "human"):
        return "no_consent", f"{row['id']} may show a person whose consent is not known; {hint}"
    return None
