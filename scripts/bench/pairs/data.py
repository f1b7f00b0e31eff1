"""Pairs of texts: docstrings, whose lengths differ a lot, and words that are one token each, all of one length."""

from __future__ import annotations

import ast
import itertools
import json
import random
import re
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

UNIFORM_TOKENS = 64
"""Of each text, [CLS] and [SEP] among them."""
_PACKAGES = ("torch", "transformers", "datasets", "peft", "numpy", "pandas")
_FIRST_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n\s*\n")
_QUERY_CHARACTERS = (15, 300)
_SHORTEST_BODY = 40

Pairs = list[tuple[str, str]]


def docstring_pairs(count: int) -> Pairs:
    """The first sentence of a docstring and the rest of it, each body once; in an order drawn by a seed."""
    seen: dict[str, str] = {}
    for docstring in _docstrings():
        query, *body = (" ".join(part.split()) for part in _FIRST_SENTENCE.split(docstring.strip(), maxsplit=1))
        shortest, longest = _QUERY_CHARACTERS
        if body and shortest <= len(query) <= longest and len(body[0]) >= _SHORTEST_BODY:
            seen.setdefault(body[0], query)
        if len(seen) >= 5 * count:
            break
    pairs = [(query, body) for body, query in seen.items()]
    random.Random(0).shuffle(pairs)
    return pairs[:count]


def uniform_pairs(count: int, model: Path) -> Pairs:
    """Words of the model's own vocabulary, as many in every text."""
    vocabulary = json.loads((model / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    words = sorted(word for word in vocabulary if re.fullmatch(r"[a-z]{3,}", word))
    draw = random.Random(1)

    def text() -> str:
        return " ".join(draw.choices(words, k=UNIFORM_TOKENS - 2))

    return [(text(), text()) for _ in range(count)]


def _docstrings() -> Iterator[str]:
    """Of all modules that are installed, something of every package early; parsed, never run."""
    root = Path(sysconfig.get_paths()["purelib"])
    files = [sorted((root / package).rglob("*.py")) for package in _PACKAGES]
    warnings.simplefilter("ignore")
    for file in (file for row in itertools.zip_longest(*files) for file in row if file is not None):
        try:
            tree = ast.parse(file.read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                yield ast.get_docstring(node) or ""
