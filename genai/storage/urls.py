"""From a path or a URL to the store it lies in."""

from __future__ import annotations

from collections.abc import Callable

from genai.registry import Registry
from genai.storage.base import ObjectStore

STORES: Registry[Callable[[str], ObjectStore]] = Registry(
    "kind of storage",
    {
        "file": "genai.storage.local:open_local",
        "s3": "genai.storage.s3:open_s3",
        "gs": "genai.storage.gcs:open_gcs",
        "az": "genai.storage.azure:open_azure",
    },
    group="genai.stores",
)


def open_store(url: str) -> ObjectStore:
    """The store whose root is `url`: a path, `file:///...`, or `s3://`, `gs://` or `az://` with BUCKET/PREFIX.

    Nothing is read or made there yet.

    Raises:
        UsageError: there is no store for such a URL.
        MissingExtraError: the package for it is not installed.
    """
    scheme, separator, _ = url.partition("://")
    return STORES.get(scheme if separator else "file")(url)


def is_remote(url: str) -> bool:
    """Whether `url` has a scheme other than `file://`."""
    scheme, separator, _ = url.partition("://")
    return bool(separator) and scheme != "file"


def join(url: str, *parts: str) -> str:
    """`url` and `parts` with one '/' between them; the URL of a folder or an object below `url`."""
    base = url if url.endswith("//") else url.rstrip("/") or "/"
    below = "/".join(part.strip("/") for part in parts if part.strip("/"))
    if not below:
        return base
    return base + below if base.endswith("/") else f"{base}/{below}"


def split(url: str) -> tuple[str, str]:
    """The URL of the folder around `url`, and the last part of it; "" for the root of a store.

    Example:
        `s3://bucket/data/a.jsonl` gives `s3://bucket/data` and `a.jsonl`.
    """
    scheme, separator, rest = url.rstrip("/").partition("://")
    if not separator:
        scheme, rest = "", scheme
    folder, slash, name = rest.rpartition("/")
    if not slash or (not folder and scheme):
        return url.rstrip("/"), ""
    return f"{scheme}{separator}{folder or '/'}", name
