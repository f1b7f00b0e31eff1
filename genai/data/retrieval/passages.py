"""The passages of a corpus while it is put together: each text once, found by its key, its document or its text."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from genai.data.retrieval.records import Passage

_KEY_LENGTH = 16


def text_key(text: str) -> str:
    """The key of a passage that has no other name: a short hash of its text."""
    return hashlib.sha256(text.strip().encode("utf-8", "surrogatepass")).hexdigest()[:_KEY_LENGTH]


class PassageSet:
    """Passages in the order in which they come, without a text that stands there already."""

    def __init__(self) -> None:
        self._passages: dict[str, Passage] = {}
        self._by_text: dict[str, str] = {}
        self._names: dict[str, dict[str, None]] = {}

    def __len__(self) -> int:
        return len(self._passages)

    def __getitem__(self, key: str) -> Passage:
        return self._passages[key]

    @property
    def passages(self) -> tuple[Passage, ...]:
        """All of them."""
        return tuple(self._passages.values())

    @property
    def names(self) -> Mapping[str, tuple[str, ...]]:
        """Other names -> keys: of documents that are cut into passages, and of texts that stand under another key."""
        return {name: tuple(keys) for name, keys in self._names.items() if name not in self._passages or len(keys) > 1}

    def add(self, passage: Passage) -> Passage:
        """The passage, or the one before it that says the same; it is then found by both keys.

        No other text may have its key.
        """
        known = self._by_text.get(passage.text)
        if known is None:
            assert passage.key not in self._passages
            self._passages[passage.key] = passage
            self._by_text[passage.text] = known = passage.key
        for name in {passage.key, passage.document}:
            self._names.setdefault(name, {})[known] = None
        return self._passages[known]

    def named(self, name: str) -> tuple[str, ...]:
        """Keys of the passages of the document, or the one passage, of that name."""
        return tuple(self._names.get(name, ()))
