"""One file of weights: where it lies, what it must be, and how it comes to this machine.

A place is a path; an http(s) URL; or a file on the hub at a revision, `owner/repo/file.onnx@revision`. What is not on
this machine is named with its SHA-256, and a file that has another one is never opened. So a recipe knows the weights
without fetching them (`seal`), and whoever runs them has the very file that was planned with (`fetch`).

What comes from a URL is kept in `$XDG_CACHE_HOME/bodydouble/weights` (or `~/.cache/...`), the hub's files in the hub's
own cache.
"""

import fcntl
import functools
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from manifests.errors import UserError
from manifests.keys import sha256_of_file

HUB_FILE: Final = re.compile(r"(?P<repo>[\w.-]+/[\w.-]+)/(?P<file>[\w./-]+)@(?P<revision>[\w./-]+)")
_URL: Final = re.compile(r"https?://", re.IGNORECASE)
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


class WeightsError(UserError, ValueError):
    """Weights are not there, or not the right ones."""


def seal(place: str, sha256: str | None) -> str:
    """Return the SHA-256 by which the weights at `place` are known, without fetching anything.

    It is what the config says; a file of this machine is read if the config says nothing.

    Raises:
        WeightsError: nothing is known of them: no such file, or one that lies elsewhere and has no SHA-256.
    """
    if sha256 is not None:
        if not _SHA256.fullmatch(sha256):
            raise WeightsError(f"{sha256!r} is no SHA-256: wanted 64 hex digits in lower case, as sha256sum prints")
        return sha256
    if Path(place).is_file():
        return _sha256(Path(place))
    if _URL.match(place) or HUB_FILE.fullmatch(place):
        raise WeightsError(f"{_shown(place)} lies elsewhere and is named without its SHA-256: give that beside it")
    raise _absent(place)


def fetch(place: str, sha256: str) -> Path:
    """Return the file on this machine that holds the weights, fetched if need be, once a machine, and verified.

    Raises:
        WeightsError: it is not there, cannot be had, or has another SHA-256.
    """
    if Path(place).is_file():
        path = Path(place)
    elif _URL.match(place):
        return _from_url(place, sha256)  # verified before it is put into its place
    elif found := HUB_FILE.fullmatch(place):
        path = _from_hub(place, found["repo"], found["file"], found["revision"])
    else:
        raise _absent(place)
    _verify(path, place, sha256)
    return path


def _absent(place: str) -> WeightsError:
    return WeightsError(
        f"there is no file of weights at {place}; give a path, an https URL, or a file of the hub as "
        "owner/repo/file.onnx@revision"
    )


def _verify(path: Path, place: str, sha256: str) -> None:
    found = sha256_of_file(path)
    if found != sha256:
        raise WeightsError(
            f"the weights at {_shown(place)} have the SHA-256 {found}, wanted {sha256}: they are others, or damaged; "
            "fetch them again, or correct the config"
        )


@functools.cache
def _sha256(path: Path) -> str:
    return sha256_of_file(path)


def _shown(place: str) -> str:
    from manifests.download import public_url

    return public_url(place)[0] if _URL.match(place) else place


def _from_hub(place: str, repo: str, file: str, revision: str) -> Path:
    try:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HFValidationError
    except ModuleNotFoundError as error:
        raise WeightsError(f"{place} lies on the hub, which needs huggingface_hub: pip install it") from error
    try:
        return Path(hf_hub_download(repo, file, revision=revision))
    except (OSError, HFValidationError) as error:  # what it raises for a missing file, and offline, is an OSError
        reason = str(error).strip().split("\n")[0]
        raise WeightsError(f"{place} could not be had from the hub ({type(error).__name__}: {reason})") from error


def _from_url(url: str, sha256: str) -> Path:
    from manifests.download import DownloadError, download

    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "bodydouble" / "weights"
    name = re.sub(r"[^\w.-]", "_", Path(urlsplit(url).path).name) or "weights"
    path = folder / f"{sha256[:16]}-{name}"  # by content: the same weights from a mirror are the same file
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(path):
        if path.is_file() and sha256_of_file(path) == sha256:
            return path
        part = path.with_name(f"{path.name}.part")
        try:
            download(url, part, allow_private_hosts=True)  # configs are trusted, and mirrors stand in-house
            _verify(part, url, sha256)
            os.replace(part, path)
        except DownloadError as error:
            raise WeightsError(f"{_shown(url)} could not be fetched ({error.detail})") from error
        finally:
            part.unlink(missing_ok=True)
    return path


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep the other workers of this machine waiting, so that a file is fetched once; the lock dies with its owner."""
    with open(path.with_name(f"{path.name}.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
