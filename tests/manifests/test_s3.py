"""Files, tables and leases on a real S3 server (moto); the faults of one are in tests/faults/test_s3.py."""

import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import pytest

from manifests import remote
from manifests.errors import RootError
from manifests.files import files_of
from manifests.lease import Lease, LeaseTaken
from manifests.ledger import fold
from manifests.schema import OUTCOMES
from manifests.store import Store
from manifests.tables import TableError, Tables
from tests.s3_server import BUCKET, ENVIRONMENT, Proxy, objects, s3_server, use


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


def test_files_come_back_as_they_went_in_and_are_seen_so_by_another_library(s3, root):
    files = files_of(root)
    files.write("a/one.json", b"1")
    files.write("a/b/two.json", b"22")
    assert files.read("a/one.json") == b"1"
    assert files.names("a") == ["b", "one.json"]
    assert (files.names("none"), files.exists("a/one.json"), files.exists("a/none")) == ([], True, False)
    prefix = root.removeprefix(f"s3://{BUCKET}/")
    assert objects(s3, prefix) == {f"{prefix}/a/one.json": b"1", f"{prefix}/a/b/two.json": b"22"}
    files.remove("a/one.json")
    files.remove("a/one.json")
    assert list(objects(s3, prefix)) == [f"{prefix}/a/b/two.json"]
    with pytest.raises(FileNotFoundError):
        files.read("a/one.json")


def test_of_many_who_make_one_file_one_wins(s3, root):
    barrier = threading.Barrier(12)

    def make(number):
        barrier.wait()
        try:
            files_of(root).create("lease", f"{number}".encode())
        except FileExistsError:
            return None
        return number

    with ThreadPoolExecutor(12) as pool:
        won = [number for number in pool.map(make, range(12)) if number is not None]
    assert len(won) == 1
    assert files_of(root).read("lease") == f"{won[0]}".encode()


@pytest.mark.parametrize(("status", "wanted"), [("403", RootError), ("404", FileNotFoundError)])
def test_errors_that_do_not_pass_are_told_at_once(faulty, root, status, wanted):
    faulty.first(10**6, status)
    asked = len(faulty.seen)
    started = time.monotonic()
    with pytest.raises(wanted):
        files_of(root).read("file")
    assert time.monotonic() - started < 2
    assert len(faulty.seen) - asked == 1


def test_tables_are_tagged_compacted_and_read_at_a_version(s3, root):
    tables = Tables(root)
    for number in range(4):
        tables.append("outcomes", _row(number))
    tables.tag("outcomes", "frozen", 2)
    assert tables.compact("outcomes", keep=1)
    tables.delete("outcomes", "seq = 0")
    assert (tables.count("outcomes"), tables.read("outcomes", version="frozen").num_rows) == (3, 2)
    assert tables.tags("outcomes") == {"frozen": 2}
    with pytest.raises(TableError, match="no version or tag 'none'"):
        tables.read("outcomes", version="none")
    assert len(fold(tables).state) == 3


def _row(number):
    return pa.Table.from_pylist([{"key": f"k{number}", "state": "done", "epoch": 1, "seq": number}], schema=OUTCOMES)


def test_a_table_whose_versions_are_lost_is_damaged_and_not_new(s3, root):
    tables = Tables(root)
    for number in range(3):
        tables.append("outcomes", _row(number))
    for name in files_of(root).names("tables/outcomes.lance/_versions"):
        files_of(root).remove(f"tables/outcomes.lance/_versions/{name}")
    with pytest.raises(TableError, match="restore its folder from a copy"):
        Tables(root).append("outcomes", _row(9))


def test_a_second_writer_is_kept_out_and_a_lease_given_back_is_taken_at_once(s3, root):
    with Lease.take(root, "first", interval_s=0.2) as first:
        with pytest.raises(LeaseTaken, match="in use by `first`"):
            Lease.take(root, "second", interval_s=0.3)
        first.check()
    started = time.monotonic()
    with Lease.take(root, "third") as third:
        assert third.epoch == 2
    assert time.monotonic() - started < 1


def test_a_wrong_region_is_told_with_the_right_one(faulty, root):
    """As S3 answers: 400 AuthorizationHeaderMalformed with the region that it wants."""
    faulty.first(10**6, "region eu-west-3")
    with pytest.raises(RootError, match=r"AWS_REGION is not the region of bucket 'bodies', and it lies in eu-west-3"):
        Tables(root).read("sources")


def test_no_secret_is_written_under_a_root_or_handed_to_lance(s3, root):
    with Lease.take(root, "driver"):
        Store(root).put_page("runs/1.json", {"config": {"root": root}})
        Tables(root).append("outcomes", _row(1))
    everything = b"".join(objects(s3, root.removeprefix(f"s3://{BUCKET}/")).values())
    assert everything
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        assert ENVIRONMENT[name].encode() not in everything
        assert ENVIRONMENT[name] not in str(remote.storage_options(root))
