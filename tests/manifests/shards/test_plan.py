"""Which sample goes where: stable when some come or go, and even enough."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from manifests.shards.plan import Bucket, Group, assign, bits_of, places_of


def shards_of(pairs, per_shard, forgotten=()):
    """Return (group, number) -> names of the samples, in order, of (group, source, name)."""
    groups = np.array([group for group, _, _ in pairs], np.int64)
    sources, names = places_of([source for _, source, _ in pairs]), places_of([name for _, _, name in pairs])
    return {
        (group, number): [pairs[place][2] for place in members]
        for group, number, members in assign(groups, sources, names, per_shard, forgotten)
    }


def many(count, per_source=1):
    return [(0, f"src_{n // per_source}", f"par_{n}") for n in range(count)]


def test_every_sample_is_in_one_shard_and_shards_are_about_as_large_as_asked():
    shards = shards_of(many(10_000), 100)
    assert sorted(name for listed in shards.values() for name in listed) == sorted(n for _, _, n in many(10_000))
    sizes = [len(listed) for listed in shards.values()]
    assert len(sizes) == 128
    assert 50 < np.mean(sizes) <= 100
    assert np.std(sizes) < 2 * np.sqrt(np.mean(sizes))  # a fair draw: Poisson


@given(st.integers(0, 10**7), st.integers(1, 10**4))
def test_the_number_of_shards_is_the_least_power_of_two_that_holds_them(count, per_shard):
    bits = bits_of(count, per_shard)
    assert 2**bits * per_shard >= count
    assert bits == 0 or 2 ** (bits - 1) * per_shard < count


def test_one_more_pair_changes_one_shard():
    before, after = shards_of(many(3000), 100), shards_of(many(3001), 100)
    assert sum(before.get(place) != listed for place, listed in after.items()) == 1


def test_forgetting_any_number_changes_the_shards_of_what_went_and_no_others():
    before = shards_of(many(129), 64)
    left, gone = many(129)[3:], {"par_0", "par_1", "par_2"}
    after = shards_of(left, 64, [3])
    assert after == {place: [n for n in listed if n not in gone] for place, listed in before.items()}
    assert shards_of(left, 64) != after  # counted anew, there would be half as many shards


def test_pairs_of_one_source_lie_side_by_side_in_one_shard():
    for listed in shards_of(many(3000, per_source=3), 50).values():
        sources = [int(name.removeprefix("par_")) // 3 for name in listed]
        changes = sum(one != other for one, other in itertools.pairwise(sources))
        assert changes == len(set(sources)) - 1
        assert all(sources.count(source) == 3 for source in sources)


def test_the_plan_does_not_depend_on_the_order_of_its_rows():
    pairs = [(n % 3, f"src_{n}", f"par_{n}") for n in range(500)]
    shuffled = [pairs[place] for place in np.random.default_rng(0).permutation(len(pairs))]
    assert shards_of(pairs, 20) == shards_of(shuffled, 20)
    assert shards_of([], 20) == {}


def test_the_order_in_a_shard_tells_nothing_of_the_order_of_import():
    (listed,) = shards_of(many(1000), 1000).values()
    ranks = [int(name.removeprefix("par_")) for name in listed]
    assert abs(np.corrcoef(ranks, range(1000))[0, 1]) < 0.1


def test_a_key_changes_with_every_part_of_what_a_shard_holds():
    bucket = Bucket(64, 48, 17, 12.0)
    key = Group("reverse", bucket, "r").key(["a", "b"])
    others = [
        Group("forward", bucket, "r").key(["a", "b"]),
        Group("reverse", Bucket(64, 48, 17, 12.5), "r").key(["a", "b"]),
        Group("reverse", bucket, "s").key(["a", "b"]),
        Group("reverse", bucket, "r").key(["b", "a"]),
        Group("reverse", bucket, "r").key(["a"]),
    ]
    assert len({key, *others}) == 6
    assert key == Group("reverse", Bucket(64, 48, 17, 12.0), "r").key(["a", "b"])
    assert (
        Group("reverse", Bucket(64, 48, 17, 30_000 / 1001), "r").name(3, key)
        == f"reverse-64x48-17f-29p97fps-00003-{key[:16]}"
    )
