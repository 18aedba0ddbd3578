"""Rows of the tables `sources` and `characters`: made from an entry and the facts of its file, and merged.

Ids come from content. A segment is the file's SHA-256, start, rate, number of frames and crop; seconds and rates count
as floats rounded to six decimals (2 and 2.0000001 are one value), frames and crop as whole numbers. A file that cannot
be decoded has no segments: its row is named by where it lies, and makes way once the file at that place works.

Two rows with one id are one row that says what both say; see `merge`.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

from manifests.entries import Entry, Given
from manifests.facts import FilmFacts
from manifests.inspection import PictureFacts
from manifests.keys import digest
from manifests.licences import normalise, normalise_consent, strictest, strictest_consent
from manifests.schema import TABLES
from manifests.segments import Segment

Row = dict[str, Any]

PREFIX: Final = {"sources": "src_", "characters": "chr_"}
_UNITED: Final = ("licences", "consents", "origins", "tags")
_SINGLE: Final = ("identity", "domain")


@dataclass(frozen=True)
class Found:
    """A file whose bytes were read: `file` is where they lie for good, `url` where they came from, if from a URL."""

    file: str
    sha256: str
    bytes: int
    url: str | None = None


def id_of_place(kind: str, place: str) -> str:
    """Return the id of a row that is named by a place, because there is no content to name it by."""
    return PREFIX[kind] + digest(["place", place])


def id_of_segment(sha256: str, segment: Segment, crop: Iterable[int] | None) -> str:
    """Return the id of a segment of a film."""
    crop = None if crop is None else [int(part) for part in crop]
    return PREFIX["sources"] + digest(
        [sha256, _canonical(segment.start_s), _canonical(segment.fps), segment.frames, crop]
    )


def id_of_picture(sha256: str, crop: Iterable[int] | None) -> str:
    """Return the id of a picture, or of a part of it."""
    return PREFIX["characters"] + digest([sha256, None if crop is None else [int(part) for part in crop]])


def source_row(found: Found, entry: Entry, facts: FilmFacts, segment: Segment) -> Row:
    """Return the row of one segment of a film."""
    crop, wrong = _crop(entry, facts.width, facts.height)
    reject, detail = wrong if wrong[0] else (segment.reject, segment.reject_detail)
    return {
        "id": id_of_segment(found.sha256, segment, crop),
        **_given(found, entry.given),
        "start_s": segment.start_s,
        "fps": segment.fps,
        "frames": segment.frames,
        "crop": crop,
        **asdict(facts),
        "reject": reject,
        "reject_detail": detail,
    }


def character_row(found: Found, entry: Entry, facts: PictureFacts) -> Row:
    """Return the row of a picture."""
    crop, (reject, detail) = _crop(entry, facts.width, facts.height)
    return {
        "id": id_of_picture(found.sha256, crop),
        **_given(found, entry.given),
        "crop": crop,
        "width": facts.width,
        "height": facts.height,
        "has_alpha": facts.has_alpha,
        "reject": reject,
        "reject_detail": detail,
    }


def rejected_row(kind: str, entry: Entry, reason: str, detail: str, found: Found | None = None) -> Row:
    """Return the row of an entry whose file cannot be used; `found` if at least its bytes could be read."""
    row: Row = dict.fromkeys(TABLES[kind].names)
    row |= _given(found, entry.given)
    row |= {"id": id_of_place(kind, entry.location), "file": entry.location, "reject": reason, "reject_detail": detail}
    return row


def facts_in(row: Mapping[str, Any]) -> FilmFacts:
    """Return the facts that a row of an earlier import holds, so that its file need not be decoded again."""
    return FilmFacts(**{field.name: row[field.name] for field in fields(FilmFacts)})


def merge(old: Row | None, new: Row, exists: Callable[[str], bool]) -> Row:
    """Return the row that says what both say; `old` is what the table has, or None.

    Licences, consents, origins and tags are united, the strictest licence and consent win. The first identity and
    domain that were given stay. A row that was once usable stays usable, with its file where it was, as long as
    `exists` finds it there.
    """
    if old is None:
        return new
    usable = old["reject"] is None
    merged = dict(old if usable else new)
    for name in _UNITED:
        merged[name] = sorted({*(old[name] or ()), *(new[name] or ())})
    for name in _SINGLE:
        merged[name] = new[name] if old[name] is None else old[name]
    merged["licence"], merged["consent"] = strictest(merged["licences"]), strictest_consent(merged["consents"])
    if not usable and old["reject"] == new["reject"]:
        merged["reject_detail"] = old["reject_detail"]  # a decoder's last words differ from time to time
    if usable and old["file"] != new["file"] and not exists(old["file"]):
        merged["file"] = new["file"]
    return merged


def contradicts(old: Row | None, new: Row) -> bool:
    """Say whether a row gives another identity or domain than the one that stands."""
    if old is None:
        return False
    return any(None not in (old[name], new[name]) and old[name] != new[name] for name in _SINGLE)


def _given(found: Found | None, given: Given) -> Row:
    licences = [normalise(given.licence)] if given.licence else []
    consents = [normalise_consent(given.consent)] if given.consent else []
    url = found.url if found else None
    return {
        "file": found.file if found else None,
        "file_sha256": found.sha256 if found else None,
        "file_bytes": found.bytes if found else None,
        "licence": strictest(licences),
        "licences": licences,
        "consent": strictest_consent(consents),
        "consents": consents,
        "origins": sorted({origin for origin in (given.origin, url) if origin}),
        "identity": given.identity,
        "domain": given.domain,
        "tags": list(given.tags),
    }


def _crop(entry: Entry, width: int, height: int) -> tuple[list[int] | None, tuple[str | None, str | None]]:
    """Return the crop, None if it is the whole picture, and the reason if it does not lie in the picture."""
    if entry.span.crop is None or entry.span.crop == (0, 0, width, height):
        return None, (None, None)
    x, y, wide, high = entry.span.crop
    if x + wide <= width and y + high <= height:
        return [x, y, wide, high], (None, None)
    detail = f"the crop x {x}, y {y}, {wide} x {high} px does not lie in a picture of {width} x {height} px"
    return [x, y, wide, high], ("crop_outside_picture", detail)


def _canonical(number: float) -> float:
    return round(float(number), 6) + 0.0  # -0.0 is 0.0
