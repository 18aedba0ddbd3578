"""One shard's work: all that is needed to write it, handed to a process that does, and what comes back."""

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from manifests import faults, ledger
from manifests.children import Child, ChildDied, how_it_ended
from manifests.errors import UserError
from manifests.files import files_of
from manifests.ledger import Outcome
from manifests.media import Clip, Picture
from manifests.shards.index import Line
from manifests.shards.plan import Group
from manifests.shards.writing import adopted, write_shard
from manifests.tables import Tables
from pipeline.config import RunConfig
from pipeline.outcome_prints import Made, made_of
from pipeline.pack_plan import PackPlan, PlannedShard, recipe_of
from pipeline.pack_sides import SAID, SEGMENT, Side
from pipeline.pair_config import flattened
from stages.pack import Origins, Packer, Unfit

_LONGEST_TEXT: Final = 1000  # characters: a longer one is a raw answer, which stays in the ledger
_STAGE: Final = "pack"


class PackDied(UserError):
    """A process that wrote a shard died; what was written before is kept."""

    exit_code = 1


@dataclass(frozen=True)
class Job:
    """A shard to write; `makers` says of an artifact's address which outcome to call lost if it is."""

    id: str
    key: str
    name: str
    folder: str
    group: Group
    number: int
    reference_frame: Any
    samples: tuple[Origins, ...]
    makers: Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class Problem:
    """Why a sample could not be packed; `lost` is the outcome to write, if an artifact is to be made again."""

    sample: str
    reason: str
    detail: str
    lost: Outcome | None = None

    def as_json(self) -> dict[str, str]:
        """Return it as `--json` prints it."""
        return {"sample": self.sample, "reason": self.reason, "detail": self.detail}


@dataclass(frozen=True)
class Written:
    """What became of a shard: its line of the index, or problems."""

    line: Line | None
    adopted: bool = False
    seconds: float = 0.0
    problems: tuple[Problem, ...] = field(default=())


class Jobs:
    """Makes jobs of planned shards: reads rows and outcomes of many at once."""

    def __init__(self, plan: PackPlan, tables: Tables, folder: str) -> None:
        self._plan, self._tables, self._folder = plan, tables, folder
        stages = [spec for specs in plan.run.tracks.values() for spec in specs]
        self._configs = {
            kind: {"pack": plan.run.config.pack.recipe, "digest": recipe_of(plan.run, kind)} for kind in set(plan.kind)
        }
        self._recipes = {spec.digest: {"digest": spec.digest, **spec.recipe} for spec in stages}

    def of(self, shards: Sequence[PlannedShard]) -> Iterator[Job]:
        """Give the jobs of some shards."""
        plan = self._plan
        samples = [sample for shard in shards for sample in shard.samples.tolist()]
        rows = {plan.source[sample] for sample in samples}
        self._sources = self._members(plan.sources, rows)
        self._characters = self._members(plan.characters, {plan.character[sample] for sample in samples} - {-1})
        columns = [plan.sources.place[self._sources[row]["id"]] for row in rows]
        keys = {stage[column] for stage in plan.sources.keys for column in columns}
        self._of_sources = made_of(self._tables, "sources", keys)
        pairs = {plan.pair[sample] for sample in samples} - {-1}
        self._of_pairs = made_of(self._tables, "pairs", {stage[pair] for stage in plan.pairs.keys for pair in pairs})
        for shard in shards:
            makers: dict[str, dict[str, str]] = {}
            origins = tuple(self._origins(sample, makers) for sample in shard.samples.tolist())
            frame = plan.run.config.pack.reference_frame
            yield Job(shard.id, shard.key, shard.name, self._folder, shard.group, shard.number, frame, origins, makers)

    def _members(self, side: Side, rows: set[int]) -> dict[int, dict[str, Any]]:
        listed = sorted(rows)
        return dict(zip(listed, side.rows.take(pa.array(listed, pa.int64())).to_pylist(), strict=True))

    def _origins(self, sample: int, makers: dict[str, dict[str, str]]) -> Origins:
        plan = self._plan
        kind, row = plan.kind[sample], plan.row[sample]
        source = self._sources[plan.source[sample]]
        character = self._characters.get(plan.character[sample])
        place = plan.sources.place[source["id"]]
        of_source = [stage[place] for stage in plan.sources.keys]
        of_pair = [stage[plan.pair[sample]] for stage in plan.pairs.keys] if plan.pair[sample] >= 0 else []
        about: dict[str, Any] = {"source": _said(source, (*SAID, *SEGMENT))}
        skeleton, pseudo, stages = None, None, {}
        texts: dict[str, str] = {}
        for track, specs, keys, made in (
            ("sources", plan.sources.specs, of_source, self._of_sources),
            ("pairs", plan.pairs.specs, of_pair, self._of_pairs),
        ):
            for spec, key in zip(specs, keys, strict=False):
                if key not in made:
                    continue  # a stage behind the one that is needed
                found = made[key]
                stages[f"{track}.{spec.name}"] = {**self._recipes[spec.digest], "key": key, "code": found.code}
                skeleton = found.artifacts.get("skeleton", skeleton) if track == "sources" else skeleton
                pseudo = found.artifacts.get("pseudo", pseudo)
                texts |= _texts(found)
                item = source["id"] if track == "sources" else row
                named = {"key": key, "track": track, "item": item, "stage": spec.name}
                makers |= {each.address: {**named, "column": each.column} for each in found.artifacts.values()}
                if track == "pairs":
                    about.setdefault("scores", {}).update(_numbers(found))
                    if pseudo is not None and "pseudo" in found.artifacts:
                        seed = {"seed": found.columns["seed"]} if "seed" in found.columns else {"seed_from": "key"}
                        about["pseudo"] = {"sha256": pseudo.sha256, "key": key, "synthetic": True, **seed}
        if kind != "self":
            assert character is not None
            about |= {"pair": row, "character": _said(character, SAID)}
        about |= {"prompt": texts.pop("prompt", None), "texts": texts, "stages": stages, "config": self._configs[kind]}
        clip = Clip(source["file"], source["start_s"], source["fps"], source["frames"], _crop(source))
        picture = Picture(character["file"], _crop(character)) if character else None
        return Origins(
            kind, plan.key_of(sample), row, plan.digests[sample], clip, source["file_sha256"], skeleton,
            None if kind == "self" else pseudo, picture, character["file_sha256"] if character else None, about,
        )  # fmt: skip


def _said(row: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: row[name] for name in names}


def _crop(row: Mapping[str, Any]) -> Any:
    return tuple(row["crop"]) if row["crop"] else None


def _numbers(made: Made) -> dict[str, float]:
    """Return what a stage measured: numbers by name, those in fields as `column.field`."""
    flat = flattened(made.columns, "")
    return {
        name: value
        for name, value in flat
        if isinstance(value, int | float) and not isinstance(value, bool) and name != "seed"
    }


def _texts(made: Made) -> dict[str, str]:
    flat = flattened(made.columns, "")
    return {name: value for name, value in flat if isinstance(value, str) and len(value) <= _LONGEST_TEXT}


class ShardWriter:
    """Writes shards, in this process or in a child; a callable that travels."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._packer: tuple[Any, Packer] | None = None

    def __call__(self, job: Job) -> Written:
        """Write a shard, or adopt one that is there whole."""
        started = time.monotonic()
        files = files_of(self._root)
        known = adopted(files, job.folder, job.group, job.number, job.key)
        if known is not None:
            return Written(known, adopted=True)
        if self._packer is None or self._packer[0] != job.reference_frame:
            self._packer = job.reference_frame, Packer(self._root, job.reference_frame)
        packer = self._packer[1]
        faults.point("before_artifact", _STAGE)
        try:
            line = write_shard(files, job.folder, job.group, job.number, _samples(job, packer))
        except Unfit:
            return Written(None, problems=tuple(_problems(job, packer)))
        faults.point("after_artifact", _STAGE)
        return Written(line, seconds=time.monotonic() - started)


def _samples(job: Job, packer: Packer) -> Iterator[tuple[str, str, str, list[tuple[str, bytes]]]]:
    for number, sample in enumerate(job.samples):
        if number == len(job.samples) // 2:
            faults.point("in_tar", _STAGE)
        yield sample.key, sample.row, sample.digest, packer.parts(sample)


def _problems(job: Job, packer: Packer) -> Iterator[Problem]:
    """Give all that is wrong with a shard's samples: the first film that fails, and every artifact that is lost."""
    film_failed = False
    for sample in job.samples:
        try:
            packer.check(sample)
            if not film_failed:
                packer.parts(sample)
        except Unfit as error:
            film_failed |= error.address is None
            lost = None
            if error.address is not None:
                maker = job.makers[error.address]
                lost = Outcome(
                    maker["key"],
                    maker["track"],
                    maker["item"],
                    maker["stage"],
                    ledger.LOST,
                    maker["column"],
                    error.detail,
                )
            yield Problem(sample.row, error.reason, error.detail, lost)


def written_by(root: str, config: RunConfig, jobs: Iterator[Job]) -> Iterator[tuple[Job, Written]]:
    """Give each job with what became of it, as it is finished; in `config.workers` processes, or here if that is one.

    Raises:
        PackDied: a process died; its last words are in the message.
    """
    writer = ShardWriter(root)
    if config.workers == 1:
        yield from ((job, writer(job)) for job in jobs)
        return
    with tempfile.TemporaryDirectory(prefix="bodydouble-words-") as words:
        idle: list[Child] = []
        busy: dict[Child, Job] = {}
        try:
            for job in jobs:
                if len(busy) + len(idle) < config.workers and not idle:
                    idle.append(Child(writer, Path(words, f"{len(busy)}.log"), _begin))
                if not idle:
                    yield _answer(busy, idle)
                child = idle.pop()
                child.begin(job)
                busy[child] = job
            while busy:
                yield _answer(busy, idle)
        finally:
            for child in [*busy, *idle]:
                child.end()


def _begin() -> None:
    """Nothing is to be set up in a child."""


def _answer(busy: dict[Child, Job], idle: list[Child]) -> tuple[Job, Written]:
    """Wait for the next child that has finished, and make it idle."""
    while True:
        pipes = {child.pipe: child for child in busy}
        for pipe in wait(pipes):
            child = pipes[pipe]  # type: ignore[index]
            if not child.has_news():
                continue
            job = busy.pop(child)
            try:
                written: Written = child.answer()
            except ChildDied as died:
                raise PackDied(
                    f"the process that wrote {job.name} ended by {how_it_ended(died.code)}; what was finished is kept: "
                    f"run the same command again; its last words: {died.words or 'none'}"
                ) from died
            idle.append(child)
            return job, written
