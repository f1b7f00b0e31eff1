"""No metric raises for what a model says, and every value lies where it belongs."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from metric_examples import answered, chosen_among, figure_of, metric_of, score_of, searched, whole

from genai.evaluation.records import Answer, Likelihood, Likelihoods, Ranking, Score

TEXTS = st.text(alphabet=st.characters(exclude_categories=()), max_size=60)  # halves of surrogate pairs too
few = settings(max_examples=25)
OF_TEXTS = [
    ("exact_match", {}),
    ("exact_match", {"ignore_case": True, "ignore_punctuation": True, "pattern": r"(\w+)\W*$"}),
    ("token_f1", {}),
    ("contains", {}),
    ("rouge1", {}),
    ("rouge2", {}),
    ("rougeL", {}),
    ("bleu", {}),
    ("chrf", {"kwargs": {"word_order": 2}}),
    ("refusal", {}),
    ("json_valid", {}),
    ("json_fields", {"kwargs": {"fenced": True}}),
    ("tool_calls", {}),
    ("accuracy", {}),
    ("macro_f1", {}),
    ("auc", {"positive": "a"}),
]


@pytest.mark.parametrize(("name", "how"), OF_TEXTS)
def test_any_answer_is_scored_between_0_and_1_or_not_at_all(name: str, how: dict[str, Any]) -> None:
    metric = metric_of(name, "classification" if name in ("macro_f1", "auc") else "generation", **how)

    @few
    @given(text=TEXTS, reference=TEXTS)
    def check(text: str, reference: str) -> None:
        call = {"name": text, "arguments": reference}
        example = answered(reference, "{}", tools=({"name": text},))
        score = score_of(metric, example, Answer(text=text, tool_calls=(call,)))
        if isinstance(score, Score) and name != "auc":
            assert score.value is not None
            assert 0 <= score.value <= 1 + 1e-12
            assert 0 <= figure_of(metric, [score]) <= 1 + 1e-12
        if name in ("exact_match", "token_f1", "rouge1", "rougeL", "accuracy") and not how:
            same = score_of(metric, answered(text), text)
            assert isinstance(same, Score)
            assert same.value == 1 or not any(letter.isalnum() for letter in text)

    check()


@pytest.mark.parametrize("name", ["acc", "acc_norm", "acc_bytes"])
def test_any_likelihoods_are_scored(name: str) -> None:
    metric = metric_of(name, "multiple_choice")

    @few
    @given(choices=st.lists(TEXTS, min_size=1, max_size=4), logprob=st.floats(max_value=0, allow_nan=False))
    def check(choices: list[str], logprob: float) -> None:
        each = tuple(Likelihood(logprob=logprob, num_tokens=len(choice), is_greedy=False) for choice in choices)
        score = score_of(metric, chosen_among(*choices, gold=0), Likelihoods(each=each))
        assert isinstance(score, Score)
        assert score.value in (0, 1)

    check()


@pytest.mark.parametrize("name", ["perplexity", "word_perplexity", "byte_perplexity", "bits_per_byte"])
def test_any_text_has_a_finite_figure_or_none(name: str) -> None:
    metric = metric_of(name, "text")

    @few
    @given(text=TEXTS, logprob=st.floats())
    def check(text: str, logprob: float) -> None:
        outcome = Likelihoods(each=(Likelihood(logprob=logprob, num_tokens=3, is_greedy=False),))
        score = score_of(metric, whole(text), outcome)
        if isinstance(score, Score):
            assert score.value is not None and math.isfinite(score.value)
            assert all(map(math.isfinite, score.parts))

    check()


@pytest.mark.parametrize("name", ["recall@5", "precision@5", "hit_rate@5", "mrr@5", "map@5", "ndcg@5"])
def test_any_ranking_is_scored_between_0_and_1_or_not_at_all(name: str) -> None:
    metric = metric_of(name, "retrieval")

    @few
    @given(keys=st.lists(TEXTS, unique=True, max_size=8), grades=st.dictionaries(TEXTS, st.floats(-1, 5), max_size=5))
    def check(keys: list[str], grades: dict[str, float]) -> None:
        score = score_of(metric, replace(searched(), relevant=grades), Ranking(keys=tuple(keys)))
        if isinstance(score, Score):
            assert score.value is not None and 0 <= score.value <= 1 + 1e-9

    check()
