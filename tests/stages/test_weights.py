"""Weights by path, URL and hub id, from real servers on loopback."""

import contextlib
import hashlib
import http.server
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from stages.weights import WeightsError, fetch, seal

ROOT = Path(__file__).parents[2]
BODY = bytes(range(256)) * 2048
SHA256 = hashlib.sha256(BODY).hexdigest()
OTHER = "0" * 64


class Handler(http.server.BaseHTTPRequestHandler):
    """Gives one file: at any path of its own, and as the hub does at `owner/repo/resolve/<revision>/net.onnx`."""

    seen: list[str]

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        type(self).seen.append(self.path)
        if self.answer():
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                self.wfile.write(BODY)

    def answer(self) -> bool:
        good = re.fullmatch(r"/(files/\S*|owner/repo/resolve/v1/net\.onnx)", self.path) is not None
        self.send_response(200 if good else 404)
        self.send_header("Content-Length", str(len(BODY) if good else 0))
        self.send_header("ETag", f'"{SHA256}"')
        self.send_header("X-Repo-Commit", "1" * 40)
        self.end_headers()
        return good


@pytest.fixture
def server() -> Iterator[tuple[str, list[str]]]:
    handler = type("Fresh", (Handler,), {"seen": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", handler.seen
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "bodydouble" / "weights"


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def test_a_path_is_known_by_its_file_and_refused_if_that_is_another(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(BODY)
    assert seal(str(path), None) == SHA256
    assert fetch(str(path), SHA256) == path
    assert seal(str(path), OTHER) == OTHER  # what the config says; the file is looked at where it is opened
    with pytest.raises(WeightsError, match=f"net.onnx have the SHA-256 {SHA256}, wanted {OTHER}: they are others"):
        fetch(str(path), OTHER)


def test_what_is_not_there_is_told_with_the_ways_to_name_it(tmp_path: Path) -> None:
    for place in (str(tmp_path / "none.onnx"), "owner/repo/net.onnx", str(tmp_path)):
        with pytest.raises(
            WeightsError, match=r"no file of weights at .*; give a path, an https URL, or a file of the hub"
        ):
            seal(place, None)
        with pytest.raises(WeightsError, match="no file of weights at"):
            fetch(place, SHA256)


def test_what_lies_elsewhere_must_be_named_with_its_sha256() -> None:
    for place in ("https://host.example/net.onnx?token=SECRET", "owner/repo/folder/net.onnx@main"):
        assert seal(place, SHA256) == SHA256
        with pytest.raises(WeightsError, match="lies elsewhere and is named without its SHA-256") as caught:
            seal(place, None)
        assert "SECRET" not in str(caught.value)
    with pytest.raises(WeightsError, match="'ABC' is no SHA-256: wanted 64 hex digits"):
        seal("owner/repo/net.onnx@main", "ABC")


def test_a_url_is_fetched_once_and_kept_by_content(server: tuple[str, list[str]], cache: Path) -> None:
    url, seen = server
    path = fetch(f"{url}/files/net.onnx?sig=1", SHA256)
    assert path.read_bytes() == BODY
    assert fetch(f"{url}/files/mirror/net.onnx", SHA256) == path
    assert seen == ["/files/net.onnx?sig=1"]
    assert files(cache) == [path.name]


def test_a_copy_that_was_damaged_is_fetched_again(server: tuple[str, list[str]], cache: Path) -> None:
    url, seen = server
    path = fetch(f"{url}/files/net.onnx", SHA256)
    path.write_bytes(BODY[:-1])
    assert fetch(f"{url}/files/net.onnx", SHA256).read_bytes() == BODY
    assert len(seen) == 2


def test_a_url_with_other_weights_is_refused_and_nothing_is_kept(server: tuple[str, list[str]], cache: Path) -> None:
    with pytest.raises(WeightsError, match=f"/files/net.onnx have the SHA-256 {SHA256}, wanted {OTHER}"):
        fetch(f"{server[0]}/files/net.onnx", OTHER)
    assert files(cache) == []


def test_a_url_without_an_answer_is_one_sentence_without_its_secrets(
    server: tuple[str, list[str]], cache: Path
) -> None:
    with pytest.raises(WeightsError, match=r"/gone/net.onnx could not be fetched \(.* answered 404") as caught:
        fetch(f"{server[0].replace('//', '//me:SECRET@')}/gone/net.onnx", SHA256)
    assert "SECRET" not in str(caught.value)
    assert files(cache) == []


def test_workers_that_start_together_fetch_once(server: tuple[str, list[str]], cache: Path) -> None:
    url, seen = server
    code = f"from stages.weights import fetch; print(fetch({url + '/files/net.onnx'!r}, {SHA256!r}))"
    many = [
        subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(4)
    ]
    paths = {worker.communicate(timeout=60)[0].strip() for worker in many}
    assert [Path(path).read_bytes() for path in paths] == [BODY]
    assert len(seen) == 1


def test_a_file_of_the_hub_is_fetched_by_its_own_client(server: tuple[str, list[str]], tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed")
    code = (
        "import sys; from stages.weights import WeightsError, fetch\n"
        "try: print(fetch(*sys.argv[1:]).read_bytes() == bytes(range(256)) * 2048)\n"
        "except WeightsError as error: print(error)"
    )

    def fetched(place: str, sha256: str, **more: str) -> str:
        told = (
            os.environ | {"HF_ENDPOINT": server[0], "HF_HOME": str(tmp_path / "hub"), "HF_HUB_DISABLE_XET": "1"} | more
        )
        done = subprocess.run(
            [sys.executable, "-c", code, place, sha256],
            cwd=ROOT, env=told, capture_output=True, text=True, timeout=120, check=True,
        )  # fmt: skip
        return done.stdout.strip()

    assert fetched("owner/repo/net.onnx@v1", SHA256) == "True"
    assert fetched("owner/repo/net.onnx@v1", SHA256, HF_HUB_OFFLINE="1") == "True"
    assert f"have the SHA-256 {SHA256}, wanted {OTHER}" in fetched("owner/repo/net.onnx@v1", OTHER)
    for place, more in (("owner/repo/other.onnx@v1", {}), ("owner/repo/new.onnx@v1", {"HF_HUB_OFFLINE": "1"})):
        told = fetched(place, SHA256, **more)
        assert told.startswith(f"{place} could not be had from the hub (")
        assert "\n" not in told
