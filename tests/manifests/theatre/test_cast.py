import json
from collections import Counter
from functools import lru_cache

import numpy as np
import pytest

from manifests.errors import UserError
from manifests.theatre import capture, motions, words
from manifests.theatre.cast import CROSSING_SHARE, LEAD_IN_SHARE, WORLDS, describe, draw, recast
from manifests.theatre.motion import Figure, Paint
from manifests.theatre.names import UnknownName
from manifests.theatre.scene import Take, render
from manifests.theatre.solids import Mesh, box
from tests.manifests.theatre.clips import needs_capture

pytestmark = needs_capture

MANY = 300
LIMBS = ((5, 7), (7, 9), (6, 8), (8, 10), (11, 13), (13, 15), (12, 14), (14, 16))


@lru_cache
def drawn(world: str, split: str = "train", creature_share: float = 0.0) -> tuple[Take, ...]:
    return tuple(draw(7, index, split, world, creature_share) for index in range(MANY))


def kind(name: str) -> str:
    return name.partition("-")[0]


@pytest.mark.parametrize("world", WORLDS)
def test_a_take_follows_from_its_number_alone(world: str) -> None:
    forwards = [draw(1, index, "train", world) for index in range(20)]
    backwards = [draw(1, index, "train", world) for index in reversed(range(20))]
    assert forwards == backwards[::-1]
    others = [draw(2, index, "train", world) for index in range(20)]
    assert len({take.key for take in forwards + others}) == 40


@pytest.mark.parametrize("world", WORLDS)
def test_a_world_shows_what_it_says_as_often_as_it_says(world: str) -> None:
    plan, takes = WORLDS[world], drawn(world)
    for shares, names in (
        (plan.cameras, [take.camera for take in takes]),
        (plan.backgrounds, [take.background for take in takes]),
        (plan.lights, [take.light for take in takes]),
    ):
        found = Counter(map(kind, names))
        assert set(found) == set(shares)
        for each, share in shares.items():
            # four standard deviations
            assert abs(found[each] / MANY - share) < 4 * np.sqrt(share * (1 - share) / MANY) + 1e-9, (each, found)
    assert {len(take.figures) for take in takes} == {plan.figures}
    assert {take.world for take in takes} == {world}
    lead_ins = sum(take.lead_in is not None for take in takes) / MANY
    assert abs(lead_ins - LEAD_IN_SHARE) < 0.12
    crossings = sum(take.layout == "crossing" for take in takes) / MANY
    assert (abs(crossings - CROSSING_SHARE) < 0.11) if plan.figures == 2 else crossings == 0


def test_the_easy_world_has_easy_motions_only_and_harder_ones_have_captured_ones_too() -> None:
    easy = set(motions.names("train", easy=True))
    assert all(set(take.motions) <= easy for take in drawn("easy"))
    for world in ("turns", "clutter"):
        captured = np.mean([motions.parse(take.motions[0]).base in capture.CLIPS for take in drawn(world)])
        assert captured > 0.2, world


def test_figures_who_cross_walk() -> None:
    for split, going in (("train", {"walk", "walk_forward", "turn_right1"}), ("held_out", {"jump"})):
        crossing = [take for take in drawn("two", split, 0.0) if take.layout == "crossing"]
        assert {motions.parse(motion).base for take in crossing for motion in take.motions} == going


def test_creatures_come_as_often_as_asked_and_never_unasked() -> None:
    assert {kind(take.figures[0]) for take in drawn("turns")} == {"human"}
    cast = Counter(kind(take.figures[0]) for take in drawn("turns", creature_share=0.3))
    assert abs(1 - cast["human"] / MANY - 0.3) < 0.11
    assert len(cast) == 6
    assert "human" not in {kind(draw(7, index, "train", "turns", 1.0).figures[0]) for index in range(40)}


def test_nothing_that_is_held_out_is_seen_in_training() -> None:
    seen: dict[str, dict[str, set[str]]] = {"train": {}, "held_out": {}}
    for split, found in seen.items():
        for world in WORLDS:
            for take in drawn(world, split, creature_share=0.3):
                played = [*take.motions, *([take.lead_in] if take.lead_in else [])]
                for what, names in (
                    ("figures", take.figures), ("motions", played), ("bases", [motions.parse(m).base for m in played]),
                    ("backgrounds", [take.background]), ("cameras", [take.camera]), ("lights", [take.light]),
                ):  # fmt: skip
                    found.setdefault(what, set()).update(names)
    for what, names in seen["train"].items():
        assert not names & seen["held_out"][what], what
        assert len(names) > 20, (what, len(names))
        assert len(seen["held_out"][what]) > 8, what


def test_a_recast_changes_what_is_asked_and_nothing_else() -> None:
    take = draw(3, 4, "train", "two")
    other = recast(take, figure="human-111", background="plain-003")
    assert other.figures == ("human-111", take.figures[1])
    assert other.background == "plain-003"
    same = {"world", "motions", "camera", "light", "lead_in", "layout"}
    assert {k: v for k, v in other.as_json().items() if k in same} == {
        k: v for k, v in take.as_json().items() if k in same
    }
    assert recast(take, motion="wave-042", camera="full-012").motions == ("wave-042", take.motions[1])
    assert recast(take, camera="full-012").camera == "full-012"
    assert recast(take) == take


def test_a_recast_take_holds_the_same_motion() -> None:
    """Limbs of another body point the same way in the picture, but for perspective and another length of the arms."""
    turned, crossed = [], []
    takes = [draw(3, index, "train", world) for index in range(3) for world in ("easy", "turns")]
    for index, take in enumerate(takes):
        first, other, stranger = (
            render(t, 5, 4, 64, 64, samples=1).skeleton[:, 0]
            for t in (take, recast(take, figure=f"human-{100 + 37 * index:03d}"), recast(take, motion="jack-007"))
        )
        for found, second in ((turned, other), (crossed, stranger)):
            for a, b in LIMBS:
                seen = np.all([p[:, j, 2] > 0 for p in (first, second) for j in (a, b)], axis=0)
                one, two = (p[seen, b, :2] - p[seen, a, :2] for p in (first, second))
                long = np.minimum(np.linalg.norm(one, axis=1), np.linalg.norm(two, axis=1)) > 5
                angle = np.arctan2(one[:, 0] * two[:, 1] - one[:, 1] * two[:, 0], (one * two).sum(axis=1))
                found.extend(np.abs(np.degrees(angle[long])))
    assert len(turned) > 100
    assert np.median(turned) < 2.5
    assert np.quantile(turned, 0.95) < 10
    assert np.median(crossed) > 10, "another motion is told apart"


def a_doll(shirt: Paint, trousers: Paint, shins: Paint) -> Figure:
    """Return a person of four boxes, 1.8 m high, with legs of 0.9 m: shins, thighs, trunk and head."""
    bands = ((0.0, 0.45), (0.45, 0.9), (0.9, 1.55), (1.55, 1.8))
    meshes: list[Mesh] = [box((0, (low + high) / 2, 0), (0.3, high - low, 0.2)) for low, high in bands]
    return Figure(
        "doll", "human",
        vertices=np.concatenate([mesh.vertices for mesh in meshes]),
        faces=np.concatenate([mesh.faces + 8 * i for i, mesh in enumerate(meshes)]),
        part=np.repeat([0, 1, 2, 3], 12).astype(np.int32),
        paints=(shins, trousers, shirt, Paint((0.8, 0.6, 0.5), (0.8, 0.6, 0.5))),
        leg_m=0.9, height_m=1.8,
    )  # fmt: skip


RED, WHITE, BLUE = (0.8, 0.1, 0.1), (0.95, 0.95, 0.95), (0.15, 0.25, 0.85)


def test_words_are_true_to_the_paints_of_a_figure() -> None:
    red, blue = Paint(RED, RED), Paint(BLUE, BLUE)
    striped, skin = Paint(BLUE, WHITE, "stripes"), Paint((0.85, 0.65, 0.5), (0, 0, 0))
    assert words.worn(a_doll(red, blue, blue)) == "a person in a red shirt and blue trousers"
    assert words.worn(a_doll(red, blue, skin)) == "a person in a red shirt and blue shorts"
    assert words.worn(a_doll(striped, red, red)) == "a person in a blue and white striped shirt and red trousers"
    shades = Paint(BLUE, (0.2, 0.3, 0.9), "dots")
    assert words.worn(a_doll(red, shades, skin)) == "a person in a red shirt and blue dotted shorts"


@pytest.mark.parametrize(
    ("rgb", "said"), [((0.7, 0.05, 0.1), "red"), ((0.02, 0.02, 0.05), "black"), ((0.9, 0.9, 0.97), "white"),
                      ((0.1, 0.2, 0.8), "blue"), ((0.45, 0.45, 0.5), "grey"), ((0.2, 0.65, 0.2), "green")]
)  # fmt: skip
def test_colours_have_the_names_that_people_give_them(rgb: tuple[float, float, float], said: str) -> None:
    assert words.nearest(rgb) == said


def test_a_description_names_every_figure_and_what_it_does() -> None:
    take = Take("easy", ("human-003", "bird-004"), ("wave-042", "walk@0.5~m"), "plain-000", "full-001", "even-002")
    said = describe(take)
    first, second = said.split(" and a ")[0], said[said.rindex(" and a ") :]
    assert first.startswith("a person in a ")
    assert said.count(", waving") == 1
    assert second.endswith("bird, walking")


def test_every_motion_has_words() -> None:
    for split in ("train", "held_out"):
        bases = {motions.parse(name).base for name in motions.names(split)}
        for base in bases:
            said = words.doing(base)
            assert said.split()[0].endswith("ing"), (base, said)
            assert "_" not in said
            assert not any(c.isdigit() for c in said), said


def test_an_unknown_world_or_split_is_refused_with_a_sentence() -> None:
    with pytest.raises(UnknownName, match=r"^there is no world 'hard': give one of easy, turns, clutter, two$"):
        draw(0, 0, "train", "hard")
    with pytest.raises(UserError, match=r"no split 'test'.*train.*held_out"):
        draw(0, 0, "test", "easy")


def test_a_take_survives_json() -> None:
    for world in WORLDS:
        take = draw(5, 6, "held_out", world)
        again = Take.from_json(json.loads(json.dumps(take.as_json())))
        assert again == take
        assert again.key == take.key
