"""Kept pairs to shards, as webdataset reads them: the same bytes each time, nothing written twice, nothing unsaid."""

import hashlib
import io
import json
import shutil
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner

from manifests import ledger
from manifests.schema import TABLES
from manifests.shards.cut import Cut
from manifests.tables import Tables
from pipeline.__main__ import main
from pipeline.config import ConfigError
from pipeline.pack_plan import PackError
from pipeline.packing import pack, planned
from pipeline.verify import find_damaged
from tests import pack_samples
from tests.clips import stamps_of
from tests.webdataset_alone import plainly_read

EVERY = {"samples_per_shard": 3, "kinds": ["reverse", "forward", "self"]}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return pack_samples.make(tmp_path_factory.mktemp("made"))


@pytest.fixture
def small(made, tmp_path):
    """A copy of a root: four sources, three characters, twelve pairs, not yet packed."""
    shutil.copytree(made.root, tmp_path / "root")
    config = made.config | {"root": str(tmp_path / "root")}
    return pack_samples.Small(tmp_path / "root", made.sources, made.characters, made.pairs, config)


def files_in(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file()
    }


def read_by_webdataset(root: Path, cut: str = "main") -> dict[str, dict]:
    """Return key -> sample, read by nothing of ours."""
    samples = plainly_read(sorted((root / "shards" / cut).glob("*.tar")))
    found = {sample["__key__"]: sample for sample in samples}
    assert len(found) == len(samples)
    return found


def row(small, table, where="true"):
    return Tables(small.root).read(table, where=where).to_pylist()


def changed(small, table, rows):
    Tables(small.root).upsert(table, pa.Table.from_pylist(rows, schema=TABLES[table]))


def test_webdataset_alone_reads_every_sample_and_finds_in_it_what_it_was_made_of(small):
    summary = pack(small.run(pack=EVERY))
    found = read_by_webdataset(small.root)
    assert set(found) == {*small.pairs, *(f"fwd_{pair}" for pair in small.pairs), *small.sources}
    assert summary.samples == len(found) == 28
    pairs = {each["id"]: each for each in row(small, "pairs")}
    for number, pair in enumerate(small.pairs):
        sample, said = found[pair], json.loads(found[pair]["json"])
        assert (said["pair"], said["source"]["id"]) == (pair, pairs[pair]["source"])
        assert said["character"]["id"] == pairs[pair]["character"]
        assert said["prompt"] == f"a figure of kind {number}"
        assert said["pseudo"]["seed"] == 7 * number
        assert said["pseudo"]["sha256"] == hashlib.sha256(sample["driving.mp4"]).hexdigest()
        assert said["pseudo"]["synthetic"] is True
        assert said["scores"] == {"motion": number / 10, "judge.identity": 1 + number % 5}
        assert said["texts"]["judge_model"] == "rules-1"
        assert "answer" not in said["texts"]  # long, and in the ledger
        assert said["source"]["licence"] == "CC-BY-4.0"
        assert said["source"]["consent"] == "granted"
        assert (said["source"]["start_s"], said["source"]["fps"]) == (0.2, 10.0)
        assert said["stages"]["pairs.render"]["code"] == "0.1.0"
        assert {"sources.skeleton", "pairs.render", "pairs.judge"} == said["stages"].keys()
        frames = said["source"]["frames"]
        for part in ("driving.mp4", "target.mp4"):
            with av.open(io.BytesIO(sample[part])) as file:
                pixels = np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)])
            assert len(pixels) == frames
        assert stamps_of(pixels) == list(range(2, 2 + frames))  # the target: exactly the segment
        assert np.load(io.BytesIO(sample["skeleton.npy"]), allow_pickle=False).shape == (frames, 1, 133, 3)
    said = json.loads(found[small.sources[0]]["json"])
    assert (said["kind"], said["texts"], said["prompt"]) == ("self", {"act": "waves 0 times"}, None)


def test_shards_are_grouped_by_kind_and_bucket_and_the_index_adds_up(small):
    summary = pack(small.run(pack=EVERY))
    cut = Cut(small.root)
    assert cut.digest == summary.index_sha256
    assert len(cut) == summary.samples == sum(line.samples for line in cut.shards)
    by_ours = {sample["__key__"].decode(): sample for n in range(len(cut)) for sample in [cut.sample(n)]}
    by_theirs = read_by_webdataset(small.root)
    for key, sample in by_theirs.items():
        assert {name: sample[name] for name in by_ours[key] if name != "__key__"} == {
            name: data for name, data in by_ours[key].items() if name != "__key__"
        }
    for line in cut.shards:
        for sample in cut.samples(line):
            said = json.loads(sample["json"])
            bucket = line.group.bucket
            assert said["kind"] == line.group.kind
            assert (said["source"]["frames"], said["source"]["fps"]) == (bucket.frames, bucket.fps)
    assert {line.group.bucket.frames for line in cut.shards} == {5, 9}


def test_packing_again_writes_nothing(small):
    run = small.run(pack=EVERY)
    pack(run)
    before = {name: value for name, value in files_in(small.root).items() if not name.startswith("leases/")}
    rows = Tables(small.root).count("outcomes")
    again = pack(run)
    assert (again.written, again.adopted, again.known) == (0, 0, again.shards)
    after = {name: value for name, value in files_in(small.root).items() if not name.startswith("leases/")}
    assert after == before
    assert Tables(small.root).count("outcomes") == rows


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.faults)])
def test_equal_tables_verdicts_and_config_give_equal_bytes_elsewhere_by_any_number_of_processes(
    small, made, tmp_path, workers
):
    pack(small.run(pack=EVERY))
    shutil.copytree(made.root, tmp_path / "elsewhere")
    other = pack_samples.Small(tmp_path / "elsewhere", [], [], [], made.config | {"root": str(tmp_path / "elsewhere")})
    pack(other.run(pack=EVERY, workers=workers))
    assert files_in(small.root / "shards") == files_in(other.root / "shards")


def test_verdicts_decide_and_the_funnel_adds_up(small):
    keep = {"min": {"motion": 0.35}, "max": {"judge.identity": 4}}
    summary = pack(small.run(keep=keep))
    wanted = {pair for number, pair in enumerate(small.pairs) if number / 10 >= 0.35 and 1 + number % 5 <= 4}
    assert set(read_by_webdataset(small.root)) == wanted
    (count,) = summary.counts
    assert count.rejected == {"motion_low": 4, "judge.identity_high": 2}
    assert count.entered == 12 == count.done + count.rejected.total()


def test_a_label_is_kept_or_dropped_whatever_the_scores_say(small, tmp_path):
    labels = tmp_path / "labels.jsonl"
    labels.write_text(f'{{"id": "{small.pairs[0]}", "keep": true}}\n{{"id": "{small.pairs[11]}", "keep": false}}\n')
    pack(small.run(keep={"min": {"motion": 1.05}, "labels": str(labels)}))
    assert set(read_by_webdataset(small.root)) == {small.pairs[0]}


def test_rows_without_licence_or_consent_or_with_a_minor_stay_out_and_are_counted(small):
    one, two, three, _ = row(small, "sources")
    (character, *_) = row(small, "characters")
    changed(
        small,
        "sources",
        [one | {"licence": None}, two | {"consent": "unknown"}, three | {"tags": ["dance", "minor"]}],
    )
    changed(small, "characters", [character | {"consent": "refused"}])
    (pairs, sources) = planned(small.run(pack=EVERY), Tables(small.root)).counts
    assert pairs.rejected == {"no_licence": 3, "no_consent": 3, "reject_tag": 3, "consent_refused": 1}
    assert (pairs.entered, pairs.done) == (12, 2)
    assert sources.rejected == {"no_licence": 1, "no_consent": 1, "reject_tag": 1}
    named = small.run(pack=EVERY, pairs={"allow_unknown_licence": [one["id"], "page of person 9"]})
    assert planned(named, Tables(small.root)).counts[0].rejected["no_licence"] == 0
    pack(small.run(pack=EVERY))
    stays = {f"{each['source']}" for each in row(small, "pairs")} - {each["id"] for each in (one, two, three)}
    assert {json.loads(s["json"])["source"]["id"] for s in read_by_webdataset(small.root).values()} == stays


def test_one_more_pair_changes_the_shards_of_its_source_and_no_others(small):
    first = small.pairs[0]
    hidden = row(small, "pairs", f"id = '{first}'")
    changed(small, "pairs", [hidden[0] | {"reject": "a test", "reject_detail": "hides it"}])
    pack(small.run())
    before = files_in(small.root / "shards/main")
    changed(small, "pairs", hidden)
    summary = pack(small.run())
    after = files_in(small.root / "shards/main")
    assert summary.written == 1
    stale = [name for name in before.keys() - after.keys() if "indexes" not in name]
    assert stale == []  # nothing that a training may read is removed
    assert {name for name in after.keys() - before.keys() if name.endswith(".tar")} == {
        line.tar.address.rpartition("/")[2] for line in Cut(small.root).shards
    } - {name for name in before if name.endswith(".tar")}
    pruned = pack(small.run(), prune=True)
    assert pruned.removed == 1
    tars = {name for name in files_in(small.root / "shards/main") if name.endswith(".tar")}
    assert tars == {line.tar.address.rpartition("/")[2] for line in Cut(small.root).shards}
    assert find_damaged(Tables(small.root)) == []


@pytest.mark.parametrize(
    "hurt", [lambda path: path.unlink(), lambda path: path.write_bytes(path.read_bytes()[:-9] + b"x" * 9)]
)
def test_an_artifact_that_is_gone_or_damaged_is_called_lost_and_the_index_stays_as_it_was(small, hurt):
    pack(small.run(keep={"min": {"motion": 0.95}}))  # an index stands
    index = (small.root / "shards/main/index.json").read_bytes()
    pseudo = sorted((small.root / "artifacts/render").rglob("*.mp4"))[:2]
    for path in pseudo:
        hurt(path)
    summary = pack(small.run())
    assert {problem["reason"] for problem in summary.problems} == {"artifact_lost"}
    assert len(summary.problems) == 2
    assert (small.root / "shards/main/index.json").read_bytes() == index
    lost = [each for each in ledger.latest(Tables(small.root), "stage = 'render'") if each["state"] == ledger.LOST]
    assert {each["artifacts"] == [] and each["reason"] for each in lost} == {"pseudo"}
    (count,) = planned(small.run(), Tables(small.root)).counts
    assert (count.pending, count.done) == (2, 10)  # the next run makes them again
    assert pack(small.run()).problems == []  # what is whole is packed


def test_a_source_whose_file_is_gone_or_replaced_is_said_and_the_rest_is_written(small, made, tmp_path):
    (film,) = (each for each in row(small, "sources") if each["id"] == small.sources[0])
    other = tmp_path / "other.mp4"
    shutil.copyfile(next(each for each in row(small, "sources") if each["id"] == small.sources[1])["file"], other)
    changed(small, "sources", [film | {"file": str(other)}])
    summary = pack(small.run())
    assert {problem["reason"] for problem in summary.problems} == {"changed"}
    assert not (small.root / "shards/main/index.json").exists()
    assert 0 < summary.written < summary.shards
    changed(small, "sources", [film])
    assert pack(small.run()).problems == []


def test_verify_finds_a_changed_byte_of_every_file_of_a_cut(small):
    pack(small.run())
    assert find_damaged(Tables(small.root)) == []
    shards = small.root / "shards/main"
    for path in (
        *[min(shards.glob(pattern)) for pattern in ("*.tar", "reverse*.json", "index.json")],
        *shards.glob("indexes/*"),
    ):
        data = path.read_bytes()
        path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        assert [address for address, _ in find_damaged(Tables(small.root))] == [str(path.relative_to(small.root))]
        path.write_bytes(data)
    (small.root / "shards/main/index.json").unlink()
    assert find_damaged(Tables(small.root)) == [
        ("shards/main/index.json", "artifact shards/main/index.json is missing")
    ]


def test_a_shard_that_somebody_removed_is_written_again_as_it_was(small):
    pack(small.run())
    before = files_in(small.root / "shards")
    for path in sorted((small.root / "shards/main").glob("*.tar"))[:2]:
        path.unlink()
    assert pack(small.run()).written == 2
    assert files_in(small.root / "shards") == before


def test_before_anything_is_rendered_nothing_is_packed_and_it_is_said_why(small):
    Tables(small.root).delete("outcomes", "stage = 'render'")
    summary = pack(small.run())
    assert (summary.samples, summary.counts[0].pending) == (0, 12)
    assert len(Cut(small.root)) == 0


def test_mistakes_are_told_in_a_sentence(small):
    stages = {"sources": pack_samples.STAGES["sources"]}
    with pytest.raises(PackError, match="no stage of the pairs track makes `pseudo`"):
        pack(small.run(stages=stages))
    with pytest.raises(PackError, match="no stage of the sources track makes `skeleton`"):
        pack(small.run(stages={"pairs": pack_samples.STAGES["pairs"]}, pack={"kinds": ["self"]}))
    with pytest.raises(ConfigError, match=r"pack\.kind: unknown.*did you mean 'kinds'"):
        small.run(pack={"kind": ["self"]})


def test_the_commands_pack_and_verify(small, tmp_path):
    config = str(small.write(tmp_path / "run.yaml"))
    call = CliRunner().invoke
    dry = call(main, ["pack", config, "--dry-run"])
    assert "12 samples in" in dry.output
    assert not (small.root / "shards").exists()
    told = json.loads(call(main, ["pack", config, "--json"]).stdout)
    assert (told["samples"], told["problems"]) == (12, [])
    assert told["counts"][0] == {"stage": "pack", "in": 12, "done": 12, "rejected": {}, "quarantined": {}, "pending": 0}
    assert "written (0.0 MB)" in call(main, ["pack", config]).output
    whole = call(main, ["verify", "--root", config])
    assert (whole.exit_code, whole.output) == (0, "every byte is as it was written\n")
    tar = next((small.root / "shards/main").glob("*.tar"))
    tar.write_bytes(tar.read_bytes()[:-1])
    hurt = call(main, ["verify", "--root", config])
    assert hurt.exit_code == 1
    assert f"artifact shards/main/{tar.name} has changed" in hurt.output
    shard = Tables(small.root).read("shards", columns=["id"]).to_pylist()[0]["id"]
    assert "reverse" in call(main, ["trace", shard, "--root", config]).output
