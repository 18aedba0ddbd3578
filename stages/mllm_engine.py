"""A vLLM server that a worker starts beside itself, on loopback, and starts again when it dies.

vLLM pins other libraries than we do, so it lives in an environment of its own, named by its interpreter; between the
two there is nothing but HTTP. The engine ends with the object, and with this process however that ends.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final

from stages.mllm_errors import MllmSettingError

_LAUNCH: Final = (sys.executable, "-I", str(Path(__file__).with_name("mllm_launch.py")))
_LAST_WORDS: Final = 1500  # characters of the engine's output that an error cites
_POLL_S: Final = 0.5


class Engine:
    """Start a server and wait until it answers.

    Args:
        command: Without host and port, which are added.
        environment: Added to this process's own.
        start_timeout_s: Until the first start counts as failed.
        restarts: How often it is started again when it dies.

    Raises:
        MllmSettingError: it cannot be started, or ends, or gives no answer in time; with its last words.
    """

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], start_timeout_s: float, restarts: int
    ) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"
        words = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the engine
        self._state = _State([*command, "--host", "127.0.0.1", "--port", str(self.port)], dict(environment), words)
        # who starts it must live as long as this process: the kernel ends the engine with the thread that did
        threading.Thread(target=_keep, args=(self._state, restarts), daemon=True, name="vllm").start()
        self._end = weakref.finalize(self, self._state.stop)
        self._wait(start_timeout_s)

    @property
    def pid(self) -> int | None:
        """The server's process id, None while there is none."""
        process = self._state.process
        return None if process is None else process.pid

    def stop(self) -> None:
        """End the server."""
        self._end()

    def _wait(self, timeout_s: float) -> None:
        until = time.monotonic() + timeout_s
        while not self._answers():
            if self._state.gone.is_set() or time.monotonic() > until:
                said = self._state.last_words()
                self.stop()
                raise MllmSettingError(
                    f"the vLLM server does not start ({' '.join(self._state.command[:3])} ...): {said}"
                )
            time.sleep(_POLL_S)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5) as response:
                return bool(response.status == 200)
        except (urllib.error.URLError, OSError):
            return False


class _State:
    """What the thread and the object share; the thread must not hold the object, or it would never end."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], words: IO[bytes]) -> None:
        self.command, self.environment, self.words = command, environment, words
        self.process: subprocess.Popen[bytes] | None = None
        self.ending, self.gone = threading.Event(), threading.Event()
        self._lock = threading.Lock()
        self._why = ""

    def start(self) -> bool:
        with self._lock:
            if self.ending.is_set():
                return False
            try:
                self.process = subprocess.Popen(
                    [*_LAUNCH, *self.command],
                    env={**os.environ, **self.environment},
                    stdin=subprocess.DEVNULL,
                    stdout=self.words,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            except OSError as error:
                self._why = str(error)
                return False
            return True

    def stop(self) -> None:
        with self._lock:
            self.ending.set()
            if self.process is not None:
                _end_group(self.process.pid)
                self.process.wait()
            self.words.close()

    def last_words(self) -> str:
        if self._why or self.words.closed:
            return self._why
        size = self.words.seek(0, os.SEEK_END)
        self.words.seek(max(0, size - _LAST_WORDS))
        return self.words.read().decode("utf-8", "replace").strip() or "it said nothing"


def _keep(state: _State, restarts: int) -> None:
    for _ in range(restarts + 1):
        if not state.start():
            break
        process: subprocess.Popen[bytes] | None = state.process
        assert process is not None
        process.wait()
        if state.ending.is_set():
            break
        _end_group(process.pid)
    state.gone.set()
    state.ending.wait()


def _end_group(pid: int) -> None:
    """End a server with its children, also what a dead one has left running: vLLM's engine is a process of its own."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def files_digest_parts(folder: Path) -> dict[str, Any]:
    """Return names and sizes of a model's files: enough to tell models apart, and cheap for any size."""
    return {file.name: file.stat().st_size for file in sorted(folder.iterdir()) if file.is_file()}
