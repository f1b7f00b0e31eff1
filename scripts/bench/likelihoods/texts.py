"""Real texts that are on every machine: what Python's own modules say of themselves."""

from __future__ import annotations

import argparse
import asyncio.base_events
import collections
import datetime
import email.message
import inspect
import itertools
import json
import logging
import pathlib
import socket
import subprocess
import tarfile
import typing
from collections.abc import Iterator
from types import ModuleType

_MODULES: tuple[ModuleType, ...] = (
    argparse,
    asyncio.base_events,
    collections,
    datetime,
    email.message,
    inspect,
    json,
    logging,
    pathlib,
    socket,
    subprocess,
    tarfile,
    typing,
)
_SHORTEST = 120
"""Characters of a docstring that is a text."""


def long_texts(characters: int) -> list[str]:
    """Source code, cut into texts of that many characters."""
    whole = "\n".join(inspect.getsource(module) for module in (argparse, asyncio.base_events, typing))
    return [whole[start : start + characters] for start in range(0, len(whole) - characters, characters)]


def documents(count: int) -> list[str]:
    """Docstrings: English of all lengths, from two lines to some pages, each once, in the modules' order."""
    return list(itertools.islice(dict.fromkeys(_docstrings()), count))


def choices(count: int) -> list[tuple[str, list[str]]]:
    """The beginnings of documents, each with four ways to go on, of which one is its own."""
    halves = [(text[: len(text) // 2], text[len(text) // 2 :][:60]) for text in documents(count + 3)]
    endings = [ending for _, ending in halves]
    return [(beginning, endings[at : at + 4]) for at, (beginning, _) in enumerate(halves[:count])]


def _docstrings() -> Iterator[str]:
    for module in _MODULES:
        for _, member in inspect.getmembers(module):
            for each in [member, *(vars(member).values() if inspect.isclass(member) else ())]:
                text = inspect.getdoc(each) if callable(each) else None
                if text is not None and len(text) >= _SHORTEST:
                    yield text
