"""The adapter `theatre` on figures whose points are known, as a clip and through the measures."""

from pathlib import Path

import numpy as np
import pytest

from model.skeleton import BODY, Pixels
from stages.skeleton import Skeleton, SkeletonConfig
from stages.skeleton_theatre import TheatrePose

pytest.importorskip("mannequin", reason="the figures of theatre are not installed")
from manifests.theatre.cast import draw
from manifests.theatre.scene import render

CONFIG = SkeletonConfig(adapter="theatre", min_person_px=0, min_person_share=0.0, tile_share=0.0)


class Film:
    def __init__(self, frames: Pixels) -> None:
        self.frames, self.fps = frames, 12.0

    def chunks(self, size: int = 16):
        yield from (self.frames[i : i + size] for i in range(0, len(self.frames), size))


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize(("width", "height"), [(64, 64), (128, 128), (96, 64)])
def test_a_figure_that_it_has_never_seen_is_found_where_it_is(number: int, width: int, height: int) -> None:
    seen = render(draw(9, number, "held_out", "easy"), 8, 12, height, width)
    (row,) = Skeleton(CONFIG)([{"source": Film(seen.frames)}])
    assert row["people"] == 1
    found, truth = row["skeleton"][:, 0, BODY], seen.skeleton[:, 0, BODY]
    both = (found[..., 2] > 0.3) & (truth[..., 2] > 0)
    apart_px = np.linalg.norm((found - truth)[..., :2], axis=-1)[both]
    assert both.sum() > 0.6 * (truth[..., 2] > 0).sum()
    assert np.median(apart_px) < 0.045 * height


def test_nobody_is_found_in_a_wall() -> None:
    wall = np.full((3, 64, 64, 3), 128, np.uint8)
    assert [len(boxes) for boxes in TheatrePose(CONFIG).people(wall)] == [0, 0, 0]
    assert TheatrePose(CONFIG).keypoints(wall, [{7: np.array([0, 0, 63, 63], np.float32)}] * 3) == [{}, {}, {}]


def test_its_weights_are_in_its_digests() -> None:
    (digest,) = Skeleton.digests(CONFIG).items()
    assert digest[0] == Path(TheatrePose.weights(CONFIG)[0]).name
    assert len(digest[1]) == 64
