import hashlib
import subprocess
import sys

import numpy as np
import pytest
from mannequin import Mannequin

from manifests.errors import UserError
from manifests.theatre import palette
from manifests.theatre.figures import KINDS, figure, names, perform
from manifests.theatre.humans import Build, average, bent, body, human
from manifests.theatre.motion import JOINTS, Figure
from manifests.theatre.names import HELD_OUT_FROM, seeded
from manifests.theatre.rig import pose
from tests.manifests.theatre.poses import motion, pieces, turn, wild

SOME = ("human-000", "human-007", "human-451", "human-912", *(f"{kind}-00{i}" for kind in KINDS[1:] for i in (1, 4)))


def digest(figure: Figure) -> str:
    whole = hashlib.sha256(repr((figure.paints, figure.leg_m, figure.height_m)).encode())
    for array in (figure.vertices, figure.faces, figure.part):
        whole.update(array.tobytes())
    return whole.hexdigest()


def test_the_same_name_gives_the_same_bytes_in_another_process() -> None:
    chosen = ("human-003", "octopus-950")
    code = f"from tests.manifests.theatre.test_figures import *\nprint([digest(figure(n)) for n in {chosen!r}])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == str([digest(figure(name)) for name in chosen])


def test_different_names_give_different_figures() -> None:
    drawn = [digest(figure(f"human-{i:03d}")) for i in (*range(25), *range(900, 910))]
    assert len(set(drawn)) == len(drawn)


@pytest.mark.parametrize("kind", KINDS)
def test_the_splits_are_large_and_share_no_name(kind: str) -> None:
    train, held_out = names("train", (kind,)), names("held_out", (kind,))
    assert len(train) >= 400
    assert len(held_out) >= 100
    assert not set(train) & set(held_out)
    assert all(name.startswith(kind) for name in train + held_out)


def test_names_of_several_kinds_are_those_of_each() -> None:
    assert names("train", ("human", "bird")) == names("train") + names("train", ("bird",))


def test_held_out_figures_wear_pairs_of_colours_that_no_other_figure_wears() -> None:
    pairs: dict[bool, set[tuple[int, int]]] = {True: set(), False: set()}
    for number in range(1000):
        for kind in KINDS:
            rng = seeded("any", kind, number)
            pairs[number >= HELD_OUT_FROM].add(palette.families(rng, number))
    assert not pairs[True] & pairs[False]
    assert len(pairs[True]) > 15


def families_worn(name: str) -> tuple[int, int]:
    """Return the families nearest to the colours of a person's chest and hips."""
    made = human(name, int(name[-3:])).rig
    shades = {
        family: np.array([palette.shade(np.random.default_rng(s), family) for s in range(40)])
        for family in range(palette.FAMILIES)
    }

    def worn(joint: str) -> int:
        face = np.flatnonzero(made.bone[made.faces[:, 0]] == made.joints.index(joint))[0]
        colour = made.paints[made.part[face]].first
        return min(shades, key=lambda family: float(np.abs(shades[family] - colour).sum(axis=1).min()))

    return worn("spine3"), worn("pelvis")


def test_the_colours_worn_are_those_of_the_split() -> None:
    worn = [(name, families_worn(name)) for name in names("train")[::60] + names("held_out")[::8]]
    assert all(palette.is_held_out(*pair) == (int(name[-3:]) >= HELD_OUT_FROM) for name, pair in worn), worn


@pytest.mark.parametrize("name", ["unicorn-001", "human-1000", "human", "human-12", "../human-001", ""])
def test_an_unknown_name_is_refused_with_a_sentence_that_says_which_there_are(name: str) -> None:
    with pytest.raises(UserError, match=r"there is no figure .*human.*quadruped.*000 to 999"):
        figure(name)


def test_an_unknown_kind_and_an_unknown_split_are_refused() -> None:
    with pytest.raises(UserError, match=r"no kind of figure 'unicorn'.*human"):
        names("train", ("unicorn",))
    with pytest.raises(UserError, match=r"no split 'test'.*train or held_out"):
        names("test")


@pytest.mark.parametrize("name", SOME)
def test_at_rest_a_figure_stands_on_the_ground_with_its_pelvis_above_the_origin(name: str) -> None:
    made = figure(name)
    assert made.vertices[:, 1].min() == pytest.approx(0, abs=1e-6)
    assert made.height_m == pytest.approx(np.ptp(made.vertices[:, 1]), abs=1e-6)
    assert 0.15 < made.leg_m < made.height_m
    assert np.abs(made.vertices[:, 0].min() + made.vertices[:, 0].max()) < 0.02, "left and right are as wide"


@pytest.mark.parametrize("name", SOME)
def test_every_piece_is_closed_and_looks_outwards(name: str) -> None:
    made = figure(name)
    edges = np.concatenate([made.faces[:, [i, (i + 1) % 3]] for i in range(3)])
    assert len(np.unique(edges, axis=0)) == len(edges), "no edge is walked twice in the same direction"
    assert {tuple(e) for e in edges} == {tuple(e[::-1]) for e in edges}, "each is walked back by its neighbour"
    label = pieces(len(made.vertices), made.faces)
    a, b, c = (made.vertices[made.faces[:, i]].astype(np.float64) for i in range(3))
    volumes = np.bincount(label[made.faces[:, 0]], np.einsum("fi,fi->f", a, np.cross(b, c)) / 6)
    volumes = volumes[np.unique(label)]
    assert (volumes > 0).all()
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2
    assert area.min() > 0
    assert (area < 1e-9).mean() < 0.01
    assert made.part.max() < len(made.paints)
    assert len(np.unique(made.part)) == len(made.paints), "no paint is left over"


@pytest.mark.parametrize("name", SOME)
def test_parts_keep_their_lengths_in_any_motion(name: str) -> None:
    made = figure(name)
    label = pieces(len(made.vertices), made.faces)
    moved = perform(made, wild(3)).vertices
    for piece in np.unique(label):
        mine = np.flatnonzero(label == piece)
        rest = np.linalg.norm(made.vertices[mine] - made.vertices[mine[0]], axis=1)
        now = np.linalg.norm(moved[:, mine] - moved[:, mine[:1]], axis=2)
        np.testing.assert_allclose(now, np.broadcast_to(rest, now.shape), atol=2e-6)


@pytest.mark.parametrize("name", SOME[:4])
def test_a_motion_without_turns_gives_the_rest_pose(name: str) -> None:
    made = figure(name)
    act = perform(made, motion({}, {"translation": (0.5, 0.25, -1.0)}))
    np.testing.assert_allclose(act.vertices[0], made.vertices, atol=2e-6)
    shift = np.array([0.5, 0.25, -1.0]) * made.leg_m
    np.testing.assert_allclose(act.vertices[1], made.vertices + shift, atol=2e-6)


@pytest.mark.parametrize("name", SOME)
def test_a_motion_that_starts_turned_is_the_same_motion_turned(name: str) -> None:
    made, act = figure(name), wild(5, rad=0.5)
    quarter = turn(np.array([0, np.pi / 2, 0]))
    turned_rotations = act.rotations.copy()
    turned_rotations[:, 0] = quarter @ act.rotations[:, 0]
    turned = type(act)("turned", act.fps, turned_rotations, act.translation @ quarter.T, act.curl)
    first, second = perform(made, act), perform(made, turned)
    np.testing.assert_allclose(second.vertices, first.vertices @ quarter.T, atol=1e-5)
    np.testing.assert_allclose(second.points, first.points @ quarter.T, atol=1e-5)


def test_joints_agree_with_those_of_mannequin_x_in_any_pose() -> None:
    theirs = Mannequin("convex", lod=1, flat_hand_mean=True)
    vectors = np.random.default_rng(0).uniform(-1, 1, (5, 22, 3))
    parameters = theirs.rest_pose(batch_dims=(5,), dtype=np.float64)
    parameters |= {"body_pose": vectors[:, 1:], "pelvis_rotation": vectors[:, 0]}
    expected = theirs.joint_transforms(parameters)[:, :22]
    rig = average().rig
    ours = pose(rig, bent(rig.joints, turn(vectors), np.zeros((5, 2), np.float32)), np.zeros((5, 3), np.float32))
    np.testing.assert_allclose(ours.turns[:, :22], expected[..., :3, :3], atol=1e-5)
    apart = (ours.places - ours.places[:, :1])[:, :22] - (expected[..., :3, 3] - expected[:, :1, :3, 3])
    # theirs is not quite alike on both sides; ours is its mean with its mirror image
    assert np.linalg.norm(apart, axis=-1).max() < 0.03


def test_a_body_is_alike_on_both_sides() -> None:
    made = body(Build(shape=(1.5, -1, 0.5, 1, -1.5, 0, 1, 0, 0, -1), leg=1.2, arm=0.8))
    mirror = np.array([-1, 1, 1])
    for joint in (j for j in made.joints if j.startswith("left_")):
        other = joint.replace("left", "right")
        np.testing.assert_allclose(made.places[joint], made.places[other] * mirror, atol=1e-6)
    trunk = np.concatenate([made.links[j].vertices for j in ("pelvis", "spine1", "spine2", "spine3", "head")])
    assert abs(float(trunk[:, 0].min() + trunk[:, 0].max())) < 0.02


def test_builds_differ_in_the_lengths_of_their_limbs() -> None:
    def limbs(name: str) -> tuple[float, float, float]:
        rig = human(name, int(name[-3:])).rig
        leg = rig.length("left_hip", "left_knee", "left_ankle")
        arm = rig.length("left_shoulder", "left_elbow", "left_wrist")
        return leg, arm / leg, rig.length("neck", "head") / leg

    drawn = np.array([limbs(name) for name in names("train")[:60]])
    assert (drawn.max(axis=0) > np.array([1.8, 1.5, 1.8]) * drawn.min(axis=0)).all(), drawn


def test_the_first_22_joints_of_a_person_are_those_of_a_motion() -> None:
    assert average().rig.joints[:22] == JOINTS


def test_a_fist_brings_the_finger_tips_to_the_palm_on_both_sides() -> None:
    rest = motion({}, {}, {})
    fist = type(rest)("fist", 8.0, rest.rotations, rest.translation, np.array([[0, 0], [0.5, 0.5], [1, 1]], np.float32))
    points = perform(figure("human-010"), fist).points
    for wrist, mirror in ((91, 1), (112, -1)):
        flat, half, closed = points[:, wrist + 4 * 3] - points[:, wrist]
        assert np.linalg.norm(closed) < 0.65 * np.linalg.norm(flat)
        assert half[1] < flat[1] - 0.03, "fingers close downwards: in the T-pose the palms look down"
        assert flat[0] * mirror > 0


def test_figures_in_memory_cannot_be_changed_by_whom_they_were_given_to() -> None:
    with pytest.raises(ValueError, match="read-only"):
        figure("human-010").vertices[0] = 0


def test_a_face_is_in_front() -> None:
    for name in SOME[:4]:
        points = perform(figure(name), motion({})).points[0]
        assert points[0, 2] > points[1:3, 2].mean() > points[3:5, 2].mean()
