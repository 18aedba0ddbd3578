"""Packing: the plan is worked off shard by shard under the lease, and the index is written last of all.

A shard is an item of the ledger: its key is the digest of all that it holds, its files carry that key in their names,
and its outcome is written when they are published. So a killed pack goes on with what is missing, and packing again
writes nothing.
"""

import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

import pyarrow as pa

from manifests import faults, ledger
from manifests.errors import NoSpaceError, is_full
from manifests.files import Files, files_of
from manifests.keys import KEY_CHARS
from manifests.lease import Lease
from manifests.ledger import Committer, Outcome
from manifests.schema import SHARDS
from manifests.shards.index import INDEX, Line, folder_of, index_bytes, line_of, page_from, publish_index
from manifests.shards.plan import PREFIX
from manifests.shards.tar import ShardError
from manifests.shards.writing import remove_leftovers
from manifests.store import as_record
from manifests.tables import Tables
from manifests.verdicts import rules_digest
from pipeline.config import Run
from pipeline.keeping import labels_of
from pipeline.pack_jobs import Job, Jobs, Written, written_by
from pipeline.pack_plan import PackPlan, PlannedShard, plan_pack
from pipeline.plan import StageCount
from pipeline.run import write_recipes
from pipeline.verify import INDEX_STAGE
from pipeline.verify import SHARDS as TRACK

STAGE: Final = "pack"
_AT_ONCE: Final = 64  # shards whose rows are read from the ledger in one go
_ROWS_AT_ONCE: Final = 5000


@dataclass
class Summary:
    """What a pack did, in numbers; `problems` say why shards are missing, and then there is no new index."""

    root: str
    cut: str
    counts: list[StageCount]
    shards: int
    samples: int
    written: int = 0
    adopted: int = 0
    known: int = 0
    removed: int = 0
    bytes: int = 0
    index_sha256: str | None = None
    problems: list[dict[str, str]] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return it as `--json` prints it."""
        return {**vars(self), "counts": [count.as_json() for count in self.counts]}


def planned(run: Run, tables: Tables) -> Summary:
    """Say what `pack` would do; nothing is written."""
    plan = plan_pack(run, tables, folded := ledger.fold(tables))
    summary = _summary(run, plan)
    summary.known = sum(folded.state.get(shard.key) == ledger.DONE for shard in plan.shards)
    return summary


def pack(run: Run, prune: bool = False, told: Callable[[Summary], None] = lambda _summary: None) -> Summary:
    """Write the shards of a run that are missing, and the index when all are there.

    Args:
        run: The config.
        prune: Whether to remove the shards of earlier packs that the index does not name any more.
        told: Is called after each shard.

    Raises:
        LeaseTaken: A run is going on under this root.
        PackError, KeepError: It cannot be packed as asked.
        NoSpaceError: The disk is full.
    """
    tables = Tables(run.config.root)
    try:
        with Lease.take(run.config.root, "bodydouble pack", above=ledger.highest_epoch(tables)) as lease:
            return _Packing(run, tables, lease).execute(prune, told)
    except OSError as error:
        if is_full(error):
            raise NoSpaceError(tables.root) from error
        raise


class _Packing:
    """One pack under one lease."""

    def __init__(self, run: Run, tables: Tables, lease: Lease) -> None:
        self.run, self.tables, self.lease = run, tables, lease
        self.files = files_of(tables.root)
        self.folder = folder_of(run.config.pack.cut)
        self.committer = Committer(tables, lease.epoch, run.config.commit_every, run.config.commit_every_s)

    def execute(self, prune: bool, told: Callable[[Summary], None]) -> Summary:
        """Plan, write what is missing, and publish the index."""
        run, folder = self.run, self.folder
        folded = ledger.fold(self.tables)
        plan = plan_pack(run, self.tables, folded, record=True)
        summary = _summary(run, plan)
        remove_leftovers(self.files, folder)
        lines = self._known(plan, folded)
        summary.known = len(lines)
        missing = [shard for shard in plan.shards if shard.key not in lines]
        if missing:
            write_recipes(run, self.lease.epoch)
            self._write_rows(plan, missing)
        for job, written in self._worked_off(plan, missing):
            self._take(job, written, summary, lines)
            told(summary)
        self.committer.flush()
        if summary.problems:
            return summary
        faults.point("before_index", STAGE)
        self._publish([lines[shard.key] for shard in plan.shards], plan, summary)
        if prune:
            self._prune({shard.id for shard in plan.shards}, summary)
        self.committer.flush()
        return summary

    def _known(self, plan: PackPlan, folded: ledger.Fold) -> dict[str, Line]:
        """Return key -> line of the shards that the ledger knows and whose pages are there."""
        lines = {}
        for shard in plan.shards:
            if folded.state.get(shard.key) != ledger.DONE:
                continue
            place = f"{self.folder}/{shard.name}"
            if not self.files.exists(f"{place}.tar"):
                continue  # somebody removed it: it is written again
            try:
                page = page_from(self.files.read(f"{place}.json"), f"{place}.json")
            except (FileNotFoundError, ShardError):
                continue
            if page.key == shard.key:
                lines[shard.key] = line_of(page, self.folder)
        return lines

    def _worked_off(self, plan: PackPlan, missing: Sequence[PlannedShard]) -> Iterator[tuple[Job, Written]]:
        jobs = Jobs(plan, self.tables, self.folder)
        batches = (missing[start : start + _AT_ONCE] for start in range(0, len(missing), _AT_ONCE))
        listed = itertools.chain.from_iterable(map(jobs.of, batches))
        return written_by(self.tables.root, self.run.config, listed)

    def _take(self, job: Job, written: Written, summary: Summary, lines: dict[str, Line]) -> None:
        """Write down what became of a shard: it is done, or artifacts that it needs are lost."""
        self.lease.check()
        named = (job.key, TRACK, job.id, STAGE)
        if written.line is not None:
            line = written.line
            if line.key != job.key:
                raise AssertionError(f"shard {job.id} came out as {line.key}: it is no function of its plan")
            made = {"samples": line.samples, "bytes": line.tar.bytes, "cut": summary.cut}
            done = Outcome(*named, ledger.DONE, made=made, artifacts=[as_record(line.tar), as_record(line.page)])
            made_with = {"code": _code(), "adopted": written.adopted}
            self.committer.add(replace(done, seconds=written.seconds, made_with=made_with))
            lines[job.key] = line
            summary.adopted += written.adopted
            summary.written += not written.adopted
            summary.bytes += line.tar.bytes
        else:
            for problem in written.problems:
                summary.problems.append({"shard": job.id, "name": job.name, **problem.as_json()})
                if problem.lost is not None:
                    self.committer.add(problem.lost)
            detail = "; ".join(problem.detail for problem in written.problems)
            reason = written.problems[0].reason
            self.committer.add(Outcome(*named, ledger.QUARANTINED, reason=reason, detail=detail))
        if self.committer.due():
            self.committer.flush()

    def _write_rows(self, plan: PackPlan, missing: Sequence[PlannedShard]) -> None:
        """Write the rows of shards before their tars, so that whatever lies in the folder can be traced."""
        for start in range(0, len(missing), _ROWS_AT_ONCE):
            rows = [shard_row(plan, shard) for shard in missing[start : start + _ROWS_AT_ONCE]]
            self.lease.check()
            self.tables.upsert("shards", pa.Table.from_pylist(rows, schema=SHARDS))

    def _publish(self, lines: Sequence[Line], plan: PackPlan, summary: Summary) -> None:
        """Write the index, if it is another than that which is there."""
        self.lease.check()
        run = self.run
        about = {
            "pack": run.config.pack.recipe,
            "samples_per_shard": run.config.pack.samples_per_shard,
            "kinds": list(run.config.pack.kinds),
            "keep": rules_digest(plan.limits, labels_of(run.config.keep.labels)),
            "recipes": {track: {spec.name: spec.digest for spec in specs} for track, specs in run.tracks.items()},
        }
        data = index_bytes(run.config.pack.cut, lines, about)
        summary.index_sha256 = put_index(self.files, self.tables, self.committer, run.config.pack.cut, data)
        self.committer.flush()

    def _prune(self, named: set[str], summary: Summary) -> None:
        """Remove what earlier packs of this cut wrote and this index does not name."""
        cut = self.run.config.pack.cut
        stale = [
            row for row in self.tables.read("shards", where=f"cut = '{cut}'").to_pylist() if row["id"] not in named
        ]
        summary.removed = remove_shards(self.files, self.tables, self.committer, stale, ledger.LOST, "pruned")


def put_index(files: Files, tables: Tables, committer: Committer, cut: str, data: bytes) -> str:
    """Publish an index and write it down, unless both was done already; returns its SHA-256."""
    folder, sha256 = folder_of(cut), hashlib.sha256(data).hexdigest()
    key = sha256[:KEY_CHARS]
    there = files.exists(f"{folder}/{INDEX}") and files.read(f"{folder}/{INDEX}") == data
    if not there or not ledger.latest(tables, f"key = '{key}'", ["state"]):
        artifact = publish_index(files, cut, data)
        committer.add(Outcome(key, TRACK, cut, INDEX_STAGE, ledger.DONE, artifacts=[as_record(artifact)]))
    return sha256


def remove_shards(
    files: Files, tables: Tables, committer: Committer, rows: Iterable[dict[str, Any]], state: str, reason: str
) -> int:
    """Remove the files and rows of shards, and write down that they went; returns how many."""
    removed = []
    for row in rows:
        key = row["id"].removeprefix(PREFIX)
        committer.add(Outcome(key, TRACK, row["id"], STAGE, state, reason=reason))
        removed.append(row)
    committer.flush()  # before the files: whoever finds one gone finds out why
    for row in removed:
        for ending in ("tar", "json"):
            files.remove(f"{folder_of(row['cut'])}/{row['name']}.{ending}")
    for start in range(0, len(removed), _ROWS_AT_ONCE):
        ids = ", ".join(f"'{row['id']}'" for row in removed[start : start + _ROWS_AT_ONCE])
        tables.delete("shards", f"id IN ({ids})")
    return len(removed)


def shard_row(plan: PackPlan, shard: PlannedShard) -> dict[str, Any]:
    """Return a shard's row of table `shards`."""
    bucket = shard.group.bucket
    return {
        "id": shard.id, "cut": plan.run.config.pack.cut, "name": shard.name, "kind": shard.group.kind,
        "width": bucket.width_px, "height": bucket.height_px, "frames": bucket.frames, "fps": bucket.fps,
        "samples": [plan.row[sample] for sample in shard.samples.tolist()],
    }  # fmt: skip


def _summary(run: Run, plan: PackPlan) -> Summary:
    return Summary(run.config.root, run.config.pack.cut, plan.counts, len(plan.shards), len(plan.row))


def _code() -> str:
    try:
        return version("bodydouble")
    except PackageNotFoundError:
        return "unknown"  # run from a checkout that was never installed
