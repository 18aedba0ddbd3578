"""A shard's files: the tar, then its page, each published whole; and a shard without some of its samples."""

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Final

from manifests.files import PART, Files
from manifests.shards.index import Line, Packed, Page, line_of, page_from
from manifests.shards.plan import Group
from manifests.shards.tar import ShardError, TarWriter

_AT_ONCE: Final = 1 << 20
Files_ = Iterable[tuple[str, bytes]]


def write_shard(
    files: Files, folder: str, group: Group, number: int, samples: Iterable[tuple[str, str, str, Files_]]
) -> Line:
    """Write a tar and its page, and return the shard's line of the index.

    Args:
        files: The files under the root.
        folder: Of the cut, relative to the root.
        group: What the samples have in common.
        number: Of the shard in its group.
        samples: Key, row, digest and files (ending, bytes) of each sample, in order. What it raises ends the writing,
            and nothing is published.
    """
    packed = []
    with _temporary(files, folder) as path:
        with open(path, "wb") as file:
            tar = TarWriter(file)
            for key, row, sample_digest, parts in samples:
                members = {ending: tar.add(f"{key}.{ending}", data) for ending, data in parts}
                placed = {ending: (member.offset, member.size) for ending, member in members.items()}
                packed.append(Packed(key, row, sample_digest, placed))
            sha256 = tar.close()
        key = group.key([sample.digest for sample in packed])
        page = Page(key, group, number, sha256, tar.bytes, tuple(packed))
        line = line_of(page, folder)
        files.upload(path, line.tar.address)
    files.write(line.page.address, page.to_bytes())
    return line


def adopted(files: Files, folder: str, group: Group, number: int, key: str) -> Line | None:
    """Return the line of a shard whose files are there, whole, though the ledger does not know of it; else None."""
    name = f"{folder}/{group.name(number, key)}"
    try:
        page = page_from(files.read(f"{name}.json"), f"{name}.json")
        data = files.read(f"{name}.tar", page.size_bytes)
    except (FileNotFoundError, ShardError):
        return None
    if page.key != key or len(data) != page.size_bytes or hashlib.sha256(data).hexdigest() != page.sha256:
        return None
    return line_of(page, folder)


def without(files: Files, folder: str, page: Page, tar: BinaryIO, gone: Collection[str]) -> Line | None:
    """Write the shard that `page` would be without the samples of the rows in `gone`; None if none is left.

    Its bytes are those that packing the others alone would give: no film is decoded for it.

    Raises:
        ShardError: `tar` ends too early.
    """
    left = [sample for sample in page.samples if sample.row not in gone]
    if not left:
        return None
    key = page.group.key([sample.digest for sample in left])
    known = adopted(files, folder, page.group, page.number, key)
    if known is not None:
        return known

    def parts_of(sample: Packed) -> Iterator[tuple[str, bytes]]:
        for ending, (offset, size) in sorted(sample.members.items(), key=lambda each: each[1]):
            tar.seek(offset)
            data = tar.read(size)
            if len(data) != size:
                raise ShardError(f"{page.name}.tar ends too early for {sample.key}; pack again")
            yield ending, data

    samples = ((sample.key, sample.row, sample.digest, parts_of(sample)) for sample in left)
    return write_shard(files, folder, page.group, page.number, samples)


def remove_leftovers(files: Files, folder: str) -> None:
    """Remove what a killed pack left half-written; under the lease only."""
    if files.is_local:
        for name in files.names(folder):
            if name.endswith(PART):
                files.remove(f"{folder}/{name}")


@contextlib.contextmanager
def _temporary(files: Files, folder: str) -> Iterator[Path]:
    """Give a path for a tar that grows: beside its place on a local disk, so that a rename publishes it."""
    if files.is_local:
        place = Path(files.url, folder)
        place.mkdir(parents=True, exist_ok=True)
        path = place / f".{os.getpid()}{PART}"
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)
        return
    with tempfile.TemporaryDirectory(prefix="bodydouble-shard-") as away:
        yield Path(away, "shard.tar")
