"""What is kept on disk under a key names the version of the code that made it: a stage's, or what trainings render and
encode. When that code changes, it gets a new version, or someone writes down that its results did not change.

`stage_versions.json` holds for each of them its version and the digest of its code, comments left out. When
the code changed: raise `version` in the stage, `RENDERED` or `EXAMPLE` (the results are made again), or, if the results
are the same, leave it; then run `make acknowledge`.
"""

import hashlib
import json
from pathlib import Path

import pytest

from model.training.cache import EXAMPLE
from model.training.theatre_clips import RENDERED
from stages import STAGES, pack, resolve

FILE = Path(__file__).parent / "stage_versions.json"
ROOT = Path(__file__).parents[2]
# what a stage's results hang on beside its own file
ALSO = {
    "probe": ["manifests/media.py", "manifests/decoding.py"],
    "skeleton": [
        "manifests/media.py", "manifests/decoding.py", "model/skeleton.py",
        *(f"stages/{p.name}" for p in sorted((ROOT / "stages").glob("skeleton_*.py"))),
        "stages/tracking.py", "stages/looks.py",
    ],
    "prompt": ["stages/prompt_motion.py", "stages/prompt_look.py"],
    "render": [
        "model/animate.py", "model/composite.py", "model/driving.py", "model/framing.py", "model/pacing.py",
        "model/placement.py", "model/sampler.py", "model/skeleton.py", "model/windows.py", "manifests/media.py",
        "stages/reference_figures.py",
    ],
    "measure": [f"stages/{p.name}" for p in sorted((ROOT / "stages").glob("measure_*.py"))] + ["stages/embedding.py"],
    "judge": ["stages/judge_rules.py"],
}  # fmt: skip


THEATRE = sorted(f"manifests/theatre/{p.name}" for p in (ROOT / "manifests/theatre").glob("*.py") if p.stem != "sheet")
KEPT = {
    "training.clips": (RENDERED, ["model/training/theatre_clips.py", *THEATRE]),
    "pack": (pack.VERSION, [
        "stages/pack.py", "manifests/shards/tar.py", "manifests/shards/index.py", "manifests/shards/writing.py",
        "manifests/media.py",
    ]),
    "training.latents": (EXAMPLE, [
        "model/training/cache.py", "model/training/examples.py", "model/bones.py", "model/skeleton.py",
        "model/composite.py", "model/driving.py", "model/placement.py",
    ]),
}  # fmt: skip


def code_digest(files: list[str]) -> str:
    """Digest of the code without blank lines and lines that are all comment: the same on every Python."""
    whole = hashlib.sha256()
    for file in files:
        lines = (line.rstrip() for line in (ROOT / file).read_text().splitlines())
        whole.update("\n".join(line for line in lines if line and not line.lstrip().startswith("#")).encode())
    return whole.hexdigest()[:32]


def state_of_the_code() -> dict[str, dict[str, object]]:
    state = {}
    for track, listed in STAGES.items():
        for name, use in listed.items():
            file = use.partition(":")[0].replace(".", "/") + ".py"
            state[f"{track}.{name}"] = {
                "version": resolve(use).version,
                "code": code_digest([file, *ALSO.get(name, [])]),
            }
    for name, (version, files) in KEPT.items():
        state[name] = {"version": version, "code": code_digest(files)}
    return state


STAGE_NAMES = [f"{track}.{name}" for track, listed in STAGES.items() for name in listed]


@pytest.mark.parametrize("stage", sorted([*STAGE_NAMES, *KEPT]))
def test_a_stages_code_changes_only_with_its_version_or_an_acknowledgement(stage):
    written, now = json.loads(FILE.read_text()).get(stage), state_of_the_code()[stage]
    assert written == now, f"{stage} changed: raise its `version` if its results change, then `make acknowledge`"


if __name__ == "__main__":
    FILE.write_text(json.dumps(state_of_the_code(), indent=2) + "\n")
