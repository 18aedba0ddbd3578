"""Texts from facts, against theatre, which knows what it shows; they are in the words that it teaches the teacher."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from manifests.media import Picture
from manifests.theatre import cast, motions, scene, words
from model.text import TinyText
from stages.prompt import AppearanceConfig, AppearanceText, MotionText, Prompt, TextConfig
from stages.prompt_look import COLOURS
from stages.prompt_motion import ABOUT, STILL, doing

TAUGHT = frozenset(words._DOING.values())


def takes(motion, count=2):
    """Return takes of people seen whole from in front, in a given motion."""
    found = (replace(cast.draw(5, number, "train", "easy"), lead_in=None) for number in range(400))
    whole = (take for take in found if take.camera.startswith("frontal"))
    name = next(name for name in motions.names("train") if motions.parse(name).base.partition("-")[0] == motion)
    return [replace(next(whole), motions=(name,)) for _ in range(count)]


def test_the_colours_are_those_of_theatre():
    assert words.COLOURS == COLOURS


@pytest.mark.parametrize(
    ("motion", "fits"),
    [
        ("squat", {"squatting"}),
        ("bow", {"bowing"}),
        ("crawl", {"crawling"}),
        ("cartwheel", {"turning a cartwheel", "rolling over"}),
        ("walk", {"walking", "marching on the spot"}),
    ],
)
def test_what_somebody_does_is_told_from_the_skeleton(motion, fits):
    said = [doing(scene.render(take, 24, 12.0, 48, 48, samples=1).skeleton, 12.0) for take in takes(motion)]
    assert set(said) <= fits


def test_nobody_does_nothing_and_a_statue_stands_still():
    assert doing(np.zeros((20, 0, 133, 3), np.float32), 12.0) == ABOUT
    assert doing(np.zeros((20, 1, 133, 3), np.float32), 12.0) == ABOUT
    one = scene.render(takes("wave", 1)[0], 1, 12.0, 48, 48, samples=1).skeleton
    assert doing(np.repeat(one, 20, axis=0), 12.0) == STILL


def test_neither_size_nor_place_changes_what_is_said():
    skeleton = scene.render(takes("squat", 1)[0], 24, 12.0, 48, 48, samples=1).skeleton
    moved = skeleton.copy()
    moved[..., :2] = np.where(moved[..., 2:] > 0, moved[..., :2] * 7 + 300, 0)
    assert doing(skeleton, 12.0) == doing(moved, 12.0)


ALIKE = ({"cyan", "teal"}, {"white", "grey", "beige"}, {"orange", "brown"}, {"magenta", "purple"}, {"green", "teal"},
         {"green", "lime"}, {"black", "grey"}, {"yellow", "brown"}, {"cyan", "blue"}, {"pink", "magenta"})  # fmt: skip
"""Colours that light makes one of the other."""


def near(one, other):
    return one == other or any({one, other} <= pair for pair in ALIKE)


def test_most_figures_in_plain_clothes_are_described_as_theatre_does_or_in_a_shade_of_it(tmp_path):
    stage, told = AppearanceText(AppearanceConfig()), []
    for number in range(200):
        take = replace(cast.draw(9, number, "train", "easy"), lead_in=None)
        wanted = words.look(take.figures[0]).split()
        if len(wanted) != 9 or not take.camera.startswith("frontal"):  # a person in a red shirt and blue shorts
            continue
        shown = scene.render(take, 1, 12.0, 96, 96)
        path = tmp_path / f"{number}.png"
        Image.fromarray(shown.frames[0]).save(path)
        row = {"character": Picture(str(path)), "skeleton": shown.skeleton, "domain": "human", "tags": []}
        (given,) = stage([row])
        told.append((wanted, given["appearance_text"].split()))
        if len(told) == 12:
            break
    right = [near(w[4], g[4]) and near(w[-2], g[-2]) and w[-1] == g[-1] for w, g in told]
    assert len(told) == 12
    assert sum(right) >= 9, [pair for pair, good in zip(told, right, strict=True) if not good]


def test_a_character_without_a_skeleton_is_called_by_its_tag_and_colour(tmp_path):
    picture = np.full((64, 64, 4), (240, 240, 240, 255), np.uint8)
    picture[16:48, 20:44, :3] = (128, 128, 128)
    Image.fromarray(picture).save(tmp_path / "bird.png")
    row = {"character": Picture(str(tmp_path / "bird.png")), "skeleton": np.zeros((1, 0, 133, 3), np.float32)}
    stage = AppearanceText(AppearanceConfig())
    given = stage([{**row, "domain": "animal", "tags": ["bird", "zoo"]}, {**row, "domain": "object", "tags": None}])
    assert [each["appearance_text"] for each in given] == ["a grey bird", "a grey object"]


def test_a_prompt_has_the_look_of_the_character_and_the_motion_of_the_source():
    row = {"motion_text": "waving", "appearance_text": "an orange bird"}
    assert Prompt(TextConfig())([row]) == [{"prompt": "an orange bird, waving"}]


def test_what_the_source_looks_like_cannot_reach_the_prompt():
    assert set(MotionText.needs) == {"fps", "skeleton"}
    assert set(Prompt.needs) == {"motion_text", "appearance_text"}


def test_motions_are_said_in_words_that_the_embedded_teacher_was_taught():
    import inspect

    from stages import prompt_motion

    said = {word for word in TAUGHT if f'"{word}"' in inspect.getsource(prompt_motion)}
    assert len(said) >= 15
    longest = "a cartoon figure in a magenta and purple shirt and magenta and purple shorts, stepping from side to side"
    assert 0 not in TinyText(length=24).rows(longest)[: len(longest.split())]
    assert len(longest.split()) <= 24
