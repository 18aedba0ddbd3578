"""Names such as `full-012`: a kind and a number, from which everything else about the thing is drawn."""

import re
from typing import Final

import numpy as np

from manifests.errors import UserError
from manifests.keys import digest

NUMBERS: Final = 1000
HELD_OUT_FROM: Final = 900
"""Of what is split by number, this one and those above it are never used in training."""


class UnknownName(UserError):
    """Nothing in the theatre has this name."""


def numbered(name: str, kinds: tuple[str, ...], what: str) -> tuple[str, int]:
    """Take a name apart: its kind, one of `kinds`, and its number, 0 to 999.

    Raises:
        UnknownName: The name is none of those.
    """
    match = re.fullmatch(r"([a-z]+)-([0-9]{3})", name)
    if match is None or match[1] not in kinds:
        raise UnknownName(
            f"there is no {what} {name!r}: give one of {', '.join(kinds)}, a dash and a number from 000 to 999, "
            f"for example {kinds[0]}-012"
        )
    return match[1], int(match[2])


def numbers(split: str) -> range:
    """Return the numbers of a split.

    Raises:
        UnknownName: The split is neither `train` nor `held_out`.
    """
    if split not in ("train", "held_out"):
        raise UnknownName(f"there is no split {split!r}: give train or held_out")
    return range(HELD_OUT_FROM) if split == "train" else range(HELD_OUT_FROM, NUMBERS)


def seeded(*words: object) -> np.random.Generator:
    """Return the random generator of these words and numbers: the same on every machine and in every process."""
    return np.random.default_rng(int(digest(list(words)), 16))
