"""What the configs of a Wan base say, checked: is it one that the composite can be given to as it is?"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, get_args

from model import weights
from model.backbone import BackboneError, BackboneSpec
from model.geometry import Placement

SETTINGS: Final = "bodydouble.json"
FRAMES_AT_A_TIME: Final = 4  # after the first: so AutoencoderKLWan encodes, whatever its temporal stride
_LORA_TARGETS: Final = ("ffn.net.0.proj", "ffn.net.2")  # not condition_embedder.*: text and image branches stay as are


@dataclass(frozen=True)
class Settings:
    """What diffusers' configs do not say of a base: its rate, the size it was made for (of one half), its shift, the
    side of the tiles in which its VAE works (`model.tiles`; 0: the whole picture at once), where the driving skeleton
    stands, and the deviation of each latent channel (`model.preconditioning`; empty: 1, and the plain velocity)."""

    fps: int
    prefix_frames: int
    shift: float
    height_px: int
    width_px: int
    frames: int
    tile_px: int = 0
    placement: Placement = "fitted"
    deviation: tuple[float, ...] = ()


# the paper's one second of blank driving frames, rounded to the temporal stride; a third of it for `tiny`, whose 21
# frames would else show little. Shift 3 is Wan's at 480p; few tokens want none
SETTINGS_OF: Final = {
    "tiny": Settings(fps=12, prefix_frames=4, shift=1.0, height_px=64, width_px=64, frames=21, tile_px=32),
    "wan-i2v": Settings(fps=16, prefix_frames=16, shift=3.0, height_px=480, width_px=832, frames=81),
}


def settings_of(folder: Path, name: str) -> Settings:
    """Return the settings in a folder's `bodydouble.json`, or, where a published base has none, those of its name.

    Raises:
        UserError: The file is of another backbone, or lacks a value or has one of another type.
    """
    path = folder / SETTINGS
    if not path.exists():
        if name in SETTINGS_OF:
            return SETTINGS_OF[name]
        raise BackboneError(f"{path} is missing, and nothing is known of the backbone {name!r}; write one")
    found = weights.read_json(path)
    if found.get("name") != name:
        raise BackboneError(f"{path} is of the backbone {found.get('name')!r}, and {name!r} is wanted")
    placement = found.get("placement", "fitted")
    if placement not in get_args(Placement):
        raise BackboneError(f"{path} says placement is {placement!r}, and fitted or aligned is wanted")
    deviation = found.get("deviation", [])
    if not isinstance(deviation, list) or not all(isinstance(each, float) and each > 0 for each in deviation):
        raise BackboneError(f"{path} says deviation is {deviation!r}, and a list of numbers above 0 is wanted")
    numbers = [field for field in fields(Settings) if field.name not in ("placement", "deviation")]
    for field in numbers:
        value = found.get(field.name)
        if isinstance(value, bool) or not isinstance(value, (int, float) if field.type is float else int):
            raise BackboneError(f"{path} says {field.name} is {value!r}, and {field.type.__name__} is wanted")  # type: ignore[union-attr]
    known = {field.name: found[field.name] for field in numbers}
    return Settings(**known, placement=placement, deviation=tuple(deviation))


def check_experts(folder: Path) -> None:
    """Refuse a base of two transformers, of which one alone would be half a model.

    Raises:
        UserError: There is a second one.
    """
    if (folder / "transformer_2").is_dir():
        raise BackboneError(
            f"{folder} is a base of two experts (transformer_2, as in Wan2.2-I2V-A14B), and only bases of one "
            f"transformer are taken; use one such as Wan2.1-I2V-14B"
        )


def spec_of(transformer: Mapping[str, Any], vae: Mapping[str, Any], settings: Settings) -> BackboneSpec:
    """Return the spec of a base from its two configs, which have been checked."""
    patch = transformer["patch_size"]
    return BackboneSpec(
        latent_channels=vae["z_dim"],
        spatial_stride=vae["scale_factor_spatial"],
        temporal_stride=vae["scale_factor_temporal"],
        patch=(patch[0], patch[1], patch[2]),
        prefix_frames=settings.prefix_frames,
        fps=settings.fps,
        shift=settings.shift,
        channels=("noise", "mask", "cond"),
        mask_packing="wan",
        lora_targets=_LORA_TARGETS,
        takes_image=transformer["image_dim"] is not None,
        max_positions=transformer["rope_max_seq_len"],
        height_px=settings.height_px,
        width_px=settings.width_px,
        frames=settings.frames,
        placement=settings.placement,
        halves_apart=settings.tile_px > 0,  # a tile lies in one half
    )


def check_configs(transformer: Mapping[str, Any], vae: Mapping[str, Any]) -> None:
    """Check that a transformer takes the composite of this VAE's latents.

    Raises:
        UserError: One is not made for the other, or the base is not image to video.
    """
    z, taken, given = (
        vae["z_dim"],
        transformer["in_channels"],
        transformer["out_channels"] or transformer["in_channels"],
    )
    if given != z:
        raise BackboneError(
            f"the transformer predicts {given} channels (out_channels) and the VAE's latents have {z} (z_dim); "
            f"take both from the same base"
        )
    mask = vae["scale_factor_temporal"]  # one channel for each frame of a latent frame
    wanted = 2 * z + mask
    if taken == given:
        raise BackboneError(
            f"this is a text-to-video base: its transformer takes {taken} channels, noise alone; an image-to-video "
            f"base is needed, which takes {wanted}: noise {z}, mask {mask}, condition {z}"
        )
    if taken != wanted:
        raise BackboneError(
            f"the transformer takes {taken} channels (in_channels), and an image-to-video base with this VAE takes "
            f"{wanted}: noise {z}, mask {mask}, condition {z}"
        )
    if transformer["pos_embed_seq_len"] is not None:
        raise BackboneError(
            "this base wants a first and a last picture (pos_embed_seq_len); take one that wants a first"
        )
    _check_vae(vae)


def _check_vae(vae: Mapping[str, Any]) -> None:
    z, patch, levels = vae["z_dim"], vae["patch_size"] or 1, len(vae["dim_mult"]) - 1
    for name in ("latents_mean", "latents_std"):
        if len(vae[name]) != z:
            raise BackboneError(
                f"the VAE's config has {len(vae[name])} values of {name} for {z} latent channels (z_dim)"
            )
    if vae["in_channels"] != 3 * patch**2 or vae["out_channels"] != 3 * patch**2:
        raise BackboneError(
            f"the VAE takes {vae['in_channels']} channels and gives {vae['out_channels']}, and with patch_size "
            f"{vae['patch_size']} both must be {3 * patch**2}"
        )
    spatial, temporal = patch * 2**levels, 2 ** sum(vae["temperal_downsample"][:levels])
    if (vae["scale_factor_spatial"], vae["scale_factor_temporal"]) != (spatial, temporal):
        raise BackboneError(
            f"the VAE's config says strides of {vae['scale_factor_spatial']} px and {vae['scale_factor_temporal']} "
            f"frames, and its levels make {spatial} and {temporal}; correct scale_factor_spatial and _temporal"
        )
    if FRAMES_AT_A_TIME % temporal:
        raise BackboneError(
            f"the VAE's temporal stride is {temporal}, and AutoencoderKLWan encodes {FRAMES_AT_A_TIME} frames at a time"
        )


_CLASS: Final = "AutoencoderKLWan"
