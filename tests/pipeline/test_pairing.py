"""The table `pairs` as it grows, and the mix before anything is spent."""

import json
from collections import Counter

import pytest
from click.testing import CliRunner

from manifests import ledger
from manifests.lease import Lease, LeaseTaken
from manifests.pairs import pair_id
from manifests.tables import Tables
from pipeline.__main__ import main
from pipeline.config import ConfigError, load
from pipeline.mix import mix_of
from pipeline.pairing import pairing_of, write_pairs
from tests.pipeline.small_pairs import member, put, settle, write_config


@pytest.fixture
def root(tmp_path):
    put(tmp_path / "root", "sources", [member(f"src_{n}") for n in range(40)])
    put(tmp_path / "root", "characters", [member(f"chr_{n}") for n in range(20)])
    return tmp_path / "root"


@pytest.fixture
def run_of(tmp_path, root):
    def make(**pairs):
        return load(write_config(tmp_path / "run.yaml", root, pairs={"domains": {"cartoon": 1, "animal": 1}, **pairs}))

    return make


def rows(root):
    return {(row["source"], row["character"]): row for row in Tables(root).read("pairs").to_pylist()}


def mix(run):
    tables = Tables(run.config.root)
    return mix_of(pairing_of(run, tables, ledger.fold(tables)))


def test_pairs_are_written_once_and_stay_when_sources_and_characters_come_in(run_of, root):
    write_pairs(run_of())
    first, version = rows(root), Tables(root).version("pairs")
    assert len(first) == 40
    assert all(row["id"] == pair_id(*couple) and row["reject"] is None for couple, row in first.items())
    write_pairs(run_of())
    assert Tables(root).version("pairs") == version  # nothing was written
    put(root, "characters", [member(f"chr_new{n}", domain="animal") for n in range(30)])
    write_pairs(run_of())
    assert rows(root) == first
    put(root, "sources", [member("src_new")])
    write_pairs(run_of(per_source=2))
    assert rows(root).items() >= first.items()
    assert set(Counter(source for source, _ in rows(root)).values()) == {2}


def test_held_out_rejected_unlicensed_and_marked_rows_are_in_no_pair(run_of, root):
    out = [
        member("chr_out0", identity="  EVA "), member("chr_out1", reject="damaged"), member("chr_out2", tags=["minor"]),
        member("chr_out3", licence=None), member("chr_out4", consent="refused"),
        member("chr_out5", domain="human", consent="unknown"), member("chr_in", consent=None),
    ]  # fmt: skip
    put(root, "characters", out)
    put(root, "sources", [member("src_out", identity="eva"), member("src_mine", consent=None, origins=["my camera"])])
    run = run_of(per_source=21, held_out=["Eva"], allow_unknown_licence=["my camera"])
    write_pairs(run)
    assert {character for _, character in rows(root)} == {*(f"chr_{n}" for n in range(20)), "chr_in"}
    assert {source for source, _ in rows(root)} == {*(f"src_{n}" for n in range(40)), "src_mine"}
    told = mix(run)["left_out"]
    assert told["characters"] == {
        "held_out": 1, "damaged": 1, "reject_tag": 1, "no_licence": 1, "consent_refused": 1, "no_consent": 1,
    }  # fmt: skip
    assert told["sources"] == {"held_out": 1}


def test_a_pair_that_becomes_unusable_keeps_its_row_with_the_reason_and_is_replaced_and_comes_back(run_of, root):
    write_pairs(run_of())
    first = rows(root)
    (source, character), *_ = first
    gone = {couple for couple in first if couple[1] == character}
    write_pairs(run_of(held_out=[character]))
    later = rows(root)
    assert later.keys() > first.keys()
    assert {couple for couple, row in later.items() if row["reject"] == "held_out"} == gone
    assert len(later) == 40 + len(gone)  # each has another character instead
    put(root, "sources", [member(source, identity="one")])
    put(root, "characters", [member(character, identity="ONE")])
    write_pairs(run_of())
    after = rows(root)
    assert after[source, character]["reject"] == "same_identity"
    assert after[source, character]["reject_detail"] == "source and character are both 'one'"
    assert all(after[couple]["reject"] is None for couple in gone - {(source, character)})
    assert after.keys() == later.keys()


def test_what_a_stage_rejected_is_not_drawn_and_what_is_quarantined_keeps_its_pairs(run_of, root):
    run = run_of()
    settle(run, "characters", "frame", {f"chr_{n}": None for n in range(10)}, ledger.REJECTED)
    write_pairs(run)
    first = rows(root)
    assert {character for _, character in first} <= {f"chr_{n}" for n in range(10, 20)}
    settle(run, "characters", "frame", {f"chr_{n}": None for n in range(10, 18)}, ledger.QUARANTINED)
    settle(run, "characters", "frame", {"chr_18": None}, ledger.REJECTED)
    put(root, "sources", [member(f"src_new{n}") for n in range(10)])
    write_pairs(run)
    new = rows(root).keys() - first.keys()
    assert {character for _, character in new} == {"chr_19"}
    assert {source for source, _ in new if "new" not in source} == {s for s, c in first if c == "chr_18"}


def test_framings_come_from_the_stage_that_measures_them_and_a_tag_wins(run_of, root):
    put(root, "sources", [member(f"src_{n}", tags=["framing:half"]) for n in range(40)])
    put(root, "characters", [member("chr_0", tags=["framing:half"])])
    run = run_of()
    settle(run, "characters", "frame", {f"chr_{n}": {"framing": "full"} for n in range(20)})
    assert mix(run_of(crossed_share=0))["framings"] == {"both half": 40}
    assert mix(run_of(crossed_share=1))["framings"] == {"half to full": 40}


def test_the_mix_adds_up_and_says_what_was_not_checked(run_of, root):
    put(root, "characters", [member(f"chr_x{n}", domain="animal", identity=None, tags=["fox"]) for n in range(3)])
    put(root, "sources", [member(f"src_{n}", identity=None, domain=None) for n in range(5)])
    told = mix(run_of(per_source=2, quotas={"fox": 4}))
    assert (told["pairs"], told["written"], told["new"]) == (80, 0, 80)
    assert told["domains"]["animal"] == {"pairs": 4, "share": 0.05, "wanted": 0.5}
    assert told["domains"]["cartoon"]["pairs"] == 76
    assert told["tags"]["fox"] == {"pairs": 4, "quota": 4}
    assert told["identity_not_checked"] == 10
    assert told["not_through_their_stages"] == {"sources": 0, "characters": 23}
    assert mix(run_of(unknown_identity="other_domain"))["open_slots"] == {"no_character": 5}


def test_the_command_shows_the_mix_and_writes_nothing_with_dry_run(tmp_path, root):
    config = write_config(tmp_path / "run.yaml", root)

    def call(*words):
        found = CliRunner().invoke(main, ["pair", config, *words])
        assert found.exit_code == 0, found.output
        return found.stdout

    assert "40 pairs: 0 from before, 40 new" in call("--dry-run")
    assert Tables(root).count("pairs") == 0
    assert json.loads(call("--json"))["new"] == 40
    assert "40 pairs: 40 from before, 0 new" in call()


def test_pairs_are_written_under_the_lease(run_of, root):
    with Lease.take(str(root), "another"), pytest.raises(LeaseTaken):
        write_pairs(run_of())
    assert Tables(root).count("pairs") == 0


@pytest.mark.parametrize(
    ("pairs", "told"),
    [
        ({"domains": {"robot": 1}}, "domains"),
        ({"domains": {"human": 0}}, "one of them above 0"),
        ({"quotas": {"fox": -1}}, "wanted numbers of pairs from 0"),
        ({"per_sorce": 2}, "pairs.per_sorce: unknown field; did you mean 'per_source'"),
    ],
)
def test_a_mistake_in_the_config_is_told_in_a_line(run_of, pairs, told):
    with pytest.raises(ConfigError, match=told):
        run_of(**pairs)
