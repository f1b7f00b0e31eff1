"""What uploads of large files have begun and not ended, so that the next try of the same file goes on with them.

One small file in genai's cache for each target, locked while somebody uploads to it. When it is lost, or another
process is at it, an upload merely begins anew.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from genai.errors import GenaiError
from genai.log import get_logger
from genai.storage import atomic
from genai.storage.locks import lock_file, release, try_lock

_log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Content:
    """Which bytes are uploaded, and in what pieces."""

    sha256: str
    size_bytes: int
    part_bytes: int


@dataclass(frozen=True, kw_only=True)
class Begun:
    """An upload that was begun and not ended."""

    upload: str
    """The server's name for it. Google's is a URL that lets whoever knows it write: the journal is for its user's eyes
    only."""
    content: Content
    sent_bytes: int = 0
    """How much of it the server said it has, of services that take one part after the other."""


class UploadJournal:
    """The page of one target.

    Args:
        path: its file; None to remember nothing.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def begun(self) -> Begun | None:
        """The upload that was begun, if there is one."""
        if self._path is None or not self._path.exists():
            return None
        try:
            kept = json.loads(self._path.read_bytes())
            return Begun(**{**kept, "content": Content(**kept["content"])})
        except (ValueError, KeyError, TypeError):
            _log.debug("%s is no page of the journal; it is written anew", self._path)
            return None

    def note(self, begun: Begun) -> None:
        """Note an upload before its first piece is sent, and how far it is."""
        if self._path is not None:
            atomic.write_json(self._path, asdict(begun))

    def end(self) -> None:
        """Forget the upload: it is complete, or gone."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)


@contextmanager
def open_journal(target: str) -> Iterator[UploadJournal]:
    """The page of `target`, for this process alone; one that remembers nothing while another process has it.

    Args:
        target: endpoint, bucket and key.
    """
    name = hashlib.sha256(target.encode()).hexdigest()[:32]
    try:
        path = atomic.cache_dir() / "uploads" / f"{name}.json"
        path.parent.mkdir(mode=0o700, exist_ok=True)
        mark = try_lock(path, exclusive=True)
    except (GenaiError, OSError) as error:
        _log.warning("an upload that is interrupted will begin anew: %s", error)
        mark = None
    if mark is None:
        yield UploadJournal(None)
        return
    try:
        yield UploadJournal(path)
    finally:
        if not path.exists():
            lock_file(path).unlink(missing_ok=True)
        release(mark)
