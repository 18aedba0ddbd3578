"""Canonical JSON to digest: the one way in which anything in this project gets a key."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

# one encoder for all: json.dumps would build a new one at each of a million calls
_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode

KEY_CHARS = 32  # 128 bits: at 10**9 keys the chance of any collision is below 10**-20


def canonical(value: object) -> str:
    """Return `value` as JSON with sorted keys and no spaces, so that equal values give equal text.

    Raises:
        ValueError: `value` holds NaN or an infinity, which JSON cannot say.
        TypeError: `value` holds something JSON does not know (a path, an array).
    """
    return _encode(value)


def digest(value: object) -> str:
    """Return the key of a JSON-like value: the first 32 hex digits of the SHA-256 of its canonical JSON."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:KEY_CHARS]


def recipe_key(stage_digest: str, parts: Iterable[str]) -> str:
    """Return the key of what one stage makes of one row.

    `stage_digest` is the digest of the stage's name, version, config and weights; `parts` are, in the order of the
    stage's `needs`, the manifest values (canonical JSON) and the KEYS of upstream results, so that every key of a row
    is known before anything runs, and a remade artifact invalidates nothing.
    """
    return hashlib.sha256("\n".join((stage_digest, *parts)).encode()).hexdigest()[:KEY_CHARS]


def sha256_of_file(path: str | Path) -> str:
    """Return the SHA-256 of a local file's bytes as 64 hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
