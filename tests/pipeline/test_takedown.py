"""A source or a character that is taken down is gone from every byte, and what does not concern it stays as it was."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner

from manifests import tombstones
from manifests.lease import Lease, LeaseTaken
from manifests.schema import TABLES
from manifests.shards.cut import Cut
from manifests.shards.index import note_reading
from manifests.store import Store
from manifests.tables import TableError, Tables
from pipeline.__main__ import main
from pipeline.keeping import limits_of
from pipeline.packing import pack
from pipeline.takedown import TakedownError, impact
from pipeline.takedown_forget import forget
from pipeline.verify import find_damaged
from tests import pack_samples

EVERY = {"samples_per_shard": 3, "kinds": ["reverse", "forward", "self"]}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A packed root."""
    small = pack_samples.make(tmp_path_factory.mktemp("made"), pack=EVERY)
    pack(small.run())
    return small


@pytest.fixture
def small(made, tmp_path):
    shutil.copytree(made.root, tmp_path / "root")
    config = made.config | {"root": str(tmp_path / "root")}
    return pack_samples.Small(tmp_path / "root", made.sources, made.characters, made.pairs, config)


def row_of(small, item, table="sources"):
    (row,) = Tables(small.root).read(table, where=f"id = '{item}'").to_pylist()
    return row


def files_with(root: Path, words) -> list[str]:
    """Return each file under a root that holds one of these words as raw bytes, or in its name."""
    places = {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}
    return [place for place, data in places.items() if any(word in data or word in place.encode() for word in words)]


def bytes_left(root: Path, words) -> list[str]:
    """Return each file under a root that holds one of these words, as raw bytes, and each version of each table that
    shows one; tombstones apart."""
    found = [place for place in files_with(root, words) if "tombstones.lance" not in place]
    tables = Tables(root)
    for name in set(TABLES) - {"tombstones"}:
        dataset = tables.open(name)
        for version in [each["version"] for each in dataset.versions()] if dataset is not None else []:
            shown = str(dataset.checkout_version(version).to_table().to_pylist()).encode()
            found += [f"{name} version {version}" for word in words if word in shown]
    return found


def tars(root):
    return {path.name: path.read_bytes() for path in (root / "shards/main").glob("*.tar")}


def rows_in(tar: bytes) -> set[str]:
    return {word.split(b".")[0].decode() for word in tar.split(b"\0") if word.endswith(b".json")}


def pairs_with(small, item, side="source"):
    return Tables(small.root).read("pairs", where=f"{side} = '{item}'")["id"].to_pylist()


def test_a_forgotten_source_is_gone_from_every_byte_under_the_root_but_the_tombstone(small):
    source = small.sources[1]
    row, pairs = row_of(small, source), pairs_with(small, source)
    video = [path.read_bytes() for path in (small.root / "artifacts/render").rglob("*.mp4")]
    words = [source.encode(), row["file_sha256"].encode(), row["file"].encode(), row["identity"].encode()]
    assert len(bytes_left(small.root, words)) > 5  # the search finds what is there
    (small.root / "look").mkdir()
    (small.root / f"look/{source}.png").write_bytes(b"a picture of it")
    (small.root / "reports").mkdir()
    (small.root / "reports/page.html").write_text(f"<img src=x> {source}")
    (small.root / "reports/rows.jsonl").write_text(f'{{"id": "{source}"}}\n{{"id": "another"}}\n')
    (small.root / "runs/99999999.json").write_text(json.dumps({"config": {"allow": [source, "another"]}}))
    pieces = [data[len(data) // 2 :][:64] for data in (pseudo_of(small, pair) for pair in pairs)]
    assert len(files_with(small.root, pieces)) == 3 + 2  # each pair's artifact; its reverse and forward shard
    done = forget(str(small.root), source, "consent withdrawn", by="Ann")
    assert bytes_left(small.root, [*words, *pieces, row["origins"][0].encode()]) == []
    assert {path.read_bytes() for path in (small.root / "artifacts/render").rglob("*.mp4")} < set(video)
    assert not (small.root / "reports/page.html").exists()
    assert (small.root / "reports/rows.jsonl").read_text() == '{"id": "another"}\n'
    assert json.loads((small.root / "runs/99999999.json").read_text())["config"]["allow"] == [done.tombstone, "another"]
    (tombstone,) = tombstones.all_of(Tables(small.root))
    assert (tombstone.items, tombstone.file_sha256, tombstone.reason) == (
        [source],
        row["file_sha256"],
        "consent withdrawn",
    )
    assert (tombstone.by, tombstone.state, set(tombstone.pairs)) == ("Ann", "done", set(pairs))
    assert find_damaged(Tables(small.root)) == []
    assert Path(row["file"]).exists()
    assert f"the file itself lies outside the root and was left: {row['file']}" in done.beyond


def pseudo_of(small, pair):
    (row,) = Tables(small.root).read("outcomes", where=f"item = '{pair}' AND stage = 'render'").to_pylist()
    return (small.root / row["artifacts"][0]["address"]).read_bytes()


def test_exactly_the_shards_that_held_it_are_written_anew_and_pack_agrees(small):
    source, before, old = small.sources[0], tars(small.root), Cut(small.root).digest
    gone = {source, *pairs_with(small, source), *(f"fwd_{pair}" for pair in pairs_with(small, source))}
    concerned = {name for name, tar in before.items() if rows_in(tar) & gone}
    assert 0 < len(concerned) < len(before)
    forget(str(small.root), source, "asked")
    after = tars(small.root)
    assert before.keys() - after.keys() == concerned
    assert {name: before[name] for name in before.keys() - concerned} == {
        name: after[name] for name in before.keys() & after.keys()
    }
    left = set().union(*map(rows_in, before.values())) - gone
    assert set().union(*map(rows_in, after.values())) == left
    digest = Cut(small.root).digest
    assert digest != old
    again = pack(small.run())
    assert (again.written, again.index_sha256) == (0, digest)  # the bytes are those of a plan without it
    assert again.counts[0].rejected == {"forgotten": 3}


def test_a_forgotten_character_takes_its_pairs_along_and_leaves_their_sources(small):
    character = small.characters[2]
    row, pairs = row_of(small, character, "characters"), pairs_with(small, character, "character")
    forget(str(small.root), character, "asked")
    assert bytes_left(small.root, [character.encode(), row["file_sha256"].encode(), row["file"].encode()]) == []
    rows = {each["id"]: each for each in Tables(small.root).read("pairs").to_pylist()}
    assert {name for name, each in rows.items() if each["reject"] == "forgotten"} == set(pairs)
    assert all(rows[name]["character"] is None and rows[name]["source"] in small.sources for name in pairs)
    assert Tables(small.root).count("sources") == 4
    assert pack(small.run()).written == 0


def test_impact_names_everything_and_writes_nothing(small, tmp_path):
    source = small.sources[2]
    run, held = tmp_path / "runs/held", Cut(small.root).digest
    note_reading(run, [held])
    note_reading(tmp_path / "runs/other", ["0" * 64])
    (tmp_path / "runs/silent/checkpoints").mkdir(parents=True)
    labels = tmp_path / "labels.jsonl"
    labels.write_text(f'{{"id": "{pairs_with(small, source)[0]}", "keep": true}}\n{{"id": "x", "keep": true}}\n')
    (small.root / "runs/00000099.json").write_text(json.dumps({"config": {"keep": {"labels": str(labels)}}}))
    (small.root / "look").mkdir()
    (small.root / f"look/{source}.mp4").write_bytes(b"x")
    Tables(small.root).tag("sources", "frozen")
    files = sorted(small.root.rglob("*"))
    found = impact(str(small.root), source[:12], [str(tmp_path / "runs")])
    assert (found.items, found.pairs) == ([source], sorted(pairs_with(small, source)))
    assert found.outcomes == 1 + 2 * 3
    assert {each["column"] for each in found.artifacts} == {"skeleton", "pseudo"}
    assert {row["kind"] for row in found.shards} == {"reverse", "forward", "self"}
    assert found.labels == [f"{labels}: 1"]
    assert found.reports == [f"look/{source}.mp4"]
    assert found.tags == ["sources frozen"]
    assert {Path(each["folder"]).name: each["how"] for each in found.trainings} == {
        "held": f"read the index {held}",
        "silent": "does not say what it read: it has no shards_read.json",
    }
    assert sorted(small.root.rglob("*")) == files
    done = forget(str(small.root), source, "asked", runs=[str(tmp_path / "runs")])
    assert any("cannot unlearn" in line and "held" in line for line in done.beyond)
    # and the row of the shard that was rebuilt still says what a training saw of the others
    other = next(s for s in small.sources if s != source and row_of(small, s)["frames"] == 5)
    assert held in impact(str(small.root), other).indexes


def test_all_segments_of_one_film_go_together(small):
    row = row_of(small, small.sources[3])
    other = row | {"id": "src_" + "f" * 32, "start_s": 0.0, "frames": 2}
    Tables(small.root).upsert("sources", pa.Table.from_pylist([other], schema=TABLES["sources"]))
    assert forget(str(small.root), other["id"], "asked").items == sorted([row["id"], other["id"]])
    assert Tables(small.root).count("sources") == 3


def test_a_tombstone_refuses_to_import_the_same_bytes_under_any_name(small, tmp_path):
    source = small.sources[0]
    row = row_of(small, source)
    forget(str(small.root), source, "asked")
    (tmp_path / "clips").mkdir()
    shutil.copyfile(row["file"], tmp_path / "clips/new name.mp4")
    shutil.copyfile(row_of(small, small.sources[1])["file"], tmp_path / "clips/known.mp4")
    call = CliRunner().invoke
    told = json.loads(
        call(main, ["import", "sources", str(tmp_path / "clips"), "--root", str(small.root), "--json"]).stdout
    )
    assert told["rejected"] == {"forgotten": 1}
    assert told["decoded"] == 0
    refused = Tables(small.root).read("sources", where="reject = 'forgotten'").to_pylist()
    assert [(each["file_sha256"], Path(each["file"]).name) for each in refused] == [(None, "new name.mp4")]
    assert bytes_left(small.root, [row["file_sha256"].encode(), source.encode()]) == []


def test_artifacts_that_no_outcome_names_go_too(small):
    """A worker was killed behind the artifact and before its outcome: nobody can tell whom it shows."""
    orphan = Store(str(small.root)).put("render", "ab" * 16, "pseudo", np.zeros(3))
    done = forget(str(small.root), small.sources[0], "asked")
    assert not (small.root / orphan.address).exists()
    assert done.found["orphans"] >= 1
    assert find_damaged(Tables(small.root)) == []


def test_numbers_of_percentiles_stay_when_the_tag_they_were_taken_at_moves(small):
    tables = Tables(small.root)
    tables.tag("outcomes", "judged")
    run = small.run(keep={"min_percentile": {"motion": 50}, "at": "judged"})
    with Lease.take(str(small.root), "a test"):
        limits = limits_of(run, tables, record=True)
    done = forget(str(small.root), small.sources[3], "asked")
    assert any("tag judged of table outcomes" in line for line in done.found["notes"])
    assert limits_of(run, tables) == limits
    assert bytes_left(small.root, [small.sources[3].encode()]) == []


def test_a_tag_that_holds_it_is_removed_and_another_stays(small):
    tables = Tables(small.root)
    tables.tag("characters", "cast")
    tables.tag("sources", "frozen")
    done = forget(str(small.root), small.sources[0], "asked")
    assert tables.tags("sources") == {}
    assert tables.tags("characters") == {"cast": 1}
    assert any("tag frozen of table sources removed" in line for line in done.found["notes"])


def test_a_damaged_shard_goes_as_a_whole_and_is_packed_anew(small):
    source = small.sources[0]
    tar = next(path for path in (small.root / "shards/main").glob("self*5f*.tar"))
    tar.write_bytes(tar.read_bytes()[:-1] + b"x")
    assert "damaged shards" in " ".join(forget(str(small.root), source, "asked").found["notes"])
    assert pack(small.run()).written == 1
    assert find_damaged(Tables(small.root)) == []


def test_mistakes_are_told_in_a_sentence_and_change_nothing(small):
    root = str(small.root)
    with pytest.raises(TableError, match="has an id that begins with 'src_zzz'"):
        forget(root, "src_zzz", "asked")
    with pytest.raises(TakedownError, match="is in table pairs: name the source or the character"):
        impact(root, small.pairs[0])
    with Lease.take(root, "a run"), pytest.raises(LeaseTaken, match="is in use by `a run`"):
        forget(root, small.sources[0], "asked")
    assert tombstones.all_of(Tables(root)) == []
    forget(root, small.sources[0], "asked")
    for command in (impact, lambda root, item: forget(root, item, "again")):
        with pytest.raises(TakedownError, match=r"was forgotten .*asked \(tmb_"):
            command(root, small.sources[0])


def test_the_commands_impact_and_forget(small):
    call, root = CliRunner().invoke, str(small.root)
    told = call(main, ["impact", small.sources[0], "--root", root, "--runs", root])
    assert "3 pairs, 7 outcomes" in told.output
    assert "3 shards" in told.output
    done = call(main, ["forget", small.sources[0], "--root", root, "--reason", "asked", "--runs", root])
    assert done.exit_code == 0
    assert "out of reach:" in done.output
    assert call(main, ["forget", small.sources[0], "--root", root, "--reason", "x"]).exit_code == 2


def test_a_row_that_is_alone_in_its_file_of_the_table_is_gone_too(small):
    """Then there is nothing to compact, and the version that says what was deleted would stay the newest."""
    row = row_of(small, small.sources[0])
    alone = row | {"id": "src_" + "e" * 32, "file_sha256": "e" * 64, "file": "/elsewhere/alone.mp4"}
    Tables(small.root).append("sources", pa.Table.from_pylist([alone], schema=TABLES["sources"]))
    forget(str(small.root), alone["id"], "asked")
    assert bytes_left(small.root, [alone["id"].encode(), b"alone.mp4"]) == []
    assert Tables(small.root).count("sources") == 4
