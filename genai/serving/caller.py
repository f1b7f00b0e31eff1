"""Who may ask: keys, and whose they are."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING

from genai.config.secrets import resolve
from genai.errors import ConfigError, Problem
from genai.serving.exchange import Caller

if TYPE_CHECKING:
    from genai.config.serve import AppConfig

ANYBODY = Caller(app="")
"""The caller on a server without apps."""


class KeyRing:
    """Finds the caller for a key.

    Keys are kept as digests under a secret that every process makes anew: what the time of a look-up tells is about
    digests that nobody outside can compute.

    Args:
        callers: key -> whose it is; without any, anybody may ask.
    """

    def __init__(self, callers: Mapping[str, Caller]) -> None:
        self._secret = secrets.token_bytes(32)
        self._callers: dict[bytes, Caller] = {}
        self.replace(callers)

    @property
    def is_open(self) -> bool:
        """Whether no key is needed."""
        return not self._callers

    def replace(self, callers: Mapping[str, Caller]) -> None:
        """Take other keys from now on (a reload)."""
        self._callers = {self._digest(key.encode(errors="surrogateescape")): caller for key, caller in callers.items()}

    def find(self, key: bytes) -> Caller | None:
        """Whose key it is."""
        return self._callers.get(self._digest(key))

    def _digest(self, key: bytes) -> bytes:
        return hashlib.blake2b(key, key=self._secret, digest_size=32).digest()


def callers_of(apps: Mapping[str, AppConfig]) -> dict[str, Caller]:
    """What a `KeyRing` takes, from the job file; the secrets are read now.

    Raises:
        CredentialsError: a key is not there.
        ConfigError: two apps have the same key, or a key is empty.
    """
    callers: dict[str, Caller] = {}
    problems = []
    for name, app in apps.items():
        key = resolve(app.key)
        where = f"apps.{name}.key"
        if not key or not key.isascii() or not key.isprintable() or key != key.strip():
            problems.append(Problem(message="the key is empty or cannot be sent in a header", where=where))
        elif key in callers:
            fix = "give each app a key of its own"
            problems.append(
                Problem(message=f"is the same key as that of app '{callers[key].app}'", where=where, fix=fix)
            )
        else:
            callers[key] = Caller(app=name, routes=None if app.routes is None else frozenset(app.routes))
    if problems:
        raise ConfigError(problems)
    return callers
