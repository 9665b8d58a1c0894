"""Guard: the console's pages are for browsers on the server's own machine, until there is a login.

Three things must hold: the connection comes from this machine; the Host header names this machine (a page elsewhere that
points its own name at 127.0.0.1 does not get in); and no proxy stands between, since behind one every client looks local.
Whoever fails sees that there is nothing here.
"""

from __future__ import annotations

import ipaddress
from typing import Final

from starlette.requests import Request

from sync.errors import NotFound

NAMES: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
PROXY_HEADERS: Final = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")


def require_this_machine(request: Request) -> None:
    """Raise NotFound unless the request comes from a browser on this machine."""
    host = request.headers.get("host", "")
    name = host if host.endswith("]") else host.rsplit(":", 1)[0]
    proxied = any(header in request.headers for header in PROXY_HEADERS)
    if request.client is None or not _is_loopback(request.client.host) or name.lower() not in NAMES or proxied:
        raise NotFound


def _is_loopback(address: str) -> bool:
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return (mapped or found).is_loopback
