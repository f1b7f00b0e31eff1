"""The Host header: a name that is not ours means that somebody's web page was pointed at us (DNS rebinding)."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from functools import lru_cache

from genai.serving.errors import ApiError

_HOSTS_REMEMBERED = 256


class Hosts:
    """Which names the server is called by.

    Args:
        bound: address that is listened on.
        allowed: further names; "*" for any, "*.example.com" for all below one.
    """

    def __init__(self, bound: str, allowed: Sequence[str]) -> None:
        self._is_open = "*" in allowed
        self._names = {"localhost", _bare(bound), *(_bare(name) for name in allowed if not name.startswith("*"))}
        self._endings = tuple(name[1:].lower() for name in allowed if name.startswith("*.") and len(name) > 2)
        self._any_address = bound in ("", "0.0.0.0", "::")
        self._is_ours = lru_cache(maxsize=_HOSTS_REMEMBERED)(self._look)

    def check(self, host: bytes | None, http_version: str) -> None:
        """Look at the header of that name.

        Raises:
            ApiError: 400 without a Host (which HTTP/1.0 need not have), 421 with a foreign one.
        """
        if self._is_open:
            return
        if host is None:
            if http_version == "1.0":
                return
            raise ApiError("the request has no Host header", code="missing_host")
        if not self._is_ours(host):
            raise ApiError(
                "this server is not known by the name in the Host header; its operator can add it to "
                "listen.allowed_hosts",
                status=421,
                code="unknown_host",
            )

    def _look(self, host: bytes) -> bool:
        name = _bare(_without_port(host.decode("latin-1")))
        if name in self._names or name.endswith(self._endings):
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        # A page can be moved onto us by its name only; an address in Host was typed by somebody.
        return address.is_loopback or self._any_address


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host.partition("]")[0][1:]
    return host.rpartition(":")[0] if host.count(":") == 1 else host


def _bare(name: str) -> str:
    return name.strip("[]").rstrip(".").lower()
