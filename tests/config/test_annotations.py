from __future__ import annotations

from dataclasses import MISSING, dataclass, field
from typing import Annotated, Any, Literal

import pytest
from pydantic import Discriminator, Field

from genai.config.annotations import (
    Variants,
    all_keys,
    allowed_words,
    below,
    default_of,
    describe,
    either,
    field_of,
    hints,
    required,
    sections,
    shapes,
)
from genai.config.fields import DurationText, NonNegativeInt, PositiveFloat, PositiveInt, Share


@dataclass(frozen=True, kw_only=True)
class Cat:
    name: Literal["cat"] = "cat"
    lives: PositiveInt = 9


@dataclass(frozen=True, kw_only=True)
class Dog:
    name: Literal["dog"] = "dog"
    tricks: list[str] = field(default_factory=list)


Pet = Annotated[Cat | Dog, Discriminator("name")]


@dataclass(frozen=True, kw_only=True)
class House:
    address: str
    pet: Pet = field(default_factory=Cat)
    guest: Pet | None = None
    rooms: list[Cat] = field(default_factory=list)
    extras: dict[str, int] = field(default_factory=dict)
    pair: tuple[int, str] = (1, "x")


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (str, "text"),
        (str | None, "text or null"),
        (PositiveFloat, "a number above 0"),
        (NonNegativeInt, "a whole number of 0 or more"),
        (Share, "a number between 0 and 1"),
        (Annotated[int, Field(ge=1, lt=10)], "a whole number of 1 or more and below 10"),
        (Annotated[float, Field(gt=0, le=2.5)], "a number above 0 and of 2.5 or less"),
        (bool, "true or false"),
        (Literal["auto"] | PositiveInt, "auto or a whole number above 0"),
        (Literal[4, 8], "4 or 8"),
        (Literal[True], "true"),
        (Literal[False, "x"], "false or x"),
        (bool | Literal["gaussian"], "true or false or gaussian"),
        (str | list[str], "text or a list (of text)"),
        (list[Literal["hf", "gguf"]], "a list (of hf or gguf)"),
        (tuple[Share, Share], "a list of 2 items (each a number between 0 and 1)"),
        (dict[str, Any], "a section of keys"),
        (Cat, "a section of keys"),
        (Pet, "a section with name: cat or dog"),
        (Pet | None, "a section with name: cat or dog or null"),
        (DurationText, "a duration"),
        (Any, "any value"),
    ],
)
def test_describe(annotation: Any, words: str) -> None:
    assert describe(annotation) == words


def test_below_follows_keys_positions_and_variants() -> None:
    assert below(House, "address") is str
    assert below(House, "nothing") is None
    assert below(below(House, "pet"), "lives", {"name": "cat"}) == hints(Cat)["lives"]
    assert below(below(House, "pet"), "lives", {"name": "dog"}) is None
    assert below(below(House, "guest"), "tricks") == list[str]
    assert below(below(House, "rooms"), 3) is Cat
    assert below(below(House, "rooms"), "x") is None
    assert below(below(House, "extras"), "anything") is int
    assert [below(below(House, "pair"), i) for i in range(3)] == [int, str, None]
    assert below(str, "x") is None


def test_shapes_keep_a_discriminated_union_whole() -> None:
    variants, none = shapes(Pet | None)
    assert isinstance(variants.type, Variants) and none.type is type(None)
    assert variants.type.tags() == ["cat", "dog"]
    assert variants.type.get("dog") is Dog and variants.type.get("cow") is None and variants.type.get(["cat"]) is None


def test_fields_and_defaults() -> None:
    assert required(House) == ["address"]
    assert default_of(field_of(House, "address")) is MISSING
    assert default_of(field_of(House, "pet")) == Cat()
    assert default_of(field_of(House, "pair")) == (1, "x")


def test_sections_and_all_keys() -> None:
    assert sections(hints(House)["guest"]) == [Cat, Dog]
    assert sections(hints(House)["rooms"]) == [Cat]
    paths = [".".join(path) for path, _, _ in all_keys(House)]
    assert paths[:6] == ["address", "pet", "pet.name", "pet.lives", "pet.name", "pet.tricks"]
    assert "rooms.lives" in paths and "guest.tricks" in paths


def test_allowed_words_and_either() -> None:
    assert allowed_words(Literal["auto"] | PositiveInt | Literal["x", 3]) == ["auto", "x"]
    assert either(["a"]) == "a" and either(["a", "b", "a", "c"]) == "a, b or c"
