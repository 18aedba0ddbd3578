"""How a motion of a human drives a body that is not human: one table, and the formula that reads it.

Let R_h(t) be the local rotations of a motion and W_h(t) = R_root ... R_h their products, the human joint's rotation in
the world. The rest of every creature answers to one pose of the human: standing, arms hanging. There W_h is G_h, which
is the identity but along the arms, where it turns the T-pose's arm down. So

    V_h(t) = W_h(t) G_h^T

turns whatever hangs on h from where it is when the human stands to where it is now, in the axes of the world, which are
those of the creature's joints at rest too: a hanging arm is a foreleg that stands straight, a folded wing, a tentacle
let down. A creature's joint then has, in the world,

    U = C V_h C^T                              what follows a human joint (legs, arms, heads: they point as the human's)
    U = U_parent C (V_g^T V_h)^gain C^T        what bends as h does against g (backs, tails, ears)

with C a turn about y by `yaw_deg` (the identity if that is 0), which says in which direction "forward" goes: at 90 what
swings forward in the human swings to the creature's left. The power of a rotation keeps its axis and multiplies its
angle. The root follows the pelvis; that of what stands on four has a rule of its own, see `Drive`.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from manifests.theatre.motion import JOINTS, PARENTS, Array
from manifests.theatre.rig import Rig, pose
from manifests.theatre.rotations import X, Y, Z, about, from_matrices, matrices, share

HANGING_RAD: Final = 1.4
"""By how much a human's arms are turned down from the T-pose where the creatures' rest is: hanging, a little aside."""
_REARING_RAD: Final = 0.9
_PITCH: Final = (-0.35, 0.8)  # limits of the sine of the pitch: it bows less than it sits up


@dataclass(frozen=True)
class Drive:
    """What drives a creature's joint.

    Attributes:
        joint: The human joint h.
        against: The human joint g, if the creature's joint bends; None if it follows h in the world.
        gain: The power, for a joint that bends.
        yaw_deg: The turn C.
        on_four: For the root of what stands on four, whose trunk lies where a human's stands. Of a tilt of the pelvis
            by less than 90 degrees a quarter is left; beyond that the rest catches up (upside down is upside down).
            Then the trunk is pitched, see `_pitched`, so that it stands on its forelegs as on its hind legs, or rears.
    """

    joint: str
    against: str | None = None
    gain: float = 1.0
    yaw_deg: float = 0.0
    on_four: bool = False


def _pair(**drives: Drive) -> dict[str, Drive]:
    """Return the drives of both sides; `side` in a human joint's name stands for the same side, and C is mirrored."""
    return {
        f"{side}_{name}": Drive(d.joint.replace("side", side), d.against and d.against.replace("side", side), d.gain,
                                mirror * d.yaw_deg)
        for side, mirror in (("left", 1), ("right", -1)) for name, d in drives.items()
    }  # fmt: skip


_LEGS: Final = _pair(thigh=Drive("side_hip"), shin=Drive("side_knee"), foot=Drive("side_ankle"))
_ARMS: Final = _pair(arm=Drive("side_shoulder"), forearm=Drive("side_elbow"), hand=Drive("side_wrist"))
_TRUNK: Final = {"back": Drive("spine2", "pelvis"), "chest": Drive("spine3", "spine2"), "neck": Drive("neck", "spine3")}
_TAIL: Final = {"tail": Drive("spine3", "pelvis", 1.2, 180), "tailtip": Drive("spine3", "pelvis", 0.8, 180)}


def _tentacles(row: str, *joints: str, yaw_deg: tuple[float, float]) -> dict[str, Drive]:
    return {
        name: drive
        for place, yaw in zip(("front", "rear"), yaw_deg, strict=True)
        for name, drive in _pair(**{
            f"{place}{row}{i}": Drive(f"side_{joint}", yaw_deg=yaw) for i, joint in enumerate(joints, start=1)
        }).items()
    }  # fmt: skip


CORRESPONDENCES: Final[dict[str, dict[str, Drive]]] = {
    # arms are forelegs, legs are hind legs; the head looks where the human's does, and the tail and the ears sway
    "quadruped": {
        "pelvis": Drive("pelvis", on_four=True), **_TRUNK, "head": Drive("head"), **_LEGS, **_ARMS, **_TAIL,
        **_pair(ear=Drive("head", "spine3", -0.5)),
    },
    # arms are wings, folded when they hang
    "bird": {"pelvis": Drive("pelvis"), **_TRUNK, "head": Drive("head"), **_LEGS, **_ARMS, **_TAIL},
    # joint for joint, but that the back is one joint; the antennas bounce
    "robot": {
        "pelvis": Drive("pelvis"), **_TRUNK, "head": Drive("head"), **_LEGS, **_ARMS,
        **_pair(antenna=Drive("head", "spine3", -0.7)),
    },
    # the middle ball is the chest; short legs, long arms
    "snowman": {"pelvis": Drive("pelvis"), "chest": Drive("spine3"), "head": Drive("head"), **_LEGS, **_ARMS},
    # each leg drives two tentacles that stand, each arm two that hang; forward in the human is away from the body
    "octopus": {
        "pelvis": Drive("pelvis"), "head": Drive("head"),
        **_tentacles("leg", "hip", "knee", "ankle", yaw_deg=(30, 150)),
        **_tentacles("arm", "shoulder", "elbow", "wrist", yaw_deg=(-35, 35)),
    },
}  # fmt: skip
"""For each kind, what drives each of its joints."""


def driven(kind: str, rig: Rig, body: Array) -> Array:
    """Return the local rotations `[T, J, 3, 3]` of a creature in a motion.

    Args:
        kind: Its kind, a key of `CORRESPONDENCES`.
        rig: Its rig.
        body: `[T, 22, 3, 3]`, the motion's rotations.
    """
    turned = _from_standing(body)
    root = CORRESPONDENCES[kind][rig.joints[0]]
    if not root.on_four:
        return _hung(kind, rig, turned, turned[root.joint])
    level = _levelled(turned[root.joint])
    return _hung(kind, rig, turned, _pitched(rig, turned, level, _hung(kind, rig, turned, level)))


def _hung(kind: str, rig: Rig, turned: dict[str, NDArray[np.float64]], root: NDArray[np.float64]) -> Array:
    """Return the local rotations `[T, J, 3, 3]` by the table, with the root turned as given `[T, 3, 3]`."""
    world = [root]
    local = np.empty((len(root), len(rig.joints), 3, 3), np.float32)
    local[:, 0] = root
    for index, (name, parent) in enumerate(zip(rig.joints[1:], rig.parents[1:], strict=True), start=1):
        drive = CORRESPONDENCES[kind][name]
        change = matrices(about(Y, np.deg2rad(drive.yaw_deg)))
        turn = turned[drive.joint]
        if drive.against is not None:
            bend = share(from_matrices(turned[drive.against].transpose(0, 2, 1) @ turn), drive.gain)
            world.append(world[parent] @ change @ matrices(bend) @ change.T)
        else:
            world.append(change @ turn @ change.T)
        local[:, index] = world[parent].transpose(0, 2, 1) @ world[index]
    return local


def _pitched(
    rig: Rig, turned: dict[str, NDArray[np.float64]], level: NDArray[np.float64], local: Array
) -> NDArray[np.float64]:
    """Return `level` `[T, 3, 3]`, the root of what stands on four, pitched about its own x axis by

        w ((1 - r) asin((y_hind - y_fore) / d) + r 0.9 rad),

    where y_hind and y_fore are the heights of its lowest hind foot and forefoot if it were not pitched (`local` are its
    rotations then), d their distance at rest, r how far both arms of the human are raised (the product of what each
    is: 0 hanging, 1 from the horizontal on, against the world and against the chest, whichever is less), and w how
    upright the root is. So it sits when the human squats, bows when its forelegs bend, and rears when both are raised.
    """
    places = pose(rig, local, np.zeros((len(local), 3), np.float32)).places
    fore, hind = ([rig.joints.index(f"{side}_{paw}") for side in ("left", "right")] for paw in ("hand", "foot"))
    gap_m = places[:, hind, 1].min(axis=1) - places[:, fore, 1].min(axis=1)
    rest = rig.places()
    sine = gap_m.astype(np.float64) / float(rest[fore[0], 2] - rest[hind[0], 2])
    raised = np.ones(len(local))
    for side in ("left", "right"):
        arm = turned[f"{side}_shoulder"]
        against_chest = turned["spine3"].transpose(0, 2, 1) @ arm
        raised *= np.clip(1 - np.maximum(arm[:, 1, 1], against_chest[:, 1, 1]), 0, 1)
    upright = np.clip(level[:, 1, 1], 0, 1)
    pitch = upright * ((1 - raised) * np.arcsin(np.clip(sine, *_PITCH)) + raised * _REARING_RAD)
    pitched: NDArray[np.float64] = level @ matrices(about(-X, pitch))
    return pitched


def _from_standing(body: Array) -> dict[str, NDArray[np.float64]]:
    """Return V `[T, 3, 3]` of each human joint."""
    world: list[NDArray[np.float64]] = []
    turned = {}
    for index, (name, parent) in enumerate(zip(JOINTS, PARENTS, strict=True)):
        own = body[:, index].astype(np.float64)
        world.append(own if parent < 0 else world[parent] @ own)
        side = name.partition("_")[0]
        arm = name.endswith(("shoulder", "elbow", "wrist"))
        standing = matrices(about(Z, {"left": -HANGING_RAD, "right": HANGING_RAD}[side] if arm else 0.0))
        turned[name] = world[-1] @ standing.T
    return turned


def _levelled(turn: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return rotations `[T, 3, 3]` with their tilt against the vertical eased as `Drive.on_four` says."""
    up = turn[:, :, 1]
    tilt = np.arccos(np.clip(up[:, 1], -1, 1))
    axis = np.cross([0.0, 1.0, 0.0], up)  # about which the upright was tilted
    length = np.linalg.norm(axis, axis=1, keepdims=True)
    axis = np.where(length > 1e-9, axis / np.maximum(length, 1e-9), [1.0, 0.0, 0.0])
    eased = np.where(tilt < np.pi / 2, tilt / 4, tilt * 7 / 4 - np.pi * 3 / 4)
    levelled: NDArray[np.float64] = matrices(about(axis, eased - tilt)) @ turn
    return levelled
