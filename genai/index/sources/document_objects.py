"""Documents in buckets: what there is, told from a listing, and its content."""

from __future__ import annotations

from genai.data.documents import DOCUMENT_SUFFIXES
from genai.errors import DataError
from genai.index.sources.document_files import FoundFile, check_size
from genai.index.sources.patterns import Selection, split_pattern, suffix_of
from genai.storage import ObjectInfo, ObjectStore, join, open_store
from genai.storage.urls import split


class Bucket:
    """A folder, a pattern or a single object in a bucket.

    Args:
        url: as the job file has it.
        include: see `Selection`.
        exclude: see `Selection`.
    """

    def __init__(self, url: str, include: list[str], exclude: list[str]) -> None:
        folder, pattern = split_pattern(url)
        self._url = url
        self._folder = folder
        self._selection = Selection(include, exclude, pattern)
        self._may_be_object = pattern is None and suffix_of(url) in DOCUMENT_SUFFIXES

    def find(self) -> list[FoundFile]:
        """All documents, by their keys.

        Raises:
            DataError: nothing lies there, which in a bucket is the same as a folder that does not exist.
            GenaiError: it cannot be listed.
        """
        if self._may_be_object:
            folder, name = split(self._url)
            store = open_store(folder)
            info = store.stat(name)
            if info is not None:
                return [_object(store, info)]
        store = open_store(self._folder)
        infos = store.list()
        if not infos:
            raise DataError("nothing lies there", where=self._folder, fix="see source.documents")
        return [_object(store, info) for info in infos if self._selection.takes(info.key)]


def _object(store: ObjectStore, info: ObjectInfo) -> FoundFile:
    stamp = info.etag or f"{info.size_bytes}-{info.modified}"
    name = join(store.url, info.key)

    def read(most_bytes: int) -> bytes:
        check_size(info.size_bytes, most_bytes, name)
        return b"".join(store.chunks(info.key))

    return FoundFile(
        key=info.key,
        name=name,
        size_bytes=info.size_bytes,
        modified=info.modified,
        stamp=stamp,
        version=lambda: stamp,
        read=read,
    )
