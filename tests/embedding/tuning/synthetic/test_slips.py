import random

from hypothesis import given
from hypothesis import strategies as st

from genai.embedding.tuning.synthetic.slips import misspell


@given(st.text(), st.integers())
def test_a_slip_changes_something_or_there_is_no_long_word(text: str, seed: int) -> None:
    slipped = misspell(text, random.Random(seed))
    assert abs(len(slipped) - len(text)) <= len(text.split()) + 1
    if slipped == text:
        assert not any(
            len(word) > 4 and word.isascii() and word.isalpha() and len(set(word)) > 1 for word in text.split()
        )


def test_the_same_seed_makes_the_same_slips() -> None:
    question = "How thick must the screed under heated tiles be?"
    assert misspell(question, random.Random("a")) == misspell(question, random.Random("a"))
    assert len({misspell(question, random.Random(seed)) for seed in range(20)}) > 10


def test_slips_are_few_and_leave_first_letters_and_short_words() -> None:
    question = "How thick must the screed under heated tiles of the old building be?"
    for seed in range(50):
        words, slipped = question.split(), misspell(question, random.Random(seed)).split()
        changed = [(word, other) for word, other in zip(words, slipped, strict=True) if word != other]
        assert len(changed) == 2  # of seven words of four letters and more
        assert all(word[0] == other[0] and abs(len(word) - len(other)) <= 1 for word, other in changed)


def test_short_words_alone_stay() -> None:
    assert misspell("is it ok to go?", random.Random(0)) == "is it ok to go?"
    assert misspell("", random.Random(0)) == ""


def test_other_letters() -> None:
    assert misspell("Räksmörgås", random.Random(1)) != "Räksmörgås"
    assert misspell("dddd", random.Random(1)) != "dddd"
