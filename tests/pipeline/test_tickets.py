"""Rows travel as strings; what arrives is what left."""

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from manifests.ledger import Fold, fold
from manifests.media import Clip, Picture
from manifests.schema import SOURCES
from manifests.store import Artifact
from manifests.tables import Tables
from pipeline import tickets
from pipeline.config import build
from pipeline.feed import Walk, walks, with_media
from pipeline.plan import TrackPlan, plan_run
from tests.rows import SAMPLES, config_of, go, put_sources, run_of

CHAIN = {"first": "First", "second": "Second", "third": "Third"}

texts = st.text(max_size=20)  # with quotes, line ends, other scripts and null bytes
numbers = st.one_of(st.integers(-(2**63), 2**63), st.floats(allow_nan=False, allow_infinity=False))
plain = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, texts),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=8,
)
artifacts = st.builds(Artifact, column=texts, address=texts, sha256=texts, bytes=st.integers(0, 2**50))
names = st.text("abcdefgh", min_size=1, max_size=5)  # of columns: none that with_media reads
made = st.dictionaries(names, st.one_of(plain, artifacts), max_size=5)
crops = st.one_of(st.none(), st.lists(st.integers(0, 4096), min_size=4, max_size=4))


@pytest.fixture(scope="module")
def specs():
    return build({"root": "unused", "stages": config_of("unused", CHAIN)["stages"]}).tracks["sources"]


def by_its_parts(walk):
    return walk.id, walk.stage, walk.key, walk.columns, walk.done, walk.ended


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(made, texts, crops, st.integers(0, 2), st.sets(st.integers(0, 2)), st.sets(st.integers(0, 2)))
def test_a_row_goes_through_a_ticket_and_back_unchanged(specs, columns, file, crop, stage, done, ended):
    row = {"id": "src_1", "file": file, "start_s": 0.1, "fps": 29.97, "frames": 81, "crop": crop}
    plan = TrackPlan("sources", specs, pa.table({}), [["k0", "x"], ["k1", "y"], ["k2", "z"]], [], [])
    sent = Walk(plan, 1, stage, with_media("sources", row | columns), done, ended)
    (got,) = tickets.read(tickets.write([sent]), "sources", specs)
    assert by_its_parts(got) == by_its_parts(sent)
    assert isinstance(got.columns["source"], Clip)
    assert all(isinstance(got.columns[name], Artifact) == isinstance(columns[name], Artifact) for name in columns)
    assert tickets.errand(got) == tickets.errand(sent)
    assert (tickets.errand(got).key, tickets.errand(got).stage) == ("xyz"[stage], specs[stage].name)


def test_a_character_travels_with_its_picture():
    stages = {"characters": {"name": {"use": f"{SAMPLES}:NoFrames"}}}
    specs = build({"root": "unused", "stages": stages}).tracks["characters"]
    plan = TrackPlan("characters", specs, pa.table({}), [["key"]], [], [])
    sent = Walk(plan, 0, 0, with_media("characters", {"id": "chr_1", "file": "a.png", "crop": [0, 1, 2, 3]}))
    (got,) = tickets.read(tickets.write([sent]), "characters", specs)
    assert got.columns["character"] == Picture("a.png", (0, 1, 2, 3)) == sent.columns["character"]


def test_real_rows_that_are_half_done_go_on_from_a_ticket_as_they_would_have_here(tmp_path):
    put_sources(tmp_path, ["a", 'b "quoted"\nand more', "ß 人"])
    run = run_of(tmp_path, CHAIN)
    go(run, until="first")
    tables = Tables(tmp_path)
    folded = fold(tables)
    (plan,) = plan_run(run, tables, folded)
    here = list(walks(plan, tables, folded))
    there = tickets.read(tickets.write(here), "sources", run.tracks["sources"])
    for mine, theirs in zip(here, there, strict=True):
        assert by_its_parts(theirs) == by_its_parts(mine)
        assert isinstance(theirs.inputs()["array"], Artifact)
        assert theirs.advance({"total": 1.0}, []) is mine.advance({"total": 1.0}, [])
        assert theirs.key == mine.key


def test_every_column_that_a_manifest_holds_can_travel(specs):
    one_of = {"string": "x", "double": 0.1, "int32": 7, "int64": 2**40, "bool": True}
    many_of = {"list<item: string>": ["x", "y"], "list<item: int32>": [1, 2, 3, 4]}
    row = {field.name: (one_of | many_of)[str(field.type)] for field in SOURCES}
    (columns,) = pa.Table.from_pylist([row], schema=SOURCES).to_pylist()
    sent = Walk(TrackPlan("sources", specs, pa.table({}), [["key"]] * 3, [], []), 0, 0, with_media("sources", columns))
    (got,) = tickets.read(tickets.write([sent]), "sources", specs)
    assert by_its_parts(got) == by_its_parts(sent)
    assert got.columns.keys() == {*SOURCES.names, "source"}


def test_a_ticket_is_small_text_that_any_tool_can_read(tmp_path):
    put_sources(tmp_path, "a")
    run = run_of(tmp_path, CHAIN)
    tables = Tables(tmp_path)
    (plan,) = plan_run(run, tables, Fold())
    (walk,) = walks(plan, tables, Fold())
    walk.take(0, {"word": "a"}, [vars(Artifact("array", "p.npy", "00", 12))])
    block = tickets.write([walk])
    assert block.schema == tickets.SCHEMA
    ticket = json.loads(block["ticket"][0].as_py())
    assert ticket["columns"]["array"]["artifact"]["address"] == "p.npy"
    assert ticket["columns"]["source"]["clip"]["frames"] == 5
    assert np.mean([len(text) for text in block["ticket"].to_pylist()]) < 2000


def test_an_empty_block_is_a_block(specs):
    block = tickets.write([])
    assert block.schema == tickets.SCHEMA
    assert tickets.read(block, "sources", specs) == []
