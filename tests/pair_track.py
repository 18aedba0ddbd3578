"""A small run of real files through every real stage, from two clips to shards: theatre's figures, the small pose
estimator, a Wan with random weights, the rules."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from click.testing import CliRunner, Result
from PIL import Image

from manifests.media import Video, write_mp4
from manifests.theatre.cast import draw
from manifests.theatre.scene import render
from pipeline.__main__ import main
from tests.model.small import tiny

SIDE_PX, FPS, FRAMES = 128, 12.0, 13
MEMBERS = {"sources": ("Ann", "Bob", "Cid"), "characters": ("doll", "clown")}
SAID = "path,licence,consent,origin,identity,domain\n"
POSE = {"adapter": "theatre", "min_person_px": 0, "min_person_share": 0.0}


def call(*arguments: object, code: int = 0) -> Result:
    """Run a command in this process, as a user types it."""
    result = CliRunner().invoke(main, [str(each) for each in arguments])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.stderr
    return result


def files(folder: Path) -> Iterator[tuple[str, str, str]]:
    """Write clips and pictures; give the table, file name and person of each."""
    folder.mkdir(parents=True)
    for number, name in enumerate(MEMBERS["sources"]):
        frames = render(draw(5, number, "held_out", "easy"), FRAMES, FPS, SIDE_PX, SIDE_PX).frames
        write_mp4(Video(frames, FPS), folder / f"{name}.mp4")
        yield "sources", f"{name}.mp4", name
    for number, name in enumerate(MEMBERS["characters"]):
        frame = render(draw(5, 50 + number, "held_out", "easy"), 1, FPS, SIDE_PX, SIDE_PX).frames[0]
        Image.fromarray(frame).save(folder / f"{name}.png")
        yield "characters", f"{name}.png", name


def prepare(folder: Path, **fields: Any) -> Path:
    """Write files, weights, lists and a config; import, and return the config. Consent to the last source is not
    known."""
    lists = {"sources": SAID, "characters": SAID}
    for table, file, name in files(folder / "files"):
        domain = "human" if table == "sources" else "cartoon"
        consent = "unknown" if name == MEMBERS["sources"][-1] else "granted"
        lists[table] += f"{file},CC-BY-4.0,{consent},page of {name},{name},{domain}\n"
    tiny().save(folder / "weights")
    for table, text in lists.items():
        listed = folder / "files" / f"{table}.csv"
        listed.write_text(text)
        call("import", table, listed, "--root", folder / "root")
    return write_config(folder, **fields)


def write_config(folder: Path, **fields: Any) -> Path:
    """Write the run."""
    plain = {"min_size_px": 16, "min_sharpness": 0, "min_motion": 0, "min_frames": 5, "max_still_frames": 1}
    data = {
        "root": str(folder / "root"), "commit_every": 2,
        "pairs": {"per_source": 2, "domains": {"cartoon": 1.0}},
        "stages": {
            "sources": {"probe": plain, "skeleton": POSE, "prompt": {}},
            "characters": {"probe": {"min_size_px": 16}, "skeleton": POSE, "prompt": {}},
            "pairs": {
                "prompt": {"batch_size": 2},
                "render": {"weights": str(folder / "weights"), "steps": 2, "batch_size": 1, "size_px": [32, 32]},
                "measure": {"adapter": "theatre", "moments": 3, "embedded": 1}, "judge": {"batch_size": 2},
            },
        },
        "pack": {"samples_per_shard": 2, "kinds": ["reverse", "forward", "self"]}, **fields,
    }  # fmt: skip
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(data, sort_keys=False))
    return path
