"""The sheets show what was asked for, where it was asked for."""

import numpy as np
import torch
from torch import Tensor

from model.animate import animate
from model.composite import right
from model.geometry import Geometry
from model.training.examples import Augment, example, pixels
from model.training.samples import samples, sheet, to_uint8
from tests.model.training.small_clips import SIZE, Walks
from tests.model.training.small_training import backbone

PLAIN = Augment(bone_share=0.0, drop_driving=0.0, drop_reference=0.0)


def test_a_sample_is_the_clip_driven_by_itself() -> None:
    wan, clips = backbone(), Walks(4)
    driving, got, truth = samples(wan, clips, SIZE, [3, 1], steps=2)
    for row, number in enumerate((3, 1)):
        clip = clips.clip(number)
        assert np.array_equal(to_uint8(truth[row]), clip.frames)
        shown = right(example(clip, SIZE, PLAIN, np.random.default_rng(0)).given)
        assert torch.equal(driving[row : row + 1], shown)
        assert (driving[row, :, :4] == 0).all()
        alone = animate(wan, pixels(clip.frames[:1])[:, :, 0], shown, [clip.prompt], seeds=[number], steps=2)
        assert torch.allclose(got[row : row + 1], alone, atol=1e-4)
    again = samples(wan, clips, SIZE, [3, 1], steps=2)
    assert torch.equal(again[1], got)


def test_nothing_looks_as_it_did_in_training() -> None:
    wan, clips = backbone(), Walks(1)
    grey, black = (samples(wan, clips, SIZE, [0], steps=1, blank=blank) for blank in ("grey", "black"))
    assert (grey[0][:, :, :4] == 0).all()
    assert (black[0][:, :, :4] == -1).all()
    assert torch.equal(grey[2], black[2])
    assert not torch.equal(grey[1], black[1])


def test_floats_become_the_nearest_levels_and_stay_within_a_byte() -> None:
    video = torch.tensor([-3.0, -1.0, -1.0 + 0.4 / 127.5, -1.0 + 0.6 / 127.5, 0.999, 1.0, 7.0]).view(1, 7, 1, 1)
    assert to_uint8(video.expand(3, 7, 1, 1))[:, 0, 0, 2].tolist() == [0, 0, 0, 1, 255, 255, 255]


def lines(count: int, blocks: int, size: Geometry) -> list[Tensor]:
    """Return `count` lines of videos whose pixels say which line, block and frame they are of."""
    video = torch.empty(blocks, 3, size.frames, size.height_px, size.width_px)
    made = []
    for line in range(count):
        for block in range(blocks):
            for frame in range(size.frames):
                said = torch.tensor([40.0 * line, 60.0 * block, 10.0 * frame]) / 127.5 - 1
                video[block, :, frame] = said.view(3, 1, 1)
        made.append(video.clone())
    return made


def test_each_frame_lies_where_its_block_line_and_time_say() -> None:
    size = Geometry(16, 32, 9, 4, 8)
    picture = np.asarray(sheet(lines(3, 2, size), size, tiles=5, scale=1))
    assert picture.shape[1] == 5 * (32 + 2)
    height = 3 * (16 + 2) + 6
    assert picture.shape[0] == 2 * height
    for block in range(2):
        for line in range(3):
            for column, frame in enumerate((0, 2, 4, 6, 8)):
                top, start = block * height + line * 18, column * 34
                tile = picture[top : top + 16, start : start + 32]
                assert (tile == (40 * line, 60 * block, 10 * frame)).all()


def test_a_white_line_stands_before_the_first_frame_after_the_prefix() -> None:
    size = Geometry(16, 32, 9, 4, 8)
    picture = np.asarray(sheet(lines(1, 1, size), size, tiles=5, scale=1))
    white = (picture[:16] == 255).all(axis=(0, 2))
    assert np.flatnonzero(white).tolist() == [66, 67]  # column 2 shows frame 4 and begins at pixel 68
    bare = np.asarray(sheet(lines(1, 1, size), Geometry(16, 32, 9, 0, 8), tiles=5, scale=1))
    assert not (bare == 255).all(axis=2).any()


def test_every_pixel_becomes_a_square() -> None:
    small, large = (sheet(lines(1, 1, SIZE), SIZE, tiles=3, scale=scale) for scale in (1, 3))
    assert np.array_equal(np.asarray(small).repeat(3, 0).repeat(3, 1), np.asarray(large))
