"""The split: a pure function of group and seed, twins together."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genai.config.finetune import SplitConfig
from genai.data.faults import DataConfigError
from genai.data.rows import Message, Row
from genai.data.split import group_columns, hash_position, row_groups, split_rows


def make(prompt: str, group: str = "") -> Row:
    messages = (Message(role="user", content=prompt), Message(role="assistant", content="So.", trained=True))
    return Row(messages=messages, group=group)


MANY = [make(f"{n * 7919:x} {n}") for n in range(2000)]


def keys(rows: tuple[Row, ...]) -> set[str]:
    return {row.key for row in rows}


def test_shares_and_counts() -> None:
    for validation in (0.1, 200):
        train, held_back = split_rows(MANY, SplitConfig(validation=validation))
        assert len(train) + len(held_back) == 2000
        assert 160 < len(held_back) < 240
        assert list(train) == [row for row in MANY if row.key in keys(train)]  # the old order


def test_the_choice_is_a_promise() -> None:
    # Another hash would turn old evaluation rows into training rows of a run that is resumed or repeated.
    assert hash_position(17, "a") == pytest.approx(0.8922912913593308)
    _, held_back = split_rows(MANY[:20], SplitConfig(validation=0.2))
    assert [row.said_by("user") for row in held_back] == ["f778 8", "11667 9"]


@given(seed=st.integers(0, 9), share=st.floats(0.05, 0.9), take=st.integers(400, 1999))
def test_neither_order_nor_other_rows_matter(seed: int, share: float, take: int) -> None:
    cfg = SplitConfig(validation=share, seed=seed)
    chosen = keys(split_rows(MANY, cfg)[1])
    some = random.Random(seed).sample(MANY, take)
    train, held_back = split_rows(some, cfg)
    assert keys(held_back) == chosen & {row.key for row in some}
    assert not keys(held_back) & keys(train)


def test_another_seed_is_another_split() -> None:
    assert keys(split_rows(MANY, SplitConfig(seed=1))[1]) != keys(split_rows(MANY, SplitConfig(seed=2))[1])


def test_a_larger_share_only_adds() -> None:
    assert keys(split_rows(MANY, SplitConfig(validation=0.1))[1]) < keys(
        split_rows(MANY, SplitConfig(validation=0.2))[1]
    )


def test_groups_and_copies_stay_together() -> None:
    rows = [make(f"{n}", group=f"topic {n % 40}") for n in range(400)]
    train, held_back = split_rows(rows, SplitConfig(validation=0.3, group_by="topic"))
    assert not {row.group for row in train} & {row.group for row in held_back}
    train, held_back = split_rows([*MANY, *MANY], SplitConfig())
    assert not keys(train) & keys(held_back)


@pytest.mark.parametrize("group_by", ["near_duplicates", ["near_duplicates", "topic"]])
def test_near_duplicates_stay_together(group_by: str | list[str]) -> None:
    rng = random.Random(17)
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=6)) for _ in range(900)]
    originals = [make(" ".join(words[15 * n : 15 * n + 15])) for n in range(60)]
    twins = [make(row.said_by("user") + ", please?") for row in originals]
    cfg = SplitConfig(validation=0.3, group_by=group_by)
    groups = row_groups([*originals, *twins], cfg)
    assert groups[:60] == groups[60:]
    assert len(set(groups)) == 60
    train, held_back = split_rows([*originals, *twins], cfg)
    sides = [row in train for row in originals]
    assert sides == [row in train for row in twins]
    assert len(held_back) == 2 * sides.count(False)


def test_columns_and_near_duplicates_tie_over_steps() -> None:
    cfg = SplitConfig(group_by=["near_duplicates", "topic"])
    rows = [
        make("How long does a permit take?", group="a"),
        make("How long does the permit take?", group="b"),
        make("Who pays?", group="b"),
        make("Something else", group="c"),
    ]
    assert row_groups(rows, cfg) == ["a", "a", "a", "c"]


def test_group_columns() -> None:
    assert group_columns(None) == group_columns(SplitConfig()) == ()
    assert group_columns(SplitConfig(group_by="near_duplicates")) == ()
    assert group_columns(SplitConfig(group_by=["topic", "near_duplicates", "n"])) == ("topic", "n")


@pytest.mark.parametrize(
    ("rows", "validation", "message"),
    [
        (MANY[:3], 0.01, "validation of 0.01 of 3 rows in 3 groups leaves none to evaluate on (raise data.split"),
        (MANY[:1], 0.99, "validation of 0.99 of 1 rows in 1 groups leaves none to train on (lower data.split"),
        (MANY[:20], 20, "validation of 20 takes all 20 rows (lower it)"),
    ],
)
def test_an_empty_side_is_refused(rows: list[Row], validation: float, message: str) -> None:
    with pytest.raises(DataConfigError) as caught:
        split_rows(rows, SplitConfig(validation=validation))
    assert str(caught.value).startswith(message)
    assert caught.value.key == "data.split.validation"


def test_a_group_that_holds_most_rows_is_named(caplog: pytest.LogCaptureFixture) -> None:
    rows = [make(f"{n}", group="same" if n < 80 else str(n)) for n in range(100)]
    with caplog.at_level("WARNING", logger="genai"):
        split_rows(rows, SplitConfig(validation=0.5))
    assert "one group holds 80 of 100 rows" in caplog.text
