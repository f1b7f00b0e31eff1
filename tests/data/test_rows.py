"""Rows: equal content, equal key."""

from __future__ import annotations

from dataclasses import replace

from genai.data.rows import Message, Row, RowSet

ROW = Row(
    messages=(
        Message(role="system", content="Be kind."),
        Message(role="user", content="How?"),
        Message(role="assistant", content="So.", trained=True),
    ),
    source="a.jsonl:1",
)


def test_the_key_follows_the_content_and_nothing_else() -> None:
    assert ROW.key == replace(ROW, source="b.jsonl:9", group="g").key
    others = [
        replace(ROW, messages=ROW.messages[1:]),
        replace(ROW, messages=(*ROW.messages[:2], replace(ROW.messages[2], trained=False))),
        replace(ROW, messages=(*ROW.messages[:2], replace(ROW.messages[2], extra={"name": "x"}))),
        replace(ROW, tools=({"name": "weeks"},)),
        Row(text="How?\nSo."),
        Row(text=""),
    ]
    assert len({row.key for row in [ROW, *others]}) == 7
    assert (
        Row(messages=(Message(role="user", content="ab"),)).key
        != Row(messages=(Message(role="user", content="a"), Message(role="user", content="b"))).key
    )


def test_the_key_is_stable() -> None:
    # Caches and splits are named by it.
    assert Row(text="å").key == "23d3ecc5fc500f1461cd375926607dd44d8289d9040d5db9882cdca44b633f6d"


def test_what_is_said() -> None:
    assert ROW.content == "How?\nSo."
    assert (ROW.said_by("user"), ROW.said_by("assistant"), ROW.said_by("tool")) == ("How?", "So.", "")
    text = Row(text="Once")
    assert (text.content, text.said_by("user"), text.said_by("assistant")) == ("Once", "Once", "")


def test_a_row_set_counts_its_good_rows() -> None:
    assert len(RowSet(rows=(ROW, ROW))) == 2
