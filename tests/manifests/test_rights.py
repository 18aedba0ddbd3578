import pytest

from manifests.rights import objection

GOOD = {"id": "src_a", "licence": "MIT", "consent": "granted", "origins": ["park"], "domain": "human", "tags": []}


@pytest.mark.parametrize(
    ("change", "allowed", "reason"),
    [
        ({}, [], None),
        ({"licence": None}, [], "no_licence"),
        ({"licence": "unknown"}, ["another"], "no_licence"),
        ({"licence": None}, ["src_a"], None),
        ({"consent": "unknown"}, ["park"], None),
        ({"consent": None}, [], "no_consent"),
        ({"consent": None, "domain": None}, [], "no_consent"),  # who knows who is seen
        ({"consent": None, "domain": "cartoon"}, [], None),
        ({"consent": None, "licence": None}, ["*"], None),
        ({"consent": "refused", "domain": "cartoon"}, ["*"], "consent_refused"),
        ({"tags": ["minor", "dance"]}, ["*"], "reject_tag"),
        ({"tags": None, "origins": None}, [], None),
    ],
)
def test_a_row_needs_a_licence_and_consent_unless_it_is_named(change, allowed, reason):
    found = objection(GOOD | change, ["minor"], allowed)
    assert (found and found[0]) == reason
    assert found is None or "src_a" in found[1]
