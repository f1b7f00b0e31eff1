from __future__ import annotations

import pytest

from genai.data.convert.settings import ConvertSettings, parse_shares
from genai.errors import UsageError


def test_shares() -> None:
    assert parse_shares(["validation=0.01", "test=0.5"]) == {"validation": 0.01, "test": 0.5}
    assert parse_shares([]) == {}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["validation"], "'validation' is no split"),
        (["validation=x"], "is no split"),
        (["validation=1.5"], "write a share below 1"),
        (["validation=0"], "is no split"),
        (["a=0.1", "a=0.2"], "is given twice"),
        (["train=0.5"], "gets what is left"),
        (["a=0.6", "b=0.6"], "leave nothing for training"),
        (["../up=0.1"], "cannot be used as a name of a split"),
    ],
)
def test_shares_that_cannot_be(words: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_shares(words)
    assert message in str(caught.value)


def test_columns_of_the_shards() -> None:
    assert ConvertSettings(target="rows", format="text").mds_columns == {"text": "str"}
    assert ConvertSettings(target="rows", format="chat").mds_columns == {"messages": "json"}
    chat = ConvertSettings(target="rows", format="chat", with_tools=True)
    assert chat.mds_columns == {"messages": "json", "tools": "json"}
    assert chat.splits == (None,)
    assert ConvertSettings(target="rows", shares={"validation": 0.1}).splits == ("train", "validation")
