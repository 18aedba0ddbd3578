import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# its child needs half a second to import what it serves, as one that loads a stage does
PARENT = """
import signal, sys, threading, time
from pathlib import Path
from manifests.children import Child

HOW, FOLDER = sys.argv[1:]

def double(number):
    return 2 * number

def setup():
    pass

if __name__ == "__mp_main__":
    Path(FOLDER, "imports").touch()
    time.sleep(0.5)
    Path(FOLDER, "imported").touch()

if __name__ == "__main__":
    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()  # SIGINT may go to it, as to a heartbeat
    if HOW == "goes on":
        signal.signal(signal.SIGINT, lambda *_: print("heard", flush=True))
    child = None
    try:
        print("starting", flush=True)  # from here on a signal may come
        child = Child(double, Path(FOLDER, "log"), setup)
        assert child.wait_until_ready(60)
        child.begin(21)
        print(child.answer(), flush=True)
        if HOW == "ends":
            time.sleep(60)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    if child is not None:
        child.end()
"""


def start(tmp_path, how):
    (tmp_path / "parent.py").write_text(PARENT)
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "parent.py"), how, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        start_new_session=True,  # a process group of its own, as a terminal gives to a command
    )
    assert process.stdout.readline() == "starting\n"
    return process


def wait_for(path):
    deadline_s = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def test_a_child_that_is_interrupted_while_it_starts_goes_on_and_serves(tmp_path):
    process = start(tmp_path, "goes on")
    wait_for(tmp_path / "imports")
    for _ in range(3):
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.05)
    assert not (tmp_path / "imported").exists()
    said, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    assert said.split() == ["heard", "heard", "heard", "42"]


@pytest.mark.parametrize("after_s", [0.0, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64])
def test_ctrl_c_at_any_moment_of_a_start_ends_parent_and_child_without_a_traceback(tmp_path, after_s):
    process = start(tmp_path, "ends")
    time.sleep(after_s)
    os.killpg(process.pid, signal.SIGINT)
    said, errors = process.communicate(timeout=60)  # ends when nobody, no child either, holds their other end
    assert (process.returncode, errors) == (0, "")
    assert said.split()[-1] == "interrupted"


def test_ctrl_c_reaches_a_parent_again_when_its_child_has_started(tmp_path):
    process = start(tmp_path, "ends")
    assert process.stdout.readline() == "42\n"
    os.killpg(process.pid, signal.SIGINT)
    assert process.communicate(timeout=60) == ("interrupted\n", "")
