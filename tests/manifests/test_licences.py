"""The order of licences and consents, against a list written by hand and properties that any order must have."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifests.licences import (
    consent_rank,
    normalise,
    normalise_consent,
    rank,
    strictest,
    strictest_consent,
)

FREEST_TO_STRICTEST = [
    "CC0-1.0",
    "MIT",
    "CC-BY-SA-4.0",
    "CC-BY-ND-4.0",
    "CC-BY-NC-4.0",
    "CC-BY-NC-SA-4.0",
    "CC-BY-NC-ND-4.0",
    "House rules of the Muster studio",
    "unknown",
    "proprietary",
]


def test_the_order_is_the_one_in_the_docstring() -> None:
    ranks = [rank(name) for name in FREEST_TO_STRICTEST]
    assert ranks == sorted(set(ranks))


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("cc0", "CC0-1.0"),
        ("CC Zero 1.0", "CC0-1.0"),
        ("https://creativecommons.org/publicdomain/zero/1.0/", "CC0-1.0"),
        ("Public Domain", "public domain"),
        ("https://creativecommons.org/publicdomain/mark/1.0/", "public domain"),
        ("mit", "MIT"),
        ("The MIT License", "MIT"),
        ("BSD 3-Clause License", "BSD-3-Clause"),
        ("new bsd", "BSD-3-Clause"),
        ("Apache License, Version 2.0", "Apache-2.0"),
        ("apache-2.0", "Apache-2.0"),
        ("cc by 4.0", "CC-BY-4.0"),
        ("CC_BY_4.0", "CC-BY-4.0"),
        ("CC-BY", "CC-BY"),
        ("Creative Commons Attribution 4.0 International", "CC-BY-4.0"),
        ("Creative Commons Attribution-ShareAlike 3.0 Unported (CC BY-SA 3.0)", None),
        ("CC BY SA v4", "CC-BY-SA-4.0"),
        ("Creative Commons Attribution-NonCommercial-NoDerivatives 4.0 International License", "CC-BY-NC-ND-4.0"),
        ("cc-by-nd-nc-4.0", "CC-BY-NC-ND-4.0"),
        ("https://creativecommons.org/licenses/by-nc-sa/4.0/", "CC-BY-NC-SA-4.0"),
        ("https://creativecommons.org/licenses/by/4.0/legalcode", "CC-BY-4.0"),
        ("GPL-3.0-or-later", "GPL-3.0"),
        ("All Rights Reserved", "proprietary"),
        ("  UNKNOWN ", "unknown"),
    ],
)
def test_usual_spellings_come_to_one_name(spelling: str, name: str | None) -> None:
    assert normalise(spelling) == (name or spelling)
    assert name is None or normalise(normalise(spelling)) == name


def test_an_unrecognised_name_is_stricter_than_every_open_licence_and_kept_as_given() -> None:
    odd = "Studio  licence No. 7"
    assert normalise(odd) == "Studio licence No. 7"
    assert all(rank(odd) > rank(name) for name in FREEST_TO_STRICTEST[:7])
    assert strictest(["MIT", odd, "CC-BY-NC-ND-4.0"]) == "Studio licence No. 7"


@pytest.mark.parametrize("nearly", ["CC-BY-NC-XX-4.0", "CC-SA-4.0", "CC-BY-SA-ND-4.0", "CC-BY-MINE", "cc", "CC BY BY"])
def test_what_only_looks_like_creative_commons_counts_as_unrecognised(nearly: str) -> None:
    assert rank(nearly) == rank("something of our own")


def test_any_statement_wins_over_silence() -> None:
    assert strictest([None, "CC0-1.0", "", "  "]) == "CC0-1.0"
    assert strictest([None, ""]) is None
    assert strictest_consent([None, "granted"]) == "granted"
    assert strictest_consent([]) is None


def test_the_strictest_does_not_depend_on_the_order_of_the_lists() -> None:
    several = ["CC-BY-4.0", "CC-BY-3.0", "mit", "unknown", "Our own", "Your own"]
    assert {strictest(order) for order in itertools.permutations(several)} == {"unknown"}
    tied = ["CC-BY-4.0", "Apache-2.0", "CC-BY-3.0"]
    assert len({strictest(order) for order in itertools.permutations(tied)}) == 1


@given(st.lists(st.one_of(st.none(), st.text(max_size=12), st.sampled_from(FREEST_TO_STRICTEST)), max_size=6))
def test_the_strictest_is_one_of_those_given_and_no_other_is_stricter(licences: list[str | None]) -> None:
    stated = [item for item in licences if item and item.strip()]
    worst = strictest(licences)
    assert (worst is None) == (not stated)
    if worst is not None:
        assert worst in {normalise(item) for item in stated}
        assert rank(worst) == max(rank(item) for item in stated)


def test_consent_goes_from_granted_over_unknown_to_refused() -> None:
    assert strictest_consent(["granted", "unknown"]) == "unknown"
    assert strictest_consent(["refused", "granted", "unknown"]) == "refused"
    assert normalise_consent(" Withdrawn ") == "refused"


def test_an_unrecognised_consent_ranks_as_unknown_and_is_kept_as_given() -> None:
    assert consent_rank("by word of mouth") == consent_rank("unknown")
    assert strictest_consent(["granted", "by  word of mouth"]) == "by word of mouth"
    assert strictest_consent(["refused", "by word of mouth"]) == "refused"
