from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genai.config.dialect import MAX_DEPTH, dump, read
from genai.config.tree import Origin, find, plain
from genai.errors import ConfigError, Problem

FILE = Origin("file", "job.yaml")


def value_of(text: str) -> Any:
    tree, problems = read(f"a: {text}", FILE)
    assert tree is not None and not problems, problems
    return plain(tree)["a"]


def problems_of(text: str) -> list[Problem]:
    try:
        return read(text, FILE)[1]
    except ConfigError as error:
        return list(error.problems)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("2e9", 2e9),
        ("5.0E-4", 5e-4),
        (".5", 0.5),
        ("-3.", -3.0),
        ("12:30:00", "12:30:00"),
        ("010", 10),
        ("0o17", 15),
        ("0x1F", 31),
        ("-7", -7),
        ("1_000", "1_000"),
        ("3.10", 3.1),
        ("yes", "yes"),
        ("no", "no"),
        ("on", "on"),
        ("Off", "Off"),
        ("true", True),
        ("FALSE", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("2024-01-31", "2024-01-31"),
        ("'5'", "5"),
        ('"5"', "5"),
        ("!!str 5", "5"),
        ("nullable", "nullable"),
        ("1.2.3", "1.2.3"),
        ("=", "="),
        ("9223372036854775807", 2**63 - 1),
        ("'å \\ud83d'", "å \\ud83d"),
    ],
)
def test_scalars_mean_what_they_look_like(text: str, value: object) -> None:
    found = value_of(text)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "where", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "job.yaml:3:1", "key 'a' is written twice (first in line 1)"),
        ("a: 1\n1: 2\n", "job.yaml:2:1", "the key '1' is not text"),
        ("a:\n  true: 2\n", "job.yaml:2:3", "the key 'true' is not text"),
        ("? [x]\n: 1\n", "job.yaml:1:3", "the key is not text"),
        ("a: 99999999999999999999\n", "job.yaml:1:1", "the number 99999999999999999999 is too large"),
        ("a: " + "9" * 5000, "job.yaml:1:1", "a number of 5000 digits is too large"),
        ("a: 1e999\n", "job.yaml:1:1", "'1e999' is not a finite number"),
        ("a: .inf\n", "job.yaml:1:1", "'.inf' is not a finite number"),
        ("a: .nan\n", "job.yaml:1:1", "'.nan' is not a finite number"),
        ("a: !!int x\n", "job.yaml:1:1", "'x' is not a whole number"),
        ("a: !!bool 7\n", "job.yaml:1:1", "'7' is neither true nor false"),
        ("a: !!null 7\n", "job.yaml:1:1", "'7' is not null"),
        ("a: !!python/name:os.system\n", "job.yaml:1:1", "the tag !!python/name:os.system does not fit here"),
        ("a: !!python/object/apply:os.system [ls]\n", "job.yaml:1:1", "the tag !!python/object/apply:os.system"),
        ("a: !!map 5\n", "job.yaml:1:1", "the tag !!map does not fit here"),
        ("a: !!set {x}\n", "job.yaml:1:1", "the tag !!set does not fit here"),
        ("a: &x\n  b: *x\n", "job.yaml:2:3", "an alias that contains itself"),
        ('a: "\\ud800"\n', "job.yaml:1:1", "text with a NUL or half a surrogate pair"),
        ('a: "x\\0"\n', "job.yaml:1:1", "text with a NUL or half a surrogate pair"),
        ("<<: 5\n", "job.yaml:1:1", "'<<' takes a mapping"),
        ("a: 1\n\tb: 2\n", "job.yaml:2:1", "a tab where spaces are needed"),
        ("a: @x\n", "job.yaml:1:4", "text cannot start with this character"),
        ("a: b: c\n", "job.yaml:1:5", "unexpected ':'"),
        ("a: 1\nb\nc: 2\n", "job.yaml:2:1", "this line has no ': ' after its key"),
        ("a: 1\n b: 2\n", "job.yaml:2:3", "unexpected ':'"),
        ("a:\n  b: 1\n c: 2\n", "job.yaml:3:2", "the indentation does not fit"),
        ("a: 'open\n", "job.yaml:1:4", "a quote is not closed"),
        ("a: [1, 2\n", "job.yaml:1:4", "a '[' is not closed"),
        ("a: {b: 1\n", "job.yaml:1:4", "a '{' is not closed"),
        ("a: *x\n", "job.yaml:1:4", "an alias without its anchor"),
        ("a: 1\n---\nb: 2\n", "job.yaml:2:1", "the file holds more than one document"),
        ("a: 1\nb: x\0y\n", "job.yaml:2:5", "the control character U+0000 cannot stand in YAML"),
        ('a: "\\U7fffffff"\n', "job.yaml:1:", "an escape that is no character"),
        ("a: " + "[" * 5000, "job.yaml:1:", f"nested deeper than {MAX_DEPTH} levels"),
        ("%YAML 3.0\n---\na: 1\n", "job.yaml:1:1", "found incompatible YAML document"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(text: str, where: str, message: str) -> None:
    problem = problems_of(text)[0]
    assert problem.where is not None and problem.where.startswith(where)
    assert problem.message.startswith(message)


def test_all_faults_that_leave_the_text_readable_are_found() -> None:
    found = problems_of("a: .inf\nb: !!set {x}\n1: 2\na: 3\n")
    assert [problem.where for problem in found] == ["job.yaml:1:1", "job.yaml:2:1", "job.yaml:3:1", "job.yaml:4:1"]


def test_a_value_stands_at_its_key_and_an_item_at_itself() -> None:
    tree, _ = read("a:\n  b: 1\n  c: [x, y]\n", FILE)
    assert tree is not None
    places = {key: find(tree, key).origin.where() for key in [("a",), ("a", "b"), ("a", "c", 1)]}  # type: ignore[union-attr]
    assert places == {("a",): "job.yaml:1:1", ("a", "b"): "job.yaml:2:3", ("a", "c", 1): "job.yaml:3:10"}


def test_scalars_keep_their_text() -> None:
    tree, _ = read("a: 3.10\nb: 010\n", FILE)
    assert tree is not None
    assert [node.raw for _, node in tree.children()] == ["3.10", "010"]


def test_anchors_and_merge_keys() -> None:
    text = "x: &x {a: 1, b: 2}\ny: &y {b: 3}\nz:\n  <<: [*x, *y]\n  a: 9\nw: *x\n"
    tree, problems = read(text, FILE)
    assert tree is not None and not problems
    assert plain(tree)["z"] == {"a": 9, "b": 2}
    assert plain(tree)["w"] == {"a": 1, "b": 2}
    assert find(tree, ("z", "b")).origin.where() == "job.yaml:1:14"  # type: ignore[union-attr]


def test_an_alias_bomb_is_refused() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9)]
    with pytest.raises(ConfigError, match="more than 50000 values once its aliases are written out"):
        read("\n".join(lines), FILE)


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n", "\n\n"])
def test_an_empty_document_is_none(text: str) -> None:
    tree, problems = read(text, FILE)
    assert tree is None or tree.value is None
    assert not problems


def test_an_override_has_one_place() -> None:
    tree, _ = read("{a: [1, 2]}", Origin("override", "x={a: [1, 2]}"))
    assert tree is not None
    assert find(tree, ("a", 1)).origin.where() == "override 'x={a: [1, 2]}'"  # type: ignore[union-attr]


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63) + 1, 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]) | st.sampled_from("\n\t"), max_size=20)
    | st.sampled_from(
        ["yes", "1e-4", "12:30:00", "010", "null", "", " ", "- x", "a: b", "<<", "1_000", "0o7", "~", "="]
    )
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab<=1. :#"), inner, max_size=3)
)


@given(VALUES)
@settings(max_examples=60, deadline=None, derandomize=True)
def test_dump_is_read_back_unchanged(value: object) -> None:
    for flow in (False, True):
        tree, problems = read(dump({"a": value}, flow=flow), FILE)
        assert tree is not None and not problems
        assert plain(tree) == {"a": value}
