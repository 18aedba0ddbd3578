"""The 133 points of a person, and how they are drawn.

Layout: COCO-WholeBody (Jin et al., ECCV 2020): 17 body points of COCO, 6 of the feet, 68 of the face, 21 of each hand.
A skeleton is float32 `[T, P, 133, 3]`: x px, y px, score 0..1. A point that was not seen is (0, 0, 0). Left and right
are the person's own.

Drawing: the public convention of OpenPose as DWPose draws it, on which pose-driven video models are trained: 18 body
points (COCO's 17 and a neck half-way between the shoulders), 17 limbs at 0.6 of their colour, hands in the colours of
the rainbow, white face. Feet are not drawn, as there.
"""

import colorsys
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Points = NDArray[np.float32]  # [..., 133, 3]
Pixels = NDArray[np.uint8]  # [..., H, W, 3], RGB
Colour = tuple[int, int, int]

POINTS: Final = 133
BODY: Final = slice(0, 17)
FEET: Final = slice(17, 23)
FACE: Final = slice(23, 91)
LEFT_HAND: Final = slice(91, 112)
RIGHT_HAND: Final = slice(112, 133)

BODY_NAMES: Final = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
    "right_ankle",
)  # fmt: skip
FEET_NAMES: Final = (
    "left_big_toe", "left_small_toe", "left_heel", "right_big_toe", "right_small_toe", "right_heel",
)  # fmt: skip
LIMBS: Final = (
    (15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8), (7, 9), (8, 10), (1, 2),
    (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6),
)  # fmt: skip
"""Pairs of body points that COCO joins."""

# OpenPose's 18 points in its order, as COCO indices; -1 is the neck.
OPENPOSE: Final = (0, -1, 6, 8, 10, 5, 7, 9, 12, 14, 16, 11, 13, 15, 2, 1, 4, 3)
# OpenPose's limbs as pairs of its points, in the order in which they take the colours below.
OPENPOSE_LIMBS: Final = (
    (1, 2), (1, 5), (2, 3), (3, 4), (5, 6), (6, 7), (1, 8), (8, 9), (9, 10), (1, 11), (11, 12), (12, 13), (1, 0),
    (0, 14), (14, 16), (0, 15), (15, 17),
)  # fmt: skip
OPENPOSE_COLOURS: Final[tuple[Colour, ...]] = (
    (255, 0, 0), (255, 85, 0), (255, 170, 0), (255, 255, 0), (170, 255, 0), (85, 255, 0), (0, 255, 0), (0, 255, 85),
    (0, 255, 170), (0, 255, 255), (0, 170, 255), (0, 85, 255), (0, 0, 255), (85, 0, 255), (170, 0, 255), (255, 0, 255),
    (255, 0, 170), (255, 0, 85),
)  # fmt: skip
HAND_EDGES: Final = tuple((0 if j == 0 else 4 * f + j, 4 * f + j + 1) for f in range(5) for j in range(4))
LIMB_SHADE: Final = 0.6
HAND_POINT: Final[Colour] = (0, 0, 255)
_LIMB_PX, _DOT_PX, _FACE_PX, _FINGER_PX = 4.0, 4.0, 3.0, 2.0  # radii and width that DWPose draws
_DRAWN_AT_PX = 512.0  # short side of the pictures for which those are meant


def hand_colour(edge: int) -> Colour:
    """Return the RGB colour of the hand's edge number `edge`: hue = edge / 20, full saturation and value."""
    red, green, blue = colorsys.hsv_to_rgb(edge / len(HAND_EDGES), 1.0, 1.0)
    return int(red * 255), int(green * 255), int(blue * 255)


def openpose_body(points: Points, min_score: float) -> Points:
    """Return the 18 body points of OpenPose `[18, 3]` for one person's `[133, 3]`.

    The neck is the midpoint of the shoulders with the lower of their scores; it is unseen unless both are seen.
    """
    left, right = points[5], points[6]
    neck = (left + right) / 2
    neck[2] = min(left[2], right[2])
    if neck[2] < min_score:
        neck = np.zeros(3, np.float32)
    return np.stack([neck if i < 0 else points[i] for i in OPENPOSE]).astype(np.float32)


def box_of(points: Points, min_score: float) -> NDArray[np.float32] | None:
    """Return x0, y0, x1, y1 px of the body and feet points of one person that reach `min_score`; None if there are
    fewer than two."""
    seen = points[: FEET.stop][points[: FEET.stop, 2] >= min_score]
    if len(seen) < 2:
        return None
    return np.concatenate([seen[:, :2].min(axis=0), seen[:, :2].max(axis=0)]).astype(np.float32)


def same_body(a: Points, b: Points, min_score: float) -> bool:
    """Say whether two skeletons `[133, 3]` are of one body: more than half of the head and shoulder points that both
    have lie nearer to each other than a tenth of the smaller box's long side. Two people may touch, but not there."""
    both = np.flatnonzero((a[:7, 2] >= min_score) & (b[:7, 2] >= min_score))
    boxes = box_of(a, min_score), box_of(b, min_score)
    if boxes[0] is None or boxes[1] is None or len(both) < 2:
        return False
    reach = 0.1 * min(float(max(box[2] - box[0], box[3] - box[1])) for box in boxes if box is not None)
    near = np.hypot(*(a[both, :2] - b[both, :2]).T) < reach
    return bool(near.mean() > 0.5)


def draw(people: Points, height_px: int, width_px: int, min_score: float = 0.3, back: Pixels | None = None) -> Pixels:
    """Draw the people of one frame, `[P, 133, 3]`, and return uint8 `[H, W, 3]` RGB.

    Points below `min_score` are not drawn, nor limbs that end in one. `back` is the picture to draw over; black if it
    is not given. Widths grow with the short side: those of DWPose hold for 512 px.

    Raises:
        ValueError: `people` or `back` has another shape.
    """
    if people.ndim != 3 or people.shape[1:] != (POINTS, 3):
        raise ValueError(f"the people to draw have shape {people.shape}, wanted [P, {POINTS}, 3]")
    if back is not None and back.shape != (height_px, width_px, 3):
        raise ValueError(f"the picture to draw over has shape {back.shape}, wanted ({height_px}, {width_px}, 3)")
    canvas = Image.fromarray(back) if back is not None else Image.new("RGB", (width_px, height_px))
    pen = ImageDraw.Draw(canvas)
    scale = max(min(height_px, width_px) / _DRAWN_AT_PX, 0.25)
    for person in people:
        _draw_body(pen, openpose_body(person, min_score), min_score, scale)
        for part in (LEFT_HAND, RIGHT_HAND):
            _draw_hand(pen, person[part], min_score, scale)
        for point in person[FACE]:
            if point[2] >= min_score:
                _dot(pen, point, _FACE_PX * scale * 0.5, (255, 255, 255))
    return np.array(canvas)


def frames_of(skeleton: Points, height_px: int, width_px: int, min_score: float = 0.3) -> Pixels:
    """Draw a clip's people, `[T, P, 133, 3]`, each frame as `draw` does, and return uint8 `[T, H, W, 3]` RGB.

    A frame without people is black.

    Raises:
        ValueError: `skeleton` has another shape.
    """
    if skeleton.ndim != 4 or skeleton.shape[2:] != (POINTS, 3):
        raise ValueError(f"the skeleton to draw has shape {skeleton.shape}, wanted [T, P, {POINTS}, 3]")
    frames = np.zeros((len(skeleton), height_px, width_px, 3), np.uint8)
    for frame, people in zip(frames, skeleton, strict=True):
        frame[:] = draw(people, height_px, width_px, min_score)
    return frames


def _draw_body(pen: ImageDraw.ImageDraw, body: Points, min_score: float, scale: float) -> None:
    for (a, b), colour in zip(OPENPOSE_LIMBS, OPENPOSE_COLOURS, strict=False):  # one colour more than limbs
        if min(body[a, 2], body[b, 2]) >= min_score:
            red, green, blue = (int(c * LIMB_SHADE) for c in colour)
            pen.polygon(_spindle(body[a, :2], body[b, :2], _LIMB_PX * scale), fill=(red, green, blue))
    for point, colour in zip(body, OPENPOSE_COLOURS, strict=True):
        if point[2] >= min_score:
            _dot(pen, point, _DOT_PX * scale, colour)


def _draw_hand(pen: ImageDraw.ImageDraw, hand: Points, min_score: float, scale: float) -> None:
    width = max(1, round(_FINGER_PX * scale))
    for edge, (a, b) in enumerate(HAND_EDGES):
        if min(hand[a, 2], hand[b, 2]) >= min_score:
            ends = [(float(hand[i, 0]), float(hand[i, 1])) for i in (a, b)]
            pen.line(ends, fill=hand_colour(edge), width=width)
    for point in hand:
        if point[2] >= min_score:
            _dot(pen, point, _DOT_PX * scale * 0.5, HAND_POINT)


def _dot(pen: ImageDraw.ImageDraw, point: Points, radius: float, colour: Colour) -> None:
    x, y = float(point[0]), float(point[1])
    pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)


def _spindle(a: Points, b: Points, radius: float) -> list[tuple[float, float]]:
    """Return the outline of the ellipse whose long axis goes from `a` to `b` and whose half short axis is `radius`."""
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    along = (b - a) / 2
    length = max(float(np.hypot(*along)), 1e-6)
    across = np.array([-along[1], along[0]]) / length * radius
    outline = (a + b) / 2 + np.cos(angle)[:, None] * along + np.sin(angle)[:, None] * across
    return [(float(x), float(y)) for x, y in outline]
