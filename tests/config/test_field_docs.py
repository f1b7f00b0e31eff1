from __future__ import annotations

from dataclasses import dataclass, fields

from genai.config.annotations import all_keys
from genai.config.field_docs import class_doc, field_docs
from genai.config.schemas import SCHEMAS


@dataclass
class Parent:
    """A parent.

    More about it.
    """

    a: int = 1
    """What a
    does."""
    b: int = 2


@dataclass
class Child(Parent):
    """A child."""

    c: int = 3
    """What c does."""
    a: int = 4
    """What a does here."""


def test_the_text_under_a_field_is_read_on_one_line() -> None:
    assert field_docs(Parent) == {"a": "What a does."}


def test_inherited_fields_are_documented_too() -> None:
    assert field_docs(Child) == {"a": "What a does here.", "c": "What c does."}


def test_class_doc_is_its_first_paragraph() -> None:
    assert class_doc(Parent) == "A parent."


def test_a_class_without_a_source_has_none() -> None:
    assert field_docs(type("Made", (), {"__module__": "no_such_module"})) == {}


def test_every_key_of_every_job_is_documented() -> None:
    for schema in SCHEMAS.values():
        for config in {schema, *(config for _, config, _ in all_keys(schema))}:
            assert set(field_docs(config)) == {field.name for field in fields(config)}, config
            assert class_doc(config)
