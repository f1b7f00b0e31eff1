"""Near copies: all pairs that are similar enough, and no others, by comparison with plain sets."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genai.data.near_duplicates import normalise
from genai.data.retrieval.near_copies import most_alike

SENTENCES = [
    "The fee follows the municipal tariff and varies with the size of the house.",
    "The building committee decides within ten weeks when the application is complete.",
    "A smaller extension may be built without a permit in many municipalities.",
    "Neighbours are heard when the plan would be departed from.",
    "The control plan says what is checked, by whom, and against which rules.",
    "Work may not begin before the starting clearance has been given.",
]
DOCUMENT = " ".join(SENTENCES)


def grams(text: str) -> set[str]:
    text = normalise(text).ljust(5)
    return {text[start : start + 5] for start in range(len(text) - 4)}


def jaccard(left: str, right: str) -> float:
    return len(grams(left) & grams(right)) / len(grams(left) | grams(right))


@pytest.mark.parametrize(
    ("copy", "similarity"),
    [
        (DOCUMENT, 1.0),
        (DOCUMENT.upper().replace(".", " !"), 1.0),
        (DOCUMENT + " Ask the municipality if in doubt.", 0.9),
        (DOCUMENT.replace("ten weeks", "twelve weeks"), 0.95),
        ("Nothing of the kind is said by this one.", None),
        (SENTENCES[0], None),
    ],
)
def test_planted_copies(copy: str, similarity: float | None) -> None:
    others = ["Quite another text, of no interest here.", DOCUMENT, DOCUMENT + " "]
    found = most_alike(["Unlike all of them.", copy], others, at_least=0.8)
    if similarity is None:
        assert found == {}
    else:
        assert list(found) == [1]
        assert found[1] == (1, pytest.approx(jaccard(copy, DOCUMENT)))
        assert found[1][1] == pytest.approx(similarity, abs=0.05)


def test_only_equal_texts_at_one() -> None:
    texts = ["What is ROT?", "What is ROT", "What is a ROT?", "?!", "!!"]
    assert most_alike(texts, ["what is   rot!", "?!"], at_least=1.0) == {0: (0, 1.0), 1: (0, 1.0), 3: (1, 1.0)}


def test_the_most_similar_is_told() -> None:
    others = [DOCUMENT + " One more sentence.", DOCUMENT + " Two.", DOCUMENT + " One more sentence, and then some."]
    found = most_alike([DOCUMENT], others, at_least=0.5)
    assert found == {0: (1, pytest.approx(jaccard(DOCUMENT, others[1])))}


def test_nothing_to_compare() -> None:
    assert most_alike([], ["a"], at_least=0.5) == {}
    assert most_alike(["a", ""], [], at_least=0.5) == {}


@given(
    texts=st.lists(st.text(alphabet="abc ,", max_size=14), max_size=8),
    others=st.lists(st.text(alphabet="abc ,", max_size=14), max_size=8),
    at_least=st.sampled_from([0.2, 0.5, 0.75, 0.8, 0.9]),
)
def test_exactly_what_sets_say(texts: list[str], others: list[str], at_least: float) -> None:
    texts = [text for text in texts if normalise(text)]
    others = [text for text in others if normalise(text)]
    found = most_alike(texts, others, at_least=at_least)
    for index, text in enumerate(texts):
        best = max((jaccard(text, other) for other in others), default=0.0)
        if best >= at_least:
            assert found[index][1] == pytest.approx(best)
            assert jaccard(text, others[found[index][0]]) == pytest.approx(best)
        else:
            assert index not in found


def many(rng: random.Random, number: int, num_words: int) -> list[str]:
    words = ["".join(rng.choices("abcdefghijklmnop", k=rng.randint(3, 9))) for _ in range(5000)]
    return [" ".join(rng.choices(words, k=num_words)) for _ in range(number)]


def test_a_template_costs_little() -> None:
    rng = random.Random(3)
    texts = [f"What does the function {text} of this module do when it is called?" for text in many(rng, 3000, 2)]
    started = time.process_time()
    found = most_alike(texts[:2000], [*texts[2000:], texts[7] + " Please"], at_least=0.85)
    assert time.process_time() - started < 2
    assert found == {7: (1000, pytest.approx(jaccard(texts[7], texts[7] + " Please")))}


@pytest.mark.slow
def test_many_texts_in_reasonable_time() -> None:
    rng = random.Random(0)
    texts = many(rng, 100_000, 75)
    others = [text + " again and again" for text in texts[::1000]]
    others += many(rng, 20_000, 75)
    started = time.process_time()
    found = most_alike(texts, others, at_least=0.8)
    assert time.process_time() - started < 60
    assert found.keys() == set(range(0, 100_000, 1000))
