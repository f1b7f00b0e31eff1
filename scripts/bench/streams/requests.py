"""Prompts of one length, cut from real text, none of which begins like another."""

from __future__ import annotations

import argparse
import asyncio.base_events
import inspect
import typing
from pathlib import Path


class Prompts:
    """Cuts prompts from the source of Python's own modules, which is on every machine.

    Args:
        folder: of the model, with tokenizer.json.
        length: tokens of each prompt.
    """

    def __init__(self, folder: Path, length: int) -> None:
        from tokenizers import Tokenizer

        text = "\n".join(inspect.getsource(module) for module in (argparse, typing, asyncio.base_events))
        self._ids = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(text, add_special_tokens=False).ids
        self._length = length
        self._start = 0

    def take(self, count: int) -> list[list[int]]:
        """The next ones; a place is used again only when all were, some tokens further on."""
        found = []
        for _ in range(count):
            if self._start + self._length > len(self._ids):
                self._start = self._start % self._length + 7
            found.append(self._ids[self._start : self._start + self._length])
            self._start += self._length
        return found
