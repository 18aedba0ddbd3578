from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from manifests.theatre.scene import HIDDEN, SEEN, Rendered, Take, render
from manifests.theatre.sheet import BONES, save, sheet

TAKE = Take("easy", ("human-012", "human-044"), ("wave-007", "bow-003"), "gradient-004", "frontal-006", "even-000")
SEEN_RGB, HIDDEN_RGB, SECOND_RGB = (255, 60, 60), (250, 220, 60), (60, 160, 255)


@pytest.fixture(scope="module")
def clip() -> Rendered:
    return render(TAKE, 5, 4, 40, 56)


def tile(picture: np.ndarray, row: int, column: int, scale: int) -> np.ndarray:
    top, left = row * (40 * scale + 3), column * (56 * scale + 3)
    return picture[top : top + 40 * scale, left : left + 56 * scale]


def test_a_row_shows_the_frames_from_the_first_to_the_last_as_they_are(clip: Rendered) -> None:
    picture = sheet([clip], moments=3, scale=2, truth=False)
    assert picture.shape == (80, 3 * 112 + 2 * 3, 3)
    for column, t in enumerate((0, 2, 4)):
        np.testing.assert_array_equal(tile(picture, 0, column, 2)[::2, ::2], clip.frames[t])
        np.testing.assert_array_equal(tile(picture, 0, column, 2)[1::2, 1::2], clip.frames[t])
    assert (picture[:, 112:115] == 255).all(), "white between the frames"


def test_clips_and_their_truth_lie_below_each_other(clip: Rendered) -> None:
    picture = sheet([clip, clip], moments=2, scale=1)
    assert picture.shape == (4 * 40 + 3 * 3, 2 * 56 + 3, 3)
    np.testing.assert_array_equal(tile(picture, 0, 1, 1), tile(picture, 2, 1, 1))
    np.testing.assert_array_equal(tile(picture, 1, 1, 1), tile(picture, 3, 1, 1))


def test_the_truth_is_dark_outside_the_masks_and_has_lines_along_the_bones(clip: Rendered) -> None:
    scale = 4
    truth = tile(sheet([clip], moments=1, scale=scale), 1, 0, scale)
    lines = np.array([SEEN_RGB, SECOND_RGB, HIDDEN_RGB])
    is_line = (truth[:, :, None] == lines).all(axis=-1).any(axis=-1)
    masked = clip.masks[0].any(axis=0)
    expected = np.where(masked[..., None], clip.frames[0], clip.frames[0] // 3)
    large = expected.repeat(scale, axis=0).repeat(scale, axis=1)
    np.testing.assert_array_equal(truth[~is_line], large[~is_line])
    for person, colour in enumerate((SEEN_RGB, SECOND_RGB)):
        drawn = 0
        for pair in BONES:
            ends = clip.skeleton[0, person, list(pair)]
            if ends[:, 2].min() <= 0:
                continue
            middle = np.clip((ends[:, :2].mean(axis=0) * scale).astype(int), 2, None)
            near = truth[middle[1] - 2 : middle[1] + 3, middle[0] - 2 : middle[0] + 3].reshape(-1, 3)
            wanted = HIDDEN_RGB if ends[:, 2].min() <= HIDDEN else colour
            # lines of both may cross; then the later is on top
            drawn += int((near == wanted).all(axis=1).any())
        assert drawn >= 10, (person, drawn)


def test_a_bone_without_one_of_its_ends_is_not_drawn_and_a_hidden_one_is_yellow() -> None:
    points = np.zeros((1, 1, 133, 3), np.float32)
    points[0, 0, 5], points[0, 0, 7], points[0, 0, 9] = (4, 4, SEEN), (20, 4, HIDDEN), (20, 20, 0)
    black = Rendered(np.zeros((1, 24, 24, 3), np.uint8), points, np.zeros((1, 1, 24, 24), bool))
    truth = sheet([black], moments=1, scale=1)[27:]
    colours = {tuple(rgb) for rgb in truth.reshape(-1, 3).tolist()}
    assert colours == {(0, 0, 0), HIDDEN_RGB}
    rows, columns = np.nonzero(truth.any(axis=-1))
    assert set(rows) == {4}
    assert (columns.min(), columns.max()) == (4, 20)


def test_a_saved_sheet_is_the_picture(clip: Rendered, tmp_path: Path) -> None:
    save(tmp_path / "sheet.png", [clip], moments=2)
    with Image.open(tmp_path / "sheet.png") as read:
        assert read.format == "PNG"
        np.testing.assert_array_equal(np.asarray(read), sheet([clip], moments=2))
