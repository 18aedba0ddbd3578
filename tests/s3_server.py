"""A real S3 server on this machine (moto, in a process of its own), and a proxy before it that makes it fail.

moto keeps objects in memory and answers as S3 does: listings, conditional writes, multipart uploads, error codes.
"""

import contextlib
import http.client
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import botocore.session
import pytest
import s3fs

from manifests import patience, remote

BUCKET = "bodies"
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "an-id-of-the-tests",
    "AWS_SECRET_ACCESS_KEY": "a-secret-of-the-tests",
    "AWS_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "server", "date"}


@contextlib.contextmanager
def s3_server() -> Iterator[str]:
    """Start moto with an empty bucket; gives its endpoint. The process ends by its number."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for(port, server)
        endpoint = f"http://127.0.0.1:{port}"
        _client(endpoint).create_bucket(Bucket=BUCKET)
        yield endpoint
    finally:
        server.kill()
        server.wait()


def objects(endpoint: str, prefix: str = "") -> dict[str, bytes]:
    """Return name -> bytes of all objects, read by another library than the code under test uses."""
    client, found = _client(endpoint), {}
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix):
        for each in page.get("Contents", []):
            found[each["Key"]] = client.get_object(Bucket=BUCKET, Key=each["Key"])["Body"].read()
    return found


def put_object(endpoint: str, name: str, data: bytes) -> None:
    """Write an object as somebody else would."""
    _client(endpoint).put_object(Bucket=BUCKET, Key=name, Body=data)


def _client(endpoint: str) -> Any:
    return botocore.session.get_session().create_client(
        "s3",
        endpoint_url=endpoint,
        region_name=ENVIRONMENT["AWS_REGION"],
        aws_access_key_id=ENVIRONMENT["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=ENVIRONMENT["AWS_SECRET_ACCESS_KEY"],
    )


def _wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        assert server.poll() is None, "moto ended at once"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise TimeoutError("moto does not listen")


@dataclass(frozen=True)
class Request:
    """What a rule sees of a request: its number in the proxy's life, and what it asks for."""

    number: int
    method: str
    path: str


Rule = Callable[[Request], str | None]


@dataclass
class Proxy:
    """An HTTP proxy before an endpoint. `rule` says for each request what becomes of it:

    None        it is passed on
    "500"       it is answered with that status, in S3's form, and not passed on; so "503" (SlowDown), "403", ...
    "region x"  it is answered as S3 does for a bucket of another region
    "drop"      the connection is closed without an answer
    "lose"      it is passed on, and the connection is closed without an answer
    "late 500"  it is passed on, and answered with 500
    "cut"       it is passed on, and half of the answer's body is given
    "wait 3"    it is passed on after 3 s
    "drip 0.1"  it is passed on, and a byte of the answer's body is given every 0.1 s
    """

    target: str
    rule: Rule = lambda _request: None
    seen: list[Request] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> "Proxy":
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def first(self, count: int, action: str, of: Callable[[Request], bool] = lambda _request: True) -> None:
        """Do so to the first `count` requests that fit, from now on."""
        left = [count]

        def rule(request: Request) -> str | None:
            with self._lock:
                if not of(request) or not left[0]:
                    return None
                left[0] -= 1
                return action

        self.rule = rule

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def _serve(self) -> None:
                with proxy._lock:
                    request = Request(len(proxy.seen), self.command, self.path)
                    proxy.seen.append(request)
                with contextlib.suppress(ConnectionError):
                    proxy._act(self, proxy.rule(request))

            do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _serve

        return Handler

    def _act(self, handler: BaseHTTPRequestHandler, action: str | None) -> None:
        word, _, number = (action or "pass").partition(" ")
        body = _body_of(handler)
        if word.isdigit():
            code = {"500": "InternalError", "503": "SlowDown", "403": "AccessDenied", "404": "NoSuchKey"}.get(
                word, "Odd"
            )
            _answer(handler, int(word), [], f"<Error><Code>{code}</Code><Message>told to</Message></Error>".encode())
            return
        if word == "region":
            code = f"<Error><Code>AuthorizationHeaderMalformed</Code><Region>{number}</Region></Error>"
            _answer(handler, 400, [("x-amz-bucket-region", number)], code.encode())
            return
        if word == "drop":
            handler.close_connection = True
            return
        if word == "wait":
            time.sleep(float(number))
        status, headers, answer = self._forward(handler, body)
        if word == "lose":
            handler.close_connection = True
        elif word == "late":
            _answer(handler, int(number), [], b"<Error><Code>InternalError</Code><Message>late</Message></Error>")
        elif word == "cut":
            _answer(handler, status, headers, answer, give=len(answer) // 2)
            handler.close_connection = True
        elif word == "drip":
            _answer(handler, status, headers, answer, give=0)
            for place in range(len(answer)):
                time.sleep(float(number))
                handler.wfile.write(answer[place : place + 1])
        else:
            _answer(handler, status, headers, answer)

    def _forward(self, handler: BaseHTTPRequestHandler, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        connection = http.client.HTTPConnection(self.target.removeprefix("http://"), timeout=60)
        with contextlib.closing(connection):
            headers = {name: value for name, value in handler.headers.items() if name.lower() not in HOP_BY_HOP}
            if body or handler.command in ("PUT", "POST"):
                headers["Content-Length"] = str(len(body))
            connection.request(handler.command, handler.path, body=body, headers=headers)
            answer = connection.getresponse()
            kept = [(name, value) for name, value in answer.getheaders() if name.lower() not in HOP_BY_HOP]
            if handler.command == "HEAD":
                kept.append(("Content-Length", answer.getheader("Content-Length") or "0"))
            return answer.status, kept, answer.read()


def _body_of(handler: BaseHTTPRequestHandler) -> bytes:
    if "chunked" not in handler.headers.get("Transfer-Encoding", ""):
        return handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
    pieces = []
    while size := int(handler.rfile.readline().split(b";")[0], 16):
        pieces.append(handler.rfile.read(size))
        handler.rfile.readline()
    handler.rfile.readline()
    return b"".join(pieces)


def _answer(
    handler: BaseHTTPRequestHandler,
    status: int,
    headers: list[tuple[str, str]],
    body: bytes,
    give: int | None = None,
) -> None:
    handler.send_response(status)
    for name, value in headers:
        handler.send_header(name, value)
    if handler.command != "HEAD":
        handler.send_header("Content-Length", str(len(body)))
    elif not any(name == "Content-Length" for name, _ in headers):
        handler.send_header("Content-Length", "0")
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(body[:give])
        handler.wfile.flush()


def environment(endpoint: str) -> dict[str, str]:
    """Return the environment in which a process finds the server, with nothing of this user's own."""
    mine = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    nothing = {"AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
    return mine | nothing | ENVIRONMENT | {"AWS_ENDPOINT_URL": endpoint}


def use(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    """Let this process find the server, and remember nothing of another."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in environment(endpoint).items():
        if name.startswith("AWS_"):
            monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    remote.storage_options.cache_clear()
    remote._reached.clear()
    patience._given_up.clear()
