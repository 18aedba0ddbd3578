"""Packs and takedowns that are killed at named steps; then the same command again."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from manifests.shards.cut import Cut
from manifests.tables import Tables
from pipeline.takedown_forget import STEPS
from pipeline.verify import find_damaged
from tests import pack_samples
from tests.pipeline.test_takedown import bytes_left

EVERY = {"samples_per_shard": 3, "kinds": ["reverse", "self"]}
KILLS = {
    "before the first tar": "before_artifact:pack:1",
    "inside a tar": "in_tar:pack:2",
    "between two tars": "after_artifact:pack:2",
    "before a commit": "before_commit:pack:1",
    "behind a commit": "after_commit:pack:1",
    "before the index": "before_index:pack:1",
    "before the commit of the index": "before_commit:index:1",
}


def start(*arguments: str, **environment: str) -> int:
    said = subprocess.run(
        [sys.executable, "-m", "pipeline", *arguments],
        env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert "Traceback" not in said.stderr, said.stderr
    return said.returncode


def killed(tmp_path: Path, fault: str, *arguments: str) -> None:
    mark = tmp_path / "died"
    code = start(*arguments, BODYDOUBLE_FAULT=fault, BODYDOUBLE_FAULT_MARK=str(mark))
    assert code == -signal.SIGKILL
    assert mark.exists()  # or the step was never passed, and this test would prove nothing


def shards_in(root: Path) -> dict[str, str]:
    folder = root / "shards"
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return pack_samples.make(tmp_path_factory.mktemp("made"), pack=EVERY, commit_every=2)


def copied(made, folder: Path):
    shutil.copytree(made.root, folder / "root")
    config = made.config | {"root": str(folder / "root")}
    return pack_samples.Small(folder / "root", made.sources, made.characters, made.pairs, config)


@pytest.fixture
def small(made, tmp_path):
    return copied(made, tmp_path)


@pytest.fixture(scope="module")
def truth(made, tmp_path_factory):
    folder = tmp_path_factory.mktemp("truth")
    small = copied(made, folder)
    assert start("pack", str(small.write(folder / "run.yaml")), "--quiet") == 0
    return shards_in(small.root)


@pytest.mark.faults
@pytest.mark.parametrize("kill", KILLS)
def test_a_killed_pack_leaves_no_index_and_the_same_command_writes_what_is_missing(small, tmp_path, truth, kill):
    config = str(small.write(tmp_path / "run.yaml"))
    killed(tmp_path, KILLS[kill], "pack", config, "--quiet")
    there = shards_in(small.root) if (small.root / "shards").exists() else {}
    assert ("main/index.json" in there) == (kill == "before the commit of the index")
    whole = {name for name in there if name.endswith(".tar")}
    assert all(there[name] == truth[name] for name in whole)
    stamps = {name: (small.root / "shards" / name).stat().st_mtime_ns for name in whole}
    assert start("pack", config, "--quiet") == 0
    assert shards_in(small.root) == truth
    again = [name for name in whole if (small.root / "shards" / name).stat().st_mtime_ns != stamps[name]]
    assert again == [] or kill == "inside a tar"
    done = Tables(small.root).read("outcomes", where="track = 'shards' AND state = 'done'").to_pylist()
    assert max(Counter(row["key"] for row in done).values()) == 1
    assert find_damaged(Tables(small.root)) == []
    assert not list(small.root.glob("shards/**/*.part"))


@pytest.mark.faults
@pytest.mark.parametrize("step", STEPS)
def test_a_takedown_that_is_killed_is_finished_by_the_same_command(small, tmp_path, step):
    config = str(small.write(tmp_path / "run.yaml"))
    assert start("pack", config, "--quiet") == 0
    source = small.sources[1]
    (row,) = Tables(small.root).read("sources", where=f"id = '{source}'").to_pylist()
    command = ("forget", source, "--root", str(small.root), "--reason", "asked")
    killed(tmp_path, f"forget:{step}", *command)
    assert start(*command) == 0
    words = [source.encode(), row["file_sha256"].encode(), row["file"].encode()]
    assert bytes_left(small.root, words) == []
    assert find_damaged(Tables(small.root)) == []
    digest = Cut(small.root).digest
    assert start("pack", config, "--quiet") == 0
    assert Cut(small.root).digest == digest
    assert start(*command) == 2  # it is done, and says so


@pytest.mark.faults
def test_a_takedown_killed_while_its_shards_are_committed_is_finished_by_the_same_command(small, tmp_path):
    config = str(small.write(tmp_path / "run.yaml"))
    assert start("pack", config, "--quiet") == 0
    source = small.sources[0]
    command = ("forget", source, "--root", str(small.root), "--reason", "asked")
    for number, fault in enumerate(("before_commit:pack:1", "after_commit:index:1", "before_commit:pack:2")):
        (tmp_path / str(number)).mkdir()
        killed(tmp_path / str(number), fault, *command)
    assert start(*command) == 0
    assert bytes_left(small.root, [source.encode()]) == []
    assert find_damaged(Tables(small.root)) == []
    digest = Cut(small.root).digest
    assert start("pack", config, "--quiet") == 0
    assert Cut(small.root).digest == digest
