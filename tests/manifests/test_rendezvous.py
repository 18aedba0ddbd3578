import hashlib

import numpy as np

from manifests.rendezvous import mixed, random_words, uniform


def test_mixing_is_splitmix64():
    """The first numbers of SplitMix64 with seed 1234567, as its reference implementation gives them."""
    step = 0x9E3779B97F4A7C15
    states = np.array([(1234567 + step * (n + 1)) % 2**64 for n in range(5)], np.uint64)
    assert mixed(states).tolist() == [
        6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821,
    ]  # fmt: skip


def test_words_are_those_of_sha256_and_depend_on_seed_kind_and_name():
    (word,) = random_words(7, "source", ["src_é"]).tolist()
    assert word == int.from_bytes(hashlib.sha256("7\nsource\nsrc_é".encode()).digest()[:8], "little")
    every = [*random_words(7, "source", ["a", "b"]), *random_words(8, "source", ["a"]), *random_words(7, "slot", ["a"])]
    assert len(set(every)) == 4
    assert random_words(7, "source", []).shape == (0,)


def test_numbers_are_uniform_and_never_0_or_1():
    assert uniform(np.array([0, 2**64 - 1], np.uint64)).tolist() == [2.0**-53, 1 - 2.0**-53]
    assert 0 < 2.0**-53 < 1 - 2.0**-53 < 1
    one, other = (random_words(0, kind, map(str, range(300))) for kind in ("source", "character"))
    counts, _ = np.histogram(uniform(mixed(one[:, None] ^ other)), 100, (0, 1))
    assert ((counts - 900) ** 2 / 900).sum() < 148.2  # 99 degrees of freedom, 99.9 %
