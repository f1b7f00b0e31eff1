"""The documentation of config fields: the string under each field of a dataclass, read from its source."""

from __future__ import annotations

import ast
import inspect
import sys
from functools import cache
from pathlib import Path


@cache
def field_docs(config: type) -> dict[str, str]:
    """Name of each documented field of a config class -> the text under it, on one line; inherited fields included."""
    docs: dict[str, str] = {}
    for parent in reversed(config.__mro__[:-1]):
        docs |= _module_docs(parent.__module__).get(parent.__qualname__, {})
    return docs


def class_doc(config: type) -> str:
    """First paragraph of a class's docstring, on one line."""
    return " ".join((inspect.getdoc(config) or "").partition("\n\n")[0].split())


@cache
def _module_docs(module_name: str) -> dict[str, dict[str, str]]:
    path = getattr(sys.modules.get(module_name), "__file__", None)
    body = ast.parse(Path(path).read_text(encoding="utf-8")).body if path else []
    return {node.name: _class_docs(node) for node in body if isinstance(node, ast.ClassDef)}


def _class_docs(node: ast.ClassDef) -> dict[str, str]:
    docs = {}
    for field, text in zip(node.body, node.body[1:], strict=False):
        if not isinstance(field, ast.AnnAssign) or not isinstance(field.target, ast.Name):
            continue
        if isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant) and isinstance(text.value.value, str):
            docs[field.target.id] = " ".join(text.value.value.split())
    return docs
