"""Secrets stand in a job file as references only: `env:NAME` or `file:PATH`, resolved at the moment of use.

The references are what is logged, saved in the run directory and handed to workers. A literal that looks like a key is
refused.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from genai.errors import CredentialsError

_REFERENCE = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]*|file:(?!//)[^\s]+")
_KEYS = re.compile(
    r"""
      \bhf_[A-Za-z0-9]{20,}
    | \bsk-(?=[A-Za-z_-]*[0-9])[A-Za-z0-9_-]{16,} | \bsk_live_[A-Za-z0-9]{10,}
    | \bgh[pousr]_[A-Za-z0-9]{20,} | \bgithub_pat_[A-Za-z0-9_]{20,} | \bglpat-[A-Za-z0-9_-]{15,}
    | \bxox[abeprs]-[A-Za-z0-9-]{10,} | \bdapi[a-f0-9]{32}
    | \b(?:AKIA|ASIA)[A-Z0-9]{16}\b
    | \bAIza[A-Za-z0-9_-]{30,}
    | \beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.                       # a JSON web token
    | -----BEGIN\ [A-Z ]*PRIVATE\ KEY-----
    | \bhooks\.slack\.com/services/\w | /api/webhooks/\d+/\w             # the URL is the key
    | [a-z][a-z0-9+.-]*://[^\s/:@]*:(?!\$\{)[^\s/@]+@                    # user:password@host
    | [?&](?:access_token|api_key|apikey|password|secret|sig|signature|token)=[^&\s]{6,}
    """,
    re.VERBOSE,
)
_SECRET_NAMES = {
    *("access_token", "api_key", "apikey", "auth_token", "aws_secret_access_key", "client_secret", "hf_token"),
    *("passwd", "password", "secret", "secret_access_key", "secret_key", "token", "use_auth_token"),
}
"""Keys whose literal value is a secret whatever it looks like."""


def is_reference(text: object) -> bool:
    """Whether `text` stands for a secret: `env:NAME` or `file:PATH` (not a `file://` URL)."""
    return isinstance(text, str) and _REFERENCE.fullmatch(text) is not None


def looks_like_secret(text: object, *, name: str = "") -> bool:
    """Whether `text` is, or holds, a literal key.

    Args:
        text: the value.
        name: the key that it stands under; any literal text under `password`, `api_key`, `token`... is a secret.
    """
    if not isinstance(text, str) or is_reference(text):
        return False
    return (name.lower() in _SECRET_NAMES and bool(text) and "${" not in text) or _KEYS.search(text) is not None


def masked(text: str) -> str:
    """The text, or `***` where it looks like a secret: for messages."""
    return "***" if looks_like_secret(text) else text


def resolve(reference: str) -> str:
    """The secret that a reference stands for; a text that is no reference is given back unchanged.

    Raises:
        CredentialsError: the variable is not set, or the file cannot be read.
    """
    if not is_reference(reference):
        return reference
    kind, _, name = reference.partition(":")
    if kind == "env":
        value = os.environ.get(name, "")
        if not value:
            raise CredentialsError(
                f"the environment variable {name} is not set", where=reference, fix=f"export {name}=..."
            )
        return value
    try:
        value = Path(name).expanduser().read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise CredentialsError(f"the file with the secret cannot be read: {reason}", where=reference) from None
    if not value:
        raise CredentialsError("the file with the secret is empty", where=reference)
    return value


def resolve_all(value: Any) -> Any:
    """A copy of dicts and lists with every reference in them resolved, e.g. of `hf_kwargs` just before a call.

    Raises:
        CredentialsError: see `resolve`.
    """
    if isinstance(value, dict):
        return {name: resolve_all(item) for name, item in value.items()}
    if isinstance(value, list):
        return [resolve_all(item) for item in value]
    return resolve(value) if isinstance(value, str) else value
