"""The cache on this machine: real files, real processes beside each other."""

import hashlib
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import numpy as np
import pytest

from manifests.cache import HELD, Cache, CacheDamaged
from manifests.errors import RootError
from manifests.media import MediaError
from manifests.store import ArtifactDamaged, Store

MB = 1_000_000
KEY = "ab" + "0" * 30


class Far:
    """Files elsewhere: each holds its own name, padded to `size` bytes; counts how often it is asked."""

    def __init__(self, size: int = MB) -> None:
        self.size, self.asked = size, []

    def fetch(self, name: str):
        def write(part: Path) -> None:
            self.asked.append(name)
            part.write_bytes(self.bytes_of(name))

        return write

    def bytes_of(self, name: str) -> bytes:
        return name.encode().ljust(self.size, b".")

    def through(self, cache: Cache, name: str) -> Path:
        path = cache.path_of(f"s3://bucket/{name}.mp4", self.fetch(name))
        assert path.read_bytes() == self.bytes_of(name)
        return path


def kept(folder: Path) -> list[Path]:
    return [path for path in folder.glob("*/*") if path.is_file()]


def test_a_file_is_fetched_once_and_keeps_its_suffix(tmp_path):
    far, cache = Far(), Cache(tmp_path / "cache")
    assert far.through(cache, "a") == far.through(cache, "a") == far.through(Cache(tmp_path / "cache"), "a")
    assert far.asked == ["a"]
    assert far.through(cache, "a").suffix == ".mp4"


def test_the_limit_is_kept_and_the_least_recently_used_go_first(tmp_path):
    far = Far()
    for number in range(20):  # each by a process of its own, so that none is held
        cache = Cache(tmp_path, limit_bytes=10 * MB)
        far.through(cache, "favourite")
        far.through(cache, f"n{number}")
        del cache
        assert sum(path.stat().st_size for path in kept(tmp_path)) <= 10 * MB
    assert far.asked.count("favourite") == 1
    there = {path.read_bytes()[:9].decode().rstrip(".") for path in kept(tmp_path)}
    assert {"n19", "n18", "n17", "favourite"} <= there


def test_what_a_process_used_last_is_not_evicted_under_it_and_is_when_the_process_has_ended(tmp_path):
    program = (
        "import sys; from pathlib import Path; from manifests.cache import Cache; c = Cache(sys.argv[1], 10**9);"
        "p = c.path_of('s3://b/held.mp4', lambda part: part.write_bytes(b'h' * 10**6));"
        "print(p, flush=True); sys.stdin.read()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], **pipes) as holder:
        held = Path(holder.stdout.readline().strip())
        os.utime(held, (1, 1))  # the least recently used of all
        for number in range(5):
            Far().through(Cache(tmp_path, limit_bytes=2 * MB), f"n{number}")
        assert held.exists()
        holder.stdin.close()
    os.utime(held, (1, 1))
    Far().through(Cache(tmp_path, limit_bytes=2 * MB), "another")
    assert not held.exists()


def test_a_process_holds_no_more_than_its_last_files(tmp_path):
    far, cache = Far(size=10), Cache(tmp_path)
    before = len(os.listdir("/proc/self/fd"))
    for number in range(HELD + 30):
        far.through(cache, f"n{number}")
    assert len(os.listdir("/proc/self/fd")) - before <= HELD
    del cache
    assert len(os.listdir("/proc/self/fd")) <= before


def test_large_files_that_a_process_used_last_leave_room_for_others(tmp_path):
    far, cache = Far(), Cache(tmp_path, limit_bytes=10 * MB)
    for number in range(30):
        far.through(cache, f"n{number}")
        assert sum(path.stat().st_size for path in kept(tmp_path)) <= 10.2 * MB


@pytest.mark.parametrize("damage", [b"", b"half", b"x" * MB])
def test_a_damaged_copy_is_fetched_anew(tmp_path, damage):
    far = Far()
    path = far.through(Cache(tmp_path), "a")
    path.write_bytes(damage)
    far.through(Cache(tmp_path), "a")
    assert far.asked == ["a", "a"]


def test_what_is_not_what_was_wanted_is_not_kept(tmp_path):
    far = Far()
    with pytest.raises(CacheDamaged):
        Cache(tmp_path).path_of("s3://b/a", far.fetch("a"), hashlib.sha256(b"else").hexdigest())
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_parts_of_killed_processes_go_and_those_that_grow_stay(tmp_path):
    old, new = tmp_path / "old.part", tmp_path / "new.part"
    old.write_bytes(b"1")
    new.write_bytes(b"1")
    os.utime(old, (time.time() - 7200,) * 2)
    Far().through(Cache(tmp_path), "a")
    assert (old.exists(), new.exists()) == (False, True)


WORK = """
import random, sys
from tests.manifests.test_cache import Cache, Far
far, chance = Far(100_000), random.Random(sys.argv[2])
cache = Cache(sys.argv[1], limit_bytes=700_000)
for _ in range(150):
    far.through(cache, f"n{chance.randrange(30)}")  # is there, and is what it should be
"""


def test_processes_that_share_a_small_cache_never_find_a_file_gone_or_wrong(tmp_path):
    program = "import manifests.cache; manifests.cache.HELD = 2\n" + WORK
    command = [sys.executable, "-c", program, str(tmp_path)]
    workers = [subprocess.Popen([*command, str(seed)], stderr=subprocess.PIPE, text=True) for seed in range(3)]
    assert [worker.communicate(timeout=120)[1] for worker in workers] == [""] * 3
    Far(10).through(Cache(tmp_path, limit_bytes=700_000), "last")
    assert sum(path.stat().st_size for path in kept(tmp_path)) <= 700_000


def test_threads_may_share_one_cache(tmp_path):
    far, cache = Far(1000), Cache(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: far.through(cache, f"n{number % 10}"), range(200)))
    assert len(kept(tmp_path)) == 10


@pytest.mark.parametrize("given", ["much", "-1", "0", "nan"])
def test_a_limit_that_is_no_number_is_told(tmp_path, monkeypatch, given):
    monkeypatch.setenv("BODYDOUBLE_CACHE_GB", given)
    with pytest.raises(RootError, match=r"BODYDOUBLE_CACHE_GB is .* wanted how many GB"):
        Cache(tmp_path)


@pytest.fixture
def store(tmp_path):
    fsspec.filesystem("memory").store.clear()
    return Store("memory://bucket/root", cache=str(tmp_path))


def test_an_artifact_is_read_from_the_cache_and_verified_in_the_store(store, tmp_path):
    far = fsspec.filesystem("memory")
    array = np.arange(9)
    artifact = store.put("s", KEY, "c", array)
    assert np.array_equal(store.get(artifact), array)
    far.rm_file(f"/bucket/root/{artifact.address}")
    assert np.array_equal(store.get(artifact), array)
    with pytest.raises(ArtifactDamaged, match="is missing"):
        store.verify(artifact)
    (copy,) = kept(tmp_path)
    copy.write_bytes(b"damaged while this process holds it")
    with pytest.raises(ArtifactDamaged, match="is missing"):
        store.get(artifact)
    far.pipe_file(f"/bucket/root/{artifact.address}", b"other")
    with pytest.raises(ArtifactDamaged, match="has changed: 5 bytes"):
        store.get(artifact)


def test_a_fetched_file_of_the_root_is_checked_against_its_name(store):
    far, data = fsspec.filesystem("memory"), b"film"
    right = f"/bucket/root/downloads/{hashlib.sha256(data).hexdigest()}.mp4"
    far.pipe_file(right, data)
    assert Path(store.fetch(f"memory:/{right}")).read_bytes() == data
    wrong = f"/bucket/root/downloads/{'0' * 64}.mp4"
    far.pipe_file(wrong, data)
    with pytest.raises(MediaError, match="damaged"):
        store.fetch(f"memory:/{wrong}")
    with pytest.raises(MediaError, match="missing"):
        store.fetch("memory://bucket/root/downloads/none.mp4")
