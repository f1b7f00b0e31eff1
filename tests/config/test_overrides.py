from __future__ import annotations

import pytest

from genai.config.overrides import apply_overrides
from genai.config.tree import Origin, find, graft, plain

TREE = graft({"a": {"b": 1, "list": [{"x": 1}, {"x": 2}]}, "s": "text", "empty": None}, Origin("file", "job.yaml"))


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("a.b=2", ("a", "b"), 2),
        ("a.b=1e-4", ("a", "b"), 1e-4),
        ("a.b=null", ("a", "b"), None),
        ("a.b=[1, two, {c: 3}]", ("a", "b"), [1, "two", {"c": 3}]),
        ("a={b: 5}", ("a",), {"b": 5}),
        ("a.list.1.x=9", ("a", "list", 1, "x"), 9),
        ("a.list.0=z", ("a", "list", 0), "z"),
        ("new.deep.key=v", ("new", "deep", "key"), "v"),
        ("empty.key=1", ("empty", "key"), 1),
        ("s=key=value", ("s",), "key=value"),
        ("s=''", ("s",), ""),
        (" s = padded ", ("s",), "padded"),
        ("s=${variables.x}", ("s",), "${variables.x}"),
        ("s='010'", ("s",), "010"),
    ],
)
def test_a_value_is_read_as_yaml_and_replaces(override: str, key: tuple[str | int, ...], value: object) -> None:
    tree, problems = apply_overrides(TREE, [override])
    assert not problems
    node = find(tree, key)
    assert node is not None and plain(node) == value
    assert node.origin.summary() == "override"


def test_the_last_one_wins_and_the_tree_is_not_changed() -> None:
    tree, _ = apply_overrides(TREE, ["a.b=2", "a.b=3"])
    assert plain(tree)["a"]["b"] == 3
    assert plain(TREE)["a"]["b"] == 1


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("a.b", "an override is KEY=VALUE"),
        ("=1", "the key is not complete"),
        ("a..b=1", "the key is not complete"),
        ("a.=1", "the key is not complete"),
        ("a.b=", "the value is missing"),
        ("a.b=# comment", "the value is missing"),
        ("base=x.yaml", "base cannot be overridden"),
        ("a.list.7.x=1", "a.list has no item 7: it holds 2"),
        ("a.list.x=1", "a.list has no item x: it holds 2"),
        ("s.key=1", "s is a single value, it has no keys"),
        ("a.b.c.d=1", "a.b is a single value, it has no keys"),
        ("a.b=[1", "a '[' is not closed, or a comma is missing"),
        ("a.b={x: 1, x: 2}", "key 'x' is written twice"),
        ("a.b=.nan", "'.nan' is not a finite number"),
        ("a.b=\x00", "the control character U+0000"),
    ],
)
def test_what_is_wrong_names_the_override(override: str, message: str) -> None:
    tree, problems = apply_overrides(TREE, ["s=other", override])
    assert problems[0].message.startswith(message)
    assert problems[0].where == f"override '{override.replace(chr(0), '?')}'"
    assert plain(tree)["s"] == "other"


def test_a_secret_is_not_repeated() -> None:
    _, problems = apply_overrides(TREE, ["s.x=hf_" + "a1" * 17, "q.token=plain-word="])
    assert problems[0].where == "override 's.x=***'"
    tree, _ = apply_overrides(TREE, ["token=plain"])
    assert find(tree, ("token",)).origin.where() == "override 'token=***'"  # type: ignore[union-attr]
