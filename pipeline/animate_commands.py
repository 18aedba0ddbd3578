"""The command that puts the method to use: a picture and a clip in, a video out."""

from pathlib import Path
from typing import Any

import click
import yaml

from pipeline.terminal import bars, print_json

_file = click.Path(path_type=Path, dir_okay=False)


class _People(click.ParamType[Any]):
    """How many people: a number, or all."""

    name = "N|all"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "all":
            return value
        return click.IntRange(1, 16).convert(value, param, ctx)


class _Size(click.ParamType[Any]):
    """Width and height, px."""

    name = "WIDTHxHEIGHT"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        width, _, height = str(value).partition("x")
        if not (width.isdigit() and height.isdigit()):
            self.fail(f"{value!r} is no size; write it as 480x832", param, ctx)
        return int(width), int(height)


@click.command(short_help="Let a picture's figure move as a clip's person does.")
@click.argument("out", type=_file)
@click.option("--reference", required=True, type=_file, help="The picture: who is to move, and where.")
@click.option("--driving", type=_file, help="The clip: what they are to do.")
@click.option("--rgb", is_flag=True, help="The clip itself drives, no skeleton: for models of stage two.")
@click.option(
    "--backbone", default="tiny", show_default=True, help="tiny, wan-i2v, or one of your own: my_package.mine:Base."
)
@click.option(
    "--weights", type=click.Path(path_type=Path), help="Its folder, in diffusers' layout; of tiny, what ships."
)
@click.option(
    "--lora", "loras", multiple=True, type=click.Path(path_type=Path), help="A LoRA on it: file or folder. Repeatable."
)
@click.option("--prompt", default="", help="What is seen and what it does: the picture's look, the clip's motion.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0, 2**63 - 1), help="Of the noise.")
@click.option("--steps", default=30, show_default=True, type=click.IntRange(1, 1000), help="Of the sampler, a window.")
@click.option(
    "--guidance-text", default=1.0, show_default=True, help="Beyond what the model does without a prompt; 1 is off."
)
@click.option(
    "--guidance-driving", default=1.0, show_default=True, help="Beyond what it does without a motion; 1 is off."
)
@click.option(
    "--people",
    type=_People(),
    help="Follow this many people of the clip, the main one first. Needed if there are more.",
)
@click.option("--figures", type=click.IntRange(1, 16), help="How many the picture shows, if that is not seen.")
@click.option("--skeleton", default="mediapipe", show_default=True, help="What sees the people: mediapipe, dwpose, ...")
@click.option(
    "--skeleton-set", "sets", multiple=True, metavar="FIELD=VALUE", help="A field of the stage `skeleton`. Repeatable."
)
@click.option("--skeleton-file", type=_file, help="Points made elsewhere, .npy [T, P, 133, 3], in place of them.")
@click.option("--skeleton-fps", type=click.FloatRange(0, min_open=True), help="Their rate, if not the clip's.")
@click.option("--size", "size_px", type=_Size(), help="What is computed, if not the backbone's own size.")
@click.option("--window", "window_frames", type=click.IntRange(1), help="Frames computed at once, prefix included.")
@click.option(
    "--rate",
    type=click.Choice(["driving", "backbone"]),
    default="driving",
    show_default=True,
    help="Frames a second of the result: the clip's, or the backbone's.",
)
@click.option("--audio", is_flag=True, help="Copy the sound of the driving clip.")
@click.option("--sheet", type=_file, help="Also write a .png: what drove, and what came of it.")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, cuda:1; auto is cuda if there is one.")
@click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "bf16"]),
    default="auto",
    show_default=True,
    help="auto is bf16 on cuda.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what was made, and how long it took, as JSON.")
@click.option("--quiet", is_flag=True, help="No progress.")
def animate(
    out: Path, as_json: bool, quiet: bool, guidance_text: float, guidance_driving: float, sets: tuple[str, ...],
    **given: Any,
) -> None:  # fmt: skip
    """Write OUT.mp4: the figure of a picture, moving as the person in a clip does.

    \b
    bodydouble animate --reference picture.png --driving clip.mp4 out.mp4
    bodydouble animate --reference picture.png --driving clip.mp4 --audio --sheet out.png out.mp4
    bodydouble animate --reference two.png --driving dance.mp4 --people 2 out.mp4
    bodydouble animate --reference picture.png --skeleton-file pose.npy --skeleton-fps 30 out.mp4
    bodydouble animate --reference dog.png --driving cat.mp4 --rgb --lora end_to_end/ out.mp4
    bodydouble animate --reference photo.jpg --driving clip.mp4 --backbone wan-i2v --weights Wan2.1-I2V-14B-480P \\
        --lora pose_lora/ --guidance-text 5 out.mp4

    Nothing is fetched. The whole picture is fitted into the backbone's size, what is transparent on grey, and the
    result shows what the picture shows, at that size. The skeleton is placed by the box that holds it over the whole
    clip, and its bones keep their lengths, as in training: where the person stands in the clip does not matter, and
    the model is trained to take the build from the picture. With --rgb no pose estimator looks at the clip: whatever
    moves in it drives, which a model of stage two has learned to follow (`bodydouble train`, strategy rgb_driven).

    A clip that is longer than the backbone's window is made in windows that share about a quarter of their frames.
    Each begins with the reference; the shared part is made once, and given to the next window as known; in the shared
    frames one is faded into the other. A shorter clip is continued by holding its last frame, and cut afterwards.

    The backbone makes its own number of frames a second (tiny 12, wan-i2v 16), at which the motion is sampled. The
    result has the clip's rate and number of frames all the same, so that it lies frame for frame over the clip: each
    frame is held until the next. `--rate backbone` writes just the frames that were made.

    The file says in its comment that it is synthetic, which model made it, and of what. It is whole or not there.
    """
    from model.sampler import Guidance
    from pipeline.animate_order import Order
    from pipeline.animating import animate_files

    order = Order(
        out=out, skeleton_sets=_fields(sets), guidance=Guidance(guidance_text, guidance_driving), **given
    )  # fmt: skip
    with bars(quiet) as told:
        made = animate_files(order, told)
    if as_json:
        print_json({
            "out": str(made.out), "frames": made.frames, "fps": made.fps, "size_px": [made.width_px, made.height_px],
            "windows": made.windows, "seconds": dict(made.seconds),
        })  # fmt: skip
    elif not quiet:
        size, windows = f"{made.width_px}x{made.height_px} px", f"{made.windows} window{'s' * (made.windows != 1)}"
        click.echo(
            f"{made.out}: {made.frames} frames of {size}, {made.fps:g} a second, made in {windows} "
            f"and {sum(made.seconds.values()):.1f} s"
        )


def _fields(sets: tuple[str, ...]) -> dict[str, Any]:
    """Return the fields of the stage `skeleton` that were given as FIELD=VALUE."""
    fields = {}
    for text in sets:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise click.BadParameter(f"{text!r}: write it as min_seen_share=0.5", param_hint="--skeleton-set")
        try:
            fields[name] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise click.BadParameter(f"{text!r}: the value is no YAML", param_hint="--skeleton-set") from error
    return fields
