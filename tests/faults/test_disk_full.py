"""A real disk that is really full: a small tmpfs, in a mount namespace of its own."""

import json
import shutil
import subprocess
import sys

import pytest

from tests.rows import put_sources, write_config

SIZE_MIB = 6
# fills up in the middle of a run; then space is made, and the same command goes on
SCRIPT = """
set -u
mount -t tmpfs -o size={size}m tmpfs "$1/disk" || exit 99
cp -r "$1/start/." "$1/disk"
run() {{ "{python}" -m pipeline run "$2" --quiet "${{@:3}}"; }}
run "$1" "$1/run.yaml" >"$1/first.out" 2>"$1/first.err"; echo $? >"$1/first.rc"
"{python}" -m pipeline funnel "$1/run.yaml" --json >"$1/full.json" 2>"$1/full.err"
mount -o remount,size=64m "$1/disk"
run "$1" "$1/run.yaml" >"$1/second.out" 2>"$1/second.err"; echo $? >"$1/second.rc"
"{python}" -m pipeline run "$1/run.yaml" --quiet --verify --json >"$1/third.json" 2>"$1/third.err"
"""

# fills up in a commit, since nothing else is written; the second run finds it nearly full, the third wholly
LEDGER_SCRIPT = """
set -u
mount -t tmpfs -o size=2m tmpfs "$1/disk" || exit 99
cp -r "$1/start/." "$1/disk"
head -c {filler} /dev/zero > "$1/disk/filler"
run() {{ "{python}" -m pipeline run "$1/run.yaml" --quiet >"$1/$2.out" 2>"$1/$2.err"; echo $? >"$1/$2.rc"; }}
run "$1" commit
run "$1" nearly
"{python}" -m pipeline funnel "$1/run.yaml" --json >"$1/full.json"
cat /dev/zero > "$1/disk/rest" 2>/dev/null
run "$1" lease
mount -o remount,size=64m "$1/disk"
run "$1" last
"{python}" -m pipeline run "$1/run.yaml" --quiet --json >"$1/done.json"
"""

can_mount = shutil.which("unshare") and (
    subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode == 0
)


needs_mount = pytest.mark.skipif(not can_mount, reason="needs unshare with user namespaces, to mount a disk of its own")


def on_a_small_disk(script, folder):
    subprocess.run(["unshare", "-rm", "bash", "-c", script, "fill", str(folder)], check=True, timeout=200)


def ended_with_one_sentence(folder, name):
    said = (folder / f"{name}.err").read_text().strip()
    assert said.startswith("bodydouble: no space left under"), said
    assert "\n" not in said
    assert (folder / f"{name}.rc").read_text().strip() == "1"


@pytest.mark.faults
@needs_mount
def test_a_full_disk_ends_a_run_with_one_sentence_and_with_space_it_goes_on(tmp_path):
    (tmp_path / "disk").mkdir()
    names = [f"n{number}" for number in range(200)]
    put_sources(tmp_path / "start", names)
    stages = {"trouble": ("Trouble", {"size": 64 * 1024, "batch_size": 4})}  # 12.5 MiB in all
    write_config(tmp_path / "run.yaml", tmp_path / "disk", stages)
    script = SCRIPT.format(size=SIZE_MIB, python=sys.executable)
    on_a_small_disk(script, tmp_path)
    ended_with_one_sentence(tmp_path, "first")
    full = json.loads((tmp_path / "full.json").read_text())["tables"]["sources"][-1]
    assert full["in"] == 200 == full["done"] + full["pending"]
    assert (tmp_path / "second.rc").read_text().strip() == "0", (tmp_path / "second.err").read_text()
    last = json.loads((tmp_path / "third.json").read_text())["tables"]["sources"][-1]
    assert last["done"] == 200


@pytest.mark.faults
@needs_mount
def test_a_disk_that_fills_up_in_a_commit_or_before_the_lease_ends_a_run_with_one_sentence(tmp_path):
    (tmp_path / "disk").mkdir()
    put_sources(tmp_path / "start", [f"n{number}" for number in range(3000)])
    write_config(tmp_path / "run.yaml", tmp_path / "disk", {"n": ("NoOp", {"batch_size": 8})}, commit_every=20)
    on_a_small_disk(LEDGER_SCRIPT.format(filler=1200 * 1024, python=sys.executable), tmp_path)
    full = json.loads((tmp_path / "full.json").read_text())["tables"]["sources"][-1]
    assert 0 < full["done"] < 3000  # so it was a commit that did not find space
    assert full["in"] == 3000 == full["done"] + full["pending"]
    for run in ("commit", "nearly", "lease"):
        ended_with_one_sentence(tmp_path, run)
    assert (tmp_path / "last.rc").read_text().strip() == "0", (tmp_path / "last.err").read_text()
    last = json.loads((tmp_path / "done.json").read_text())["tables"]["sources"][-1]
    assert last["done"] == 3000
