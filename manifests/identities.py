"""Whether two names mean one identity: letters count, not their case, their spaces or how accents are encoded."""

import unicodedata
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray


def same_name(name: str) -> str:
    """Return the form in which names of one identity are equal: NFKC, case folded, runs of spaces as one."""
    return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


def codes_of(*columns: Sequence[str | None]) -> tuple[NDArray[np.int64], ...]:
    """Return for each column of names numbers that are equal where the names mean one identity; -1 for unknown."""
    codes: dict[str, int] = {}
    return tuple(np.array(list(_codes(column, codes)), np.int64) for column in columns)


def _codes(names: Iterable[str | None], codes: dict[str, int]) -> Iterable[int]:
    for name in names:
        plain = "" if name is None else same_name(name)
        yield codes.setdefault(plain, len(codes)) if plain else -1
