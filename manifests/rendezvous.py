"""Random numbers for names and for pairs of names, the same on every machine and in every process."""

import hashlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]


def random_words(seed: int, kind: str, names: Iterable[str]) -> Words:
    """Return 64 random bits for each name, uint64 [n]: the first 8 bytes of SHA-256 of seed, kind and name."""
    begin = hashlib.sha256(f"{seed}\n{kind}\n".encode())
    found = bytearray()
    for name in names:
        each = begin.copy()
        each.update(name.encode())
        found += each.digest()[:8]
    return np.frombuffer(bytes(found), "<u8").astype(np.uint64)


def mixed(words: Words) -> Words:
    """Mix the bits of uint64 words, in place: the finaliser of SplitMix64 (Steele, Lea and Flood, 2014)."""
    words ^= words >> np.uint64(30)
    words *= np.uint64(0xBF58476D1CE4E5B9)
    words ^= words >> np.uint64(27)
    words *= np.uint64(0x94D049BB133111EB)
    words ^= words >> np.uint64(31)
    return words


def uniform(words: Words) -> NDArray[np.float64]:
    """Return uint64 words as numbers in (0, 1): (the upper 52 bits + 1/2) / 2^52."""
    return ((words >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52
