"""Shards as a source of batches: encoded, decoded ahead or kept, a number gives one and the same sample."""

import itertools
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from manifests.shards.cut import Cut
from model.composite import left, right
from model.geometry import Geometry
from model.training import order
from model.training.broken import JUDGED_FROM, Tally, TooManyBrokenError, judged
from model.training.driving_video import DrivingAugment
from model.training.examples import Augment, pixels
from model.training.parallel import Ranks
from model.training.shard_clips import DrivenClip, ShardClips
from model.training.shard_readers import ReaderDiedError, deaths_told
from model.training.shard_samples import CutPlace, ShardSamples
from model.training.shard_source import ShardSource, ShelvedSource, driven_example
from model.training.strategy import Batch
from tests.model.training import small_cuts
from tests.model.training.small_cuts import SIZE, SmallCut
from tests.model.training.small_training import backbone

ALONE = Ranks(0, 1, torch.device("cpu"))
WAN = backbone()


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> SmallCut:
    return small_cuts.make(tmp_path_factory.mktemp("cut"))


def clips(root: Path, *kinds: str) -> ShardClips:
    main, *aside = (ShardSamples([CutPlace(str(root))], kind, SIZE) for kind in kinds)
    return ShardClips(main, aside[0] if aside else None, SIZE, 3, "first", DrivingAugment())


def source(root: Path, workers: int = 0) -> ShardSource:
    return ShardSource(clips(root, "reverse", "forward"), WAN, SIZE, Augment(), forward_share=0.25, workers=workers)


def shelved(root: Path, folder: Path, variants: int = 2) -> ShelvedSource:
    made = ShelvedSource(
        clips(root, "reverse", "forward"), WAN, SIZE, Augment(), folder, variants=variants, forward_share=0.25
    )
    assert sum(made.shelf.fill(made.make)) == 24 * variants
    return made


def same(a: Batch, b: Batch) -> bool:
    tensors = all(torch.equal(getattr(a, name), getattr(b, name)) for name in ("target", "cond", "mask", "loss_mask"))
    return tensors and list(a.prompts) == list(b.prompts)


def test_a_shelf_gives_what_each_step_would_encode_for_its_first_epochs_and_then_again(
    cut: SmallCut, tmp_path: Path
) -> None:
    fresh, kept = source(cut.root), shelved(cut.root, tmp_path)
    numbers = [0, 13, 23, 24, 40, 47]
    assert same(fresh.read(numbers), kept.read(numbers))
    assert same(kept.read([48 + n for n in numbers]), kept.read(numbers))
    assert not same(fresh.read([48]), fresh.read([0]))
    assert fresh.mix == kept.mix
    assert fresh.mix[:3] == (12, 12, 0.25)
    assert sum(fresh.mix.shards) == sum(fresh.mix.aside_shards) == 12


def test_a_sample_does_not_depend_on_its_neighbours(cut: SmallCut) -> None:
    """So a batch is the same on any number of ranks, and in any micro-batch."""
    some = source(cut.root)
    place = order.indices(0, 2, 8, [(0, some.mix)])
    whole = some.read(place.indices)
    for world, micro in ((2, 4), (3, 1), (5, 2)):
        shares = (order.chunks(Ranks(rank, world, torch.device("cpu")).share(8), micro) for rank in range(world))
        for chunk in itertools.chain.from_iterable(shares):
            part = some.read([place.indices[i] for i in chunk])
            assert torch.equal(part.target, whole.target[chunk.start : chunk.stop])
            assert torch.equal(part.cond, whole.cond[chunk.start : chunk.stop])
            assert list(part.prompts) == list(whole.prompts)[chunk.start : chunk.stop]


def test_a_driven_example_is_eq_2_with_the_prefix_blanked_and_the_target_whole() -> None:
    rng = np.random.default_rng(0)
    target, driving = rng.integers(0, 256, (2, 9, 16, 16, 3), np.uint8)
    clip = DrivenClip(target, driving, rng.integers(0, 256, (16, 16, 3), np.uint8), "a figure")
    made = driven_example(clip, SIZE, Augment(drop_driving=0, drop_reference=0), rng)
    assert torch.equal(left(made.given)[:, :, 0], pixels(clip.reference[None])[:, :, 0])
    assert (left(made.given)[:, :, 1:] == 0).all()
    for video in (made.given, made.wanted):
        assert (right(video)[:, :, :4] == 0).all()
        assert torch.equal(right(video)[:, :, 4:], pixels(driving)[:, :, 4:])
    assert torch.equal(left(made.wanted), pixels(target))
    undriven = driven_example(clip, SIZE, Augment(drop_driving=1, drop_reference=0), rng)
    assert (right(undriven.given) == 0).all()
    unseen = driven_example(clip, SIZE, Augment(drop_driving=0, drop_reference=1), rng)
    assert (left(unseen.given) == 0).all()
    assert torch.equal(left(unseen.wanted), pixels(target))


def test_digests_change_with_all_that_shapes_a_sample(cut: SmallCut, tmp_path: Path) -> None:
    samples = ShardSamples([CutPlace(str(cut.root))], "reverse", SIZE)
    wide = Geometry(16, 32, 9, 4, 8)

    def of(size: Geometry = SIZE, augment: Augment | None = None, share: float = 0.0, **fields: object) -> str:
        made = ShardClips(samples, samples if share else None, size, **fields)
        return ShardSource(made, WAN, size, augment or Augment(), forward_share=share).digest

    digests = [
        of(), of(seed=1), of(reference_frame="other"), of(driving=DrivingAugment()), of(driving=DrivingAugment(0.1)),
        of(size=wide), of(augment=Augment(blank="black")), of(share=0.1), of(share=0.2),
    ]  # fmt: skip
    assert len(set(digests)) == len(digests)
    assert of() == of()
    one, two = (ShelvedSource(clips(cut.root, "self"), WAN, SIZE, Augment(), tmp_path, variants=n) for n in (1, 2))
    assert one.digest != two.digest
    assert one.shelf.folder != two.shelf.folder


def test_broken_samples_are_counted_and_named_alike_with_and_without_a_shelf(cut: SmallCut, tmp_path: Path) -> None:
    root = cut.copy(tmp_path / "copy")
    for film in ("reverse", "forward"):
        small_cuts.tars(root, film)[0].unlink()
    lines = []
    for some in (source(root), shelved_broken(root, tmp_path / "shelf")):
        some.tally.limit = 1.0
        some.read(range(12))
        lines.append(judged(some, ALONE))
        some.read(range(12, 24))
        lines.append(judged(some, ALONE))
    names = [{key: value for key, value in line.items() if key != "waited_s"} for line in lines]
    assert names[:2] == names[2:]
    for line in names[:2]:
        assert line["broken"] == len(line["broken_samples"]) > 0
        assert all("00000" in name and "is missing; pack again" in name for name in line["broken_samples"])
    assert judged(some, ALONE)["broken"] == 0


def shelved_broken(root: Path, folder: Path) -> ShelvedSource:
    """Fill a shelf although many samples are broken."""
    made = ShelvedSource(
        clips(root, "reverse", "forward"),
        WAN,
        SIZE,
        Augment(),
        folder,
        variants=1,
        forward_share=0.25,
        broken_limit=1.0,
    )
    list(made.shelf.fill(made.make))
    return made


def test_more_broken_samples_than_the_limit_end_it_once_a_hundred_were_read() -> None:
    tally = Tally(0.01)
    tally.judge(50, 50, ["main 7 (par_7): target.mp4: is damaged"])  # too few to judge
    with pytest.raises(TooManyBrokenError) as error:
        tally.judge(JUDGED_FROM - 50, 0, [])
    assert str(error.value).startswith(
        "50 of the first 100 samples that were read are broken, and data.broken_limit is 0.01: main 7 (par_7): target"
    )
    assert len(str(error.value).splitlines()) == 1
    patient = Tally(0.01)
    for _ in range(300):
        patient.judge(100, 1, ["one"])
    with pytest.raises(TooManyBrokenError, match="of the first 30100 samples"):
        patient.judge(100, 2, ["one", "another"])


@pytest.mark.train
def test_filling_a_shelf_ends_above_the_limit_too(cut: SmallCut, tmp_path: Path) -> None:
    root = cut.copy(tmp_path / "copy")
    small_cuts.tars(root, "reverse")[0].unlink()
    made = ShelvedSource(clips(root, "reverse"), WAN, SIZE, Augment(), tmp_path / "shelf", variants=20)
    with pytest.raises(TooManyBrokenError, match="samples that were read are broken"):
        list(made.shelf.fill(made.make))


def test_long_names_of_a_step_are_cut_and_the_count_is_not() -> None:
    class Counted:
        tally = Tally(1.0)

    Counted.tally.add(200, [f"main {n}: {'x' * 100}" for n in range(200)])
    said = judged(Counted(), ALONE)
    assert said["broken"] == 200
    assert 50 < len(said["broken_samples"]) < 100


@pytest.mark.train
@pytest.mark.timeout(600)
def test_processes_that_decode_ahead_give_the_same_batches_and_a_dead_one_is_named(
    cut: SmallCut, tmp_path: Path
) -> None:
    root = cut.copy(tmp_path)
    small_cuts.tars(root, "forward")[0].unlink()
    alone, ahead = source(root), source(root, workers=2)
    alone.tally.limit = ahead.tally.limit = 1.0
    steps = list(order.expected(0, range(100, 130), 4, [(0, alone.mix)], 0, order.chunks(range(4), 2)))
    ahead.expect(iter(steps))
    for step, numbers in enumerate(steps[:40]):
        if step == 5:  # as a terminal and a scheduler tell all processes of a training
            for worker in ahead._ahead._loaded._workers:
                os.kill(worker.pid, signal.SIGINT)
                os.kill(worker.pid, signal.SIGTERM)
        if step == 7:
            assert same(ahead.read([5, 3]), alone.read([5, 3]))  # out of turn, as a validation would be
        assert same(ahead.read(numbers), alone.read(numbers))
    assert ahead.tally.taken().broken == alone.tally.taken().broken != []
    assert ahead._ahead is not None
    [first, _] = ahead._ahead._loaded._workers

    @deaths_told()
    def go_on() -> None:
        os.kill(first.pid, signal.SIGKILL)
        list(map(ahead.read, steps[40:]))

    with pytest.raises(ReaderDiedError, match=r"^a process that decodes samples ahead died.*lower data.workers"):
        go_on()
    ahead.expect(iter(()))


@pytest.mark.train
@pytest.mark.timeout(600)
def test_a_cut_that_is_packed_anew_under_processes_that_decode_is_said_in_their_words(
    cut: SmallCut, tmp_path: Path
) -> None:
    root = cut.copy(tmp_path)
    ahead = source(root, workers=1)
    index = root / "shards/main/index.json"
    index.write_bytes(index.read_bytes().replace(b'"main"', b'"main" '))
    assert Cut(root).digest != ahead.clips.main.indexes[0]
    ahead.expect(iter([[0], [1]]))
    with pytest.raises(ReaderDiedError, match=r"the cut main under .* was packed anew while it is trained on") as error:
        ahead.read([0])
    assert "Traceback" not in str(error.value)
