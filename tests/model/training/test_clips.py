"""What theatre gives is what training is handed, byte for byte, also from the shelf."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from manifests.theatre.cast import describe, draw
from manifests.theatre.scene import render
from model.geometry import Geometry
from model.training.clips import Clip, KeptClips
from model.training.shelf import ShelfError
from model.training.theatre_clips import TheatreClips, World
from tests.model.training.small_clips import Walks

SIZE = Geometry(32, 32, 9, 4, 8)
WORLDS = (World("easy", 2), World("turns", 2, creature_share=1.0), World("two", 1))
THEATRE = TheatreClips(SIZE, WORLDS, "train", seed=3)
PARTS = ("frames", "skeleton", "figure")


def same(one: Clip, two: Clip) -> bool:
    return one.prompt == two.prompt and all(np.array_equal(getattr(one, n), getattr(two, n)) for n in PARTS)


def test_a_clip_is_what_the_theatre_renders() -> None:
    clip, take = THEATRE.clip(4), draw(3, 0, "train", "two")
    seen = render(take, 9, 8, 32, 32, lead_in_frames=4)
    assert np.array_equal(clip.frames, seen.frames)
    assert np.array_equal(clip.skeleton, seen.skeleton)
    assert np.array_equal(clip.figure, seen.masks[:, 0] | seen.masks[:, 1])
    assert clip.prompt == describe(take)
    assert clip.frames.dtype == np.uint8
    assert clip.skeleton.dtype == np.float32
    assert 0.02 < clip.figure.mean() < 0.9


def test_people_who_are_not_there_are_unseen() -> None:
    alone = THEATRE.clip(0).skeleton
    assert alone.shape == (9, 2, 133, 3)
    assert not alone[:, 1].any()
    assert (alone[:, 0, :, 2] > 0).any()


def test_numbers_run_through_the_worlds_in_order() -> None:
    assert len(THEATRE) == 5
    expected = [draw(3, n, "train", "easy") for n in (0, 1)]
    expected += [draw(3, n, "train", "turns", creature_share=1.0) for n in (0, 1)]
    expected += [draw(3, 0, "train", "two")]
    assert [THEATRE.take(n) for n in range(5)] == expected
    with pytest.raises(IndexError, match="there are 5 clips"):
        THEATRE.take(5)


def test_the_same_seed_gives_the_same_bytes_and_another_one_others() -> None:
    again = TheatreClips(SIZE, WORLDS, "train", seed=3)
    assert same(THEATRE.clip(1), again.clip(1))
    assert not same(THEATRE.clip(1), replace(THEATRE, seed=4).clip(1))
    assert not same(THEATRE.clip(1), replace(THEATRE, split="held_out").clip(1))


def others() -> Iterator[TheatreClips]:
    """Return clips that differ from `THEATRE` in one thing each."""
    for size in ({"height_px": 48}, {"width_px": 48}, {"frames": 13}, {"prefix_frames": 0}, {"fps": 9}):
        yield replace(THEATRE, geometry=replace(SIZE, **size))
    yield replace(THEATRE, split="held_out")
    yield replace(THEATRE, seed=4)
    yield replace(THEATRE, people=3)
    for worlds in (WORLDS[:2], WORLDS[::-1], (replace(WORLDS[0], count=3), *WORLDS[1:])):
        yield replace(THEATRE, worlds=worlds)
    yield replace(THEATRE, worlds=(replace(WORLDS[0], creature_share=0.5), *WORLDS[1:]))


def test_the_digest_tells_apart_all_that_clips_depend_on() -> None:
    digests = [clips.digest for clips in (THEATRE, *others())]
    assert len(set(digests)) == len(digests) == 13
    assert replace(THEATRE).digest == THEATRE.digest


def test_kept_clips_are_those_of_their_source(tmp_path: Path) -> None:
    kept = KeptClips(THEATRE, tmp_path, shard=2)
    assert (len(kept), kept.digest) == (5, THEATRE.digest)
    with pytest.raises(ShelfError, match="fill the shelf first"):
        kept.clip(0)
    assert list(kept.shelf.fill(kept.make)) == [2, 2, 1]
    afresh = KeptClips(THEATRE, tmp_path, shard=2)
    assert not afresh.shelf.missing()
    for number in (4, 0, 3):
        assert same(afresh.clip(number), THEATRE.clip(number))
        assert afresh.clip(number).figure.dtype == bool


def test_clips_of_several_sources_lie_in_one_folder_side_by_side(tmp_path: Path) -> None:
    for name in ("walks", "runs"):
        kept = KeptClips(Walks(2, name=name), tmp_path)
        assert list(kept.shelf.fill(kept.make)) == [2]
    for name in ("walks", "runs"):
        assert same(KeptClips(Walks(2, name=name), tmp_path).clip(1), Walks(2, name=name).clip(1))
