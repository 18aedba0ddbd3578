"""Tars: written without clocks, owners or padding that could differ, and read with suspicion.

What is written is POSIX ustar: regular files, each a 512-byte header and its bytes, then two blocks of zeros. What is
read must be just that: a tar from elsewhere may name a path outside its folder, name one file twice, or end too early.
"""

import hashlib
import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final

from manifests.errors import UserError

BLOCK: Final = 512
_MODE: Final = 0o644


class ShardError(UserError):
    """A shard or an index is not what it should be; the message is one sentence."""

    exit_code = 1


@dataclass(frozen=True)
class Member:
    """A file in a tar: its bytes are `size` from `offset` on."""

    name: str
    offset: int
    size: int


class TarWriter:
    """Writes members one after the other to an open file, and the SHA-256 of it all."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._sha256 = file, hashlib.sha256()
        self.bytes = 0

    def add(self, name: str, data: bytes) -> Member:
        """Add a file; equal names, bytes and order give equal tars."""
        info = tarfile.TarInfo(name)
        info.size, info.mode, info.mtime = len(data), _MODE, 0
        self._put(info.tobuf(tarfile.USTAR_FORMAT, "utf-8", "strict"))
        member = Member(name, self.bytes, len(data))
        self._put(data)
        self._put(bytes(-len(data) % BLOCK))
        return member

    def close(self) -> str:
        """End the tar, and return the SHA-256 of its bytes; the file stays open."""
        self._put(bytes(2 * BLOCK))
        return self._sha256.hexdigest()

    def _put(self, data: bytes) -> None:
        self._file.write(data)
        self._sha256.update(data)
        self.bytes += len(data)


def walk(path: str | os.PathLike[str]) -> Iterator[Member]:
    """Give the members of a tar in order, without reading their bytes.

    Raises:
        ShardError: there is no such file, or it is no tar of the form above: which member, and what is wrong with it.
    """
    name = os.path.basename(path)
    try:
        file = open(path, "rb")  # noqa: SIM115 - a context of its own below
    except OSError as error:
        raise ShardError(f"{name} cannot be read ({error.strerror}); pack again, or restore it from a copy") from error
    with file:
        size = os.fstat(file.fileno()).st_size
        seen: set[str] = set()
        at = 0
        while (header := file.read(BLOCK)) != bytes(BLOCK):
            member = _member(header, name, at, size, seen)
            yield member
            at = member.offset + -(-member.size // BLOCK) * BLOCK
            file.seek(at)
        if file.read(BLOCK) != bytes(BLOCK):
            raise _truncated(name, at)


def _member(header: bytes, tar: str, at: int, size: int, seen: set[str]) -> Member:
    if len(header) < BLOCK:
        raise _truncated(tar, at)
    try:
        info = tarfile.TarInfo.frombuf(header, "utf-8", "strict")
    except (tarfile.HeaderError, UnicodeDecodeError) as error:
        raise ShardError(f"{tar} is damaged: there is no tar header at byte {at} ({error}); pack again") from error
    wrong = _wrong(info, seen)
    if wrong:
        raise ShardError(f"{tar} is not to be trusted: {wrong}; nothing of it was unpacked")
    seen.add(info.name)
    if at + BLOCK + info.size > size:
        raise _truncated(tar, at)
    return Member(info.name, at + BLOCK, info.size)


def _wrong(info: tarfile.TarInfo, seen: set[str]) -> str | None:
    if info.name.startswith(("/", "\\")) or ".." in info.name.replace("\\", "/").split("/"):
        return f"the path {info.name!r} climbs out of the folder"
    if info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
        return f"{info.name!r} is a link, a folder or a device, wanted plain files"
    if info.name in seen:
        return f"the key {info.name!r} is there twice"
    return None


def _truncated(tar: str, at: int) -> ShardError:
    return ShardError(f"{tar} ends too early: what should follow byte {at} is cut off; copy it again, or pack again")
