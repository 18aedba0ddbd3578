"""A small root that can be packed: real clips, pictures, skeletons, pseudo videos, and outcomes as stages leave them.

The stages here stand for those of the pairs track: what they would make is put under their keys, as a run does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import yaml
from PIL import Image

from manifests import ledger
from manifests.keys import sha256_of_file
from manifests.lease import Lease
from manifests.ledger import Committer, Outcome
from manifests.media import Video
from manifests.pairs import pair_id
from manifests.rows import id_of_picture, id_of_segment
from manifests.schema import PAIRS, TABLES
from manifests.segments import Segment
from manifests.store import Store, as_record
from manifests.tables import Tables
from pipeline.config import Run, build
from pipeline.plan import TrackPlan, plan_run
from stages.stage import Reject, Row, Stage, StageConfig
from tests.clips import stamped, write_clip

WIDTH, HEIGHT, FPS = 64, 48, 10.0
GIVEN = {
    "licence": "CC-BY-4.0", "licences": ["CC-BY-4.0"], "consent": "granted", "consents": ["granted"],
    "origins": ["a page"], "tags": ["dance"],
}  # fmt: skip


class Skeleton(Stage[StageConfig]):
    """Stands for what finds keypoints."""

    needs = ("source",)
    makes = ("skeleton", "people", "act")

    def __call__(self, rows: Sequence[Row]) -> list[Row | Reject]:
        raise AssertionError("the tests write its outcomes themselves")


class Render(Skeleton):
    """Stands for the teacher."""

    needs = ("source", "character")
    makes = ("pseudo", "prompt", "seed")


class Judge(Skeleton):
    """Stands for what judges: a number, one in a field, words, and a raw answer that is long."""

    needs = ("source", "character", "pseudo")
    makes = ("motion", "judge", "judge_model", "answer")


STAGES = {
    "sources": {"skeleton": {"use": f"{__name__}:Skeleton"}},
    "pairs": {"render": {"use": f"{__name__}:Render"}, "judge": {"use": f"{__name__}:Judge"}},
}


@dataclass
class Small:
    """A root, its config, and the rows in it."""

    root: Path
    sources: list[str]
    characters: list[str]
    pairs: list[str]
    config: dict[str, Any]

    def run(self, **fields: Any) -> Run:
        """Return the run, with other fields."""
        return build({**self.config, **fields})

    def write(self, path: Path, **fields: Any) -> Path:
        """Write the run as YAML."""
        path.write_text(yaml.safe_dump({**self.config, **fields}, sort_keys=False))
        return path


def frames_of(number: int, frames: int) -> np.ndarray:
    """Return the true frames of a source, uint8 [T, H, W, 3]."""
    return stamped(frames + 4, WIDTH, HEIGHT, seed=number)


def pseudo_of(number: int, frames: int) -> np.ndarray:
    """Return the frames of a pair's pseudo video: not those of any source."""
    return 255 - stamped(frames, WIDTH, HEIGHT, seed=100 + number)


def make(folder: Path, sources: int = 4, characters: int = 3, frames: tuple[int, ...] = (5, 9), **fields: Any) -> Small:
    """Make clips in `folder/clips`, and a root `folder/root` in which each source has a pair with each character."""
    root, clips = folder / "root", folder / "clips"
    clips.mkdir(parents=True, exist_ok=True)
    lengths = [frames[number % len(frames)] for number in range(sources)]
    made = [_source(clips, number, lengths[number]) for number in range(sources)]
    cast = [_character(clips, number) for number in range(characters)]
    tables = Tables(root)
    for table, rows in (("sources", made), ("characters", cast)):
        tables.upsert(table, pa.Table.from_pylist(rows, schema=TABLES[table]))
    couples = [(one["id"], other["id"]) for one in made for other in cast]
    rows = [{"id": pair_id(*couple), "source": couple[0], "character": couple[1]} for couple in couples]
    tables.upsert("pairs", pa.Table.from_pylist(rows, schema=PAIRS))
    config = {"root": str(root), "pack": {"samples_per_shard": 3}, "stages": STAGES, **fields}
    ids = [row["id"] for row in made], [row["id"] for row in cast], [row["id"] for row in rows]
    small = Small(root, *ids, config)
    settle(small, lengths)
    return small


def settle(small: Small, lengths: Sequence[int]) -> None:
    """Put what the stages make of every row under their keys, and write it to the ledger."""
    run, tables, store = small.run(), Tables(small.root), Store(str(small.root))
    with Lease.take(str(small.root), "a test", above=ledger.highest_epoch(tables)) as lease:
        committer = Committer(tables, lease.epoch, every=10**6, every_s=10**6)
        sources, pairs = plan_run(run, tables, ledger.Fold())
        for number, source in enumerate(small.sources):
            skeleton = np.random.default_rng(number).random((lengths[number], 1, 133, 3), np.float32)
            made = {"people": 1, "act": f"waves {number} times"}
            put(committer, store, sources, "skeleton", source, made, {"skeleton": skeleton})
        for number, pair in enumerate(small.pairs):
            frames = lengths[number // len(small.characters)]
            video = Video(pseudo_of(number, frames), FPS)
            made = {"prompt": f"a figure of kind {number}", "seed": 7 * number}
            put(committer, store, pairs, "render", pair, made, {"pseudo": video})
            scores = {"motion": number / 10, "judge": {"identity": 1 + number % 5, "why": "it fits"}}
            put(committer, store, pairs, "judge", pair, scores | {"judge_model": "rules-1", "answer": "x" * 5000}, {})
        committer.flush()


def put(
    committer: Committer,
    store: Store,
    plan: TrackPlan,
    stage: str,
    item: str,
    made: dict[str, Any],
    files: dict[str, Any],
) -> None:
    """Do what a worker and the driver do with what a stage gave."""
    number = [spec.name for spec in plan.specs].index(stage)
    key = plan.keys[number][plan.rows["id"].to_pylist().index(item)]
    artifacts = [as_record(store.put(stage, key, column, value)) for column, value in files.items()]
    with_ = {"recipe": plan.specs[number].digest, "code": "0.1.0", "device": "a test"}
    if artifacts:
        store.put_record(stage, key, {"made": made, "artifacts": artifacts, "seconds": 0.0, "made_with": with_})
    committer.add(Outcome(key, plan.track, item, stage, ledger.DONE, made=made, artifacts=artifacts, made_with=with_))


def given(file: Path, name: str, domain: str) -> dict[str, Any]:
    """Return the columns that an import writes of what was said of a file."""
    return {
        **GIVEN, "file": str(file), "file_sha256": sha256_of_file(file), "file_bytes": file.stat().st_size,
        "origins": [f"page of {name}"], "identity": name, "domain": domain,
    }  # fmt: skip


def _source(clips: Path, number: int, frames: int) -> dict[str, Any]:
    """Write a film two frames longer at both ends than its segment, and return the segment's row."""
    file = write_clip(clips / f"film {number}.mp4", frames_of(number, frames), fps=FPS)
    segment = Segment(2 / FPS, FPS, frames)
    about = given(file, f"person {number}", "human")
    return about | {
        "id": id_of_segment(about["file_sha256"], segment, None), "start_s": 2 / FPS, "fps": FPS, "frames": frames,
        "width": WIDTH, "height": HEIGHT, "file_fps": FPS, "file_frames": frames + 4, "has_audio": False,
        "file_duration_s": (frames + 4) / FPS, "variable_fps": False, "rotation": 0, "codec": "h264",
        "pixel_format": "yuv420p",
    }  # fmt: skip


def _character(clips: Path, number: int) -> dict[str, Any]:
    file = clips / f"picture {number}.png"
    Image.fromarray(stamped(1, WIDTH, HEIGHT, seed=200 + number)[0]).save(file)
    about = given(file, f"drawing {number}", "cartoon")
    return about | {"id": id_of_picture(about["file_sha256"], None), "width": WIDTH, "height": HEIGHT}
