"""Samples of real shards as clips: which frames, at which size, and what takes a broken one's place."""

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from manifests.media import read_mp4
from manifests.shards.cut import Cut
from manifests.shards.plan import Bucket
from model.framing import framing_of
from model.geometry import Geometry
from model.pacing import paced
from model.training.clips import Clip
from model.training.driving_video import DrivingAugment
from model.training.shard_clips import AllBrokenError, DrivenClip, ReferenceFrame, ShardClips, window_of
from model.training.shard_samples import CutPlace, ShardSamples
from tests.clips import stamp_of
from tests.model.training import small_cuts
from tests.model.training.small_cuts import SIZE, SmallCut

FULL = Geometry(48, 64, 9, 4, 8)  # the films' own size
VARIED = DrivingAugment(share=1.0)


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> SmallCut:
    return small_cuts.make(tmp_path_factory.mktemp("cut"))


def clips(
    root: Path,
    *kinds: str,
    size: Geometry = FULL,
    seed: int = 0,
    reference: ReferenceFrame = "first",
    driving: DrivingAugment | None = None,
) -> ShardClips:
    main, *aside = (ShardSamples([CutPlace(str(root))], kind, size) for kind in kinds)
    return ShardClips(main, aside[0] if aside else None, size, seed, reference, driving)


def about(some: ShardClips, number: int) -> dict:
    place = number % len(some)
    samples, place = (some.main, place) if place < some.mix.main else (some.aside, place - some.mix.main)
    return samples.read(place, ()).about


def near(one: np.ndarray, other: np.ndarray) -> bool:
    """Say whether pictures are alike but for what the film's coding lost."""
    return bool(np.abs(one.astype(float) - other.astype(float)).mean() < 4)


def stamps(frames: np.ndarray, inverted: bool = False) -> list[int]:
    return [stamp_of(255 - frame if inverted else frame) for frame in frames]


@pytest.mark.parametrize("number", [0, 5, 11, 12 + 3, 12 + 11, 24 + 3, 48 + 20])
def test_a_clip_shows_what_the_film_shows_at_the_backbones_instants(cut: SmallCut, number: int) -> None:
    """Target and driving in step: the stamp in each frame says which frame of the source it is."""
    some = clips(cut.root, "reverse", "forward")
    clip, told = some.clip(number), about(some, number)
    assert isinstance(clip, DrivenClip)
    forward = told["kind"] == "forward"
    source = cut.film(cut.source(told["pair"]))
    pseudo = cut.pseudo(told["pair"])
    at_the_rate = paced(np.arange(len(source)), 10.0, 8.0)
    shown = np.array(stamps(clip.driving if forward else clip.target)) - stamp_of(source[0])
    start = int(np.flatnonzero(at_the_rate == shown[0])[0])
    assert shown.tolist() == at_the_rate[start : start + 9].tolist()
    first, second = (pseudo, source) if forward else (source, pseudo)
    assert near(clip.target, first[shown])
    assert near(clip.driving, second[shown])


def test_windows_begin_everywhere_and_follow_from_the_number(cut: SmallCut) -> None:
    some, again = clips(cut.root, "reverse"), clips(cut.root, "reverse")
    films = {about(some, number)["pair"]: number for number in range(12)}
    long = next(number for pair, number in films.items() if cut.source(pair) % 2)  # 18 frames at 8 a second: ten places
    starts = Counter(stamps(some.clip(long + 12 * epoch).target[:1])[0] for epoch in range(60))
    assert len(starts) == 10
    for number in (0, 12, 24):
        assert np.array_equal(some.clip(number).target, again.clip(number).target)
    other = clips(cut.root, "reverse", seed=1)
    assert any(not np.array_equal(some.clip(n).target, other.clip(n).target) for n in range(12))


def test_the_reference_is_the_first_frame_or_another_of_the_source_and_forward_it_is_the_picture(cut: SmallCut) -> None:
    first, other = (clips(cut.root, "reverse", "forward", reference=which) for which in ("first", "other"))
    seen = set()
    for number in range(12):
        clip, elsewhere = first.clip(number), other.clip(number)
        assert np.array_equal(clip.reference, clip.target[0])
        assert np.array_equal(clip.target, elsewhere.target)
        assert stamps(elsewhere.reference[None])[0] not in stamps(elsewhere.target)
        source = cut.film(cut.source(about(first, number)["pair"]))
        assert near(elsewhere.reference, source[stamps(elsewhere.reference[None])[0] - stamp_of(source[0])])
        seen.add(stamps(elsewhere.reference[None])[0])
    assert len(seen) > 3
    pictures = [np.asarray(Image.open(path)) for path in sorted((cut.root.parent / "clips").glob("*.png"))]
    for some in (first, other):
        clip = some.clip(12)
        assert any(np.array_equal(clip.reference, picture) for picture in pictures)


def test_a_film_with_nothing_beside_the_window_gives_another_frame_of_it() -> None:
    size, rng = Geometry(16, 16, 9, 4, 8), np.random.default_rng(0)
    windows = [window_of(Bucket(64, 48, 9, 8.0), size, "other", rng) for _ in range(50)]
    assert all(window.shown.tolist() == list(range(9)) for window in windows)
    assert {window.reference for window in windows} == set(range(1, 9))


def test_the_prompt_names_who_is_seen_in_the_target(cut: SmallCut) -> None:
    some = clips(cut.root, "reverse", "forward")
    forward = [number for number in range(24) if about(some, number)["kind"] == "forward"]
    assert forward == list(range(12, 24))
    for number in range(24):
        told = about(some, number)
        assert some.clip(number).prompt == (told["prompt"] if number in forward else "")


def test_pictures_of_another_shape_are_shown_whole(cut: SmallCut) -> None:
    some, tall = clips(cut.root, "reverse"), clips(cut.root, "reverse", size=Geometry(64, 32, 9, 4, 8))
    wide, high = some.clip(3), tall.clip(3)
    assert high.target.shape == high.driving.shape == (9, 64, 32, 3)
    framing = framing_of(wide.target[0], 64, 32)
    assert np.array_equal(high.target[4], framing.fitted(wide.target[4]))
    assert (framing.width_px, framing.height_px) == (32, 24)


def test_the_driving_video_is_varied_with_one_draw_a_clip_and_the_target_never(cut: SmallCut) -> None:
    plain, varied = clips(cut.root, "reverse", "forward"), clips(cut.root, "reverse", "forward", driving=VARIED)
    for number in (0, 5, 13, 24, 48):
        a, b = plain.clip(number), varied.clip(number)
        assert np.array_equal(a.target, b.target)
        assert np.array_equal(a.reference, b.reference)
        assert not near(a.driving, b.driving)
        assert np.array_equal(b.driving, varied.clip(number).driving)
    epochs = [varied.clip(24 * epoch).driving for epoch in range(3)]
    assert not near(epochs[0], epochs[1])


def test_a_self_sample_is_a_clip_with_its_own_skeleton(cut: SmallCut) -> None:
    some, small = clips(cut.root, "self"), clips(cut.root, "self", size=SIZE)
    for number in range(4):
        clip, little = some.clip(number), small.clip(number)
        assert isinstance(clip, Clip)
        assert isinstance(little, Clip)
        source = cut.source(about(some, number)["source"]["id"])
        shown = np.array(stamps(clip.frames)) - stamp_of(cut.film(source)[0])
        assert near(clip.frames, cut.film(source)[shown])
        points = np.random.default_rng(source).random((small_cuts.FRAMES[source % 2], 1, 133, 3), np.float32)
        assert np.allclose(clip.skeleton, points[shown])
        assert np.allclose(little.skeleton[..., :2], points[shown][..., :2] / 4 + (0, 2), atol=1e-5)  # 64 px to 16
        assert clip.figure.all()


# what is damaged


def ruined(root: Path, kind: str, ending: str, number: int = 0) -> str:
    """Overwrite one file of a sample with noise; the tar's headers stay. Returns its key."""
    cut = Cut(root)
    line, packed = cut.place_of(next(n for n in range(len(cut)) if cut.place_of(n)[0].group.kind == kind) + number)
    offset, size = packed.members[ending]
    path = root / line.tar.address
    data = bytearray(path.read_bytes())
    data[offset : offset + size] = np.random.default_rng(0).bytes(size)
    path.write_bytes(data)
    return packed.key


@pytest.mark.parametrize(
    ("kinds", "ending"),
    [
        (("reverse",), "target.mp4"),
        (("reverse",), "driving.mp4"),
        (("reverse",), "json"),
        (("self",), "skeleton.npy"),
        (("forward",), "reference.png"),
    ],
)
def test_a_broken_sample_is_named_and_replaced_by_another_of_its_kind_always_the_same(
    cut: SmallCut, tmp_path: Path, kinds: tuple[str, ...], ending: str
) -> None:
    root = cut.copy(tmp_path)
    key = ruined(root, kinds[0], ending)
    some, whole = clips(root, *kinds), clips(cut.root, *kinds)
    place = next(n for n in range(len(whole)) if about(whole, n)["key"] == key)
    read = [some.read(number) for number in range(len(some))]
    assert [number for number, each in enumerate(read) if each.broken] == [place]
    (said,) = read[place].broken
    assert re.fullmatch(rf"main \d+ \({key}\): .*{ending}.*", said)
    again = clips(root, *kinds).read(place)
    assert again.broken == read[place].broken
    frames = [each.clip.frames if isinstance(each.clip, Clip) else each.clip.target for each in (read[place], again)]
    assert np.array_equal(*frames)


def test_a_film_of_another_length_than_its_shard_says_is_broken(cut: SmallCut, tmp_path: Path) -> None:
    """The tar's file is whole and can be decoded: only the index knows that frames are missing."""
    root = cut.copy(tmp_path)
    whole, some = Cut(root), clips(root, "self")
    short = next(n for n in range(len(whole)) if whole.place_of(n)[0].group.label == "self-64x48-14f-10fps")
    other = next(n for n in range(len(whole)) if whole.place_of(n)[0].group.label == "self-64x48-22f-10fps")
    film = whole.sample(short)["target.mp4"]
    line, packed = whole.place_of(other)
    offset, size = packed.members["target.mp4"]
    assert len(film) < size
    path = root / line.tar.address
    data = bytearray(path.read_bytes())
    data[offset : offset + size] = film + (size - len(film)).to_bytes(4, "big") + b"free" + bytes(size - len(film) - 8)
    path.write_bytes(data)
    (tmp_path / "film.mp4").write_bytes(Cut(root).sample(other)["target.mp4"])
    assert len(read_mp4(tmp_path / "film.mp4").frames) == 14
    (said,) = {name for number in range(4) for name in some.read(number).broken}
    assert said.endswith("target.mp4: has 14 frames, its shard says 22")


def test_a_missing_shard_costs_its_samples_and_no_others(cut: SmallCut, tmp_path: Path) -> None:
    root = cut.copy(tmp_path)
    lost = small_cuts.tars(root, "reverse")[0]
    held = {
        p.key for line in Cut(root).shards if line.tar.address.endswith(lost.name) for p in Cut(root).page(line).samples
    }
    lost.unlink()
    some, whole = clips(root, "reverse", "forward"), clips(cut.root, "reverse", "forward")
    for number in range(24):
        read = some.read(number)
        assert bool(read.broken) == (about(whole, number)["key"] in held)
        assert all(f"{lost.name} is missing" in said for said in read.broken)


def test_where_everything_is_missing_it_ends_with_a_sentence(cut: SmallCut, tmp_path: Path) -> None:
    root = cut.copy(tmp_path)
    for path in small_cuts.tars(root):
        path.unlink()
    with pytest.raises(
        AllBrokenError, match="a sample is broken, and so are 11 others that were tried instead"
    ) as error:
        clips(root, "reverse").read(0)
    assert len(str(error.value).splitlines()) == 1
