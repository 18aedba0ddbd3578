"""What a cut holds: a page beside each tar, and the index that names them all.

Both are JSON with sorted keys and without clocks: equal cuts have equal bytes. The SHA-256 of `index.json` is the name
under which a training says what it read (`note_reading`).
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from manifests.files import Files
from manifests.keys import canonical
from manifests.shards.plan import FORMAT, Bucket, Group
from manifests.shards.tar import ShardError
from manifests.store import Artifact

FOLDER: Final = "shards"
INDEX: Final = "index.json"
READING: Final = "shards_read.json"  # in a training's folder: which indexes it read
CUT_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


@dataclass(frozen=True)
class Packed:
    """A sample in a tar: `row` is the id of its pair or source, `members` ending -> offset and size, bytes."""

    key: str
    row: str
    digest: str
    members: dict[str, tuple[int, int]]


@dataclass(frozen=True)
class Page:
    """What one tar holds."""

    key: str
    group: Group
    number: int
    sha256: str  # of the tar
    size_bytes: int  # of the tar
    samples: tuple[Packed, ...]

    @property
    def name(self) -> str:
        """The name of its files, without the ending."""
        return self.group.name(self.number, self.key)

    def to_bytes(self) -> bytes:
        """Return the page as it is written."""
        return _written({
            "format": FORMAT, "key": self.key, **_group(self.group), "number": self.number,
            "tar": {"name": f"{self.name}.tar", "sha256": self.sha256, "bytes": self.size_bytes},
            "samples": [asdict(sample) for sample in self.samples],
        })  # fmt: skip


@dataclass(frozen=True)
class Line:
    """A shard as the index names it."""

    key: str
    group: Group
    number: int
    samples: int
    tar: Artifact
    page: Artifact


def page_from(data: bytes, name: str) -> Page:
    """Read a page.

    Raises:
        ShardError: it is no page, or of another format.
    """
    try:
        told = json.loads(data)
        _check_format(told, name)
        samples = tuple(map(_packed_from, told["samples"]))
        tar = told["tar"]
        return Page(told["key"], _group_from(told), int(told["number"]), tar["sha256"], int(tar["bytes"]), samples)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ShardError(f"{name} is no page of a shard ({type(error).__name__}: {error}); pack again") from error


def index_bytes(cut: str, lines: Sequence[Line], about: Mapping[str, Any]) -> bytes:
    """Return an index as it is written; `about` says what the cut was made by."""
    ordered = sorted(lines, key=lambda line: line.tar.address)
    return _written({
        "format": FORMAT, "cut": cut, **about,
        "samples": sum(line.samples for line in ordered), "bytes": sum(line.tar.bytes for line in ordered),
        "shards": [
            {"key": line.key, **_group(line.group), "number": line.number, "samples": line.samples,
             "tar": _file(line.tar), "page": _file(line.page)}
            for line in ordered
        ],
    })  # fmt: skip


def index_from(data: bytes, place: str) -> tuple[dict[str, Any], list[Line]]:
    """Read an index: all that it says but for the shards, and the shards.

    Raises:
        ShardError: it is no index, of another format, or does not add up.
    """
    folder = place.rpartition("/")[0]
    try:
        told = json.loads(data)
        _check_format(told, place)
        listed = told.pop("shards")
        lines = [
            Line(
                each["key"], _group_from(each), int(each["number"]), int(each["samples"]),
                _artifact(each["tar"], "tar", folder), _artifact(each["page"], "page", folder),
            )
            for each in listed
        ]  # fmt: skip
        total = sum(line.samples for line in lines)
        if told["samples"] != total:
            raise ShardError(f"{place} says {told['samples']} samples, its shards add up to {total}; pack again")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ShardError(f"{place} is no index of shards ({type(error).__name__}: {error}); pack again") from error
    return told, lines


def line_of(page: Page, folder: str) -> Line:
    """Return the line of a shard whose files lie in `folder`, relative to the root."""
    data = page.to_bytes()
    return Line(
        page.key, page.group, page.number, len(page.samples),
        Artifact("tar", f"{folder}/{page.name}.tar", page.sha256, page.size_bytes),
        Artifact("page", f"{folder}/{page.name}.json", hashlib.sha256(data).hexdigest(), len(data)),
    )  # fmt: skip


def folder_of(cut: str) -> str:
    """Return where a cut lies, relative to the root.

    Raises:
        ShardError: the name would lead elsewhere.
    """
    if not CUT_NAME.fullmatch(cut):
        raise ShardError(f"{cut!r} is no name of a cut: wanted letters, digits, - and _, at most 64")
    return f"{FOLDER}/{cut}"


def publish_index(files: Files, cut: str, data: bytes) -> Artifact:
    """Write an index: first under its own digest, where it stays, then as `index.json`, by which it counts."""
    folder, sha256 = folder_of(cut), hashlib.sha256(data).hexdigest()
    kept = f"{folder}/indexes/{sha256[:32]}.json"
    files.write(kept, data)
    files.write(f"{folder}/{INDEX}", data)
    return Artifact("index", kept, sha256, len(data))


def note_reading(folder: str | Path, index_sha256: Iterable[str]) -> None:
    """Write down in a training's folder which indexes it read, beside those that stand there."""
    path = Path(folder) / READING
    known = json.loads(path.read_text())["indexes"] if path.exists() else []
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_written({"indexes": sorted({*known, *index_sha256})}))


def _written(value: Mapping[str, Any]) -> bytes:
    """Return JSON with a shard or sample a line, so that people and `diff` can read it."""
    parts = []
    for name, part in sorted(value.items()):
        lines = isinstance(part, list) and part
        text = "[\n" + ",\n".join(map(canonical, part)) + "\n]" if lines else canonical(part)
        parts.append(f"{canonical(name)}:{text}")
    return ("{" + ",\n".join(parts) + "}\n").encode()


def _packed_from(told: Mapping[str, Any]) -> Packed:
    members = {ending: (int(offset), int(size)) for ending, (offset, size) in told["members"].items()}
    return Packed(told["key"], told["row"], told["digest"], members)


def _group(group: Group) -> dict[str, Any]:
    return {"kind": group.kind, "bucket": asdict(group.bucket), "recipe": group.recipe}


def _group_from(told: Mapping[str, Any]) -> Group:
    return Group(told["kind"], Bucket(**told["bucket"]), told["recipe"])


def _file(artifact: Artifact) -> dict[str, Any]:
    return {"name": artifact.address.rpartition("/")[2], "sha256": artifact.sha256, "bytes": artifact.bytes}


def _artifact(told: Mapping[str, Any], column: str, folder: str) -> Artifact:
    name = told["name"]
    if "/" in name or "\\" in name or name.startswith("."):
        raise ShardError(f"an index names the file {name!r}, which does not lie beside it; it is not to be trusted")
    return Artifact(column, f"{folder}/{name}" if folder else name, told["sha256"], int(told["bytes"]))


def _check_format(told: Mapping[str, Any], name: str) -> None:
    if told.get("format") != FORMAT:
        raise ShardError(
            f"{name} is of format {told.get('format')!r}, wanted {FORMAT}: read it with the version that wrote it"
        )
