"""Columns, types and units of every table, one comment each.

`TABLES` maps a table's name to its Arrow schema; each field carries its comment in the field's metadata, so that
`bodydouble manifest columns` and the stored table itself say what a column means.
"""

from typing import Final

import pyarrow as pa

DOMAINS: Final = ("human", "cartoon", "animal", "object")
TRACKS: Final = ("sources", "characters", "pairs", "shards")  # tables whose rows are items of the ledger, in order


def _field(name: str, kind: pa.DataType, comment: str) -> pa.Field:
    return pa.field(name, kind, metadata={"comment": comment})


_TEXT, _TEXTS, _INT, _FLOAT = pa.string(), pa.list_(pa.string()), pa.int32(), pa.float64()

# What was said of a file when it was imported; the same for sources and characters.
_GIVEN = [
    _field("file", _TEXT, "where the bytes lie: absolute path or URL"),
    _field("file_sha256", _TEXT, "SHA-256 of the whole file, 64 hex digits; null if it could not be read"),
    _field("file_bytes", pa.int64(), "size of the file, bytes"),
    _field("licence", _TEXT, "the strictest licence that any list gave for these bytes; null if none was given"),
    _field("licences", _TEXTS, "every licence that was given for these bytes, sorted"),
    _field("consent", _TEXT, "the strictest consent that any list gave: granted, unknown or refused; null if none"),
    _field("consents", _TEXTS, "every consent that was given, sorted"),
    _field("origins", _TEXTS, "where the file came from, as given (page, package, owner), sorted"),
    _field("identity", _TEXT, "who or what is seen, as given: rows of one identity are never paired; null if unknown"),
    _field("domain", _TEXT, "human, cartoon, animal or object, as given; null if unknown"),
    _field("tags", _TEXTS, "free words, as given by all lists, sorted"),
]

_REJECTION = [
    _field(
        "reject", _TEXT, "why the row cannot be used, a short name (missing, damaged, too_large, ...); null if usable"
    ),
    _field("reject_detail", _TEXT, "one sentence for the person who asks; null if usable"),
]

SOURCES: Final = pa.schema(
    [
        _field("id", _TEXT, "src_ + digest of the file's SHA-256 and the segment; of the location if unreadable"),
        *_GIVEN,
        _field("start_s", _FLOAT, "first frame of the segment, seconds from the start of the file"),
        _field("fps", _FLOAT, "frames a second of the segment: frame i shows the time start_s + i / fps"),
        _field("frames", _INT, "number of frames in the segment"),
        _field("crop", pa.list_(pa.int32()), "x, y, width, height in px of the upright picture; null for all of it"),
        _field("width", _INT, "width of the upright picture, before the crop, px"),
        _field("height", _INT, "height of the upright picture, before the crop, px"),
        _field("file_fps", _FLOAT, "mean frames a second of the file"),
        _field("file_frames", _INT, "frames that the file really decodes to"),
        _field("file_duration_s", _FLOAT, "time from the first frame to the end of the last, seconds"),
        _field("variable_fps", pa.bool_(), "the file's frames are not evenly spaced in time"),
        _field("rotation", _INT, "degrees clockwise by which a player turns the stored picture: 0, 90, 180 or 270"),
        _field("codec", _TEXT, "codec name, as FFmpeg spells it"),
        _field("pixel_format", _TEXT, "pixel format, as FFmpeg spells it"),
        _field("has_audio", pa.bool_(), "the file has a sound track"),
        *_REJECTION,
    ]
)

CHARACTERS: Final = pa.schema(
    [
        _field("id", _TEXT, "chr_ + digest of the file's SHA-256 and the crop; of the location if unreadable"),
        *_GIVEN,
        _field("crop", pa.list_(pa.int32()), "x, y, width, height in px of the upright picture; null for all of it"),
        _field("width", _INT, "width of the upright picture, before the crop, px"),
        _field("height", _INT, "height of the upright picture, before the crop, px"),
        _field("has_alpha", pa.bool_(), "the picture has a transparency channel that is not opaque everywhere"),
        *_REJECTION,
    ]
)

PAIRS: Final = pa.schema(
    [
        _field("id", _TEXT, "par_ + digest of source and character"),
        _field("source", _TEXT, "id of the source: one motion; null once it was forgotten"),
        _field("character", _TEXT, "id of the character: another identity; null once it was forgotten"),
        _field("reject", _TEXT, "why the pair cannot be used; null if usable"),
        _field("reject_detail", _TEXT, "one sentence for the person who asks; null if usable"),
    ]
)

ARTIFACT: Final = pa.struct(
    [
        _field("column", _TEXT, "name of the column it holds"),
        _field("address", _TEXT, "path under the root"),
        _field("sha256", _TEXT, "SHA-256 of its bytes, 64 hex digits"),
        _field("bytes", pa.int64(), "its size"),
    ]
)

OUTCOMES: Final = pa.schema(
    [
        _field("key", _TEXT, "recipe key: what was made of what (manifests/keys.py)"),
        _field("track", _TEXT, "table of the item: sources, characters, pairs or shards"),
        _field("item", _TEXT, "id of the item in its table"),
        _field("stage", _TEXT, "name of the stage"),
        _field("state", _TEXT, "done, rejected, quarantined; crashed, started (attempts); lost, requeued, forgotten"),
        _field("reason", _TEXT, "the reason of a rejection, or the class of an error; null if done"),
        _field("detail", _TEXT, "a sentence, a traceback, or a dead worker's last words; null if done"),
        _field("made", _TEXT, "what the stage made that is no artifact, as JSON; null if nothing"),
        _field("artifacts", pa.list_(ARTIFACT), "what the stage made that is one"),
        _field("seconds", _FLOAT, "working time of this item, seconds (a batch's time is shared out evenly)"),
        _field("epoch", pa.int64(), "number of the lease under which the row was written"),
        _field("seq", pa.int64(), "number of the row within its epoch; the latest (epoch, seq) of a key is its state"),
        _field("commit_id", _TEXT, "id of the commit, so that a commit whose answer was lost is not repeated"),
        _field("written_at", pa.timestamp("us", "UTC"), "when the row was written; for people, never for order"),
        _field("made_with", _TEXT, "provenance that is no part of the key, as JSON: code, libraries, device, batch"),
    ]
)

SHARDS: Final = pa.schema(
    [
        _field("id", _TEXT, "shd_ + key of the shard: digest of all that it holds"),
        _field("cut", _TEXT, "the cut that it was made for: a folder under shards/"),
        _field("name", _TEXT, "name of its tar and of its page, without the ending"),
        _field("kind", _TEXT, "reverse, forward or self"),
        _field("width", _INT, "width of its targets, px"),
        _field("height", _INT, "height of its targets, px"),
        _field("frames", _INT, "frames of each of its clips"),
        _field("fps", _FLOAT, "frames a second of its clips"),
        _field("samples", _TEXTS, "ids of the rows that its samples were made of: pairs, or sources if kind is self"),
    ]
)

TOMBSTONES: Final = pa.schema(
    [
        _field("id", _TEXT, "tmb_ + digest of the rows that were forgotten"),
        _field("track", _TEXT, "table that they were in: sources or characters"),
        _field("items", _TEXTS, "their ids: all rows of one file"),
        _field("file_sha256", _TEXT, "SHA-256 of that file: it is not imported again; null if it could not be read"),
        _field("pairs", _TEXTS, "ids of the pairs that were made of them"),
        _field("reason", _TEXT, "why they were forgotten, as given"),
        _field("by", _TEXT, "who did it: user and machine"),
        _field("at", pa.timestamp("us", "UTC"), "when it was begun"),
        _field("state", _TEXT, "begun, or done: `forget` of the same id finishes what was begun"),
        _field("indexes", _TEXTS, "SHA-256 of the indexes of shards that held something of them"),
        _field("slots", _TEXT, "samples that went, by cut and group, as JSON: shards are counted as if they stood"),
        _field("found", _TEXT, "what was removed, as JSON: counts by kind; null until it is done"),
    ]
)

TABLES: Final = {
    "sources": SOURCES,
    "characters": CHARACTERS,
    "pairs": PAIRS,
    "outcomes": OUTCOMES,
    "shards": SHARDS,
    "tombstones": TOMBSTONES,
}


def comment_of(field: pa.Field) -> str:
    """Return the comment that stands beside a column in this file."""
    comment: bytes = (field.metadata or {}).get(b"comment", b"")
    return comment.decode()
