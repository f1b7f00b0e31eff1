"""Near duplicates: found where people would see them, not where only a template is shared."""

from __future__ import annotations

import random
import time
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genai.data.near_duplicates import near_duplicate_groups
from genai.data.rows import Message, Row

LONG = "The fee follows the municipal tariff and varies with the size of the house and the time that the office needs."


def row(prompt: str, answer: str = "") -> Row:
    return Row(messages=(Message(role="user", content=prompt), Message(role="assistant", content=answer, trained=True)))


@pytest.mark.parametrize(
    ("left", "right", "together"),
    [
        (row("What is ROT?", "One thing."), row("what is   rot", "Another thing altogether."), True),
        (row("How long does a permit take?"), row("How long does the permit take?"), True),
        (row("How long does a permit take?"), row("Who pays for the scaffolding?"), False),
        (row("One?", LONG), row("Two?", LONG.replace("house", "garage")), True),
        (row("One?", LONG), row("Two?", LONG[::-1]), False),
        (row("One?", "Yes."), row("Two?", "Yes."), False),  # short answers say nothing
        (Row(text=LONG), Row(text=LONG + " So it is."), True),
        (row("Hej?", LONG), row("Hej!", ""), True),
        (row("", LONG), row("", "Something else that is long enough to be compared with others."), False),
    ],
)
def test_pairs(left: Row, right: Row, together: bool) -> None:
    assert near_duplicate_groups([left, right]) == [0, 0 if together else 1]


def test_groups_are_named_by_their_first_row_and_reach_over_steps() -> None:
    rows = [
        row(f"How long does a {thing} permit take in {town}?") for thing, town in (("deck", "Lund"), ("roof", "Kiruna"))
    ]
    between = row("How long does a deck permit take in Kiruna?")
    assert near_duplicate_groups([*rows, row("Who pays?"), between], similarity=0.6) == [0, 0, 2, 0]
    assert near_duplicate_groups(rows, similarity=0.6) == [0, 1]


def test_a_template_does_not_tie_everything_together() -> None:
    rng = random.Random(17)
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=7)) for _ in range(2000)]
    template = "Classify the sentiment of the following sentence as positive or negative, and say nothing else: "
    rows = [row(template + " ".join(rng.sample(words, 12))) for _ in range(300)]
    assert len(set(near_duplicate_groups(rows))) == 300
    twin = row(rows[7].said_by("user") + " indeed")
    assert near_duplicate_groups([*rows, twin])[300] == 7


def test_a_prompt_that_very_many_rows_share_is_a_form() -> None:
    rows = [row("Go on.", LONG + str(n) * 300) for n in range(60)]
    assert len(set(near_duplicate_groups(rows, similarity=0.9))) == 60
    assert len(set(near_duplicate_groups(rows[:40], similarity=0.9))) == 1


@given(texts=st.lists(st.text(alphabet="ab ?", max_size=12), max_size=12), seed=st.integers(0, 5))
def test_the_order_of_the_rows_does_not_matter(texts: list[str], seed: int) -> None:
    order = list(range(len(texts)))
    random.Random(seed).shuffle(order)
    plain = near_duplicate_groups([row(text) for text in texts])
    mixed = near_duplicate_groups([row(texts[index]) for index in order])
    pairs = {(i, j) for i in order for j in order if plain[i] == plain[j]}
    assert pairs == {(order[i], order[j]) for i in order for j in order if mixed[i] == mixed[j]}


def test_similarity_is_that_of_the_five_grams() -> None:
    rng = random.Random(3)
    base = [rng.choice("abcdefgh ") for _ in range(60)]

    def changed(share: float) -> str:
        return "".join(rng.choice("stuvwxyz") if rng.random() < share else letter for letter in base)

    def grams(text: str) -> set[str]:
        text = " ".join(text.split())
        return {text[i : i + 5] for i in range(len(text) - 4)}

    pairs = [(changed(0), changed(share)) for share in (0.01, 0.02, 0.05, 0.1, 0.3) for _ in range(20)]
    found = {True: 0, False: 0}
    for left, right in pairs:
        a, b = grams(left), grams(right)
        exact = len(a & b) / len(a | b)
        if abs(exact - 0.5) > 0.15:  # the estimate has a standard error of 0.045
            joined = len(set(near_duplicate_groups([row(left), row(right)]))) == 1
            assert joined == (exact > 0.5)
            found[joined] += 1
    assert min(found.values()) > 15


@pytest.mark.slow
def test_many_rows_in_reasonable_time() -> None:
    rng = random.Random(0)
    words = ["".join(rng.choices("abcdefghijklmnop", k=rng.randint(3, 9))) for _ in range(5000)]
    rows = [row(" ".join(rng.choices(words, k=30)), " ".join(rng.choices(words, k=80))) for _ in range(20_000)]
    rows += [row(each.said_by("user") + " again", "x") for each in rows[:100]]
    started = time.process_time()
    groups = near_duplicate_groups(rows)
    assert time.process_time() - started < 40
    assert Counter(Counter(groups).values()) == {1: 19_900, 2: 100}
