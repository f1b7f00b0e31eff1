"""Changes to a job file from the command line: `optimizer.lr=1e-4`, `eval_loader=null`, `export.formats=[hf, gguf]`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from genai.config.dialect import read
from genai.config.secrets import looks_like_secret
from genai.config.tree import Key, Node, Origin, dotted
from genai.config.wording import quotable
from genai.errors import ConfigError, Problem


def apply_overrides(tree: Node, overrides: Sequence[str]) -> tuple[Node, list[Problem]]:
    """Lay `KEY=VALUE` texts over a job file, one after the other.

    The value is read as YAML and takes the place of what stood at the key, as a whole. A number in the key is a
    position in a list. Sections on the way that were not written yet are made.

    Returns:
        the changed tree (without the overrides that cannot be carried out), and what is wrong with those.
    """
    problems: list[Problem] = []
    for text in overrides:
        try:
            key, node, found = _parse(text)
            problems += found
            tree = _set(tree, key, node, ())
        except ConfigError as error:
            problems += error.problems
    return tree, problems


def origin_of(override: str) -> Origin:
    """How an override is named in messages; a value that looks like a secret is not repeated."""
    name, _, value = override.partition("=")
    hidden = looks_like_secret(value, name=name.strip().rpartition(".")[2])
    return Origin("override", f"{quotable(name)}=***" if hidden else quotable(override))


def _parse(text: str) -> tuple[Key, Node, list[Problem]]:
    origin = origin_of(text)
    name, equals, value = text.partition("=")
    name = name.strip()
    key = tuple(name.split("."))
    if not equals:
        raise _refused("an override is KEY=VALUE", origin, "write for example optimizer.lr=1e-4")
    if not all(key):
        raise _refused("the key is not complete", origin, "write names with dots between them: optimizer.lr=1e-4")
    if key == ("base",):
        raise _refused("base cannot be overridden", origin, "write it into the file")
    node, problems = read(value, origin)
    if node is None:
        fix = f"write {quotable(name)}=null, or {quotable(name)}='\"\"' for an empty text"
        raise _refused("the value is missing", origin, fix)
    return key, node, problems


def _set(parent: Node, key: Key, node: Node, above: Key) -> Node:
    """The parent with the value at the end of `key` replaced."""
    name, *rest = key
    if parent.value is None and not parent.broken:
        parent = replace(parent, value={})
    if isinstance(parent.value, dict):
        below = parent.value.get(str(name)) or Node({}, node.origin)
        changed = _set(below, tuple(rest), node, (*above, name)) if rest else node
        return replace(parent, value={**parent.value, str(name): changed})
    if isinstance(parent.value, list):
        below_item = parent.child(name)
        if below_item is None:
            message = f"{dotted(above)} has no item {quotable(str(name))}: it holds {len(parent.value)}"
            raise _refused(message, node.origin, "positions count from 0; or set the whole list: [a, b]")
        changed = _set(below_item, tuple(rest), node, (*above, name)) if rest else node
        items = list(parent.value)
        items[int(name)] = changed
        return replace(parent, value=items)
    if parent.broken:
        return parent
    raise _refused(f"{dotted(above)} is a single value, it has no keys", node.origin, "set the key itself")


def _refused(message: str, origin: Origin, fix: str | None = None) -> ConfigError:
    return ConfigError([Problem(message=message, where=origin.where(), fix=fix)])
