"""Whole runs on S3: as in a folder, and behind a proxy that errs, stands still, loses answers and dies."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import pytest

from manifests.ledger import fold
from manifests.tables import Tables
from pipeline.config import build, load
from pipeline.importing import import_list
from pipeline.verify import find_damaged
from tests.clips import stamped, write_clip
from tests.rows import go, lines_of, put_sources, write_config
from tests.s3_server import BUCKET, Proxy, environment, objects, put_object, s3_server, use

pytestmark = pytest.mark.faults


@pytest.fixture(scope="module")
def server():
    with s3_server() as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def proxy(server):
    with Proxy(server) as proxy:
        yield proxy


@pytest.fixture
def s3(server, monkeypatch):
    """The endpoint, without a proxy."""
    use(monkeypatch, server)
    return server


@pytest.fixture
def faulty(proxy, monkeypatch):
    """The proxy, which does nothing yet."""
    use(monkeypatch, proxy.endpoint)
    monkeypatch.setenv("BODYDOUBLE_PATIENCE_S", "20")
    proxy.rule = lambda _request: None
    yield proxy
    proxy.rule = lambda _request: None


@pytest.fixture
def root():
    return f"s3://{BUCKET}/{uuid.uuid4().hex}"


CHAIN = {"first": "First", "second": "Second", "third": "Third"}
STOPS = [(after, way) for after in (20, 90, 160) for way in ("500", "drop", "wait 60")]
NAMES = [f"n{number}" for number in range(12)] + ["reject me"]


def start(config: Path, endpoint: str, **changed: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline", "run", str(config), "--quiet"],
        env=environment(endpoint) | {"OMP_NUM_THREADS": "1", "BODYDOUBLE_PATIENCE_S": "60"} | changed,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def finish(process: "subprocess.Popen[bytes]", timeout_s: float = 240) -> tuple[int, str]:
    said = process.communicate(timeout=timeout_s)[1].decode().strip()
    assert "Traceback" not in said, said
    return process.returncode, said


def chain(log: Path) -> dict:
    return {stage: (cls, {"batch_size": 2, "log": str(log)}) for stage, cls in CHAIN.items()}


def results_of(root) -> dict[str, tuple]:
    """What stands in the ledger, each key settled once: key -> state and the sha256 of each artifact."""
    rows = Tables(root).read("outcomes").to_pylist()
    rows.sort(key=lambda row: (row["epoch"], row["seq"]))
    settled = [row for row in rows if row["state"] in ("done", "rejected", "quarantined")]
    assert len({row["key"] for row in settled}) == len(settled)
    return {row["key"]: (row["state"], row["made"], [a["sha256"] for a in row["artifacts"]]) for row in settled}


@pytest.fixture(scope="module")
def truth(tmp_path_factory):
    """What the same run makes in a folder of this machine."""
    folder = tmp_path_factory.mktemp("truth")
    put_sources(folder / "root", NAMES)
    config = write_config(folder / "run.yaml", folder / "root", chain(folder / "log"))
    assert finish(start(config, "http://127.0.0.1:9")) == (0, "")
    return results_of(folder / "root")


@pytest.fixture
def prepared(faulty, root, tmp_path):
    """A config whose sources lie on S3."""
    put_sources(root, NAMES)
    return write_config(tmp_path / "run.yaml", root, chain(tmp_path / "log"), commit_every=5, workers=2)


def is_as(truth, root, config):
    """Nothing lost, nothing doubled, every artifact whole, and the funnel adds up."""
    assert results_of(root) == truth
    assert fold(Tables(root)).state == {key: state for key, (state, _, _) in truth.items()}
    assert find_damaged(Tables(root)) == []
    lines_of(load(config))


def test_a_run_on_s3_makes_the_keys_and_outcomes_of_one_in_a_folder_and_a_second_does_nothing(
    faulty, root, prepared, truth
):
    assert finish(start(prepared, faulty.endpoint)) == (0, "")
    is_as(truth, root, prepared)
    version = Tables(root).version("outcomes")
    assert finish(start(prepared, faulty.endpoint)) == (0, "")
    assert Tables(root).version("outcomes") == version


def test_a_second_driver_is_kept_out_and_a_killed_one_is_taken_over(faulty, root, tmp_path, truth):
    put_sources(root, NAMES)
    config = write_config(tmp_path / "run.yaml", root, chain(tmp_path / "log"), commit_every=3)
    faulty.first(10**6, "wait 0.5", lambda request: request.method == "PUT" and "artifacts" in request.path)
    first = start(config, faulty.endpoint)
    wait_until((tmp_path / "log").exists)
    code, said = finish(start(config, faulty.endpoint))
    assert code == 2
    assert f"{root} is in use by `bodydouble run` (process {first.pid}" in said
    wait_until(lambda: Tables(root).count("outcomes") >= 3)
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    faulty.rule = lambda _request: None
    assert finish(start(config, faulty.endpoint)) == (0, "")
    is_as(truth, root, config)


@pytest.mark.parametrize("seed", range(5 if os.environ.get("BODYDOUBLE_FULL") else 2))
def test_a_run_on_a_store_that_errs_in_every_way_ends_as_if_it_had_not(faulty, root, prepared, truth, seed):
    chance, lock = random.Random(seed), threading.Lock()
    ways = ["500", "502", "503", "drop", "lose", "late 500", "cut", "wait 1"]
    done: list[str] = []

    def rule(_request):
        with lock:
            if chance.random() > 0.1:
                return None
            done.append(chance.choice(ways))
            return done[-1]

    faulty.rule = rule
    code, said = finish(start(prepared, faulty.endpoint))
    faulty.rule = lambda _request: None
    assert (code, said) == (0, "")
    assert set(done) == set(ways)
    is_as(truth, root, prepared)


@pytest.mark.parametrize(("after", "way"), STOPS if os.environ.get("BODYDOUBLE_FULL") else STOPS[::4])
def test_a_run_whose_store_stops_ends_with_a_sentence_and_a_later_one_goes_on(
    faulty, root, prepared, truth, after, way
):
    began = len(faulty.seen)
    faulty.rule = lambda request: way if request.number >= began + after else None
    process = start(prepared, faulty.endpoint, BODYDOUBLE_PATIENCE_S="4")
    wait_until(lambda: len(faulty.seen) >= began + after)
    stopped_s = time.monotonic()
    code, said = finish(process)
    assert (code, len(said.splitlines())) == (1, 1), said
    assert said.startswith(f"bodydouble: {root} could not be reached for")
    assert "run the same command again" in said
    assert time.monotonic() - stopped_s < 280  # some 60 s alone; without limits it would be for ever
    faulty.rule = lambda _request: None
    assert finish(start(prepared, faulty.endpoint)) == (0, "")
    is_as(truth, root, prepared)


def test_a_run_whose_store_is_away_for_longer_than_its_lease_lives_goes_on(faulty, root, tmp_path, truth):
    put_sources(root, NAMES)
    config = write_config(tmp_path / "run.yaml", root, chain(tmp_path / "log"), commit_every=5, workers=2)
    began = len(faulty.seen)
    away = threading.Event()

    def rule(request):
        if request.number == began + 90:
            away.set()
            threading.Timer(15.0, away.clear).start()  # five beats are 10 s
        return "503" if away.is_set() else None

    faulty.rule = rule
    assert finish(start(config, faulty.endpoint)) == (0, "")
    assert len(faulty.seen) > began + 90
    is_as(truth, root, config)


def test_films_are_fetched_into_a_root_on_s3_read_through_the_cache_and_known_when_they_are_imported_again(
    s3, root, tmp_path, monkeypatch
):
    monkeypatch.setenv("BODYDOUBLE_CACHE", str(tmp_path / "cache"))
    film = write_clip(tmp_path / "film.mp4", stamped(12))
    put_object(s3, "films/film.mp4", film.read_bytes())
    places = [f"s3://{BUCKET}/films/film.mp4", f"s3://{BUCKET}/films/none.mp4", f"s3://{BUCKET}-none/film.mp4"]
    listed = tmp_path / "list.jsonl"
    listed.write_text("".join(json.dumps({"path": place}) + "\n" for place in places))
    first = import_list("sources", str(listed), root)
    assert (first.new, first.fetched, dict(first.rejected)) == (3, 1, {"missing": 1, "unreachable": 1})
    (row,) = Tables(root).read("sources", where="reject IS NULL").to_pylist()
    sha256 = hashlib.sha256(film.read_bytes()).hexdigest()
    assert row["file"] == f"{root}/downloads/{sha256}.mp4"
    assert objects(s3, row["file"].removeprefix(f"s3://{BUCKET}/")).popitem()[1] == film.read_bytes()
    again = import_list("sources", str(listed), root)
    assert (again.unchanged, again.fetched, again.version) == (3, 0, first.version)
    lines = go(build({"root": root, "stages": {"sources": {"probe": {}}}}))
    assert lines["probe"]["done"] + sum(lines["probe"]["rejected"].values()) == 1
    (copy,) = (tmp_path / "cache").glob("*/*.mp4")
    assert copy.stem == sha256


def wait_until(condition, timeout_s: float = 60.0) -> None:
    until = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until, "it never came to that"
        time.sleep(0.05)


def test_a_store_that_fails_only_the_workers_ends_the_run_and_charges_no_row(faulty, root, prepared, truth):
    faulty.rule = lambda request: "503" if "artifacts" in request.path and request.method == "PUT" else None
    code, said = finish(start(prepared, faulty.endpoint, BODYDOUBLE_PATIENCE_S="2"))
    assert (code, len(said.splitlines())) == (1, 1), said
    assert f"{root} could not be reached" in said
    assert not Tables(root).read("outcomes", where="state IN ('quarantined', 'crashed')").num_rows
    faulty.rule = lambda _request: None
    assert finish(start(prepared, faulty.endpoint)) == (0, "")
    is_as(truth, root, prepared)
