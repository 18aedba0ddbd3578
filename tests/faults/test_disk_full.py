"""A real disk that is really full: a small tmpfs, in a mount namespace of its own."""

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

can_mount = shutil.which("unshare") and (
    subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode == 0
)


@pytest.mark.faults
@pytest.mark.skipif(not can_mount, reason="needs unshare with user namespaces, to mount a small disk of its own")
def test_a_full_disk_ends_a_run_with_one_sentence_and_with_space_it_goes_on(tmp_path):
    import json

    (tmp_path / "disk").mkdir()
    names = [f"n{number}" for number in range(200)]
    put_sources(tmp_path / "start", names)
    stages = {"trouble": ("Trouble", {"size": 64 * 1024, "batch_size": 4})}  # 12.5 MiB in all
    write_config(tmp_path / "run.yaml", tmp_path / "disk", stages)
    script = SCRIPT.format(size=SIZE_MIB, python=sys.executable)
    subprocess.run(["unshare", "-rm", "bash", "-c", script, "fill", str(tmp_path)], check=True, timeout=200)
    assert (tmp_path / "first.rc").read_text().strip() == "1"
    said = (tmp_path / "first.err").read_text().strip()
    assert said.startswith("bodydouble: no space left under"), said
    assert "\n" not in said
    full = json.loads((tmp_path / "full.json").read_text())["tables"]["sources"][-1]
    assert full["in"] == 200 == full["done"] + full["pending"]
    assert (tmp_path / "second.rc").read_text().strip() == "0", (tmp_path / "second.err").read_text()
    last = json.loads((tmp_path / "third.json").read_text())["tables"]["sources"][-1]
    assert last["done"] == 200
