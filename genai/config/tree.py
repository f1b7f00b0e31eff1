"""A job file as a tree whose every value knows where it was written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

Key = tuple[str | int, ...]
"""A path into a config: names of keys and positions in lists, e.g. `("train_loader", "dataset", "path", 0)`."""
Scalar = str | int | float | bool | None


@dataclass(frozen=True)
class Origin:
    """Where a value was written."""

    source: Literal["file", "base", "override"]
    label: str
    """The file's path as the user wrote it, or the override's text."""
    line: int = 1
    column: int = 1

    def where(self) -> str:
        """`file:line:column`, or `override 'a.b=1'`."""
        return f"override '{self.label}'" if self.source == "override" else f"{self.label}:{self.line}:{self.column}"

    def summary(self) -> str:
        """`file:line`, `base file:line` or `override`."""
        if self.source == "override":
            return "override"
        return f"{'base ' if self.source == 'base' else ''}{self.label}:{self.line}"


@dataclass(frozen=True)
class Node:
    """A value, with the place of its key (or of itself, in a list)."""

    value: Scalar | dict[str, Node] | list[Node]
    origin: Origin
    raw: str | None = None
    """A scalar as it was typed: `3.10`, where value is 3.1."""
    broken: bool = False
    """A problem with this value was reported already; nothing more is to be said about it."""

    def children(self) -> Iterator[tuple[str | int, Node]]:
        """The keys or positions directly below, with their nodes; none for a scalar."""
        if isinstance(self.value, dict):
            yield from self.value.items()
        elif isinstance(self.value, list):
            yield from enumerate(self.value)

    def child(self, name: str | int) -> Node | None:
        """The node directly below under that name; a position in a list may be given as text."""
        if isinstance(self.value, dict):
            return self.value.get(str(name))
        if isinstance(self.value, list) and str(name).isdecimal() and int(name) < len(self.value):
            return self.value[int(name)]
        return None


def find(tree: Node, key: Key) -> Node | None:
    """The node at a key, None where nothing was written."""
    node: Node | None = tree
    for name in key:
        node = node.child(name) if node else None
    return node


def nearest(tree: Node, key: Key) -> Node:
    """The node at a key, or else at its closest parent that was written."""
    node = tree
    for name in key:
        below = node.child(name)
        if below is None:
            return node
        node = below
    return node


def leaves(node: Node, key: Key = ()) -> Iterator[tuple[Key, Node]]:
    """All scalars with their keys, in the order of the file."""
    if not isinstance(node.value, dict | list):
        yield key, node
    for name, below in node.children():
        yield from leaves(below, (*key, name))


def edit(node: Node, key: Key, change: Callable[[Node], Node]) -> Node:
    """A copy of the tree with the node at a key, which must have been written, replaced by `change(node)`."""
    if not key:
        return change(node)
    name, *rest = key
    if isinstance(node.value, dict):
        return replace(node, value={**node.value, str(name): edit(node.value[str(name)], tuple(rest), change)})
    items = list(cast(list[Node], node.value))
    items[int(name)] = edit(items[int(name)], tuple(rest), change)
    return replace(node, value=items)


def map_leaves(node: Node, change: Callable[[Key, Node], Node], key: Key = ()) -> Node:
    """A copy of the tree with every scalar's node replaced by what `change(key, node)` gives."""
    if isinstance(node.value, dict):
        return replace(
            node, value={name: map_leaves(below, change, (*key, name)) for name, below in node.value.items()}
        )
    if isinstance(node.value, list):
        return replace(node, value=[map_leaves(below, change, (*key, i)) for i, below in enumerate(node.value)])
    return change(key, node)


def graft(value: Any, origin: Origin) -> Node:
    """A tree of plain values that all have the same origin."""
    if isinstance(value, dict):
        return Node({name: graft(item, origin) for name, item in value.items()}, origin)
    return Node([graft(item, origin) for item in value] if isinstance(value, list) else value, origin)


def plain(node: Node) -> Any:
    """The tree as dicts, lists and scalars; None in the place of a broken value."""
    if node.broken:
        return None
    if isinstance(node.value, dict):
        return {name: plain(below) for name, below in node.value.items()}
    return [plain(below) for below in node.value] if isinstance(node.value, list) else node.value


def merge(base: Node, over: Node) -> Node:
    """Lay one tree over another: mappings key by key, everything else (lists too) as a whole.

    A section whose `name` differs is another thing, e.g. another optimizer, and takes the base's place as a whole.
    """
    if not isinstance(base.value, dict) or not isinstance(over.value, dict) or _differ_in_name(base.value, over.value):
        return over
    merged = dict(base.value)
    for name, below in over.value.items():
        merged[name] = merge(merged[name], below) if name in merged else below
    return replace(over, value=merged)


def _differ_in_name(base: dict[str, Node], over: dict[str, Node]) -> bool:
    return "name" in base and "name" in over and base["name"].value != over["name"].value


def parse_key(text: str) -> Key:
    """`a.list.0.x` as a key; positions in lists stay text, which `Node.child` understands."""
    return tuple(text.split(".")) if text else ()


def dotted(key: Key) -> str:
    """A key as one writes it: `train_loader.dataset.path.0`."""
    return ".".join(str(name) for name in key)
