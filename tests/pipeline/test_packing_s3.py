"""A root on S3 is packed to the same bytes as one in a folder, and read back from there."""

import shutil
import uuid

import pytest

from manifests.shards.cut import Cut
from manifests.tables import Tables
from pipeline.packing import pack
from pipeline.verify import find_damaged
from tests import pack_samples
from tests.s3_server import BUCKET, objects, put_object, s3_server, use

EVERY = {"samples_per_shard": 6, "kinds": ["reverse", "forward"]}


@pytest.fixture
def s3(monkeypatch):
    with s3_server() as endpoint:
        use(monkeypatch, endpoint)
        yield endpoint


def test_a_root_on_s3_gives_the_same_shards_and_they_are_read_from_there(s3, tmp_path, monkeypatch):
    monkeypatch.setenv("BODYDOUBLE_CACHE", str(tmp_path / "cache"))
    made = pack_samples.make(tmp_path / "made")
    prefix = uuid.uuid4().hex
    for path in made.root.rglob("*"):
        if path.is_file():
            put_object(s3, f"{prefix}/{path.relative_to(made.root)}", path.read_bytes())
    there = pack_samples.Small(
        f"s3://{BUCKET}/{prefix}", made.sources, made.characters, made.pairs,
        made.config | {"root": f"s3://{BUCKET}/{prefix}"},
    )  # fmt: skip

    here_summary, there_summary = pack(made.run(pack=EVERY)), pack(there.run(pack=EVERY))
    assert there_summary.problems == []
    assert there_summary.index_sha256 == here_summary.index_sha256

    local = {str(p.relative_to(made.root)): p.read_bytes() for p in (made.root / "shards").rglob("*") if p.is_file()}
    remote = {name.removeprefix(f"{prefix}/"): data for name, data in objects(s3, f"{prefix}/shards").items()}
    assert remote == local

    cut, same = Cut(there.root), Cut(made.root)
    assert [cut.sample(n) for n in range(len(cut))] == [same.sample(n) for n in range(len(same))]
    assert list(find_damaged(Tables(there.root))) == []
    again = pack(there.run(pack=EVERY))
    assert (again.written, again.known) == (0, there_summary.shards)

    shutil.rmtree(tmp_path / "cache")  # a new machine knows nothing, and reads all of it from there
    assert Cut(there.root).sample(0) == same.sample(0)
