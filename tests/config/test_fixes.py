from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest
from pydantic import Discriminator

from genai.config.dialect import read
from genai.config.fields import DurationText, PositiveFloat, PositiveInt
from genai.config.fixes import fix_for
from genai.config.tree import Node, Origin


@dataclass(frozen=True, kw_only=True)
class Numbers:
    r: int = 3


@dataclass(frozen=True, kw_only=True)
class Model:
    name: Literal["m"] = "m"
    path: str


@dataclass(frozen=True, kw_only=True)
class Needy:
    size: int


Either = Annotated[Model, Discriminator("name")]


@pytest.mark.parametrize(
    ("annotation", "typed", "fix"),
    [
        (bool, "yes", "write true"),
        (bool, "'no'", "write false"),
        (bool, "0", "write false"),
        (bool, "ture", "did you mean 'true'?"),
        (Literal["auto", "chat"], "caht", "did you mean 'chat'?"),
        (Literal["auto"] | PositiveInt, "Auto", "did you mean 'auto'?"),
        (PositiveInt, "1_000", "write 1000, without quotes or separators"),
        (PositiveFloat, "'1e-4'", "write 1e-4, without quotes or separators"),
        (PositiveInt, "1e3", "write 1000"),
        (PositiveInt, "1.5", None),
        (PositiveFloat, "fast", None),
        (str, "3.10", "put it in quotes: '3.10'"),
        (str, "true", "put it in quotes: 'true'"),
        (list[str], "one", "write [one]"),
        (list[int], "5", "write [5]"),
        (str | list[str], "7", "put it in quotes: '7'"),
        (Numbers, "true", "write key: {} for its defaults"),
        (Model, "gallery:x", "write key: {path: gallery:x}"),
        (Needy, "x", "write key: {size: ...}"),
        (Needy, "", "indent its keys below it, or remove the line"),
        (PositiveFloat, "", "write a value after the colon, or remove the line"),
        (
            DurationText,
            "3",
            "write a number and a unit: 3ep (epochs), 500ba (batches), 2e9tok (tokens), 1000sp (samples)",
        ),
        (Numbers, "[1]", None),
        (list[str], "{'0': x}", "write the whole list: key: [...]"),
    ],
)
def test_what_to_write_instead(annotation: Any, typed: str, fix: str | None) -> None:
    tree, _ = read(f"key: {typed}", Origin("file", "job.yaml"))
    assert tree is not None
    node = tree.child("key")
    assert node is not None
    assert fix_for(annotation, "key", node) == fix


def test_a_value_from_a_reference_is_not_to_be_put_in_quotes() -> None:
    assert fix_for(str, "key", Node(17, Origin("file", "job.yaml"))) is None


def test_a_secret_is_not_repeated() -> None:
    secret = "hf_" + "a1" * 17
    assert secret not in (fix_for(Model, "key", Node(secret, Origin("file", "job.yaml"), raw=secret)) or "")
