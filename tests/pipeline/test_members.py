"""What a pair sees of its source and its character, when it may start, and what becomes of it when they cannot."""

import json
from pathlib import Path

import pyarrow as pa
import pytest

from manifests.ledger import fold
from manifests.schema import PAIRS
from manifests.tables import Tables
from pipeline import tickets
from pipeline.config import ConfigError, Run, build
from pipeline.feed import walks
from pipeline.plan import StageCount, plan_run
from pipeline.progress import Progress
from pipeline.run import execute
from tests.pipeline.small_pairs import member, put

STAGES = {
    "sources": {"first": {"use": "tests.stage_samples:First"}},
    "characters": {"text": {"use": "tests.member_samples:Text"}},
    "pairs": {"join": {"use": "tests.member_samples:Joined"}},
}


def put_couples(root: Path, couples: list[tuple[str, str]]) -> None:
    put(root, "sources", [member(name, frames=5, start_s=0.0, fps=10.0) for name in {a for a, _ in couples}])
    put(root, "characters", [member(name) for name in {b for _, b in couples}])
    rows = [{"id": f"par_{a}_{b}", "source": a, "character": b} for a, b in couples]
    Tables(root).upsert("pairs", pa.Table.from_pylist(rows, schema=PAIRS))


def run_of(root: Path, **stages: object) -> Run:
    return build({"root": str(root), "stages": STAGES | stages})


def lines(run: Run) -> list[StageCount]:
    tables = Tables(run.config.root)
    (counts,) = (plan.counts for plan in plan_run(run, tables, fold(tables)) if plan.track == "pairs")
    return counts


def seen(run: Run) -> dict[str, dict]:
    rows = Tables(run.config.root).read("outcomes", where="track = 'pairs' AND state = 'done'").to_pylist()
    made = [(row, json.loads(row["made"])) for row in rows]
    return {row["item"]: values["seen"] | {"its key": row["key"]} for row, values in made if "seen" in values}


def test_a_pair_sees_its_members_once_they_are_ready_in_one_run(tmp_path):
    put_couples(tmp_path, [("src_a", "chr_x"), ("src_a", "chr_y"), ("src_b", "chr_x")])
    run = run_of(tmp_path)
    assert (lines(run)[0].pending, lines(run)[0].done) == (3, 0)
    execute(run, None, None, Progress(quiet=True))
    assert (lines(run)[0].pending, lines(run)[0].done, lines(run)[1].done) == (0, 3, 3)
    found = seen(run)
    assert len(found) == 3
    for name, row in found.items():
        _, a, b, c, d = name.split("_")
        source, character = f"{a}_{b}", f"{c}_{d}"
        assert row["source_file"] == source
        assert row["text"] == row["character_word"] == character
        assert row["word"] == source  # where both make one, it is the source's
        assert row["array"] == 3 * 5
        assert row["character_domain"] == "cartoon"
        assert row["key"] == row["its key"]
    assert len({row["its key"] for row in found.values()}) == 3
    before = Tables(tmp_path).read("outcomes").num_rows
    execute(run, None, None, Progress(quiet=True))
    assert Tables(tmp_path).read("outcomes").num_rows == before  # a second run makes nothing


def test_pairs_of_a_rejected_member_are_counted_under_its_reason_and_the_funnel_adds_up(tmp_path):
    put_couples(tmp_path, [("src_a", "chr_x"), ("src_a", "chr_reject"), ("src_b", "chr_reject")])
    run = run_of(tmp_path)
    execute(run, None, None, Progress(quiet=True))
    first, join = lines(run)
    assert first.rejected == {"character_marked": 2}
    assert (first.entered, first.done, join.done) == (3, 1, 1)


def test_a_pair_without_licence_or_consent_is_not_rendered(tmp_path):
    put_couples(tmp_path, [("src_a", "chr_x"), ("src_b", "chr_x")])
    put(tmp_path, "sources", [member("src_b", frames=5, start_s=0.0, fps=10.0, licence=None)])
    run = run_of(tmp_path)
    execute(run, None, None, Progress(quiet=True))
    assert lines(run)[0].rejected == {"source_no_licence": 1}
    allowed = build({"root": str(tmp_path), "stages": STAGES, "pairs": {"allow_unknown_licence": ["src_b"]}})
    execute(allowed, None, None, Progress(quiet=True))
    assert lines(allowed)[1].done == 2


def test_a_pairs_key_holds_the_keys_of_what_it_sees(tmp_path):
    put_couples(tmp_path, [("src_a", "chr_x")])
    keys = []
    for stages in ({}, {"sources": {"first": {"use": "tests.stage_samples:First", "value": 2}}}):
        run = run_of(tmp_path, **stages)
        (plan,) = (p for p in plan_run(run, Tables(tmp_path), fold(Tables(tmp_path))) if p.track == "pairs")
        keys.append(plan.keys[0][0])
    assert keys[0] != keys[1]


def test_a_members_lost_artifact_is_made_again_by_its_own_track_and_the_pair_goes_on(tmp_path):
    put_couples(tmp_path, [("src_a", "chr_x")])
    only_sources = build({"root": str(tmp_path), "stages": {k: STAGES[k] for k in ("sources", "characters")}})
    execute(only_sources, None, None, Progress(quiet=True))
    (array,) = tmp_path.glob("artifacts/first/**/*.npy")
    array.write_bytes(b"damaged")
    run = run_of(tmp_path)
    execute(run, None, None, Progress(quiet=True))
    assert lines(run)[1].done == 1
    states = [row["state"] for row in Tables(tmp_path).read("outcomes", where="track = 'sources'").to_pylist()]
    assert sorted(states) == ["done", "done", "lost"]


def test_a_pair_travels_with_all_that_it_sees(tmp_path):
    put_couples(tmp_path, [("src_a", "chr_x")])
    execute(run_of(tmp_path, pairs={}), None, None, Progress(quiet=True))
    run, tables = run_of(tmp_path), Tables(tmp_path)
    folded = fold(tables)
    (plan,) = (p for p in plan_run(run, tables, folded) if p.track == "pairs")
    (walk,) = walks(plan, tables, folded)
    (got,) = tickets.read(tickets.write([walk]), "pairs", run.tracks["pairs"])
    assert (got.columns, got.makers, got.key) == (walk.columns, walk.makers, walk.key)
    assert got.makers["array"].track == "sources"


def test_a_need_that_no_member_offers_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"stages\.pairs\.join: needs character_array"):
        run_of(tmp_path, pairs={"join": {"use": "tests.member_samples:Blind"}})


def test_a_pairs_own_column_goes_before_one_of_its_members_that_is_called_the_same(tmp_path):
    put_couples(tmp_path, [("src_a", "chr_x")])
    own = {"word": {"use": "tests.member_samples:Word"}, "after": {"use": "tests.member_samples:After"}}
    run = run_of(tmp_path, pairs=own)
    execute(run, None, None, Progress(quiet=True))
    assert next(iter(seen(run).values()))["word"] == "the pair's, and not src_a"
