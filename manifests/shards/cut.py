"""A cut read back: any sample by its number, by offset, without unpacking; and whether its bytes are still the same."""

import hashlib
import os
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Collection, Iterator
from itertools import accumulate
from typing import Final

from manifests.files import files_of, root_of
from manifests.media import MediaError
from manifests.shards.index import INDEX, Line, Packed, Page, folder_of, index_from, page_from
from manifests.shards.tar import ShardError, walk
from manifests.store import Artifact, ArtifactDamaged, Store

PAGES: Final = 2048  # that a process keeps at once: some 300 MB where a shard has 128 samples


class Cut:
    """The samples of one cut under a root, by number, in the order of the index.

    Of a root that is a URL, a shard is copied to this machine's cache when it is first read.

    Raises:
        ShardError: there is no index, or it is not what it should be; so in all that follows.
    """

    def __init__(self, root: str | os.PathLike[str], name: str = "main") -> None:
        self.root, self.name = root_of(root), name
        self.folder = folder_of(name)
        self._files, self._store = files_of(self.root), Store(self.root)
        place = f"{self.folder}/{INDEX}"
        try:
            data = self._files.read(place)
        except FileNotFoundError:
            raise ShardError(
                f"there is no {place} under {self.root}: `bodydouble pack RUN.yaml` writes it, last of all"
            ) from None
        self.digest = hashlib.sha256(data).hexdigest()
        self.about, self.shards = index_from(data, place)
        self._ends = list(accumulate(line.samples for line in self.shards))
        self._pages: OrderedDict[str, Page] = OrderedDict()

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def place_of(self, number: int) -> tuple[Line, Packed]:
        """Return the shard and the place in it of a sample by its number, 0 and on."""
        if not 0 <= number < len(self):
            raise ShardError(f"the cut {self.name} has {len(self)} samples, there is none with the number {number}")
        shard = bisect_right(self._ends, number)
        line = self.shards[shard]
        return line, self.page(line).samples[number - (self._ends[shard] - line.samples)]

    def sample(self, number: int, endings: Collection[str] | None = None) -> dict[str, bytes]:
        """Return a sample's files as ending (`driving.mp4`) -> bytes, and its key as `__key__`; all files, or
        those of `endings` that it has."""
        line, packed = self.place_of(number)
        return self._read(line, [packed], endings)[0]

    def samples(self, line: Line) -> Iterator[dict[str, bytes]]:
        """Give all samples of a shard, one after the other."""
        for packed in self.page(line).samples:
            yield self._read(line, [packed])[0]

    def page(self, line: Line) -> Page:
        """Return what a shard holds, once its tar was found to hold just that, by its headers."""
        if line.key not in self._pages:
            data = self._bytes(line.page)
            page = page_from(data, line.page.address)
            wrong = _unlike(line, page)
            if wrong:
                raise ShardError(f"{line.page.address} does not match {INDEX}: {wrong}; pack again")
            self._check_tar(self._path(line), page)
            self._pages[line.key] = page
            if len(self._pages) > PAGES:
                self._pages.popitem(last=False)
        self._pages.move_to_end(line.key)
        return self._pages[line.key]

    def verify(self, line: Line) -> None:
        """Read all bytes of a shard and of its page, and raise ShardError if any has changed."""
        for artifact in (line.tar, line.page):
            try:
                self._store.verify(artifact)
            except ArtifactDamaged as error:
                raise ShardError(f"{error}; pack again") from error
        self.page(line)

    def _check_tar(self, path: str, page: Page) -> None:
        listed = {
            f"{sample.key}.{ending}": place for sample in page.samples for ending, place in sample.members.items()
        }
        held = {member.name: (member.offset, member.size) for member in walk(path)}
        if listed == held:
            return
        extra, missing = sorted(held.keys() - listed.keys()), sorted(listed.keys() - held.keys())
        moved = sorted(name for name in held.keys() & listed.keys() if held[name] != listed[name])
        what = "names " + missing[0] if missing else "does not name " + extra[0] if extra else "misplaces " + moved[0]
        raise ShardError(f"the page {page.name}.json does not match its tar: it {what}; pack again")

    def _bytes(self, artifact: Artifact) -> bytes:
        try:
            data = self._files.read(artifact.address, artifact.bytes)
        except FileNotFoundError:
            raise ShardError(f"{artifact.address} is missing; pack again, or restore it from a copy") from None
        if hashlib.sha256(data).hexdigest() != artifact.sha256:
            raise ShardError(f"{artifact.address} has changed since {INDEX} was written; pack again")
        return data

    def _path(self, line: Line) -> str:
        """Return a path of this machine for a tar of the length that the index says."""
        try:
            path = self._store.fetch(f"{self.root}/{line.tar.address}")
        except MediaError as error:
            raise ShardError(f"{line.tar.address} is missing; pack again, or restore it from a copy") from error
        try:
            found = os.path.getsize(path)
        except FileNotFoundError:
            raise ShardError(f"{line.tar.address} is missing; pack again, or restore it from a copy") from None
        if found < line.tar.bytes:
            raise ShardError(f"{line.tar.address} ends too early: {found} of {line.tar.bytes} bytes; pack again")
        if found > line.tar.bytes:
            raise ShardError(f"{line.tar.address} has {found} bytes, {INDEX} says {line.tar.bytes}; pack again")
        return path

    def _read(self, line: Line, wanted: list[Packed], endings: Collection[str] | None = None) -> list[dict[str, bytes]]:
        found = []
        with open(self._path(line), "rb", buffering=0) as file:  # a member is read in one go: a buffer is a copy more
            for packed in wanted:
                sample = {"__key__": packed.key.encode()}
                for ending, (offset, size) in packed.members.items():
                    if endings is None or ending in endings:
                        sample[ending] = os.pread(file.fileno(), size, offset)
                found.append(sample)
        return found


def _unlike(line: Line, page: Page) -> str | None:
    said = {
        "key": (line.key, page.key), "samples": (line.samples, len(page.samples)),
        "sha256 of the tar": (line.tar.sha256, page.sha256), "bytes of the tar": (line.tar.bytes, page.size_bytes),
        "group": (line.group, page.group), "key by its samples": (
            line.key, page.group.key([sample.digest for sample in page.samples])
        ),
    }  # fmt: skip
    wrong = next((name for name, (one, other) in said.items() if one != other), None)
    return None if wrong is None else f"{wrong} is {said[wrong][1]!r}, the index says {said[wrong][0]!r}"
