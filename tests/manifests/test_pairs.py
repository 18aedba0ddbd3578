"""Pairing against a second implementation in plain Python, and against what it promises."""

import hashlib
import math
import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manifests import pairs
from manifests.identities import same_name
from manifests.pairs import NO_CHARACTER, QUOTA, Members, Rules, draw, pair_id
from manifests.schema import DOMAINS

WEIGHTS = {"human": 0.4, "cartoon": 0.3, "animal": 0.2, "object": 0.1}
NAMES = (None, "Ann", "ann ", "ben", "Cy", "dee", "é", "e\u0301")
TAGS = ("dance", "talk", "run")


def members(rows):
    return Members(*(list(column) for column in zip(*rows, strict=True))) if rows else Members([], [], [], [], [])


def rows_of(side):
    return list(zip(side.ids, side.identities, side.domains, side.framings, side.tags, strict=True))


def world(sources, characters, seed=0, names=NAMES, framings=("full", "half", "portrait", None)):
    chance = random.Random(seed)

    def side(prefix, count, domains):
        return members(
            [
                (
                    f"{prefix}{number}", chance.choice(names), chance.choice(domains), chance.choice(framings),
                    frozenset(tag for tag in TAGS if chance.random() < 0.3),
                )
                for number in range(count)
            ]
        )  # fmt: skip

    return side("src_", sources, (*DOMAINS, None)), side("chr_", characters, DOMAINS)


def couples(drawn):
    return list(zip(drawn.sources, drawn.characters, strict=True))


def word(seed, kind, name):
    return int.from_bytes(hashlib.sha256(f"{seed}\n{kind}\n{name}".encode()).digest()[:8], "little")


def mix(x):
    x = ((x ^ x >> 30) * 0xBF58476D1CE4E5B9) % 2**64
    x = ((x ^ x >> 27) * 0x94D049BB133111EB) % 2**64
    return x ^ x >> 31


def by_hand(sources, characters, rules):
    """The definition in the module's docstring, row by row."""
    found = []
    for source, identity, domain, framing, _ in sorted(rows_of(sources)):
        own = word(rules.seed, "source", source)
        score = {c[0]: mix(own ^ word(rules.seed, "character", c[0])) for c in rows_of(characters)}
        taken = []
        for slot in range(rules.per_source):
            fits, crosses = {}, {}
            for other in rows_of(characters):
                same = [same_name(identity or "")] + [same_name(each[1] or "") for each in taken]
                if other[0] in [each[0] for each in taken] or (other[1] and same_name(other[1]) in same):
                    continue
                may_be_one = domain is None or domain == other[2]
                if not rules.pair_unknown_identities and may_be_one and not (identity and other[1]):
                    continue
                if rules.domains.get(other[2], 0) == 0:
                    continue
                if framing is None or other[3] is None or framing == other[3]:
                    fits.setdefault(other[2], []).append(other)
                elif (framing, other[3]) in rules.crossings:
                    crosses.setdefault(other[2], []).append(other)
            u = ((mix(own ^ word(rules.seed, "crossed", "")) >> 12) + 0.5) / 2**52
            crosses = crosses if u < rules.crossed_share else {}
            costs = {}
            for name in {*fits, *crosses}:
                draw_of = ((mix(own ^ word(rules.seed, "slot", f"{slot}:{name}")) >> 12) + 0.5) / 2**52
                costs[name] = -math.log(draw_of) / rules.domains[name]
            if costs:
                drawn = min(costs, key=costs.get)
                best = max(crosses.get(drawn) or fits[drawn], key=lambda each: score[each[0]])
                taken.append(best)
                found.append((source, best[0]))
    return found


small = st.builds(world, st.integers(0, 6), st.integers(0, 12), st.integers(0, 10**6))
rules = st.builds(
    Rules,
    per_source=st.integers(1, 4),
    domains=st.sampled_from([WEIGHTS, {"human": 1.0}, {"animal": 2.0, "object": 1.0, "human": 0.0}]),
    crossed_share=st.sampled_from([0.0, 0.3, 1.0]),
    crossings=st.sampled_from([(("half", "full"),), (("half", "full"), ("full", "half"), ("portrait", "full"))]),
    pair_unknown_identities=st.booleans(),
    seed=st.integers(0, 3),
)
quotas = st.dictionaries(st.sampled_from(TAGS), st.integers(0, 6))


@settings(max_examples=40, deadline=None)
@given(small, rules)
def test_the_drawing_is_the_written_definition(sides, how):
    assert couples(draw(*sides, how)) == by_hand(*sides, how)


@settings(max_examples=40, deadline=None)
@given(small, rules, quotas)
def test_no_identity_meets_itself_and_no_source_has_more_than_its_slots(sides, how, limits):
    how = replace(how, quotas=limits)
    drawn = draw(*sides, how)
    sources, characters = ({row[0]: row for row in rows_of(side)} for side in sides)
    by_source: dict[str, list[str]] = {}
    for source, character in couples(drawn):
        by_source.setdefault(source, []).append(character)
    for source, chosen in by_source.items():
        names = [sources[source][1], *(characters[each][1] for each in chosen)]
        known = [same_name(name) for name in names if name]
        assert len(set(known)) == len(known)
        assert len(set(chosen)) == len(chosen) <= how.per_source
        assert all(how.domains.get(characters[each][2], 0) > 0 for each in chosen)
    assert len(drawn.sources) + drawn.open_slots.total() == how.per_source * len(sources)
    for tag, most in limits.items():
        assert sum(tag in sources[s][4] or tag in characters[c][4] for s, c in couples(drawn)) <= most


@settings(max_examples=40, deadline=None)
@given(small, rules, quotas, st.randoms(use_true_random=False))
def test_the_order_of_the_rows_changes_nothing(sides, how, limits, chance):
    how = replace(how, quotas=limits)
    shuffled = [members(chance.sample(rows_of(side), len(side.ids))) for side in sides]
    assert draw(*shuffled, how) == draw(*sides, how)


@settings(max_examples=40, deadline=None)
@given(small, rules)
def test_a_new_source_changes_no_pair_of_another(sides, how):
    sources, characters = sides
    new = members([*rows_of(sources), ("src_new", "eve", "human", "half", frozenset())])
    after = [each for each in couples(draw(new, characters, how)) if each[0] != "src_new"]
    assert after == couples(draw(sources, characters, how))


@settings(max_examples=40, deadline=None)
@given(small, rules)
def test_only_a_source_that_won_a_new_character_gave_one_up(sides, how):
    sources, characters = sides
    new = members([*rows_of(characters), ("chr_new", None, "animal", "full", frozenset())])
    before, after = Counter(couples(draw(sources, characters, how))), Counter(couples(draw(sources, new, how)))
    for source in sources.ids:
        gone = {each for each in before - after if each[0] == source}
        assert not gone or (source, "chr_new") in after


def test_a_new_character_takes_its_share_of_its_domain_and_nothing_else():
    sources, characters = world(10_000, 100, names=[None], framings=["full"])
    new = members([*rows_of(characters), ("chr_new", None, "cartoon", "full", frozenset())])
    how = Rules(1, WEIGHTS)
    before, after = (dict(couples(draw(sources, side, how))) for side in (characters, new))
    changed = [source for source in before if before[source] != after[source]]
    share = 0.3 / (characters.domains.count("cartoon") + 1)
    assert {after[source] for source in changed} == {"chr_new"}
    assert abs(len(changed) - 10_000 * share) < 4 * math.sqrt(10_000 * share * (1 - share))


def test_the_mix_is_that_of_the_weights_and_not_of_the_characters_at_hand():
    sources, _ = world(10_000, 0, names=[None], framings=[None])
    kinds = ["human"] * 120 + ["cartoon"] * 10 + ["animal"] * 40 + ["object"] * 5
    characters = members([(f"chr_{n}", None, kind, "full", frozenset()) for n, kind in enumerate(kinds)])
    drawn = draw(sources, characters, Rules(2, WEIGHTS))
    counts = Counter(kinds[int(name.removeprefix("chr_"))] for name in drawn.characters)
    total = len(drawn.characters)
    assert total == 20_000
    chi_squared = sum((counts[name] - total * share) ** 2 / (total * share) for name, share in WEIGHTS.items())
    assert chi_squared < 16.27  # 3 degrees of freedom, 99.9 %
    humans = Counter(name for name in drawn.characters if kinds[int(name.removeprefix("chr_"))] == "human")
    expected = counts["human"] / 120
    spread = sum((humans[f"chr_{n}"] - expected) ** 2 / expected for n in range(120))
    assert spread < 173.6  # 119 degrees of freedom, 99.9 %: no character is preferred


def test_framings_are_crossed_by_the_share_that_was_asked_for():
    sources = members([(f"src_{n}", None, None, "half", frozenset()) for n in range(4000)])
    mixed = [(f"chr_{n}", None, DOMAINS[n % 4], ("full", "half")[n // 4 % 2], frozenset()) for n in range(80)]
    drawn = draw(sources, members(mixed), Rules(1, WEIGHTS, crossed_share=0.25))
    framing = {row[0]: row[3] for row in mixed}
    assert drawn.crossed == [framing[name] == "full" for name in drawn.characters]
    assert abs(sum(drawn.crossed) - 1000) < 4 * math.sqrt(4000 * 0.25 * 0.75)
    unfit = draw(members([("src_0", None, None, "portrait", frozenset())]), members(mixed), Rules(2, WEIGHTS))
    assert unfit.open_slots == {NO_CHARACTER: 2}


def test_a_quota_is_filled_to_the_last_place_and_the_pairs_behind_it_find_others():
    sources, characters = world(600, 60, names=[None], framings=["full"])
    characters = members(
        [(*row[:4], frozenset({"dance"} if n % 2 else ())) for n, row in enumerate(rows_of(characters))]
    )
    sources = members([(*row[:4], frozenset({"run"} if n % 3 == 0 else ())) for n, row in enumerate(rows_of(sources))])
    drawn = draw(sources, characters, Rules(2, WEIGHTS, quotas={"dance": 100, "run": 51}))
    tags = {row[0]: row[4] for side in (sources, characters) for row in rows_of(side)}
    assert sum("dance" in tags[name] for name in drawn.characters) == 100
    assert sum("run" in tags[name] for name in drawn.sources) == 51
    assert drawn.open_slots == {QUOTA: 400 - 51}
    assert len(drawn.sources) == 800 + 51


@settings(max_examples=40, deadline=None)
@given(st.builds(world, st.integers(1, 40), st.integers(1, 12), st.integers(0, 10**6)), rules, quotas)
def test_drawing_in_blocks_is_drawing_one_by_one(sides, how, limits):
    how = replace(how, quotas=limits)
    in_blocks = draw(*sides, how)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pairs, "_ROWS", 1)
        assert draw(*sides, how) == in_blocks


@settings(max_examples=40, deadline=None)
@given(small, rules, quotas, st.integers(0, 10**6))
def test_what_is_written_stays_whatever_comes_in(sides, how, limits, seed):
    """Sources, characters, slots and quotas grow; what was drawn takes its slot, and only free slots are filled."""
    how = replace(how, quotas=limits)
    written = set(couples(draw(*sides, how)))
    more = world(3, 5, seed)
    sources = members([*rows_of(sides[0]), *(("src_n" + row[0], *row[1:]) for row in rows_of(more[0]))])
    characters = members([*rows_of(sides[1]), *(("chr_n" + row[0], *row[1:]) for row in rows_of(more[1]))])
    grown = replace(how, per_source=how.per_source + 1, quotas={tag: most + 2 for tag, most in limits.items()})
    for again in (how, grown):
        new = couples(draw(sources, characters, again, written))
        assert not written & set(new)
        written |= set(new)
        assert max(Counter(source for source, _ in written).values(), default=0) <= again.per_source
        tags = {row[0]: row[4] for side in (sources, characters) for row in rows_of(side)}
        for tag, most in again.quotas.items():
            assert sum(tag in tags[s] or tag in tags[c] for s, c in written) <= most
        assert couples(draw(sources, characters, again, written)) == []  # again adds nothing


def test_a_pair_that_is_gone_is_replaced_by_one_of_the_same_domain():
    sources, characters = world(500, 80, names=[None], framings=["full"])
    domain = dict(zip(characters.ids, characters.domains, strict=True))
    how = Rules(2, WEIGHTS)
    written = couples(draw(sources, characters, how))
    lost = written[::7]
    left = members([row for row in rows_of(characters) if row[0] != lost[0][1]])
    new = couples(draw(sources, left, how, [each for each in written if each[1] != lost[0][1]]))
    gone = [each for each in written if each[1] == lost[0][1]]
    assert [source for source, _ in new] == [source for source, _ in gone]
    assert {domain[character] for _, character in new} == {domain[lost[0][1]]}


def test_the_draw_and_the_ids_are_those_of_every_earlier_version():
    sources, characters = world(4, 9, seed=5)
    drawn = draw(sources, characters, Rules(2, WEIGHTS, crossed_share=0.5))
    assert [source[4:] + character[4:] for source, character in couples(drawn)] == [
        *("08", "07", "16", "18", "22", "20", "35", "36"),
    ]
    assert pair_id("src_a", "chr_b") == "par_baf39d053230fe1fe953484efea7d75b"
