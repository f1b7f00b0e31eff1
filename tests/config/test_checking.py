from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import Discriminator

from genai.config.annotations import all_keys, hints, sections, shapes
from genai.config.checking import check
from genai.config.dialect import read
from genai.config.fields import PositiveFloat, PositiveInt
from genai.config.schemas import SCHEMAS
from genai.config.tree import Origin, graft
from genai.errors import Problem


@dataclass(frozen=True, kw_only=True)
class Cat:
    name: Literal["cat"] = "cat"
    lives: PositiveInt = 9


@dataclass(frozen=True, kw_only=True)
class Dog:
    name: Literal["dog"] = "dog"
    weight: PositiveFloat = 20


Pet = Annotated[Cat | Dog, Discriminator("name")]


@dataclass(frozen=True, kw_only=True)
class House:
    address: str
    pet: Pet = field(default_factory=Cat)
    guests: list[Pet] = field(default_factory=list)
    judge: list[str | Pet] = field(default_factory=list)
    pair: tuple[float, float] = (1, 2)
    extras: dict[str, Any] = field(default_factory=dict)


def checked(text: str) -> tuple[House | None, list[Problem]]:
    tree, problems = read(text, Origin("file", "job.yaml"))
    assert tree is not None and not problems
    return check(House, tree)


def lines(text: str) -> list[str]:
    config, problems = checked(text)
    assert config is None
    return [problem.line() for problem in problems]


def test_a_right_file_becomes_a_config() -> None:
    config, problems = checked("{address: x, pet: {name: dog, weight: 3}, pair: [1, 2.5], guests: [{name: cat}]}")
    assert not problems
    assert config == House(address="x", pet=Dog(weight=3), pair=(1, 2.5), guests=[Cat()])


def test_a_section_without_its_name_is_the_defaults_variant() -> None:
    config, _ = checked("{address: x, pet: {lives: 3}}")
    assert config == House(address="x", pet=Cat(lives=3))


def test_no_value_is_turned_into_another_type() -> None:
    assert lines("{address: 5, pet: {lives: '9'}, pair: [true, 1]}") == [
        "job.yaml:1:2: address must be text, not 5 (put it in quotes: '5')",
        "job.yaml:1:20: pet.lives must be a whole number above 0, not '9' (write 9, without quotes or separators)",
        "job.yaml:1:40: pair.0 must be a number, not true",
    ]


def test_what_stands_below_a_misspelt_key_or_variant_is_checked_as_well() -> None:
    assert lines("adress: 5\npet:\n  name: catt\n  livs: many\n") == [
        "job.yaml:3:3: pet.name must be one of cat, dog, not 'catt' (did you mean 'cat'?)",
        "job.yaml:1:1: unknown key 'adress' (did you mean 'address'?)",
        "job.yaml:4:3: unknown key 'pet.livs' (did you mean 'lives'?)",
        "job.yaml:1:1: address must be text, not 5 (put it in quotes: '5')",
        "job.yaml:4:3: pet.lives must be a whole number above 0, not 'many'",
    ]


def test_a_mended_file_is_still_refused() -> None:
    assert lines("adress: x\n") == ["job.yaml:1:1: unknown key 'adress' (did you mean 'address'?)"]


def test_a_key_called_like_a_variant_does_not_confuse_the_place() -> None:
    assert lines("address: x\npet:\n  name: cat\n  cat: 5\n  lives: -1\n") == [
        "job.yaml:5:3: pet.lives must be a whole number above 0, not -1",
        "job.yaml:4:3: unknown key 'pet.cat' (keys here: name, lives)",
    ]


def test_a_variant_in_a_list_of_words_or_sections() -> None:
    assert checked("{address: x, judge: [word, {name: cat}]}")[1] == []
    assert lines("{address: x, judge: [word, {name: cat, lives: x}, 5]}") == [
        "job.yaml:1:40: judge.1.lives must be a whole number above 0, not 'x'",
        "job.yaml:1:51: judge.2 must be text or a section with name: cat or dog, not 5 (put it in quotes: '5')",
    ]


def test_a_key_of_another_variant_lists_those_of_this_one() -> None:
    assert lines("{address: x, pet: {name: dog, lives: 3}}") == [
        "job.yaml:1:31: unknown key 'pet.lives' (keys here: name, weight)"
    ]


def test_a_value_known_to_be_broken_is_not_reported_again() -> None:
    tree, problems = read("{address: .inf, pet: {name: !!set {x}}}", Origin("file", "job.yaml"))
    assert tree is not None and len(problems) == 2
    assert check(House, tree) == (None, [])


def test_two_misspelt_keys_for_one() -> None:
    assert lines("adress: x\naddres: y\n") == [
        "job.yaml:1:1: unknown key 'adress' (did you mean 'address'?)",
        "job.yaml:2:1: unknown key 'addres' (did you mean 'address'?)",
    ]


def test_an_overlong_list() -> None:
    assert lines("{address: x, pair: [1, 2, 3]}") == [
        "job.yaml:1:14: pair must be a list of 2 items (each a number), not a list of 3"
    ]


def test_pydantic_reports_every_level_of_every_job_as_unknown() -> None:
    """An unknown key is refused in each section of each job: `extra="forbid"` reaches nested dataclasses."""
    for schema in SCHEMAS.values():
        for above, config in {(path[:-1], config) for path, config, _ in all_keys(schema)}:
            values: dict[str, Any] = {"zzzz_unknown": 1, **_name_of(config)} if above else {"zzzz_unknown": 1}
            for depth in range(len(above) - 1, -1, -1):
                inner = [values] if _is_list_of_sections(schema, above[: depth + 1]) else values
                values = {**_variant(schema, above[:depth], above[depth]), above[depth]: inner}
            _, problems = check(schema, graft(values, Origin("file", "job.yaml")))
            assert any("zzzz_unknown" in problem.message for problem in problems), above


def _variant(schema: type, above: tuple[str, ...], key: str) -> dict[str, str]:
    """The `name` or `type` of the section `above` under which `key` exists."""
    owners = [config for path, config, name in all_keys(schema) if path == (*above, key)]
    return _name_of(owners[0]) if owners and above else {}


def _is_list_of_sections(schema: type, path: tuple[str, ...]) -> bool:
    """Whether sections stand in a list under this key."""
    found = [hints(config)[name] for each, config, name in all_keys(schema) if each == path]
    items = [get_args(shape.type)[0] for each in found for shape in shapes(each) if get_origin(shape.type) is list]
    return any(sections(item) for item in items)


def _name_of(config: type) -> dict[str, str]:
    tags = [each for each in fields(config) if each.name in ("name", "type") and isinstance(each.default, str)]
    return {each.name: str(each.default) for each in tags[:1]}
