"""One entry of a list: what a row says of a file, with bad values as a reason and never as an error.

Columns of a row (all but `path` may be missing or empty):

    path        a path, relative to the list's folder, or a URL (http, https, s3, gs, ...)
    licence, consent, origin, identity, domain
    tags        a list, or text split at `;`
    crop        x, y, width, height in px of the upright picture: a list, or text split at `,`
    start_s, end_s or frames, fps                   (sources only) the segment that is wanted
"""

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from manifests.download import DownloadError, public_url
from manifests.schema import DOMAINS

COLUMNS: Final = {
    "characters": ("path", "licence", "consent", "origin", "identity", "domain", "tags", "crop"),
    "sources": (
        *("path", "licence", "consent", "origin", "identity", "domain", "tags", "crop"),
        *("start_s", "end_s", "frames", "fps"),
    ),
}
OBJECT_STORES: Final = (
    "s3",
    "s3a",
    "gs",
    "gcs",
    "az",
    "abfs",
    "abfss",
    "adl",
    "oss",
    "hf",
    "memory",
)  # as fsspec names them
WEB: Final = ("http", "https")
_URL: Final = re.compile(r"([^/\\]*)://|(file):", re.IGNORECASE)
_MAX_NUMBER: Final = 1e9


class EntryError(Exception):
    """A value of a row cannot be used: `reason` is a short name, the message one sentence."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


@dataclass(frozen=True)
class Given:
    """What a list says of a file, as given."""

    licence: str | None = None
    consent: str | None = None
    origin: str | None = None
    identity: str | None = None
    domain: str | None = None
    tags: tuple[str, ...] = ()

    def or_else(self, other: "Given") -> "Given":
        """Return this, with what it leaves open taken from `other`; tags are joined."""
        fields = ("licence", "consent", "origin", "identity", "domain")
        mine = {
            name: getattr(self, name) if getattr(self, name) is not None else getattr(other, name) for name in fields
        }
        return Given(**mine, tags=tuple(sorted({*self.tags, *other.tags})))


@dataclass(frozen=True)
class Span:
    """The part of a file that a row asks for; None means: not said."""

    start_s: float | None = None
    end_s: float | None = None
    frames: int | None = None
    fps: float | None = None
    crop: tuple[int, int, int, int] | None = None


@dataclass(frozen=True)
class Entry:
    """One entry of a list.

    `location` is an absolute path or a URL without credentials, or for a row that cannot be used `LIST#line`. `url` is
    what to fetch from, credentials included: never stored, never shown.
    """

    location: str
    line: int = 0
    given: Given = Given()
    span: Span = Span()
    url: str | None = None
    had_secret: bool = False
    reject: str | None = None
    reject_detail: str | None = None


def entry_of(row: Mapping[str, Any], *, line: int, place: str, where: str, folder: str, base: str) -> Entry:
    """Return the entry that a row makes; with a reject reason if one of its values cannot be used.

    `place` stands for the row if it cannot be used, `where` names it in the sentence that says why; `folder` is where
    relative paths begin; a file must lie under `base` once links and `..` are resolved.
    """
    try:
        path = _text(row, "path")
        if path is None:
            raise EntryError("no_path", "the row has no path")
        given = given_of(row)
        span = _span(row)
        return replace(_located(path, folder, base), line=line, given=given, span=span)
    except EntryError as error:
        return rejected(place, line, error.reason, f"{where}: {error}")


def rejected(place: str, line: int, reason: str, detail: str) -> Entry:
    """Return an entry that cannot be used, with names that no text column can hold made readable."""
    return Entry(readable(place), line, reject=reason, reject_detail=readable(detail))


def readable(text: str) -> str:
    """Return text as valid UTF-8: bytes of file names that are none are written as `\\udcff`."""
    return text.encode("utf-8", "backslashreplace").decode()


def is_under(path: str, base: str) -> bool:
    """Say whether a path is a folder or lies in it; both are absolute, with links and `..` resolved."""
    return path == base or path.startswith(base.rstrip(os.sep) + os.sep)


def given_of(row: Mapping[str, Any]) -> Given:
    """Return what a row says of its file.

    Raises:
        EntryError: with the reason bad_value and a sentence that names the column.
    """
    domain = _text(row, "domain")
    if domain is not None:
        domain = domain.lower()
        if domain not in DOMAINS:
            raise EntryError("bad_value", f"domain is {domain!r}, wanted one of {', '.join(DOMAINS)}")
    names = ("licence", "consent", "origin", "identity")
    return Given(**{name: _text(row, name) for name in names}, domain=domain, tags=_tags(row.get("tags")))


def _located(path: str, folder: str, base: str) -> Entry:
    if match := _URL.match(path):
        scheme = (match[1] or match[2] or "").lower()
        if scheme in WEB:
            return _of_web(path)
        if scheme in OBJECT_STORES:
            return _of_object_store(path)
        known = ", ".join((*WEB, *OBJECT_STORES))
        raise EntryError("forbidden_url", f"{scheme}: is not allowed in a list, only plain paths and {known}")
    real = os.path.realpath(os.path.join(folder, path))
    if not is_under(real, base):
        raise EntryError("outside_base", f"{path} leads to {real}, outside {base}; --base names another folder")
    return Entry(real)


def _of_web(url: str) -> Entry:
    try:
        location, had_secret = public_url(url)
    except DownloadError as error:
        raise EntryError("bad_url", "the path is a URL that cannot be read") from error
    return Entry(location, url=url, had_secret=had_secret)


def _of_object_store(url: str) -> Entry:
    scheme, _, rest = url.partition("://")
    place, slash, name = rest.partition("/")
    if "@" not in place or scheme.lower() in ("abfs", "abfss"):  # container@account there
        return Entry(url, url=url)
    return Entry(f"{scheme}://{place.rpartition('@')[2]}{slash}{name}", url=url, had_secret=True)


def _span(row: Mapping[str, Any]) -> Span:
    start_s = _number(row, "start_s", least=0.0)
    end_s = _number(row, "end_s", least=0.0)
    frames = _number(row, "frames", least=1.0)
    fps = _number(row, "fps", least=0.1)
    if frames is not None and frames != int(frames):
        raise EntryError("bad_value", f"frames is {frames:g}, wanted a whole number")
    if end_s is not None and frames is not None:
        raise EntryError("bad_value", "both end_s and frames are given, wanted one of them")
    if end_s is not None and end_s <= (start_s or 0.0):
        raise EntryError("bad_value", f"end_s is {end_s:g}, wanted more than start_s, which is {start_s or 0.0:g}")
    return Span(start_s, end_s, None if frames is None else int(frames), fps, _crop(row.get("crop")))


def _is_empty(value: Any) -> bool:
    if isinstance(value, float):
        return math.isnan(value)  # what pandas writes for a missing value
    return value is None or (isinstance(value, str) and not value.strip())


def _text(row: Mapping[str, Any], name: str) -> str | None:
    value = row.get(name)
    if _is_empty(value):
        return None
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise EntryError("bad_value", f"{name} is {_short(value)}, wanted text")
    text = str(value) if name == "path" else str(value).strip()
    if "\0" in text:
        raise EntryError("bad_name", f"{name} holds a zero byte: {_short(text)}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise EntryError("bad_name", f"{name} is not valid UTF-8: {_short(text)}") from error
    return text


def _number(row: Mapping[str, Any], name: str, least: float) -> float | None:
    value = row.get(name)
    if _is_empty(value):
        return None
    try:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ValueError
        number = float(value)
    except (ValueError, OverflowError) as error:
        raise EntryError("bad_value", f"{name} is {_short(value)}, wanted a number") from error
    if not least <= number <= _MAX_NUMBER:
        raise EntryError("bad_value", f"{name} is {_short(value)}, wanted a number from {least:g} to {_MAX_NUMBER:g}")
    return number


def _tags(value: Any) -> tuple[str, ...]:
    if _is_empty(value):
        return ()
    words = value.split(";") if isinstance(value, str) else value
    if not isinstance(words, list | tuple) or not all(isinstance(word, str) for word in words):
        raise EntryError("bad_value", f"tags is {_short(value)}, wanted a list of words, or text split at ;")
    return tuple(sorted({_text({"tags": word}, "tags") or "" for word in words} - {""}))


def _crop(value: Any) -> tuple[int, int, int, int] | None:
    if _is_empty(value):
        return None
    parts = value.split(",") if isinstance(value, str) else value
    try:
        if not isinstance(parts, list | tuple) or any(isinstance(part, bool | float) for part in parts):
            raise ValueError
        x, y, width, height = (int(part) for part in parts)
    except (ValueError, TypeError) as error:
        raise EntryError(
            "bad_value", f"crop is {_short(value)}, wanted four whole numbers: x,y,width,height"
        ) from error
    if min(x, y) < 0 or min(width, height) < 1 or max(x, y, width, height) > 1_000_000:
        raise EntryError("bad_value", f"crop is {_short(value)}, wanted x and y from 0, width and height from 1")
    return x, y, width, height


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
