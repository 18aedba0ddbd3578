"""Files, tables and leases on a store that errs, stands still, loses answers and dies.

A real S3 server (moto), behind a proxy that does all this; real processes, which are killed or kept out.
"""

import json
import subprocess
import sys
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest

from manifests import patience, remote
from manifests.files import files_of
from manifests.lease import Lease
from manifests.ledger import Committer, Outcome
from manifests.patience import StoreDown
from manifests.remote import RemoteFiles
from manifests.schema import SOURCES
from manifests.tables import Tables
from tests.s3_server import BUCKET, Proxy, environment, put_object, s3_server, use

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


def outcome(number, state="done"):
    return Outcome(f"key{number}", "sources", f"src_{number}", "first", state)


def put_request(word):
    return lambda request: request.method == "PUT" and word in request.path


@pytest.mark.parametrize("action", ["lose", "late 500"])
def test_a_file_whose_making_was_answered_with_an_error_is_known_for_ones_own(faulty, root, action):
    faulty.first(1, action, put_request("lease"))
    files_of(root).create("lease", b"mine")
    with pytest.raises(FileExistsError):
        files_of(root).create("lease", b"another's")


@pytest.mark.parametrize("action", ["500", "502", "503", "drop", "cut", "lose", "late 500"])
def test_errors_that_pass_are_waited_out(faulty, root, action):
    files = files_of(root)
    data = bytes(range(256)) * 100
    files.write("file", data)
    faulty.first(5, action)
    assert files.read("file", len(data)) == data
    faulty.first(5, action)
    files.write("file", data[::-1])
    assert files.read("file") == data[::-1]


def test_a_store_that_stays_down_ends_in_one_sentence_and_in_time_and_what_follows_does_not_wait_anew(
    faulty, root, monkeypatch
):
    monkeypatch.setenv("BODYDOUBLE_PATIENCE_S", "2")
    faulty.first(10**6, "503")
    started = time.monotonic()
    with pytest.raises(StoreDown, match=f"^{root} could not be reached for . s .*what was finished is safe") as caught:
        files_of(root).write("file", b"1")
    assert caught.value.exit_code == 1
    assert 1 < time.monotonic() - started < 30
    asked = len(faulty.seen)
    with pytest.raises(StoreDown):
        files_of(root).write("file", b"1")
    assert len(faulty.seen) - asked == remote.TRIES_OF_DRIVERS
    faulty.rule = lambda _request: None
    files_of(root).write("file", b"1")
    assert patience.patience_with(root) == 2


def test_a_store_that_is_gone_ends_files_and_tables_alike(server, root, monkeypatch):
    with Proxy(server) as proxy:
        use(monkeypatch, proxy.endpoint)
        monkeypatch.setenv("BODYDOUBLE_PATIENCE_S", "1")
        files, tables = files_of(root), Tables(root)
        files.write("file", b"1")
        tables.upsert("sources", pa.Table.from_pylist([{"id": "src_1"}], schema=SOURCES))
        proxy.rule = lambda _request: "drop"  # of the connections that are open
    for ask in (lambda: files.read("file"), lambda: files.exists("file"), lambda: tables.count("sources")):
        with pytest.raises(StoreDown, match="could not be reached"):
            ask()
    rows = pa.Table.from_pylist([{"id": "src_2"}], schema=SOURCES)
    with pytest.raises(StoreDown, match="could not be reached"):
        tables.upsert("sources", rows)


@pytest.mark.parametrize("action", ["drip 0.3", "wait 30"])
def test_a_read_that_drips_or_stands_still_is_ended_by_its_time_limit(faulty, root, action):
    files = RemoteFiles(root, patience_s=0, operation_s=1.0)
    files_of(root).write("file", b"0" * 1000)
    faulty.first(10**6, action)
    started = time.monotonic()
    with pytest.raises(StoreDown, match="no whole answer within 1 s"):
        files.read("file")
    assert time.monotonic() - started < 5


def test_twelve_appends_at_once_all_land(s3, root):
    def append(number):
        committer = Committer(Tables(root), epoch=number)
        committer.add(outcome(number))
        committer.flush()

    append(0)  # of two FIRST writes at once Lance loses one, on a folder too; the lease keeps them apart
    with ThreadPoolExecutor(12) as pool:
        list(pool.map(append, range(1, 13)))
    assert sorted(Tables(root).read("outcomes")["epoch"].to_pylist()) == list(range(13))


@pytest.mark.parametrize("word", ["_versions", "_transactions", "data", "beginning"])
@pytest.mark.parametrize("action", ["500", "drop", "lose", "late 500"])
def test_an_append_that_is_disturbed_lands_once(faulty, root, action, word):
    tables = Tables(root)
    committer = Committer(tables, epoch=1)
    faulty.first(4, action, put_request(word))
    for number in range(3):
        committer.add(outcome(number))
        committer.flush()
    faulty.rule = lambda _request: None
    assert sorted(Tables(root).read("outcomes")["key"].to_pylist()) == ["key0", "key1", "key2"]


def test_a_commit_whose_answer_was_lost_for_good_is_found_by_its_id(faulty, root, monkeypatch):
    tables = Tables(root)
    committer = Committer(tables, epoch=1)
    committer.add(outcome(0))
    committer.flush()
    monkeypatch.setenv("BODYDOUBLE_PATIENCE_S", "1")
    manifest = put_request("_versions")
    gone = []

    def rule(request):
        """Let the commit land without an answer, and be dead from then on."""
        if gone or manifest(request):
            gone.append(request)
            return "lose" if len(gone) == 1 else "500"
        return None

    faulty.rule = rule
    committer.add(outcome(1))
    with pytest.raises(StoreDown):
        committer.flush()
    faulty.rule = lambda _request: None
    committer.flush()  # as the driver does when it winds up
    assert Tables(root).read("outcomes")["key"].to_pylist() == ["key0", "key1"]


def test_rows_that_are_merged_while_answers_are_lost_stand_there_once(faulty, root):
    rows = [{"id": f"src_{number}", "frames": 1} for number in range(5)]
    Tables(root).upsert("sources", pa.Table.from_pylist(rows, schema=SOURCES))
    faulty.first(2, "lose", put_request("_versions"))
    changed = [row | {"frames": 2} for row in rows] + [{"id": "src_9", "frames": 2}]
    Tables(root).upsert("sources", pa.Table.from_pylist(changed, schema=SOURCES))
    faulty.rule = lambda _request: None
    found = Tables(root).read("sources").to_pylist()
    assert sorted((row["id"], row["frames"]) for row in found) == [(row["id"], 2) for row in changed]


HOLD = """
import sys, time
from manifests.lease import Lease
with Lease.take(sys.argv[1], "holder", interval_s=0.2) as lease:
    print(lease.epoch, flush=True)
    time.sleep(60)
"""


def test_a_killed_holder_is_taken_over_at_once_on_its_machine_and_by_its_counter_from_another(s3, root):
    for far, epoch in ((False, 1), (True, 3)):
        holder = subprocess.Popen([sys.executable, "-c", HOLD, root], stdout=subprocess.PIPE, env=environment(s3))
        assert int(holder.stdout.readline()) == epoch
        holder.kill()
        holder.communicate()
        if far:
            name = f"leases/{files_of(root).names('leases')[-1]}"
            held = json.loads(files_of(root).read(name))
            prefix = root.removeprefix(f"s3://{BUCKET}/")
            put_object(s3, f"{prefix}/{name}", json.dumps(held | {"host": "another", "started": "boot:1"}).encode())
        started = time.monotonic()
        with Lease.take(root, "next", interval_s=0.8) as lease:
            assert lease.epoch == epoch + 1
        assert (time.monotonic() - started >= 4.0) == far  # five looks at its counter


def test_a_holder_outlives_a_store_that_fails_for_longer_than_others_wait_if_none_has_come(faulty, root):
    with Lease.take(root, "driver", interval_s=0.1) as lease:
        faulty.rule = lambda _request: "503"
        time.sleep(1.0)
        threading.Timer(1.5, setattr, (faulty, "rule", lambda _request: None)).start()
        started = time.monotonic()
        lease.check()
        assert 1.0 < time.monotonic() - started < 10
        assert lease.epoch == 1


def test_a_holder_whose_store_stays_down_ends_with_its_name_and_gives_back_without_hanging(faulty, root, monkeypatch):
    monkeypatch.setenv("BODYDOUBLE_PATIENCE_S", "1")
    lease = Lease.take(root, "driver", interval_s=0.1)
    faulty.rule = lambda _request: "wait 30"
    time.sleep(1.0)
    with pytest.raises(StoreDown, match=f"^{root} could not be reached"):
        lease.check()
    started = time.monotonic()
    with pytest.raises(StoreDown):
        lease.check()  # the run winds up
    with lease:
        pass  # gives it back
    assert time.monotonic() - started < 4


def test_a_holder_that_was_taken_over_during_an_outage_finds_that_out(faulty, server, root):
    with Lease.take(root, "driver", interval_s=0.1) as lease:
        prefix = root.removeprefix(f"s3://{BUCKET}/")
        faulty.rule = lambda _request: "500"
        put_object(server, f"{prefix}/leases/00000002.json", b'{"counter": 0, "who": "x", "pid": 1}')
        time.sleep(0.8)
        faulty.rule = lambda _request: None
        with pytest.raises(Exception, match="another process took over"):
            lease.check()


def told(root, **changed):
    """Run a command as a user would; returns its exit code, what it said, and how long it took."""
    command = [sys.executable, "-m", "pipeline", "manifest", "stats", "--root", root]
    given = environment("http://127.0.0.1:9") | changed
    started = time.monotonic()
    done = subprocess.run(command, check=False, env=given, capture_output=True, text=True, timeout=120)
    return done.returncode, done.stderr.strip(), time.monotonic() - started


NO_KEYS = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}


@pytest.mark.parametrize(
    ("root", "changed", "code", "said"),
    [
        (f"s3://{BUCKET}-none/r", {}, 2, f"there is no bucket '{BUCKET}-none' at this endpoint"),
        (f"s3://{BUCKET}/r", NO_KEYS, 2, "Unable to locate credentials; set AWS_ACCESS_KEY_ID"),
        (f"s3://{BUCKET}/r", {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, 1, "Could not connect to the endpoint URL"),
        (f"s3://{BUCKET}/r", {"AWS_ENDPOINT_URL": "nonsense"}, 2, "Invalid endpoint: nonsense; set AWS_ENDPOINT_URL"),
        (f"s3://me:{'se' + 'cret'}@{BUCKET}/r", {}, 2, f"s3://...@{BUCKET} holds credentials"),
        ("gs://bucket/r", {}, 2, "install the driver that this names"),
    ],
)
def test_a_root_that_cannot_be_used_is_told_soon_in_one_sentence(s3, root, changed, code, said):
    ended, words, took_s = told(root, **{"AWS_ENDPOINT_URL": s3} | changed)
    assert said in words
    assert (ended, len(words.splitlines())) == (code, 1)
    assert "secret" not in words
    assert took_s < 25


def test_without_s3fs_the_extra_to_install_is_named(s3, tmp_path):
    (tmp_path / "s3fs.py").write_text("raise ImportError('No module named s3fs')")  # found before the real one
    ended, words, _ = told(f"s3://{BUCKET}/r", AWS_ENDPOINT_URL=s3, PYTHONPATH=str(tmp_path))
    assert (ended, len(words.splitlines())) == (2, 1)
    assert "bodydouble[s3]" in words
