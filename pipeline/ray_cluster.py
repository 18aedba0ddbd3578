"""The cluster that is there: joining it, and saying at once what it cannot hold."""

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any, Final

import ray
from ray._private import auto_init_hook
from ray._private.services import canonicalize_bootstrap_address_or_die

from manifests.errors import UserError
from pipeline.config import StageSpec

_KNOCK_TIMEOUT_S: Final = 5.0
_KNOCK_EVERY_S: Final = 5.0
_HEAD_PATIENCE_S: Final = 20.0  # one that keeps its state elsewhere may come back


class ClusterError(UserError):
    """There is no cluster, or no more, or it is too small for this run."""


def join() -> None:
    """Join the cluster of RAY_ADDRESS (a job has it set), or the one on this machine.

    Raises:
        ClusterError: there is none.
    """
    if ray.is_initialized():
        return
    given = os.environ.get("RAY_ADDRESS") or "auto"
    try:
        address = canonicalize_bootstrap_address_or_die(given)
        _knock(address)  # where nobody listens, Ray would try for 14 minutes
        auto_init_hook.enable_auto_connect = False  # a thread that outlives the run must not join anew behind its back
        with _own_signals(), _quiet():
            ray.init(address=address, log_to_driver=False, logging_level="error")
    except (OSError, RuntimeError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise ClusterError(
            f"no Ray cluster answers at {given} ({reason}); start one with `ray start --head`, "
            "or submit the run to one with `ray job submit`, or leave out `--on ray`"
        ) from error


class Head:
    """Watches whether the cluster's head answers: where it does not for a minute, Ray ends this process without a word.

    Whoever watches must look every few seconds.
    """

    def __init__(self) -> None:
        self._address = ray.get_runtime_context().gcs_address
        self._seen_s = self._looked_s = time.monotonic()

    def check(self) -> None:
        """Knock, if it is time to.

        Raises:
            ClusterError: the head has not answered for some time.
        """
        now = time.monotonic()
        if now - self._looked_s < _KNOCK_EVERY_S:
            return
        self._looked_s = now
        try:
            _knock(self._address)
            self._seen_s = now
        except OSError as error:
            if now - self._seen_s >= _HEAD_PATIENCE_S:
                raise ClusterError(
                    f"the head of the Ray cluster at {self._address} does not answer any more ({error}); what was "
                    "finished is kept: start the cluster again, and run the same command"
                ) from error


def _knock(address: str) -> None:
    host, _, port = address.rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), _KNOCK_TIMEOUT_S).close()


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Keep what SIGTERM means: Ray would have it end this process at once."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep off the terminal what Ray's C++ says there: errors come to us as exceptions.

    Of each pool of Ray Data it says that it may not restart (github.com/ray-project/ray/issues/57733). The only switch
    is a level in the environment, and of that, too, it tells, while it starts.
    """
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    sys.stderr.flush()
    terminal = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(terminal, 2)
        os.close(nowhere)
        os.close(terminal)


def check_room(track: str, specs: Sequence[StageSpec]) -> None:
    """Refuse stages whose first workers find no room: Ray would wait for ever, and say nothing.

    Raises:
        ClusterError: what is wanted, and what there is.
    """
    nodes: list[dict[str, Any]] = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    for unit in ("CPU", "GPU"):
        each = {spec.name: spec.config.cpus if unit == "CPU" else spec.config.gpus for spec in specs}
        least = {spec.name: each[spec.name] * spec.config.min_workers for spec in specs}
        there = sum(node.get(unit, 0) for node in nodes)
        if sum(least.values()) > there:
            parts = " + ".join(f"{name} {least[name]:g}" for name in least if least[name])
            raise ClusterError(
                f"the cluster has {there:g} {unit}s, and the first workers of {track} want {sum(least.values()):g} "
                f"({parts}); add nodes, or lower min_workers or {unit.lower()}s of a stage: "
                f"`--set stages.{track}.{max(least, key=lambda n: least[n])}.{unit.lower()}s=...`"
            )
        largest = max((node.get(unit, 0) for node in nodes), default=0)
        for name, wanted in each.items():
            if wanted > largest:
                raise ClusterError(
                    f"a worker of {track}.{name} wants {wanted:g} {unit}s, and no node has more than {largest:g}; "
                    f"lower {unit.lower()}s of this stage, or add a larger node"
                )
