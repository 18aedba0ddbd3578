"""A file from an http(s) URL, fetched so that a list from elsewhere cannot reach into the network this runs in.

For each hop, redirects included: the host is resolved once, EVERY address it has must be allowed, and the connection
goes to an address of that very answer, so that a second answer of the name server (DNS rebinding) is never asked for.
Private, loopback, link-local, shared, reserved and multicast addresses are refused, in IPv6 clothing too (mapped, 6to4,
Teredo, NAT64). `allow_private_hosts` opens private and loopback ones, for in-house mirrors; the metadata services of
clouds and everything link-local stay shut. Proxies named in the environment are not used, since they would resolve the
names themselves.

The body is streamed to a file with a cap on its size; no read waits longer than `idle_timeout_s`, and the whole hop,
name of the host and TLS apart, no longer than `total_timeout_s`, however slowly the server drips.
"""

import base64
import contextlib
import http.client
import ipaddress
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urljoin, urlsplit, urlunsplit

_CHUNK_BYTES: Final = 1 << 18
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_KEPT: Final = "%/:@!$&'()*+,;=~-._"  # what stays as it is in a request; a space or a letter with an accent is escaped
_SIGNATURES: Final = re.compile(
    r"x-(amz|goog|oss)-.*|sig|signature|(access_?|auth_?)?token|api_?key|key|password|awsaccesskeyid", re.IGNORECASE
)
_METADATA: Final = (  # of Amazon, Google, Azure, Oracle (169.254/16), Amazon over IPv6, Azure's agent, Alibaba, Oracle
    ipaddress.ip_network("169.254.0.0/16"),
    ipaddress.ip_network("fd00:ec2::/32"),
    ipaddress.ip_network("168.63.129.16/32"),
    ipaddress.ip_network("100.100.100.200/32"),
    ipaddress.ip_network("192.0.0.0/24"),
)
_SITE_LOCAL: Final = ipaddress.ip_network("fec0::/10")  # private by RFC 3879, global to the standard library
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class DownloadError(Exception):
    """A URL could not be fetched: `reason` is a short name to count by, `detail` one sentence."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True)
class DownloadLimits:
    """What one download may take."""

    max_bytes: int = 4 << 30
    connect_timeout_s: float = 15.0
    idle_timeout_s: float = 30.0
    total_timeout_s: float = 1800.0
    max_redirects: int = 5


def public_url(url: str) -> tuple[str, bool]:
    """Return a URL without what is secret in it, and whether there was something: for manifests, logs and messages.

    User and password, the fragment, and query fields that sign or authorise (X-Amz-*, sig, token, ...) are taken out.
    """
    parts = _split(url)
    fields = parse_qsl(parts.query, keep_blank_values=True)
    kept = [(name, value) for name, value in fields if not _SIGNATURES.fullmatch(name)]
    query = parts.query if len(kept) == len(fields) else urlencode(kept)
    netloc = parts.netloc.rpartition("@")[2]
    secret = netloc != parts.netloc or query != parts.query
    return urlunsplit((parts.scheme.lower(), netloc, parts.path, query, "")), secret


def download(
    url: str,
    target: str | Path,
    limits: DownloadLimits | None = None,
    *,
    allow_private_hosts: bool = False,
) -> int:
    """Fetch an http(s) URL into the local file `target` and return its size in bytes.

    Raises:
        DownloadError: with the reason bad_url, forbidden_url, forbidden_host, unreachable, timeout, too_large,
            too_many_redirects, broken_off (no whole answer) or http_<status>; nothing is left at `target`.
    """
    limits = limits or DownloadLimits()
    target, whole = Path(target), False
    try:
        for _ in range(limits.max_redirects + 1):
            answer = _hop(url, target, limits, allow_private_hosts)
            if isinstance(answer, int):
                whole = True
                return answer
            url = answer
    finally:
        if not whole:
            target.unlink(missing_ok=True)
    shown = public_url(url)[0]
    raise DownloadError(
        "too_many_redirects", f"more than {limits.max_redirects} redirects; the last one led to {shown}"
    )


def check_address(address: Address, *, allow_private_hosts: bool = False) -> str | None:
    """Return why an address may not be connected to, or None if it may."""
    inner = _inner_address(address)
    if inner is not None:
        return check_address(inner, allow_private_hosts=allow_private_hosts)
    if any(address in network for network in _METADATA):
        return "link-local or a metadata service"
    if address.is_multicast or address.is_unspecified or address.is_link_local:
        return "multicast, unspecified or link-local"
    if address.is_reserved and not address.is_loopback:
        return "reserved"
    if (not address.is_global or address in _SITE_LOCAL) and not allow_private_hosts:
        return "private, shared or loopback"
    return None


def _inner_address(address: Address) -> ipaddress.IPv4Address | None:
    """Return the IPv4 address that an IPv6 address leads to, if it is one of those that do."""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)


class _Connection(http.client.HTTPConnection):
    """A connection to an address that was checked, ended by a timer whatever the server does."""

    def __init__(self, url: SplitResult, limits: DownloadLimits, allow_private_hosts: bool) -> None:
        self.tls = url.scheme.lower() == "https"
        self.default_port = 443 if self.tls else 80
        super().__init__(url.hostname or "", url.port or self.default_port, timeout=limits.idle_timeout_s)
        self.expired = False
        self._limits = limits
        self._allow_private_hosts = allow_private_hosts
        self._guard: socket.socket | None = None
        self._timer: threading.Timer | None = None

    def connect(self) -> None:
        plain = self._open()
        self._guard = plain.dup()  # survives the wrapping in TLS, so that the timer can shut the connection below it
        self._timer = threading.Timer(self._limits.total_timeout_s, self._expire)
        self._timer.daemon = True
        self._timer.start()
        plain.settimeout(self._limits.idle_timeout_s)
        self.sock = plain
        if self.tls:
            self.sock = ssl.create_default_context().wrap_socket(plain, server_hostname=self.host)

    def close(self) -> None:
        super().close()
        if self._timer is not None:
            self._timer.cancel()
            self._timer.join()
        if self._guard is not None:
            self._guard.close()
            self._guard = None

    def _open(self) -> socket.socket:
        """Resolve once, check every address of the answer, connect to the first of them that answers."""
        answer = socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
        for *_, address in answer:
            found = ipaddress.ip_address(address[0])
            why = check_address(found, allow_private_hosts=self._allow_private_hosts)
            if why is not None:
                raise DownloadError("forbidden_host", f"{self.host} is at {found}, which is {why}")
        error: OSError = OSError(f"{self.host} has no address")
        for family, kind, protocol, _, address in answer:
            plain = socket.socket(family, kind, protocol)
            try:
                plain.settimeout(self._limits.connect_timeout_s)
                plain.connect(address)
            except OSError as failure:
                plain.close()
                error = failure
            else:
                return plain
        raise error

    def _expire(self) -> None:
        self.expired = True
        if self._guard is not None:
            with contextlib.suppress(OSError):
                self._guard.shutdown(socket.SHUT_RDWR)


def _hop(url: str, target: Path, limits: DownloadLimits, allow_private_hosts: bool) -> int | str:
    """Make one request; return the number of bytes written, or the URL it redirects to."""
    parts = _split(url)
    shown = public_url(url)[0]
    if parts.scheme.lower() not in ("http", "https"):
        raise DownloadError("forbidden_url", f"{shown}: only http and https are fetched, not {parts.scheme!r}")
    if not parts.hostname:
        raise DownloadError("bad_url", f"{shown} names no host")
    headers = {"User-Agent": "bodydouble", "Accept": "*/*", "Accept-Encoding": "identity"}
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    wanted = quote(parts.path or "/", safe=_KEPT) + (f"?{quote(parts.query, safe=_KEPT + '?')}" if parts.query else "")
    connection = _Connection(parts, limits, allow_private_hosts)
    with contextlib.closing(connection):
        with _reasons(connection, shown, limits):
            connection.request("GET", wanted, headers=headers)
            response = connection.getresponse()
        with response:
            if response.status in _REDIRECTS and response.getheader("Location"):
                return urljoin(url, response.getheader("Location") or "")
            if response.status != http.client.OK:
                says = f"{response.status} {response.reason}".strip()
                raise DownloadError(f"http_{response.status}", f"{shown} answered {says}")
            with open(target, "wb") as file:
                return sum(file.write(piece) for piece in _body(connection, response, shown, limits))


def _body(
    connection: _Connection, response: http.client.HTTPResponse, shown: str, limits: DownloadLimits
) -> Iterator[bytes]:
    """Yield the pieces of a body that is whole, in time, and no larger than the cap."""
    too_large = DownloadError("too_large", f"{shown} is larger than {limits.max_bytes} bytes")
    if (response.length or 0) > limits.max_bytes:
        raise too_large
    size = 0
    while True:
        with _reasons(connection, shown, limits):
            piece = response.read(_CHUNK_BYTES)
            if connection.expired or (not piece and response.length):
                raise http.client.IncompleteRead(b"", response.length)
        if not piece:
            return
        size += len(piece)
        if size > limits.max_bytes:
            raise too_large
        yield piece


@contextlib.contextmanager
def _reasons(connection: _Connection, shown: str, limits: DownloadLimits) -> Iterator[None]:
    """Turn what goes wrong on the wire into a reason; what goes wrong on this machine's disk is not caught here."""
    try:
        yield
    except (OSError, http.client.HTTPException, ValueError) as error:
        if connection.expired:
            raise DownloadError("timeout", f"{shown} took longer than {limits.total_timeout_s:g} s") from error
        if isinstance(error, TimeoutError):
            patience = f"connecting {limits.connect_timeout_s:g} s, reading {limits.idle_timeout_s:g} s"
            raise DownloadError("timeout", f"{shown} did not answer in time ({patience})") from error
        if isinstance(error, http.client.IncompleteRead):
            raise DownloadError("broken_off", f"{shown} ended before its body was whole") from error
        if isinstance(error, http.client.RemoteDisconnected | ConnectionResetError):
            raise DownloadError("broken_off", f"{shown} closed the connection") from error
        if isinstance(error, UnicodeError | http.client.InvalidURL):
            raise DownloadError("bad_url", f"{shown} cannot be asked for: {error}") from error
        if isinstance(error, http.client.HTTPException):
            raise DownloadError("broken_off", f"{shown} answered with something that is not HTTP") from error
        raise DownloadError("unreachable", f"{shown} cannot be reached: {error}") from error


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises if it is no number
    except ValueError as error:
        raise DownloadError("bad_url", "a URL that cannot be read") from error  # its text may hold a password
    return parts
