"""Downloads against a real HTTP server on loopback that is slow, lies, loops, breaks off and never ends."""

import contextlib
import http.server
import ipaddress
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from manifests.download import DownloadError, DownloadLimits, check_address, download, public_url

BODY = bytes(range(256)) * 4096  # 1 MiB
QUICK = DownloadLimits(max_bytes=2 << 20, connect_timeout_s=2, idle_timeout_s=0.4, total_timeout_s=1.2, max_redirects=3)


class Handler(http.server.BaseHTTPRequestHandler):
    """A server with one bad habit a path."""

    protocol_version = "HTTP/1.1"
    seen: list[tuple[str, str | None]]

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        type(self).seen.append((self.path, self.headers.get("Authorization")))
        self.close_connection = True
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the client had enough, as it should
            getattr(self, "get_" + re.split(r"[/?%]", self.path)[1], self.get_missing)()

    def head(self, status: int = 200, **headers: str | int) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def get_missing(self) -> None:
        self.head(404, Content_Length=0)

    def get_good(self) -> None:
        self.head(Content_Length=len(BODY))
        self.wfile.write(BODY)

    def get_chunked(self) -> None:
        self.head(Transfer_Encoding="chunked")
        for start in range(0, len(BODY), 100_000):
            piece = BODY[start : start + 100_000]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")

    def get_halfchunk(self) -> None:
        self.head(Transfer_Encoding="chunked")
        self.wfile.write(b"ffff\r\n" + b"x" * 100)

    def get_endless(self) -> None:
        self.head()
        while True:
            self.wfile.write(b"x" * 65536)

    def get_declares(self) -> None:
        self.head(Content_Length=1 << 40)

    def get_promises(self) -> None:
        self.head(Content_Length=len(BODY))
        self.wfile.write(BODY[: len(BODY) // 2])

    def get_silent(self) -> None:
        self.head(Content_Length=10)
        self.wfile.flush()
        time.sleep(0.8)

    def get_dripping(self) -> None:
        self.head(Content_Length=10_000)
        for _ in range(40):
            self.wfile.write(b"x")
            time.sleep(0.1)

    def get_drippinghead(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
        for _ in range(40):
            self.wfile.write(b"x")
            time.sleep(0.1)

    def get_hangup(self) -> None:
        self.connection.shutdown(socket.SHUT_RDWR)

    def get_noise(self) -> None:
        self.wfile.write(b"\x00\x01\x02 this is no HTTP\r\n\r\n")

    def get_loop(self) -> None:
        self.head(302, Location=self.path, Content_Length=0)

    def get_hop(self) -> None:
        self.head(302, Location="/good", Content_Length=0)

    def get_inward(self) -> None:
        self.head(302, Location="http://169.254.169.254/latest/meta-data/", Content_Length=0)

    def get_tofile(self) -> None:
        self.head(302, Location="file:///etc/passwd", Content_Length=0)

    def get_elsewhere(self) -> None:
        port = self.server.server_address[1]  # type: ignore[attr-defined]
        self.head(302, Location=f"http://localhost:{port}/good", Content_Length=0)


@pytest.fixture
def server() -> Iterator[str]:
    Handler.seen = []
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_address[1]}"
    httpd.shutdown()
    httpd.server_close()
    thread.join()


def reason(url: str, target: Path, limits: DownloadLimits = QUICK, allow: bool = True) -> str:
    with pytest.raises(DownloadError) as caught:
        download(url, target, limits, allow_private_hosts=allow)
    assert not target.exists(), "half a file was left behind"
    assert "\n" not in caught.value.detail
    return caught.value.reason


@pytest.mark.parametrize("path", ["good", "chunked", "hop", "elsewhere"])
def test_a_body_arrives_byte_for_byte(server: str, path: str, tmp_path: Path) -> None:
    target = tmp_path / "a"
    assert download(f"{server}/{path}", target, QUICK, allow_private_hosts=True) == len(BODY)
    assert target.read_bytes() == BODY


def test_a_path_with_spaces_quotes_and_accents_is_asked_for_escaped(server: str, tmp_path: Path) -> None:
    target = tmp_path / "a"
    download(f'{server}/good/Tänzer "1" & 50%25.mp4?of=März 1', target, QUICK, allow_private_hosts=True)
    assert Handler.seen == [("/good/T%C3%A4nzer%20%221%22%20&%2050%25.mp4?of=M%C3%A4rz%201", None)]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("nothing-here", "http_404"),
        ("endless", "too_large"),
        ("declares", "too_large"),
        ("promises", "broken_off"),
        ("halfchunk", "broken_off"),
        ("hangup", "broken_off"),
        ("noise", "broken_off"),
        ("silent", "timeout"),
        ("dripping", "timeout"),
        ("drippinghead", "timeout"),
        ("loop", "too_many_redirects"),
        ("inward", "forbidden_host"),
        ("tofile", "forbidden_url"),
    ],
)
def test_each_bad_habit_has_its_reason_and_none_hangs(server: str, path: str, expected: str, tmp_path: Path) -> None:
    started = time.monotonic()
    assert reason(f"{server}/{path}", tmp_path / "a") == expected
    assert time.monotonic() - started < QUICK.total_timeout_s + 1.5


def test_loopback_is_shut_unless_it_was_opened_on_purpose(server: str, tmp_path: Path) -> None:
    assert reason(f"{server}/good", tmp_path / "a", allow=False) == "forbidden_host"
    assert reason(server.replace("127.0.0.1", "localhost") + "/good", tmp_path / "a", allow=False) == "forbidden_host"
    assert Handler.seen == [], "the request must not even be made"


def test_a_closed_port_and_an_unknown_host_are_unreachable(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        assert reason(f"http://127.0.0.1:{taken.getsockname()[1]}/a", tmp_path / "a") == "unreachable"
    assert reason("http://no-such-host.invalid/a", tmp_path / "a") == "unreachable"


@pytest.mark.parametrize(
    "url", ["http://[::1/a", "http://127.0.0.1:port/a", "http:///a", f"http://{'a' * 70}.example/"]
)
def test_what_is_no_url_is_said_to_be_none(url: str, tmp_path: Path) -> None:
    assert reason(url, tmp_path / "a") == "bad_url"


@pytest.mark.parametrize("scheme", ["ftp", "file", "gopher"])
def test_only_http_and_https_are_fetched(scheme: str, tmp_path: Path) -> None:
    assert reason(f"{scheme}://example.org/a", tmp_path / "a") == "forbidden_url"


def test_one_forbidden_address_among_many_is_enough(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def both(host: str, port: int, **_: object) -> list[object]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port)) for ip in ("93.184.215.14", "10.0.0.7")]

    monkeypatch.setattr(socket, "getaddrinfo", both)
    assert reason("http://two-faces.example/a", tmp_path / "a", allow=False) == "forbidden_host"


def test_a_name_that_changes_its_address_after_the_check_gains_nothing(
    server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name server answers 127.0.0.1 once, and would answer a metadata address the second time."""
    answers = iter(["127.0.0.1", "169.254.169.254"])

    def rebinding(host: str, port: int, **_: object) -> list[object]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers), port))]

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    port = server.rpartition(":")[2]
    assert download(f"http://rebind.example:{port}/good", tmp_path / "a", QUICK, allow_private_hosts=True) == len(BODY)
    assert next(answers) == "169.254.169.254", "the name was resolved twice"


INSIDE = """
    127.0.0.1 10.1.2.3 172.16.0.1 192.168.1.1 100.64.0.1 169.254.169.254 169.254.1.1 0.0.0.0 224.0.0.1 240.0.0.1
    255.255.255.255 192.0.0.192 198.18.0.1 168.63.129.16 100.100.100.200 ::1 :: fe80::1 fc00::1 fd00:ec2::254 ff02::1
    ::ffff:127.0.0.1 ::ffff:169.254.169.254 ::127.0.0.1 2002:7f00:1:: 2002:a9fe:a9fe:: 64:ff9b::a9fe:a9fe 64:ff9b:1::1
    fec0::1 2001:db8::1
"""


@pytest.mark.parametrize("address", INSIDE.split())
def test_addresses_inside_are_refused(address: str) -> None:
    assert check_address(ipaddress.ip_address(address)) is not None


@pytest.mark.parametrize(
    "address", ["93.184.215.14", "1.1.1.1", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"]
)
def test_addresses_of_the_open_net_are_allowed(address: str) -> None:
    assert check_address(ipaddress.ip_address(address)) is None


def test_the_switch_for_mirrors_opens_private_hosts_but_never_metadata() -> None:
    def refused(address: str) -> bool:
        return check_address(ipaddress.ip_address(address), allow_private_hosts=True) is not None

    assert not any(map(refused, ("127.0.0.1", "::1", "10.0.0.7", "192.168.1.1", "fd12::1", "::ffff:10.0.0.7")))
    assert all(
        map(refused, ("169.254.169.254", "fd00:ec2::254", "168.63.129.16", "::ffff:169.254.169.254", "224.0.0.1"))
    )
    assert all(map(refused, ("0.0.0.0", "::", "fe80::1", "240.0.0.1")))


def test_credentials_are_used_but_never_shown(server: str, tmp_path: Path) -> None:
    url = server.replace("http://", "http://anna:ge%20heim@")
    download(f"{url}/good", tmp_path / "a", QUICK, allow_private_hosts=True)
    assert Handler.seen == [("/good", "Basic YW5uYTpnZSBoZWlt")]
    with pytest.raises(DownloadError) as caught:
        download(f"{url}/nothing?token=abc123&x=1", tmp_path / "a", QUICK, allow_private_hosts=True)
    assert "heim" not in str(caught.value)
    assert "abc123" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "public", "secret"),
    [
        ("https://a.example/x y.mp4?v=1&w=a%20b", "https://a.example/x y.mp4?v=1&w=a%20b", False),
        ("HTTPS://anna:pw@a.example:8443/x#t=3", "https://a.example:8443/x", True),
        ("https://b.example/x?X-Amz-Signature=ff&X-Amz-Date=1&v=2", "https://b.example/x?v=2", True),
        ("https://b.example/x?sig=ff", "https://b.example/x", True),
    ],
)
def test_a_url_is_kept_without_what_is_secret_in_it(url: str, public: str, secret: bool) -> None:
    assert public_url(url) == (public, secret)


def test_a_fault_of_this_machines_disk_is_no_fault_of_the_url(server: str, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        download(f"{server}/good", tmp_path / "no such folder" / "a", QUICK, allow_private_hosts=True)
