from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genai.config.dialect import dump, read
from genai.config.interpolation import MAX_CHAIN, has_reference, resolve_references
from genai.config.tree import Node, Origin, find, plain
from genai.errors import Problem

FILE = Origin("file", "job.yaml")


def tree_of(values: dict[str, Any]) -> Node:
    tree, problems = read(dump(values), FILE)
    assert tree is not None and not problems
    return tree


def resolved(values: dict[str, Any]) -> Any:
    tree, problems = resolve_references(tree_of(values))
    assert not problems, problems
    return plain(tree)


def problems_of(values: dict[str, Any]) -> list[Problem]:
    return resolve_references(tree_of(values))[1]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${v.lr}", 1e-4),
        ("${v.flag}", True),
        ("${v.none}", None),
        ("${v.list}", [1, {"x": 2}]),
        ("${v.list.1.x}", 2),
        ("${ v.n }", 3),
        ("${.sibling}", "s"),
        ("${..top}", "t"),
        ("run-${v.n}-${v.text}", "run-3-abc"),
        ("${v.again}", 3),
        ("${v.section.n}", 3),
        (r"\${v.n}", "${v.n}"),
        (r"\${v.n} ${v.n}", "${v.n} 3"),
        ("$x {y} $${v.n}", "$x {y} $3"),
        ("a } ${v.n} }", "a } 3 }"),
        ("${v.dash-ed}", 5),
    ],
)
def test_references_stand_for_values_with_their_type(text: str, value: object) -> None:
    variables: dict[str, Any] = {
        "lr": 1e-4,
        "flag": True,
        "none": None,
        "list": [1, {"x": 2}],
        "n": 3,
        "text": "abc",
        "dash-ed": 5,
    }
    variables |= {"again": "${v.n}", "section": "${v.other}", "other": {"n": "${v.n}"}}
    found = resolved({"v": variables, "top": "t", "place": {"here": text, "sibling": "s"}})["place"]["here"]
    assert found == value and type(found) is type(value)


def test_what_a_reference_brought_stands_where_the_reference_stands() -> None:
    tree, _ = resolve_references(tree_of({"v": {"o": {"lr": 1}}, "optimizer": "${v.o}"}))
    assert find(tree, ("optimizer", "lr")).origin.where() == "job.yaml:4:1"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("text", "message", "fix"),
    [
        ("${v.lrr}", "a: ${v.lrr} stands for no key of this file", "did you mean ${v.lr}?"),
        ("${lr}", "a: ${lr} stands for no key of this file", "did you mean ${v.lr}?"),
        ("${zzz}", "a: ${zzz} stands for no key of this file", "write the value under variables"),
        ("${v.lr.deeper}", "a: ${v.lr.deeper} stands for no key", None),
        ("${a}", "a: refers to itself", None),
        ("x ${a}", "a: refers to itself", None),
        ("${...up}", "a: ${...up} has more dots than there are levels above it", None),
        ("${v.lr", "a: a '${' is not closed", "write ${variables.NAME}, or \\${ for the plain characters"),
        ("${}", "a: ${} is no reference", None),
        ("${v[lr]}", "a: ${v[lr]} is no reference", "write ${variables.NAME}, or ${a.list.0} for an item"),
        ("${v.${v.which}}", "a: one ${...} inside another is not supported", None),
        ("x${v}", "a: ${v} stands for a section, which cannot be part of a text", None),
        ("x${v.list}", "a: ${v.list} stands for a list, which", None),
        ("x${v.none}", "a: ${v.none} stands for null, which", None),
        ("${v.list.5}", "a: ${v.list.5} stands for no key", None),
    ],
)
def test_a_wrong_reference_is_reported_at_its_key(text: str, message: str, fix: str | None) -> None:
    (problem,) = problems_of({"a": text, "v": {"lr": 1, "which": "lr", "list": [1], "none": None}})
    assert problem.where == "job.yaml:1:1"
    assert problem.message.startswith(message)
    if fix:
        assert problem.fix == fix


@pytest.mark.parametrize(
    "text", ["${oc.env:HOME}", "${oc.env:HOME,x}", "${oc.create:{a: 1}}", "x ${anything:${v}}", "${:}"]
)
def test_resolvers_are_switched_off(text: str) -> None:
    (problem,) = problems_of({"a": text, "v": 1})
    assert "is switched off" in problem.message
    assert problem.fix is not None and "env:NAME" in problem.fix


def test_a_resolvers_argument_is_not_repeated() -> None:
    (problem,) = problems_of({"a": "${oc.decode:hunter2}"})
    assert "hunter2" not in problem.line()


def test_circles_are_found() -> None:
    whole = problems_of({"a": "${b}", "b": "${a}"})
    parts = problems_of({"a": "x${b}", "b": "x${a}"})
    through_sections = problems_of({"a": {"x": "${b}"}, "b": {"y": "${a}"}})
    for found in (whole, parts, through_sections):
        assert len(found) == 2 and all("refers to itself" in problem.message for problem in found)


def test_a_value_to_be_filled_in_is_reported_once() -> None:
    (problem,) = problems_of({"v": {"lr": "???"}, "a": "${v.lr}"})
    assert (problem.where, problem.message) == ("job.yaml:2:3", "v.lr: is still to be filled in")


def test_all_wrong_references_are_reported_and_the_rest_is_resolved() -> None:
    tree, problems = resolve_references(tree_of({"v": 1, "a": "${x}", "b": "${v}", "c": "${y}", "d": ["${z}"]}))
    assert [problem.where for problem in problems] == ["job.yaml:2:1", "job.yaml:4:1", "job.yaml:6:3"]
    assert plain(tree) == {"v": 1, "a": None, "b": 1, "c": None, "d": [None]}


def test_a_bomb_of_references_is_refused_quickly() -> None:
    values: dict[str, Any] = {"a0": "x" * 10}
    values |= {f"a{i}": f"${{a{i - 1}}}" * 10 for i in range(1, 20)}
    began = time.process_time()
    found = problems_of(values)
    assert found and "stand for more than 200000 characters" in found[0].message
    assert time.process_time() - began < 2


def test_a_wide_bomb_is_refused() -> None:
    values: dict[str, Any] = {"a": "x" * 50_000, **{f"b{i}": "${a}" for i in range(10)}}
    assert any("references stand for more than" in problem.message for problem in problems_of(values))


def test_a_long_chain_is_refused() -> None:
    values: dict[str, Any] = {"a0": 1, **{f"a{i}": f"x${{a{i - 1}}}" for i in range(1, MAX_CHAIN * 3)}}
    found = problems_of(dict(reversed(values.items())))
    assert found and "the chain of references is longer than" in found[0].message


WORDS = st.text(st.sampled_from("ab0.-_/@*%&!~^|,;=<>?()[]'\"\\${}: \t\né#+"), max_size=6) | st.sampled_from(
    ["true", "null", "1"]
)


@given(st.dictionaries(WORDS, WORDS | st.lists(WORDS, max_size=2), max_size=3), WORDS, WORDS)
@settings(max_examples=150, deadline=None, derandomize=True)
def test_whatever_a_reference_looks_like(values: dict[str, Any], before: str, name: str) -> None:
    names = [*values, name]
    references = {f"r{i}": f"{before}${{{each}}}" for i, each in enumerate(names)}
    tree, problems = resolve_references(tree_of({**values, **references}))
    assert all(problem.where for problem in problems)
    assert tree.broken or plain(tree).keys() == {**values, **references}.keys()


def test_a_text_that_becomes_a_gap_is_refused() -> None:
    tree, (problem,) = resolve_references(tree_of({"empty": "", "a": {"b": "???${empty}"}}))
    assert tree.broken
    assert problem.line() == "job.yaml:3:3: a.b: the reference cannot be resolved"


def test_has_reference() -> None:
    assert has_reference("a${b}") and has_reference(r"\\${b}")
    assert not has_reference(r"\${b}") and not has_reference("$b") and not has_reference(5)
