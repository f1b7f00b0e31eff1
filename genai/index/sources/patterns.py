"""Which files of a folder are taken: by patterns over their paths below it.

`*` and `?` stand for signs within a name, `[abc]` for one of them, `**` for any number of folders. A pattern without a
`/` is about the name of a file in any folder, unless it is anchored.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from genai.data.documents import DOCUMENT_SUFFIXES
from genai.errors import UsageError

_WILD = re.compile(r"[*?\[]")


class Selection:
    """Says which paths are taken: known endings, hidden files and folders and what an editor leaves beside a file not.

    Args:
        include: patterns, one of which a path must match; none for all.
        exclude: patterns, none of which it may match.
        anchored: a pattern from the folder on, which it must match too.

    Raises:
        UsageError: a pattern asks for files that cannot be read.
    """

    def __init__(self, include: Iterable[str], exclude: Iterable[str], anchored: str | None = None) -> None:
        for pattern in (*include, *([anchored] if anchored else ())):
            check_suffix(pattern)
        self._include = [_compile(pattern) for pattern in include]
        self._exclude = [_compile(pattern) for pattern in exclude]
        self._anchored = _compile(anchored, is_anchored=True) if anchored else None

    def takes(self, path: str) -> bool:
        """Whether the file is a document to take.

        Args:
            path: below the folder, with `/`.
        """
        if suffix_of(path) not in DOCUMENT_SUFFIXES or is_hidden(path):
            return False
        if self._anchored is not None and not self._anchored.fullmatch(path):
            return False
        if self._include and not any(pattern.fullmatch(path) for pattern in self._include):
            return False
        return not any(pattern.fullmatch(path) for pattern in self._exclude)


def suffix_of(path: str) -> str:
    """The ending in small letters, with its dot."""
    return os.path.splitext(path)[1].lower()


def is_hidden(path: str) -> bool:
    """Whether a part of the path begins with a dot, or the file is what Office leaves beside one that is open."""
    below = f"/{path}"
    return "/." in below or "/~$" in below


def check_suffix(pattern: str) -> None:
    """Refuse a name or pattern whose ending says that it is no document.

    Raises:
        UsageError: that is so.
    """
    suffix = suffix_of(pattern)
    if suffix and not _WILD.search(suffix) and suffix not in DOCUMENT_SUFFIXES:
        known = ", ".join(DOCUMENT_SUFFIXES)
        raise UsageError(f"'{suffix}' is no kind of document that can be read", where=pattern, fix=f"known: {known}")


def split_pattern(url: str) -> tuple[str, str | None]:
    """The deepest folder without a wildcard, and the pattern below it; None where there is no wildcard.

    Example:
        `docs/*/a.md` gives `docs` and `*/a.md`.
    """
    wild = _WILD.search(url)
    if wild is None:
        return url, None
    folder, slash, _ = url[: wild.start()].rpartition("/")
    return (folder or slash or "."), url[len(folder) + len(slash) :]


def _compile(pattern: str, *, is_anchored: bool = False) -> re.Pattern[str]:
    parts = pattern.strip("/").split("/")
    if not is_anchored and len(parts) == 1:
        parts.insert(0, "**")
    last = len(parts) - 1
    folders = ["(?:[^/]+/)*" if part == "**" else f"{_part(part)}/" for part in parts[:last]]
    name = ".*" if parts[last] == "**" else _part(parts[last])
    return re.compile("".join(folders) + name, re.S)


def _part(part: str) -> str:
    """The regular expression for one part of a pattern."""
    pieces: list[str] = []
    position = 0
    while position < len(part):
        sign = part[position]
        closing = part.find("]", position + 2)
        if sign == "[" and closing > 0:
            members = part[position + 1 : closing].replace("\\", "\\\\").replace("[", "\\[")
            pieces.append(f"[^/{members[1:]}]" if members[0] in "!^" else f"[{members}]")
            position = closing
        else:
            pieces.append({"*": "[^/]*", "?": "[^/]"}.get(sign) or re.escape(sign))
        position += 1
    return "".join(pieces)
