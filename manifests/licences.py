"""An order of licences and of consents, so that one file with two statements gets the stricter one.

What the order is for: the same bytes often turn up in two lists with different statements ("CC-BY-4.0" on one page,
"unknown" on another). The row then keeps every statement, and its `licence` and `consent` are the strictest of them, so
that a `--where` on these columns never lets a file through on the friendlier of two statements.

What it is not: legal advice, nor a judgement of what a licence allows. The order is coarse (fewer conditions before
more conditions, no grant at all last); licences of one rank are told apart by name only so that the answer does not
depend on the order of the lists. Whether a use is allowed is for the people who use the data to find out.

Freest to strictest: public domain; permissive with attribution; share-alike; no derivatives; non-commercial;
non-commercial share-alike; non-commercial no derivatives; a name that is not recognised; "unknown"; proprietary.
Nothing said (None) adds nothing: any statement wins over silence.
"""

import re
from collections.abc import Iterable
from typing import Final

UNKNOWN: Final = "unknown"
PROPRIETARY: Final = "proprietary"

_PLAIN: Final = {  # SPDX id -> usual spellings, as `_words` gives them; freest first
    "CC0-1.0": ("cc0", "cc0 1.0", "cc zero", "cc zero 1.0"),
    "public domain": ("public domain", "publicdomain", "pd", "pdm", "pdm 1.0", "public domain mark", "cc mark 1.0"),
    "Unlicense": ("unlicense",),
    "0BSD": ("0bsd",),
    "MIT-0": ("mit 0",),
    "MIT": ("mit", "expat"),
    "ISC": ("isc",),
    "Zlib": ("zlib",),
    "BSD-2-Clause": ("bsd 2", "bsd 2 clause", "simplified bsd"),
    "BSD-3-Clause": ("bsd", "bsd 3", "bsd 3 clause", "new bsd", "modified bsd"),
    "Apache-2.0": ("apache", "apache 2", "apache 2.0"),
    "MPL-2.0": ("mpl", "mpl 2.0"),
    "LGPL-3.0": ("lgpl", "lgpl 3", "lgpl 3.0", "lgpl 3.0 only", "lgpl 3.0 or later"),
    "GPL-2.0": ("gpl 2", "gpl 2.0", "gplv2", "gpl 2.0 only", "gpl 2.0 or later"),
    "GPL-3.0": ("gpl", "gpl 3", "gpl 3.0", "gplv3", "gpl 3.0 only", "gpl 3.0 or later"),
    "AGPL-3.0": ("agpl", "agpl 3", "agpl 3.0", "agpl 3.0 only", "agpl 3.0 or later"),
    "ODC-By-1.0": ("odc by", "odc by 1.0"),
    "ODbL-1.0": ("odbl", "odbl 1.0"),
    UNKNOWN: ("unknown", "unspecified", "unclear", "none given", "not known", "?"),
    PROPRIETARY: ("proprietary", "all rights reserved", "copyright", "commercial", "licenseref proprietary"),
}
_SPELLINGS: Final = {spelling: name for name, spellings in _PLAIN.items() for spelling in spellings}

_RANK_OF_PLAIN: Final = {
    **dict.fromkeys(("CC0-1.0", "public domain", "Unlicense", "0BSD", "MIT-0"), 0),
    **dict.fromkeys(("MIT", "ISC", "Zlib", "BSD-2-Clause", "BSD-3-Clause", "Apache-2.0", "ODC-By-1.0"), 1),
    **dict.fromkeys(("MPL-2.0", "LGPL-3.0", "GPL-2.0", "GPL-3.0", "AGPL-3.0", "ODbL-1.0"), 2),
    UNKNOWN: 8,
    PROPRIETARY: 9,
}
_RANK_OF_CC: Final = {"BY": 1, "BY-SA": 2, "BY-ND": 3, "BY-NC": 4, "BY-NC-SA": 5, "BY-NC-ND": 6}
_RANK_OF_UNRECOGNISED: Final = 7

_PHRASES: Final = (  # what people write -> the short word; longer phrases first
    (r"https?://(www\.)?creativecommons\.org/(licenses|publicdomain)/", "cc "),
    (r"creative[ -]?commons", "cc"),
    (r"\bcc (?=cc\b)", ""),
    (r"non[ -]?commercial", "nc"),
    (r"no[ -]?deriv(ative)?s?( works)?", "nd"),
    (r"share[ -]?alike", "sa"),
    (r"\battribution\b", "by"),
)
_FILLER: Final = frozenset({"the", "license", "licence", "licensed", "under", "version", "v", "software"})
_FILLER_OF_TITLES: Final = frozenset({"international", "unported", "generic", "deed", "deed.en", "legalcode"})

_CONSENTS: Final = {
    **dict.fromkeys(("granted", "given", "yes"), "granted"),
    **dict.fromkeys(("unknown", "unclear", "?"), UNKNOWN),
    **dict.fromkeys(("refused", "denied", "withdrawn", "revoked", "no"), "refused"),
}
_RANK_OF_CONSENT: Final = {"granted": 0, UNKNOWN: 1, "refused": 2}


def normalise(licence: str) -> str:
    """Return the usual name (SPDX where there is one) of a licence, or the text as given, trimmed, if unrecognised."""
    words = _words(licence)
    plain = _SPELLINGS.get(" ".join(words))
    return plain or _creative_commons(words) or " ".join(licence.split())


def rank(licence: str) -> int:
    """Return the place of a licence in the order: 0 is the freest; all unrecognised names share a place."""
    name = normalise(licence)
    if name.startswith("CC-BY"):
        return _RANK_OF_CC.get(re.sub(r"-\d.*$", "", name.removeprefix("CC-")), _RANK_OF_UNRECOGNISED)
    return _RANK_OF_PLAIN.get(name, _RANK_OF_UNRECOGNISED)


def strictest(licences: Iterable[str | None]) -> str | None:
    """Return the strictest of some licences under its usual name; None if none of them says anything."""
    return max(
        (normalise(item) for item in licences if item and item.strip()), key=lambda n: (rank(n), n), default=None
    )


def normalise_consent(consent: str) -> str:
    """Return `granted`, `unknown` or `refused` for the usual words for them, else the text as given, trimmed."""
    text = " ".join(consent.split())
    return _CONSENTS.get(text.lower(), text)


def consent_rank(consent: str) -> int:
    """Return 0 for granted, 2 for refused, and 1 for unknown and for everything that is not recognised."""
    return _RANK_OF_CONSENT.get(normalise_consent(consent), _RANK_OF_CONSENT[UNKNOWN])


def strictest_consent(consents: Iterable[str | None]) -> str | None:
    """Return the strictest of some statements of consent; None if none of them says anything."""
    stated = (normalise_consent(item) for item in consents if item and item.strip())
    return max(stated, key=lambda n: (consent_rank(n), n), default=None)


def _words(licence: str) -> list[str]:
    """Return the words that matter of a licence's name: lower case, without filler; `v2.0` as `2.0`."""
    text = " ".join(licence.lower().split())
    for phrase, word in _PHRASES:
        text = re.sub(phrase, word, text)
    words = re.split(r"[\s_,/()-]+", text)
    words = [re.sub(r"^v(?=\d)", "", word) for word in words]
    return [word for word in words if word and word not in _FILLER | _FILLER_OF_TITLES]


def _creative_commons(words: list[str]) -> str | None:
    """Return `CC-BY-NC-4.0` for the words cc, by, nc, 4.0; None if they do not name a licence of that family."""
    if not words or words[0] != "cc":
        return None
    terms = words[1:]
    version = terms.pop() if terms and re.fullmatch(r"\d(\.\d)?", terms[-1]) else None
    if not terms or len(set(terms)) != len(terms) or not set(terms) <= {"by", "nc", "nd", "sa"}:
        return None
    name = "-".join(term.upper() for term in ("by", "nc", "nd", "sa") if term in terms)
    if name not in _RANK_OF_CC:
        return None
    if version and "." not in version:
        version += ".0"
    return "-".join(filter(None, ("CC", name, version)))
