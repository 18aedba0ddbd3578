"""Cuts read back by number, and cuts that do not match their index."""

import json

import pytest

from manifests.files import files_of
from manifests.shards.cut import Cut
from manifests.shards.index import index_bytes, line_of, note_reading, page_from, publish_index
from manifests.shards.plan import Bucket, Group
from manifests.shards.tar import ShardError
from manifests.shards.writing import adopted, without, write_shard

GROUP = Group("reverse", Bucket(64, 48, 5, 10.0), "recipe")


def sample(name):
    """Return key, row, digest and files of a sample."""
    return name, f"row of {name}", f"digest of {name}", [("target.mp4", name.encode() * 300), ("json", b"{}")]


@pytest.fixture
def root(tmp_path):
    """A cut of two shards with three samples."""
    files = files_of(tmp_path)
    lines = [
        write_shard(files, "shards/main", GROUP, number, [sample(name) for name in names])
        for number, names in enumerate((["a", "b"], ["c"]))
    ]
    publish_index(files, "main", index_bytes("main", lines, {"pack": 1}))
    return tmp_path


def tar_of(root, number=0):
    return sorted((root / "shards/main").glob("*.tar"))[number]


def rewritten(path, change):
    told = json.loads(path.read_text())
    change(told)
    path.write_text(json.dumps(told))


def test_samples_are_read_by_number_and_by_shard(root):
    cut = Cut(root)
    assert len(cut) == 3
    read = [cut.sample(number) for number in range(3)]
    assert [each["__key__"] for each in read] == [b"a", b"b", b"c"]
    assert [each["target.mp4"] for each in read] == [b"a" * 300, b"b" * 300, b"c" * 300]
    assert [each for line in cut.shards for each in cut.samples(line)] == read
    for line in cut.shards:
        cut.verify(line)
    with pytest.raises(ShardError, match="has 3 samples, there is none with the number 3"):
        cut.sample(3)


def test_the_digest_of_a_cut_is_that_of_its_index_and_a_training_notes_it(root, tmp_path):
    cut = Cut(root)
    assert sorted(path.stem for path in (root / "shards/main/indexes").iterdir()) == [cut.digest[:32]]
    for _ in range(2):
        note_reading(tmp_path / "training", [cut.digest])
    note_reading(tmp_path / "training", ["another"])
    assert json.loads((tmp_path / "training/shards_read.json").read_text()) == {
        "indexes": sorted([cut.digest, "another"])
    }


def test_without_an_index_there_is_no_cut(tmp_path):
    with pytest.raises(ShardError, match=r"there is no shards/main/index.json under .*`bodydouble pack RUN.yaml`"):
        Cut(tmp_path)
    with pytest.raises(ShardError, match=r"'\.\./\.\./etc' is no name of a cut"):
        Cut(tmp_path, "../../etc")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda told: told.update(samples=9), "says 9 samples, its shards add up to 3"),
        (lambda told: told.update(format=99), "is of format 99, wanted 1"),
        (lambda told: told.pop("shards"), "is no index of shards"),
        (lambda told: told["shards"][0]["tar"].update(name="../../x.tar"), "which does not lie beside it"),
        (lambda told: told["shards"][0]["tar"].update(bytes=5), r"has \d+ bytes, index.json says 5|does not match"),
        (lambda told: told["shards"][0]["page"].update(sha256="0" * 64), "has changed since index.json was written"),
        (lambda told: told["shards"][0].update(samples=1) or told.update(samples=2), "samples is 2, the index says 1"),
        (lambda told: told["shards"][0].update(key="k"), "does not match index.json: key is"),
    ],
)
def test_an_index_that_does_not_match_is_refused_in_one_sentence(root, change, said):
    rewritten(root / "shards/main/index.json", change)
    with pytest.raises(ShardError, match=said) as error:
        Cut(root).sample(0)
    assert "\n" not in str(error.value)


def test_a_tar_that_is_gone_cut_off_longer_or_another_is_refused(root):
    path = tar_of(root)
    data = path.read_bytes()
    path.write_bytes(data[:-700])
    with pytest.raises(ShardError, match=r"ends too early: \d+ of \d+ bytes"):
        Cut(root).sample(0)
    path.write_bytes(data + b"x")
    with pytest.raises(ShardError, match=r"has \d+ bytes, index.json says"):
        Cut(root).sample(0)
    other = data.replace(b"b.target.mp4", b"z.target.mp4")
    path.write_bytes(other)
    with pytest.raises(ShardError, match="is damaged: there is no tar header"):  # its checksum is of another name
        Cut(root).sample(0)
    path.unlink()
    with pytest.raises(ShardError, match="is missing; pack again"):
        Cut(root).sample(0)


def test_verify_finds_any_changed_byte_of_a_tar(root):
    path = tar_of(root)
    data = path.read_bytes()
    line = Cut(root).shards[0]
    for place in range(0, len(data), 97):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        with pytest.raises(ShardError):
            Cut(root).verify(line)
    path.write_bytes(data)
    Cut(root).verify(line)


def test_a_page_that_misplaces_a_member_is_refused(root):
    """Its digests fit: somebody wrote page and index anew, and both lie."""
    files = files_of(root)
    page = page_from(next(iter((root / "shards/main").glob("reverse*00000*.json"))).read_bytes(), "page")
    page.samples[0].members["json"] = (0, 2)
    (line, other) = Cut(root).shards
    files.write(line.page.address, page.to_bytes())
    publish_index(files, "main", index_bytes("main", [line_of(page, "shards/main"), other], {}))
    with pytest.raises(ShardError, match=r"does not match its tar: it misplaces a.json"):
        Cut(root).sample(0)


def test_a_shard_without_a_sample_has_the_bytes_of_one_that_never_held_it(root, tmp_path):
    files = files_of(root)
    line = Cut(root).shards[0]
    page = page_from(files.read(line.page.address), "page")
    with open(root / line.tar.address, "rb") as tar:
        left = without(files, "shards/main", page, tar, {"row of a"})
        assert without(files, "shards/main", page, tar, {"row of a", "row of b"}) is None
    alone = write_shard(files_of(tmp_path / "alone"), "shards/main", GROUP, 0, [sample("b")])
    assert left == alone
    assert (root / left.tar.address).read_bytes() == (tmp_path / "alone" / alone.tar.address).read_bytes()
    assert (root / left.page.address).read_bytes() == (tmp_path / "alone" / alone.page.address).read_bytes()


def test_whole_files_that_nobody_wrote_down_are_adopted_and_damaged_ones_are_not(root):
    files, line = files_of(root), Cut(root).shards[0]
    assert adopted(files, "shards/main", GROUP, 0, line.key) == line
    assert adopted(files, "shards/main", GROUP, 0, "0" * 32) is None
    path = tar_of(root)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert adopted(files, "shards/main", GROUP, 0, line.key) is None
