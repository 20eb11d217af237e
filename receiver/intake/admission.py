"""How many refusals an address may cause, and how many deliveries a source may send, in a minute.

Only 401s and 404s count against an address, and only they are then answered 429: an authentic delivery is never turned
away because a stranger behind the same address guessed too often. The address behind a trusted proxy is the last one
in `X-Forwarded-For` that no trusted proxy added.
"""

import ipaddress
from collections.abc import Sequence
from typing import TypeAlias

MINUTE = 60.0
MAX_ADDRESSES = 65_536

_Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network


class Limiter:
    """Counts by key in windows of a minute. Bounded: beyond MAX_ADDRESSES keys the oldest window is given up."""

    def __init__(self, per_minute: int) -> None:
        self.per_minute = per_minute
        self._windows: dict[str, tuple[float, int]] = {}

    def count(self, key: str, now: float) -> int:
        """Count one; the seconds to wait if that is over the limit, else 0. `now` is in seconds of any clock."""
        began, seen = self._windows.get(key, (now, 0))
        if now - began >= MINUTE:
            began, seen = now, 0
        if seen == 0:
            self._windows.pop(key, None)  # to the end of the line, so that the first key is the oldest window
            if len(self._windows) >= MAX_ADDRESSES:
                del self._windows[next(iter(self._windows))]
        self._windows[key] = (began, seen + 1)
        return max(1, int(began + MINUTE - now) + 1) if seen >= self.per_minute else 0


class Proxies:
    """The proxies whose word about an address is believed."""

    def __init__(self, trusted: str) -> None:
        """Addresses or networks, separated by commas. Raises ValueError for what is neither."""
        self._trusted: list[_Network] = [
            ipaddress.ip_network(one.strip(), strict=False) for one in trusted.split(",") if one.strip()
        ]

    def address(self, peer: str, headers: Sequence[tuple[bytes, bytes]]) -> str:
        """The address a request comes from, given the connection's peer and the request's raw headers."""
        if not self._trusted or not self._is_trusted(peer):
            return peer
        hops = [
            hop.strip()
            for name, value in headers
            if name == b"x-forwarded-for"
            for hop in value.decode("latin-1").split(",")
        ]
        for hop in reversed(hops):
            if not self._is_trusted(hop):
                return hop[:64]
        return peer

    def _is_trusted(self, text: str) -> bool:
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            return False
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped  # as a socket that takes both kinds names an IPv4 peer
        return any(address in network for network in self._trusted)
