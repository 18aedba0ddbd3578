"""How a root's URL becomes an fsspec file system and Lance's `storage_options`; files there, with patience.

Credentials, endpoint and region are those of botocore's own chain: AWS_ACCESS_KEY_ID and so on, AWS_PROFILE, a role;
AWS_ENDPOINT_URL_S3 or AWS_ENDPOINT_URL; AWS_REGION or AWS_DEFAULT_REGION. What botocore resolved is what Lance is told,
but for credentials: Lance looks for them in the same places itself, so that none is ever held, written or shown here.
"""

import asyncio
import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import fsspec
from fsspec.asyn import AsyncFileSystem

from manifests.errors import RootError
from manifests.patience import errors_of_drivers, patience_s, patiently, told

T = TypeVar("T")
S3: Final = frozenset({"s3", "s3a"})
CONNECT_TIMEOUT_S: Final = 5.0
READ_TIMEOUT_S: Final = 20.0  # without a byte
TRIES_OF_DRIVERS: Final = 3  # of one request, within seconds
KNOCK_S: Final = 10.0
OPERATION_S: Final = 60.0  # of one whole operation, however the store drips, plus its bytes at the slowest rate
SLOWEST_BYTES_S: Final = 250_000
_REGION_CODES: Final = frozenset(
    {"PermanentRedirect", "AuthorizationHeaderMalformed", "IllegalLocationConstraintException"}
)
_CREDENTIAL_NAMES: Final = frozenset(
    {"NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "ProfileNotFound", "SSOError"}
)
_reached: set[str] = set()


def open_root(root: str) -> tuple[Any, str]:
    """Return the fsspec file system of a URL and the path in it; listings are never cached.

    Raises:
        RootError: nothing that is installed can reach it, or its URL holds credentials.
    """
    scheme = root.partition("://")[0] if "://" in root else ""
    if "@" in urlsplit(root).netloc and scheme in S3:
        raise RootError(
            f"{scheme}://...@{urlsplit(root).netloc.rpartition('@')[2]} holds credentials, and a root is written down "
            "with every run; take them out, and give them as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    try:
        fs, path = fsspec.core.url_to_fs(root, use_listings_cache=False, **(_s3_options() if scheme in S3 else {}))
    except ImportError as error:
        extra = "pip install 'bodydouble[s3]', or " if scheme in S3 else ""
        raise RootError(
            f"{root} cannot be reached from here ({told(error)}); {extra}install the driver that this names, or take "
            "a root that is a folder"
        ) from error
    except (ValueError, OSError) as error:
        raise RootError(
            f"{root} cannot be reached from here ({told(error)}); take a root that is a folder or a URL of a store "
            "that fsspec knows, for example s3://bucket/folder"
        ) from error
    if scheme in S3:
        fs.retries = 1  # botocore's tries are enough below ours
    return fs, path


def _s3_options() -> dict[str, Any]:
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = os.environ.get("AWS_REGION")  # botocore itself looks only at AWS_DEFAULT_REGION
    return {
        **({"endpoint_url": endpoint} if endpoint else {}),
        "client_kwargs": {"region_name": region} if region else {},
        "config_kwargs": {
            "connect_timeout": CONNECT_TIMEOUT_S,
            "read_timeout": READ_TIMEOUT_S,
            "retries": {"mode": "standard", "total_max_attempts": TRIES_OF_DRIVERS},
        },
        "max_concurrency": 1,  # else each read asks for the size first: two requests for one
    }


@functools.cache
def storage_options(root: str) -> dict[str, str] | None:
    """Return what Lance is told of the store under a root; None where it needs nothing.

    Raises:
        RootError: the driver is not installed, or the endpoint cannot be understood.
    """
    if root.partition("://")[0] not in S3:
        return None
    files = RemoteFiles(root)
    meta = files.call(lambda fs: fs.set_session()).meta
    options = {
        "timeout": f"{READ_TIMEOUT_S:.0f}s",  # of one request; large files are asked for in pieces
        "connect_timeout": f"{CONNECT_TIMEOUT_S:.0f}s",
        "client_max_retries": str(TRIES_OF_DRIVERS - 1),
        "client_retry_timeout": f"{KNOCK_S:.0f}",
    }
    if meta.region_name and meta.region_name != "aws-global":
        options["aws_region"] = meta.region_name
    if ".amazonaws.com" not in meta.endpoint_url:
        options |= {
            "aws_endpoint": meta.endpoint_url,
            "allow_http": str(meta.endpoint_url.startswith("http://")).lower(),
        }
    return options


class RemoteFiles:
    """The files under a URL; see `manifests.files.Files`. May be used from several threads.

    Each operation has a time limit of its own, `operation_s` plus what its bytes take at the slowest rate, since a read
    time-out alone never ends a store that gives a byte now and then.

    All operations raise:
        StoreDown: errors of the kind that passes did not, within `patience_s` (None: as the environment says).
        RootError: no such bucket, no credentials or none that may do this, a wrong region.
    """

    is_local = False

    def __init__(self, url: str, patience_s: float | None = None, operation_s: float = OPERATION_S) -> None:
        self.url = url
        self._fs, path = open_root(url)
        self._path = path.rstrip("/")
        self._patience_s, self._operation_s = patience_s, operation_s

    def impatient(self, operation_s: float) -> "RemoteFiles":
        """Return the same files for one who comes again anyway: each operation is tried once, and has little time."""
        return RemoteFiles(self.url, patience_s=0.0, operation_s=operation_s)

    def read(self, name: str, size_bytes: int = 0) -> bytes:
        """Return a file's bytes."""
        data: bytes = self.call(lambda fs: fs.cat_file(self._place(name)), size_bytes)
        return data

    def write(self, name: str, data: bytes) -> None:
        """Write a file; object stores publish a whole object in one step."""
        self.call(lambda fs: fs.pipe_file(self._place(name), data), len(data))

    def create(self, name: str, data: bytes) -> None:
        """Write a file that must not be there yet (S3: If-None-Match)."""
        try:
            self.call(lambda fs: fs.pipe_file(self._place(name), data, mode="create"), len(data))
        except FileExistsError:
            if self.read(name) != data:  # else it is ours: the answer to an earlier try was lost
                raise

    def names(self, folder: str) -> list[str]:
        """Return the names in a folder."""
        place = self._place(folder)
        try:
            found = self.call(lambda fs: fs.ls(place, detail=False))
        except FileNotFoundError:
            return []
        return sorted({name.rstrip("/").rpartition("/")[2] for name in found} - {""})

    def exists(self, name: str) -> bool:
        """Say whether there is such a file."""
        return bool(self.call(lambda fs: fs.exists(self._place(name))))

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        try:
            self.call(lambda fs: fs.rm_file(self._place(name)))
        except FileNotFoundError:
            return

    def size_bytes(self, name: str) -> int:
        """Return a file's size. Raises FileNotFoundError, or ValueError if the store does not say it."""
        about = self.call(lambda fs: fs.info(self._place(name)))
        if about["type"] == "directory":
            raise FileNotFoundError(f"{self.url}/{name} is a folder")
        if about.get("size") is None:
            raise ValueError(f"{self.url}/{name} does not say its size")
        return int(about["size"])

    def download(self, name: str, target: Path) -> None:
        """Copy a file to this machine; a copy that is not whole counts as an error that passes."""
        size = self.size_bytes(name)

        def get() -> None:
            self._once(lambda fs: fs.get_file(self._place(name), str(target)), size)
            if target.stat().st_size != size:
                raise ConnectionError(f"{name} was broken off at {target.stat().st_size} of {size} bytes")

        self._patiently(get)

    def upload(self, source: Path, name: str) -> None:
        """Move a file of this machine to the store."""
        self.call(lambda fs: fs.put_file(str(source), self._place(name)), source.stat().st_size)
        source.unlink()

    def knock(self) -> None:
        """Ask once a process, and wait `KNOCK_S` at most: a wrong root should be told in seconds, not in minutes."""
        if self.url not in _reached:
            RemoteFiles(self.url, min(KNOCK_S, patience_s()), self._operation_s).names("")
            _reached.add(self.url)

    def call(self, action: Callable[[Any], Any], size_bytes: int = 0) -> Any:
        """Call a method of the file system patiently; `action` gets its asynchronous side if it has one."""
        return self._patiently(lambda: self._once(action, size_bytes))

    def _patiently(self, action: Callable[[], T]) -> T:
        limit_s = patience_s() if self._patience_s is None else self._patience_s
        try:
            return patiently(action, self.url, limit_s)
        except errors_of_drivers() as error:
            refusal = _refusal(self.url, error)
            if refusal is not None:
                raise RootError(refusal) from error
            raise

    def _once(self, action: Callable[[Any], Any], size_bytes: int) -> Any:
        if not isinstance(self._fs, AsyncFileSystem):
            return action(self._fs)
        limit_s = self._operation_s + size_bytes / SLOWEST_BYTES_S
        future = asyncio.run_coroutine_threadsafe(action(_Asynchronous(self._fs)), self._fs.loop)
        try:
            return future.result(limit_s)
        except TimeoutError as error:
            if future.done():
                raise  # the driver's own
            raise TimeoutError(f"no whole answer within {limit_s:.0f} s") from error
        finally:
            future.cancel()  # also on Ctrl-C: what nobody waits for any more must not land later

    def _place(self, name: str) -> str:
        return f"{self._path}/{name}" if name else self._path


class _Asynchronous:
    """The coroutines of an fsspec file system under the names of the methods they stand behind."""

    def __init__(self, fs: Any) -> None:
        self._fs = fs

    def __getattr__(self, name: str) -> Any:
        return getattr(self._fs, name if name == "set_session" else f"_{name}")


def _refusal(url: str, error: BaseException) -> str | None:
    """Return one sentence for an error of a store that says that this root cannot be used; None for all others."""
    answers = (getattr(each, "response", None) for each in (error, error.__cause__))
    answer = next((each for each in answers if isinstance(each, dict)), {})
    code, status = answer.get("Error", {}).get("Code"), answer.get("ResponseMetadata", {}).get("HTTPStatusCode")
    bucket = urlsplit(url).netloc
    if code == "NoSuchBucket":
        return f"{url} cannot be used: there is no bucket {bucket!r} at this endpoint; make it, or mend the root"
    if code in _REGION_CODES or status == 301:
        right = answer.get("Error", {}).get("Region")
        there = f", and it lies in {right}" if right else ""
        return f"{url} cannot be used: AWS_REGION is not the region of bucket {bucket!r}{there}; set AWS_REGION to that"
    if isinstance(error, PermissionError) or status == 403:
        return (
            f"{url} cannot be used: the store refuses ({code or status}: {told(error)}); give credentials that may "
            f"list, read, write and delete in bucket {bucket!r}"
        )
    if {kind.__name__ for kind in type(error).__mro__} & _CREDENTIAL_NAMES:
        return f"{url} cannot be used: {told(error)}; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
    if "SSLError" in {kind.__name__ for kind in type(error).__mro__}:
        return f"{url} cannot be used: {told(error)}; AWS_CA_BUNDLE names the certificates that are trusted"
    if type(error) is ValueError and "endpoint" in str(error):
        return f"{url} cannot be used: {told(error)}; set AWS_ENDPOINT_URL to a URL such as http://127.0.0.1:9000"
    return None
