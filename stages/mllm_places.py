"""Is an endpoint inside? Its name is looked up once, judged by all its addresses, and connected to at those alone."""

import asyncio
import ipaddress
import socket
from collections.abc import Mapping, Sequence
from typing import Self

from aiohttp.abc import AbstractResolver, ResolveResult

from stages.mllm_config import Endpoint

# `ipaddress.is_private` also says yes to ranges for documentation and the like, which are nobody's private network
_INSIDE = [
    ipaddress.ip_network(net)
    for net in ("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "::1/128", "fc00::/7",
                "fe80::/10")
]  # fmt: skip


def is_inside(address: str) -> bool:
    """Say whether an IP address is this machine or of a private network (RFC 1918, 4193, link-local)."""
    found = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(found, "ipv4_mapped", None) or found
    return any(mapped in net for net in _INSIDE if net.version == mapped.version)


class Places(AbstractResolver):
    """Addresses of the endpoints' hosts, looked up before anything is sent: a name that changes its mind between the
    look and the connection takes nothing outside."""

    def __init__(self, addresses: Mapping[str, Sequence[str]]) -> None:
        self._addresses = addresses

    @classmethod
    async def of(cls, endpoints: Sequence[Endpoint]) -> Self:
        """Look the hosts up; one that is not found has no address."""
        loop = asyncio.get_running_loop()
        found: dict[str, list[str]] = {}
        for endpoint in endpoints:
            if endpoint.host not in found:
                try:
                    infos = await loop.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)
                except OSError:
                    infos = []
                found[endpoint.host] = list(dict.fromkeys(str(info[4][0]) for info in infos))
        return cls(found)

    def is_private(self, endpoint: Endpoint) -> bool:
        """Say whether all addresses of an endpoint's host are inside; no if none is known."""
        addresses = self._addresses[endpoint.host]
        return bool(addresses) and all(map(is_inside, addresses))

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_INET,  # noqa: ARG002 - both kinds are offered
    ) -> list[ResolveResult]:
        """Return the addresses found before; aiohttp asks for hosts that are no addresses."""
        addresses = self._addresses.get(host, ())
        if not addresses:
            raise OSError(None, f"no address is known for {host}")
        return [
            ResolveResult(
                hostname=host, host=address, port=port, proto=0, flags=socket.AI_NUMERICHOST,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
            )
            for address in addresses
        ]  # fmt: skip

    async def close(self) -> None:
        """Nothing is held."""
