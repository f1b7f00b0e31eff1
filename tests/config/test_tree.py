from __future__ import annotations

import pytest

from genai.config.tree import (
    Node,
    Origin,
    dotted,
    edit,
    find,
    graft,
    leaves,
    map_leaves,
    merge,
    nearest,
    parse_key,
    plain,
)

FILE = Origin("file", "job.yaml", 3, 5)
BASE = Origin("base", "base.yaml", 7, 1)
OVERRIDE = Origin("override", "a.b=1")


@pytest.mark.parametrize(
    ("origin", "where", "summary"),
    [
        (FILE, "job.yaml:3:5", "job.yaml:3"),
        (BASE, "base.yaml:7:1", "base base.yaml:7"),
        (OVERRIDE, "override 'a.b=1'", "override"),
    ],
)
def test_origin_says_where(origin: Origin, where: str, summary: str) -> None:
    assert (origin.where(), origin.summary()) == (where, summary)


def test_find_takes_positions_as_numbers_and_as_text() -> None:
    tree = graft({"a": {"list": ["x", {"b": 1}]}}, FILE)
    for position in (1, "1"):
        node = find(tree, ("a", "list", position, "b"))
        assert node is not None and node.value == 1
    assert find(tree, ("a", "list", 2)) is None
    assert find(tree, ("a", "list", "-1")) is None
    assert find(tree, ("a", "x", "y")) is None


def test_nearest_is_the_closest_written_parent() -> None:
    tree = Node({"a": Node({"b": Node(1, FILE)}, BASE)}, OVERRIDE)
    assert nearest(tree, ("a", "b")).origin == FILE
    assert nearest(tree, ("a", "missing", "deeper")).origin == BASE
    assert nearest(tree, ("missing",)).origin == OVERRIDE


def test_plain_and_leaves_agree() -> None:
    values = {"a": {"b": [1, {"c": None}]}, "d": "x"}
    tree = graft(values, FILE)
    assert plain(tree) == values
    assert [(dotted(key), node.value) for key, node in leaves(tree)] == [("a.b.0", 1), ("a.b.1.c", None), ("d", "x")]


def test_plain_hides_broken_values() -> None:
    assert plain(Node({"a": Node("secret", FILE, broken=True)}, FILE)) == {"a": None}


def test_edit_and_map_leaves_copy() -> None:
    tree = graft({"a": [1, 2]}, FILE)
    changed = edit(tree, ("a", 1), lambda node: Node(5, OVERRIDE))
    doubled = map_leaves(tree, lambda key, node: Node(node.value * 2, node.origin))  # type: ignore[operator]
    assert (plain(tree), plain(changed), plain(doubled)) == ({"a": [1, 2]}, {"a": [1, 5]}, {"a": [2, 4]})
    assert find(changed, ("a", 1)).origin == OVERRIDE  # type: ignore[union-attr]


def test_merge_goes_key_by_key_and_replaces_lists() -> None:
    base = graft({"a": {"x": 1, "y": 2}, "list": [1, 2], "kept": True}, BASE)
    over = graft({"a": {"y": 3}, "list": [9], "new": "n"}, FILE)
    merged = merge(base, over)
    assert plain(merged) == {"a": {"x": 1, "y": 3}, "list": [9], "kept": True, "new": "n"}
    assert find(merged, ("a", "x")).origin == BASE  # type: ignore[union-attr]
    assert find(merged, ("a", "y")).origin == FILE  # type: ignore[union-attr]


def test_merge_replaces_a_section_of_another_name() -> None:
    base = graft({"optimizer": {"name": "adamw", "eps": 1e-8}}, BASE)
    other = graft({"optimizer": {"name": "decoupled_lionw", "lr": 1e-4}}, FILE)
    same = graft({"optimizer": {"name": "adamw", "lr": 1e-4}}, FILE)
    assert plain(merge(base, other)) == {"optimizer": {"name": "decoupled_lionw", "lr": 1e-4}}
    assert plain(merge(base, same)) == {"optimizer": {"name": "adamw", "eps": 1e-8, "lr": 1e-4}}


def test_keys_are_written_with_dots() -> None:
    assert parse_key("a.b.0") == ("a", "b", "0")
    assert parse_key("") == ()
    assert dotted(("a", 0, "b")) == "a.0.b"
