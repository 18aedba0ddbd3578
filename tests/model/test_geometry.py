"""Sizes in pixels, latent cells and tokens, against a convolution's own arithmetic and a search over all sizes."""

import re
from itertools import count
from math import prod

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.geometry import Geometry, GeometryError

EMBEDDED = {"height_px": 64, "width_px": 64, "frames": 21, "prefix_frames": 4, "fps": 8}

geometries = st.builds(
    lambda stride, temporal, patch, rows, columns, time, prefix, fps: Geometry(
        height_px=stride * patch[1] * rows,
        width_px=stride * patch[2] * columns,
        frames=temporal * patch[0] * (time + prefix) - temporal + 1,
        prefix_frames=temporal * patch[0] * prefix - temporal if prefix else 0,
        fps=fps,
        spatial_stride=stride,
        temporal_stride=temporal,
        patch=patch,
    ),
    stride=st.sampled_from([1, 8, 16]),
    temporal=st.sampled_from([1, 4, 8]),
    patch=st.sampled_from([(1, 2, 2), (1, 1, 1), (2, 2, 4)]),
    rows=st.integers(1, 8),
    columns=st.integers(1, 8),
    time=st.integers(1, 6),
    prefix=st.integers(0, 3),
    fps=st.integers(1, 60),
)


def test_the_paper_s_size_makes_65520_tokens() -> None:
    assert Geometry(480, 832, 81, 16, 16).tokens == 65_520


def test_the_embedded_size_is_six_latent_frames_of_8_by_16_and_192_tokens() -> None:
    g = Geometry(**EMBEDDED)
    assert (g.latent_frames, g.latent_height, g.latent_width, g.composite_latent_width) == (6, 8, 8, 16)
    assert (g.composite_width_px, g.output_frames, g.tokens) == (128, 17, 192)


@given(geometries)
@settings(deadline=None, max_examples=60)
def test_tokens_are_as_many_as_a_patch_embedding_makes_of_the_composite_s_latents(g: Geometry) -> None:
    latents = torch.empty(1, 1, g.latent_frames, g.latent_height, g.composite_latent_width, device="meta")
    kernel = torch.empty(1, 1, *g.patch, device="meta")
    assert prod(torch.nn.functional.conv3d(latents, kernel, stride=g.patch).shape) == g.tokens


@given(geometries)
@settings(deadline=None, max_examples=60)
def test_the_seam_lies_between_tokens_and_the_output_is_as_encodable_as_the_input(g: Geometry) -> None:
    assert g.latent_width % g.patch[2] == 0
    assert g.output_frames >= 1
    assert (g.output_frames - 1) % g.temporal_stride == 0
    assert g.latent_width * g.spatial_stride == g.width_px
    assert g.latent_height * g.spatial_stride == g.height_px


def fits(**changes: object) -> bool:
    try:
        Geometry(**{**EMBEDDED, **changes})  # type: ignore[arg-type]
    except GeometryError:
        return False
    return True


def named(message: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", message.partition("nearest")[2])]


def nearest(name: str, value: int, **others: object) -> list[int]:
    """Search outwards for the values that fit."""
    for distance in count():
        found = [at for at in (value - distance, value + distance) if fits(**{name: at}, **others)]
        if found:
            return sorted(set(found))
    raise AssertionError


@given(
    frames=st.integers(1, 130), prefix=st.integers(0, 8), temporal=st.sampled_from([1, 2, 4]), time=st.integers(1, 3)
)
@settings(deadline=None, max_examples=150)
def test_frames_fit_only_as_4k_plus_1_after_the_prefix_and_a_refusal_names_the_nearest(
    frames: int, prefix: int, temporal: int, time: int
) -> None:
    others = {"prefix_frames": prefix * temporal, "temporal_stride": temporal, "patch": (time, 2, 2)}
    latent_frames, rest = divmod(frames - 1, temporal)
    right = rest == 0 and (latent_frames + 1) % time == 0 and frames > prefix * temporal
    assert fits(frames=frames, **others) == right
    if not right:
        with pytest.raises(GeometryError, match=f"frames is {frames}\\b") as refused:
            Geometry(**{**EMBEDDED, **others, "frames": frames})  # type: ignore[arg-type]
        if "nearest" in str(refused.value):
            assert named(str(refused.value)) == nearest("frames", frames, **others)


@given(side=st.integers(1, 400), name=st.sampled_from(["height_px", "width_px"]), stride=st.sampled_from([8, 16]))
@settings(deadline=None, max_examples=100)
def test_a_side_that_is_no_multiple_of_stride_and_patch_is_refused_with_the_nearest(
    side: int, name: str, stride: int
) -> None:
    # the other side is 64: a multiple of both
    if side % (2 * stride) == 0:
        assert fits(**{name: side}, spatial_stride=stride)
        return
    with pytest.raises(GeometryError, match=f"{name} is {side}; it must be a multiple of {2 * stride}") as refused:
        Geometry(**{**EMBEDDED, name: side, "spatial_stride": stride})  # type: ignore[arg-type]
    assert named(str(refused.value)) == nearest(name, side, spatial_stride=stride)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"prefix_frames": 6}, "prefix_frames is 6; it must be a multiple of the temporal stride 4; .* 4 and 8"),
        ({"prefix_frames": 7}, "prefix_frames is 7; .* the nearest is 8"),
        ({"prefix_frames": 1}, "prefix_frames is 1; .* the nearest is 0"),
        ({"prefix_frames": 24}, "frames is 21 and prefix_frames 24: nothing would be left .* at least 25 frames"),
        ({"frames": 20}, r"frames is 20; it must be 4k \+ 1, prefix included; the nearest is 21"),
        ({"frames": 23}, "frames is 23; .* the nearest are 21 and 25"),
        ({"frames": 0}, "frames is 0; it must be a whole number, 1 or more"),
        ({"frames": 21.0}, "frames is 21.0; it must be a whole number"),
        ({"frames": True}, "frames is True; it must be a whole number"),
        ({"height_px": -64}, "height_px is -64; it must be a whole number, 1 or more"),
        ({"prefix_frames": -4}, "prefix_frames is -4; it must be a whole number, 0 or more"),
        ({"spatial_stride": 0}, "spatial_stride is 0; it must be a whole number, 1 or more"),
        ({"fps": 0}, "fps is 0; it must be a whole number, 1 or more"),
        ({"patch": (2, 2)}, r"patch is \(2, 2\); it must be three numbers: time, height, width"),
        ({"patch": (1, 0, 2)}, "patch is 0; it must be a whole number, 1 or more"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(changes: dict[str, object], said: str) -> None:
    with pytest.raises(GeometryError, match=f"^{said}"):
        Geometry(**{**EMBEDDED, **changes})  # type: ignore[arg-type]


def test_one_frame_without_a_prefix_is_a_clip_of_one_latent_frame() -> None:
    g = Geometry(**{**EMBEDDED, "frames": 1, "prefix_frames": 0})
    assert (g.latent_frames, g.output_frames) == (1, 1)
