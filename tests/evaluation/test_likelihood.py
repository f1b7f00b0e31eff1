"""Questions into rows, and back: a toy whose log-probabilities depend on every token before shows any that got lost."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genai.evaluation.likelihood import Span, answer, encode_pair, rows_of, score, windows
from genai.evaluation.records import Continuations, Failure, Likelihoods, WholeText
from genai.models.likelihoods import Row, RowScores, TextTokens

BEGIN = 0
NUM_TOKENS = 8


def logprob(context: Sequence[int], token: int) -> float:
    """Of the toy: anything that is different for every context."""
    return -1.0 - random.Random(repr((list(context), token))).random()


def likeliest(context: Sequence[int]) -> int:
    return max(range(NUM_TOKENS), key=lambda token: logprob(context, token))


class Letters:
    """A tokenizer of letters; `^` is its beginning, which it puts before every text where it is `marked`."""

    prefix_id = BEGIN
    prefix_text = "^"

    def __init__(self, *, marked: bool = False) -> None:
        self.marked = marked

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        before = [BEGIN] if self.marked and add_special_tokens else []
        return [*before, *("^abcdefgh ".index(letter) for letter in text)]


class Toy:
    """Meets `LikelihoodModel`, and remembers what it read."""

    def __init__(self, *, max_length: int = 6, marked: bool = False) -> None:
        self.max_length = max_length
        self.texts: TextTokens = Letters(marked=marked)  # type: ignore[assignment]
        self.rows: list[Row] = []

    def read(self, rows: Sequence[Row]) -> list[RowScores]:
        assert all(0 < len(row.ids) <= self.max_length for row in rows)
        self.rows += rows
        found = []
        for row in rows:
            asked = [(list(row.ids[: place + 1]), token) for place, token in zip(row.places, row.tokens, strict=True)]
            found.append(
                RowScores(
                    logprobs=[logprob(*each) for each in asked],
                    are_likeliest=[likeliest(context) == token for context, token in asked],
                )
            )
        return found


def directly(context: Sequence[int], wanted: Sequence[int]) -> tuple[float, bool]:
    """What a span scores, token by token."""
    places = [[*context, *wanted[:at]] for at in range(len(wanted))]
    pairs = list(zip(places, wanted, strict=True))
    return sum(logprob(*pair) for pair in pairs), all(likeliest(before) == token for before, token in pairs)


tokens = st.lists(st.integers(0, 2), min_size=1, max_size=4)


@given(st.lists(st.builds(Span, context=tokens, wanted=tokens), max_size=8))
def test_spans_score_as_each_would_alone_however_many_share_a_row(spans: list[Span]) -> None:
    toy = Toy(max_length=10)
    for span, found in zip(spans, score(toy, spans), strict=True):
        logprob_alone, is_greedy = directly(span.context, span.wanted)
        assert found.logprob == pytest.approx(logprob_alone, abs=1e-9)
        assert found.is_greedy == is_greedy
    read = [tuple(row.ids) for row in toy.rows]
    assert read == sorted(read)
    assert not any(other[: len(row)] == row for row in read for other in read if other is not row)


def test_what_is_asked_of_one_context_is_read_once() -> None:
    spans = [Span(context=[1, 2, 3], wanted=wanted) for wanted in ([4], [5], [6, 7], [6, 7])]
    rows, where = rows_of(spans)
    assert [list(row.ids) for row in rows] == [[1, 2, 3, 6]]
    assert {row for row, _ in where} == {0}


def test_the_likeliest_continuation_is_greedy() -> None:
    best = likeliest([BEGIN])
    other = (best + 1) % NUM_TOKENS
    toy = Toy()
    found = score(toy, [Span(context=[BEGIN], wanted=[best]), Span(context=[BEGIN], wanted=[other])])
    assert [each.is_greedy for each in found] == [True, False]


# --- texts into tokens ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("context", "continuation", "marked", "expected"),
    [
        ("ab", "c", False, ([1, 2], [3])),
        ("ab", "c", True, ([0, 1, 2], [3])),
        ("^ab", "c", True, ([0, 1, 2], [3])),  # it has the beginning already
        ("ab ", "c", False, ([1, 2], [9, 3])),  # the space goes over
        ("", "ab", True, ([0], [1, 2])),
        ("", "^a", False, ([0], [1])),  # the beginning is the context, not wanted
        (" ", "a", True, ([0], [9, 1])),
    ],
)
def test_a_pair_in_tokens(context: str, continuation: str, marked: bool, expected: tuple[list[int], list[int]]) -> None:
    found = encode_pair(Letters(marked=marked), context, continuation)  # type: ignore[arg-type]
    assert (found.context, found.wanted) == expected


def test_a_context_that_is_too_long_loses_its_beginning() -> None:
    toy = Toy(max_length=3)
    [found] = answer(toy, [Continuations(pairs=(("abcdef", "ab"),))])
    assert isinstance(found, Likelihoods)
    assert [list(row.ids) for row in toy.rows] == [[5, 6, 1]]
    assert found.each[0].logprob == pytest.approx(directly([5, 6], [1, 2])[0])


@pytest.mark.parametrize(
    ("pair", "reason"),
    [(("a", ""), "no tokens"), (("", "^"), "no tokens"), (("a", "abcdefgh"), "8 tokens, and the model looks at 6")],
)
def test_a_question_that_cannot_be_answered_is_a_failure_and_others_are_answered(
    pair: tuple[str, str], reason: str
) -> None:
    failed, good = answer(Toy(), [Continuations(pairs=(("a", "b"), pair)), Continuations(pairs=(("a", "b"),))])
    assert isinstance(failed, Failure)
    assert reason in failed.reason
    assert isinstance(good, Likelihoods)


def test_a_model_without_numbers_is_a_failure() -> None:
    class Broken(Toy):
        def read(self, rows: Sequence[Row]) -> list[RowScores]:
            return [RowScores(logprobs=[math.nan] * len(row.places), are_likeliest=[True]) for row in rows]

    [found] = answer(Broken(), [Continuations(pairs=(("a", "b"),))])
    assert found == Failure(reason="the model's output is no number")


def test_an_empty_text_has_no_tokens() -> None:
    [found] = answer(Toy(), [WholeText(text="")])
    assert isinstance(found, Likelihoods)
    assert (found.each[0].logprob, found.each[0].num_tokens) == (0.0, 0)


# --- windows ----------------------------------------------------------------------------------------------------------


@given(st.integers(0, 40), st.integers(1, 12), st.integers(1, 14))
def test_windows_want_every_token_once_and_are_never_too_long(num: int, length: int, stride: int) -> None:
    ids = list(range(100, 100 + num))
    found = list(windows(ids, BEGIN, length, stride))
    assert [token for window in found for token in window.wanted] == ids
    at = 0
    for number, window in enumerate(found):
        before = [BEGIN, *ids]
        assert len(window.context) + len(window.wanted) - 1 <= length
        assert window.context == before[at + 1 - len(window.context) : at + 1]
        if number:
            assert len(window.context) == length + 1 - len(window.wanted)  # as much as there is room for
        at += len(window.wanted)


def test_a_text_in_windows() -> None:
    toy = Toy(max_length=6)
    text = "abcdefgh" * 3
    [wide, narrow] = answer(toy, [WholeText(text=text), WholeText(text=text, context=4, stride=2)])
    assert isinstance(wide, Likelihoods)
    assert isinstance(narrow, Likelihoods)
    ids = toy.texts.encode(text)
    expected = sum(directly(span.context, span.wanted)[0] for span in windows(ids, BEGIN, 4, 2))
    assert narrow.each[0].logprob == pytest.approx(expected)
    assert wide.each[0].num_tokens == narrow.each[0].num_tokens == 24
    assert narrow.usage.prompt_tokens > wide.usage.prompt_tokens > 24


@pytest.mark.integration  # lm-eval takes seconds to import
@pytest.mark.filterwarnings("ignore")
def test_windows_are_those_of_lm_eval() -> None:
    from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

    for num in (1, 5, 6, 7, 12, 13, 31):
        for length in (1, 3, 6, 40):
            for stride in range(1, length + 1):
                ids = list(range(100, 100 + num))
                theirs: Any = get_rolling_token_windows(ids, BEGIN, length, length - stride + 1)
                ours = [(window.context, window.wanted) for window in windows(ids, BEGIN, length, stride)]
                assert ours == [make_disjoint_window(pair) for pair in theirs]
