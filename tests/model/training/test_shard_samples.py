"""Which samples of a cut a training takes: by kind, by length, and by what is held out."""

import multiprocessing
import pickle
from pathlib import Path

import pytest

from manifests.files import files_of
from manifests.shards.cut import Cut
from manifests.shards.index import index_bytes, publish_index
from manifests.shards.plan import places_of
from manifests.shards.tar import ShardError
from model.geometry import Geometry
from model.training.shard_samples import BrokenSample, CutPlace, ShardSamples, nothing_to_learn
from tests.model.training import small_cuts
from tests.model.training.small_cuts import SIZE, SmallCut
from tests.s3_server import BUCKET, put_object, s3_server, use

LONG = Geometry(16, 16, 17, 4, 8)


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> SmallCut:
    return small_cuts.make(tmp_path_factory.mktemp("cut"), sources=6, characters=2)


def samples(
    root: Path, kind: str = "reverse", part: str = "all", share: float = 0.0, size: Geometry = SIZE
) -> ShardSamples:
    return ShardSamples([CutPlace(str(root))], kind, size, part, share)


def keys(some: ShardSamples) -> list[str]:
    return [some.read(number, ()).about["key"] for number in range(len(some))]


def sources(some: ShardSamples) -> set[str]:
    return {some.read(number, ()).about["source"]["id"] for number in range(len(some))}


def test_every_sample_of_a_kind_is_there_once(cut: SmallCut) -> None:
    whole = Cut(cut.root)
    for kind in small_cuts.KINDS:
        packed = [p.key for line in whole.shards for p in whole.page(line).samples if line.group.kind == kind]
        taken = keys(samples(cut.root, kind))
        assert sorted(taken) == sorted(packed)
        assert len(taken) == len(set(taken)) == (6 if kind == "self" else 12)


def test_only_the_files_that_are_asked_for_are_read(cut: SmallCut) -> None:
    assert set(samples(cut.root).read(0, ("target.mp4",)).files) == {"target.mp4"}


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.9, 1.0])
def test_a_source_is_held_out_by_its_own_id_in_every_kind(cut: SmallCut, share: float) -> None:
    expected = {source for source in cut.small.sources if int(places_of([source])[0]) < share * 2**64}
    for kind in small_cuts.KINDS:
        assert sources(samples(cut.root, kind, "held_out", share)) == expected
        assert sources(samples(cut.root, kind, "train", share)) == set(cut.small.sources) - expected


def test_the_border_is_found_where_a_shard_is_missing_too(cut: SmallCut, tmp_path: Path) -> None:
    for number, path in enumerate(small_cuts.tars(cut.root, "reverse")):
        root = cut.copy(tmp_path / str(number))
        (root / "shards/main" / path.name).unlink()
        for share in (0.2, 0.5, 0.9):
            left, right = (samples(root, "reverse", part, share) for part in ("held_out", "train"))
            assert len(left) + len(right) == 12
            seen = [set(), set()]
            for found, some in zip(seen, (left, right), strict=True):
                for sample in range(len(some)):
                    try:
                        found.add(some.read(sample, ()).about["source"]["id"])
                    except BrokenSample:
                        continue
            assert not seen[0] & seen[1]


def test_what_is_too_short_is_left_out_by_name_and_count(cut: SmallCut) -> None:
    some = samples(cut.root, size=LONG)
    assert some.left_out == [
        "6 samples reverse-64x48-14f-10fps of main: 14 frames at 10 a second are 12 at 8, wanted 17"
    ]
    assert len(some) == 6
    none = samples(cut.root, size=Geometry(16, 16, 41, 4, 8))
    assert len(none) == 0
    said = str(nothing_to_learn(none, "reverse", "pack longer ones"))
    assert "no reverse sample that can be used; left out are 6 samples reverse-64x48-14f-10fps of main" in said
    assert len(said.splitlines()) == 1


def test_several_cuts_are_one_and_their_place_does_not_matter(cut: SmallCut, tmp_path: Path) -> None:
    one, copy = cut.root, cut.copy(tmp_path)
    both = ShardSamples([CutPlace(str(one)), CutPlace(str(copy))], "self", SIZE)
    assert keys(both) == keys(samples(one, "self")) * 2
    assert samples(copy).digest == samples(one).digest
    digests = {
        samples(one, *rest).digest
        for rest in (("reverse",), ("self",), ("self", "train", 0.5), ("self", "held_out", 0.5), ("self", "train", 0.2))
    }
    assert len(digests) == 5
    assert samples(one, size=LONG).digest != samples(one).digest


def _count(some: ShardSamples, answers: "multiprocessing.Queue[list[str]]") -> None:
    answers.put(keys(some))


def test_samples_travel_to_another_process(cut: SmallCut) -> None:
    some, spawn = samples(cut.root), multiprocessing.get_context("spawn")
    answers = spawn.Queue()
    process = spawn.Process(target=_count, args=(some, answers))
    process.start()
    assert answers.get(timeout=60) == keys(some)
    process.join()


def test_a_cut_that_was_packed_anew_is_not_taken_for_the_one_that_was_opened(cut: SmallCut, tmp_path: Path) -> None:
    root = cut.copy(tmp_path)
    there = pickle.loads(pickle.dumps(samples(root)))  # noqa: S301 - as a process of our own does
    publish_index(files_of(root), "main", index_bytes("main", Cut(root).shards[1:], {}))
    with pytest.raises(ShardError, match=r"the cut main under .* was packed anew while it is trained on"):
        there.read(0, ())


def test_a_sample_that_cannot_be_read_is_named(cut: SmallCut, tmp_path: Path) -> None:
    root = cut.copy(tmp_path)
    some = samples(root)
    path = small_cuts.tars(root, "reverse")[0]
    path.unlink()
    with pytest.raises(
        BrokenSample, match=r"^main \d+: .*reverse-64x48-14f-10fps.*\.tar is missing; pack again"
    ) as error:
        some.read(0, ())
    assert "\n" not in str(error.value)
    assert some.read(len(some) - 1, ()).about["kind"] == "reverse"
    with pytest.raises(BrokenSample, match=r"\(.*\): it has no driving.mp4"):
        samples(cut.root, "self").read(0, ("driving.mp4",))


@pytest.mark.train
def test_a_root_on_s3_gives_the_same_samples_and_a_shard_is_fetched_once(
    cut: SmallCut, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BODYDOUBLE_CACHE", str(tmp_path / "cache"))
    with s3_server() as endpoint:
        use(monkeypatch, endpoint)
        for path in (cut.root / "shards").rglob("*"):
            if path.is_file():
                put_object(endpoint, f"mine/{path.relative_to(cut.root)}", path.read_bytes())
        here = samples(cut.root, "reverse", "train", 0.3)
        there = ShardSamples([CutPlace(f"s3://{BUCKET}/mine")], "reverse", SIZE, "train", 0.3)
        assert there.digest == here.digest
        wanted = ("target.mp4", "driving.mp4")
        assert [there.read(n, wanted) for n in range(len(there))] == [here.read(n, wanted) for n in range(len(here))]
        kept = {path.stem for path in (tmp_path / "cache").rglob("*.tar")}
        assert kept <= {line.tar.sha256 for line in Cut(cut.root).shards}
        assert len(kept) == len(small_cuts.tars(cut.root, "reverse"))
