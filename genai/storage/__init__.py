"""Files and objects, on a disk or in a bucket.

Start with `open_store` for single objects, `genai.storage.manifest` for folders that exist only as a whole, `fetch` to
bring something here, and `genai.storage.atomic` for files on this machine.
"""

from genai.storage.base import ObjectInfo, ObjectStore
from genai.storage.fetch import fetch
from genai.storage.urls import is_remote, join, open_store

__all__ = ["ObjectInfo", "ObjectStore", "fetch", "is_remote", "join", "open_store"]
