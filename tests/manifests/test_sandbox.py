"""Real crashes, hangs and hunger; each is charged to the item that it happened on, and to no other."""

import ctypes
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from manifests.media import MediaError
from manifests.sandbox import Sandbox

ROOT = Path(__file__).parents[2]


def misbehave(how: str) -> str:
    """Do what the item says: run in the child."""
    if how.startswith("slow"):
        time.sleep(float(how.split()[1]))
    if how == "crash":
        os.write(2, b"famous last words\n")
        ctypes.string_at(0)
    if how == "abort":
        os.abort()
    if how == "hang":
        while True:
            time.sleep(1)
    if how == "deaf":  # a decoder that loops in C and never gives Python a turn
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGINT])
        ctypes.PyDLL(None).sleep(1000)
    if how == "hungry":
        bytearray(3 << 30)
    if how == "hungry in C":
        address = ctypes.CDLL(None).malloc(ctypes.c_size_t(3 << 30))
        return "refused" if not address else "got it"
    if how == "bad":
        raise MediaError("damaged", "it says so itself")
    if how == "bug":
        raise ZeroDivisionError("ours")
    if how == "exit":
        os._exit(7)
    if how == "verbose":
        for _ in range(100_000):
            os.write(2, b"decoder chatter\n")
        os.abort()
    if how == "core":
        return str(resource.getrlimit(resource.RLIMIT_CORE))
    return f"{how} by {os.getpid()}"


def outcomes(box: Sandbox[str, str], items: list[str]) -> dict[str, str]:
    got = list(box.map(misbehave, items))
    assert [item for item, _ in got] == items
    return {item: result.reason if isinstance(result, MediaError) else "fine" for item, result in got}


def test_each_misfortune_is_charged_to_its_own_item_alone() -> None:
    items = ["a", "crash", "b", "hang", "c", "abort", "d", "hungry", "e", "bad", "f", "exit", "g", "deaf", "h"]
    with Sandbox[str, str](workers=2, memory_bytes=2 << 30, timeout_s=2) as box:
        got = outcomes(box, items)

    assert got == {
        **dict.fromkeys("abcdefgh", "fine"),
        "crash": "decoder_crashed",
        "abort": "decoder_crashed",
        "exit": "decoder_crashed",
        "hang": "timeout",
        "deaf": "timeout",
        "hungry": "out_of_memory",
        "bad": "damaged",
    }


def test_a_crash_keeps_its_last_words_and_its_signal_and_those_of_no_other() -> None:
    with Sandbox[str, str](workers=1) as box:
        (_, first), (_, second) = box.map(misbehave, ["crash", "abort"])

    assert isinstance(first, MediaError)
    assert "famous last words" in first.detail
    assert "SIGSEGV" in first.detail
    assert "misbehave" in first.detail  # where Python was
    assert isinstance(second, MediaError)
    assert "SIGABRT" in second.detail
    assert "famous" not in second.detail


def test_chatter_without_end_fills_neither_disk_nor_memory() -> None:
    with Sandbox[str, str](workers=1) as box:
        ((_, result),) = box.map(misbehave, ["verbose"])

    assert isinstance(result, MediaError)
    assert len(result.detail) < 2500


def test_hunger_outside_of_python_meets_the_same_limit() -> None:
    with Sandbox[str, str](workers=1, memory_bytes=2 << 30) as box:
        assert list(box.map(misbehave, ["hungry in C"])) == [("hungry in C", "refused")]


def test_children_write_no_core_files() -> None:
    with Sandbox[str, str](workers=1) as box:
        assert list(box.map(misbehave, ["core"])) == [("core", "(0, 0)")]


def test_results_come_in_the_order_of_the_items_though_some_are_slow() -> None:
    items = ["slow 0.5", "a", "b", "slow 0.2", "c"]
    with Sandbox[str, str](workers=2) as box:
        assert [item for item, _ in box.map(misbehave, items)] == items


def test_workers_live_on_and_a_file_more_costs_little() -> None:
    with Sandbox[str, str](workers=1) as box:
        list(box.map(misbehave, ["warm"]))
        start = time.monotonic()
        results = {result for _, result in box.map(misbehave, ["x"] * 500)}
        seconds = time.monotonic() - start

    assert len(results) == 1  # one pid
    assert seconds / 500 < 0.01


def test_items_are_taken_only_a_little_ahead_of_what_is_given() -> None:
    taken = []

    def endless() -> "object":
        while True:
            taken.append(1)
            yield "x"

    with Sandbox[str, str](workers=2) as box:
        results = box.map(misbehave, endless())  # type: ignore[arg-type]
        for _ in range(5):
            next(results)
        results.close()  # type: ignore[attr-defined]
        assert len(taken) <= 5 + 4 * 2 + 1
        assert list(box.map(misbehave, ["core"])) == [("core", "(0, 0)")]  # and it can be used again


def test_a_bug_is_not_taken_for_a_bad_file() -> None:
    with Sandbox[str, str](workers=1) as box, pytest.raises(RuntimeError, match=r"(?s)a bug in .*misbehave.*ours"):
        list(box.map(misbehave, ["bug"]))


def test_a_worker_that_died_while_idle_is_replaced() -> None:
    with Sandbox[str, str](workers=1) as box:
        ((_, first),) = box.map(misbehave, ["a"])
        os.kill(int(str(first).split()[-1]), signal.SIGKILL)
        time.sleep(0.2)
        ((_, second),) = box.map(misbehave, ["a"])

    assert isinstance(second, str)
    assert second != first


PARENT = """
import sys
from tests.manifests.test_sandbox import Sandbox, misbehave
if __name__ == "__main__":
    with Sandbox(workers=2) as box:
        results = box.map(misbehave, ["a", "slow 0.5", "deaf", "hang"])
        print(next(results)[1].split()[-1], next(results)[1].split()[-1], flush=True)
        next(results)
"""


def test_children_die_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    (tmp_path / "parent.py").write_text(PARENT)
    parent = subprocess.Popen(
        [sys.executable, str(tmp_path / "parent.py")],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True,
    )
    assert parent.stdout is not None
    children = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(children) == 2
    assert all(Path(f"/proc/{pid}").exists() for pid in children)

    parent.kill()
    parent.wait()
    parent.stdout.close()

    deadline = time.monotonic() + 10
    while any(alive(pid) for pid in children) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(alive(pid) for pid in children)


def alive(pid: int) -> bool:
    """Whether the process runs; one that is dead but not yet collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
