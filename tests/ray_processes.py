"""Clusters whose processes a test can kill: heads and nodes, started as a user starts them, in sessions of their own.

Loopback only; whatever is left is killed at the end, by its process number. Never `ray stop`: it would end every Ray
process of the machine.
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

PATIENCE_S = 240
ENVIRONMENT = {
    "RAY_AUTH_MODE": "disabled",  # nobody else can reach it
    "RAY_worker_niceness": "0",  # Ray's workers are nice by 15 beside everything else on the machine
    "OMP_NUM_THREADS": "1",
    "COLUMNS": "200",
}


@contextmanager
def head(cpus: int = 2) -> Iterator[tuple[subprocess.Popen, str]]:
    """Start a head node; give its process and its address, and kill whatever is left of it at the end."""
    options = ["--head", "--port=0", f"--num-cpus={cpus}", "--include-dashboard=false", "--disable-usage-stats"]
    # the names of Ray's sockets lie below this folder, and may have 107 characters: pytest's own are too long
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        log = Path(folder, "log")
        process = _start_node([*options, f"--temp-dir={folder}"], log)
        try:
            yield process, wait_for(lambda: _address_in(log), process)
        finally:
            kill_session(process)


@contextmanager
def node(address: str) -> Iterator[subprocess.Popen]:
    """Add a node with one CPU to a cluster; gives its process."""
    with tempfile.TemporaryDirectory(prefix="ray-") as folder:
        log = Path(folder, "log")
        process = _start_node([f"--address={address}", "--num-cpus=1"], log)
        try:
            wait_for(lambda: "Ray runtime started" in log.read_text(), process)
            yield process
        finally:
            kill_session(process)


def _start_node(options: list[str], log: Path) -> subprocess.Popen:
    """Run `ray start` in a session of its own."""
    fixed = ["--block", "--node-ip-address=127.0.0.1", "--num-gpus=0", f"--object-store-memory={100 << 20}"]
    with log.open("w") as out:
        return subprocess.Popen(
            [Path(sys.executable).with_name("ray"), "start", *options, *fixed],
            stdout=out, stderr=out, start_new_session=True, env=os.environ | ENVIRONMENT,
        )  # fmt: skip


def _address_in(log: Path) -> str | None:
    """Return the address that `ray start` printed, once the node is up."""
    found = re.search(r"ray start --address='([\d.]+:\d+)'", log.read_text())
    return found[1] if found else None


def kill_session(process: subprocess.Popen) -> None:
    """Kill all processes of a session, in whatever groups they are."""
    for pid in session_of(process.pid):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


def session_of(leader: int) -> list[int]:
    return [pid for pid, stat in processes() if int(stat[3]) == leader]


def processes() -> list[tuple[int, list[str]]]:
    """Return pid and the fields of /proc/pid/stat behind the name: state, parent, group, session, ..."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            found.append((int(path.parent.name), path.read_text().rpartition(")")[2].split()))
        except OSError:
            continue  # it ended meanwhile
    return found


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def victims(leader: int) -> dict[str, list[int]]:
    """Return the processes of a cluster that take part in a run: desks, actors of stages, and the stages' own."""
    parents = {pid: int(stat[1]) for pid, stat in processes() if int(stat[3]) == leader}
    children = [pid for pid in parents if "spawn_main" in command_of(pid)]
    return {
        "desk": [pid for pid in parents if command_of(pid).startswith("ray::Desk")],
        "actor": [parents[pid] for pid in children],
        "child": children,
    }


def wait_for(happened: Callable[[], Any], alive: subprocess.Popen | None = None, timeout_s: float = PATIENCE_S) -> Any:
    """Return what `happened` gives as soon as that is true; `alive` must live until then, or waiting would be vain."""
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        if found := happened():
            return found
        assert alive is None or alive.poll() is None, f"process {alive.args} ended with {alive.returncode}"
        time.sleep(0.02)
    raise AssertionError(f"waited {timeout_s} s for {happened}")
