import itertools
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genai.data.retrieval.records import Passage
from genai.embedding.tuning.synthetic.inverse_cloze import clozes, inverse_cloze, sentence_spans, take_out

PROSE = st.lists(
    st.sampled_from(
        ["The tiles lie there. ", "Who knows it? ", "Dr. Who came.\n", "\n\n", "- an item\n", "x", "建筑。", "  "]
    )
    | st.text(max_size=8)
).map("".join)


def letters(text: str) -> str:
    return "".join(text.split())


@given(PROSE)
def test_sentences_are_the_text_without_the_space_between(text: str) -> None:
    spans = sentence_spans(text)
    assert [text[start:end] for start, end in spans] == [text[start:end].strip() for start, end in spans]
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))
    assert "".join(letters(text[start:end]) for start, end in spans) == letters(text)


@given(PROSE, st.data())
def test_nothing_is_lost_or_repeated(text: str, data: Any) -> None:
    spans = sentence_spans(text)
    if not spans:
        return
    start, end = data.draw(st.sampled_from(spans))
    cloze = take_out(text, start, end)
    assert cloze.query == text[start:end]
    before = len(letters(text[:start]))
    assert letters(cloze.rest)[:before] + letters(cloze.query) + letters(cloze.rest)[before:] == letters(text)
    if text[start - 1 : start].isspace() or text[end : end + 1].isspace():  # words do not grow together
        assert cloze.rest.split() == text[:start].split() + text[end:].split()


@given(PROSE, st.integers(1, 5), st.integers())
def test_clozes_are_different_and_leave_something(text: str, count: int, seed: int) -> None:
    found = clozes(text, count, random.Random(seed))
    assert len(found) <= count
    assert len({cloze.query for cloze in found}) == len(found)
    assert all(letters(cloze.rest) and letters(cloze.query) for cloze in found)


def test_paragraphs_stay_apart() -> None:
    text = "First of all.\n\nThe middle is here. Then more of it.\n\nThe end."
    start = text.index("The middle")
    assert take_out(text, start, start + len("The middle is here.")).rest == (
        "First of all.\n\nThen more of it.\n\nThe end."
    )


def test_the_middle_comes_first() -> None:
    text = "The first sentence of all. The second sentence here. The third one at last."
    for seed in range(10):
        found = [cloze.query for cloze in clozes(text, 3, random.Random(seed))]
        assert found[0] == "The second sentence here."
        assert len(found) == 3


@pytest.mark.parametrize(
    "text", ["", "One sentence alone, however long it may be.", "See below. Yes. No. Go.", "a. " * 50]
)
def test_passages_that_give_none(text: str) -> None:
    assert clozes(text, 3, random.Random(0)) == []


def test_drafts(corpus: list[Passage], new_passage: Callable[..., Passage]) -> None:
    drafts = list(inverse_cloze([*corpus, new_passage("one", "One sentence only is all.")], 2, seed=1))
    assert len(drafts) == 10
    assert {draft.passage.key for draft in drafts} == {each.key for each in corpus}
    for draft in drafts:
        assert draft.query in draft.passage.text
        assert draft.positive_text is None or draft.query not in draft.positive_text
        kept = draft.provenance["sentence"] == "kept"
        assert kept == (draft.positive_text is None)
    assert drafts == list(inverse_cloze(corpus, 2, seed=1))
    assert drafts[2:4] == list(inverse_cloze(corpus[1:2], 2, seed=1))  # whatever else there is
    assert drafts != list(inverse_cloze(corpus, 2, seed=2))


def test_a_tenth_of_the_sentences_stays(new_passage: Callable[..., Passage]) -> None:
    many = [
        new_passage(str(n), f"The sentence number {n} is here. The other sentence of {n} is there.") for n in range(400)
    ]
    kept = sum(draft.positive_text is None for draft in inverse_cloze(many, 1, seed=3))
    assert 20 <= kept <= 60
