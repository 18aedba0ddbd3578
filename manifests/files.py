"""The files under one root: read whole, written whole, made if absent.

Tables lie there too, but Lance reads and writes those itself. Names are relative to the root, with slashes.
"""

import contextlib
import os
import shutil
import uuid
from pathlib import Path
from typing import Final, Protocol

PART: Final = ".part"


class Files(Protocol):
    """What can be done with the files under a root; `url` is the root's absolute path or URL."""

    url: str
    is_local: bool

    def read(self, name: str, size_bytes: int = 0) -> bytes:
        """Return a file's bytes; `size_bytes`, if known, says how long that may take. Raises FileNotFoundError."""
        ...

    def write(self, name: str, data: bytes) -> None:
        """Write a file: a reader finds the old bytes or the new ones, never half of them."""
        ...

    def create(self, name: str, data: bytes) -> None:
        """Write a file that must not be there yet: of several writers one wins, the others get FileExistsError.

        No two writers may bring the same bytes: by them a writer whose answer was lost knows its own file.
        """
        ...

    def names(self, folder: str) -> list[str]:
        """Return the names of what lies directly in a folder, without the folder's; none if there is no folder."""
        ...

    def exists(self, name: str) -> bool:
        """Say whether there is such a file."""
        ...

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        ...

    def download(self, name: str, target: Path) -> None:
        """Copy a file to a path of this machine. Raises FileNotFoundError."""
        ...

    def upload(self, source: Path, name: str) -> None:
        """Move a file of this machine to its place under the root."""
        ...

    def impatient(self, operation_s: float) -> "Files":
        """Return the same files for one who comes again anyway: each operation is tried once, and has little time."""
        ...

    def knock(self) -> None:
        """Find out soon whether the root can be reached. Raises RootError with what to do if it cannot."""
        ...


class LocalFiles:
    """The files under a folder of this machine."""

    is_local = True

    def __init__(self, folder: str) -> None:
        self.url = folder
        self._folder = Path(folder)

    def read(self, name: str, size_bytes: int = 0) -> bytes:  # noqa: ARG002 - a local disk needs no time limit
        """Return a file's bytes."""
        return (self._folder / name).read_bytes()

    def write(self, name: str, data: bytes) -> None:
        """Write under another name in the same folder, then rename."""
        path = self._folder / name
        part = path.with_name(f"{path.name}.{uuid.uuid4().hex}{PART}")
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            part.write_bytes(data)
            os.replace(part, path)
        except OSError:
            with contextlib.suppress(OSError):
                part.unlink()
            raise

    def create(self, name: str, data: bytes) -> None:
        """Make a file; a reader may see it empty for a moment."""
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "xb") as file:
            file.write(data)

    def names(self, folder: str) -> list[str]:
        """Return the names in a folder."""
        try:
            return sorted(os.listdir(self._folder / folder))
        except FileNotFoundError:
            return []

    def exists(self, name: str) -> bool:
        """Say whether there is such a file."""
        return (self._folder / name).exists()

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        (self._folder / name).unlink(missing_ok=True)

    def download(self, name: str, target: Path) -> None:
        """Copy a file."""
        shutil.copyfile(self._folder / name, target)

    def upload(self, source: Path, name: str) -> None:
        """Rename a file; it must lie on the same disk."""
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        os.replace(source, path)

    def impatient(self, operation_s: float) -> "LocalFiles":  # noqa: ARG002 - a local disk has all the time there is
        """Return the same files."""
        return self

    def knock(self) -> None:
        """A folder answers at once."""


def root_of(root: str | os.PathLike[str]) -> str:
    """Return a root as an absolute path or a URL without a trailing slash."""
    text = os.fspath(root)
    if "://" in text:
        return text.removeprefix("file://").rstrip("/")
    return os.path.abspath(os.path.expanduser(text))


def files_of(root: str | os.PathLike[str]) -> Files:
    """Return the files under a root.

    Raises:
        RootError: nothing that is installed can reach it.
    """
    url = root_of(root)
    if "://" not in url:
        return LocalFiles(url)
    from manifests.remote import RemoteFiles

    return RemoteFiles(url)
