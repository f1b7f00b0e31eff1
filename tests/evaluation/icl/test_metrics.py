"""Accuracies of in-context learning, against what llm-foundry's metrics say of the same outcomes."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from genai.config.eval import DatasetKind, IclTaskConfig, IclTaskType
from genai.errors import UsageError
from genai.evaluation.icl.metrics import metrics_of, normalise
from genai.evaluation.interfaces import Metric
from genai.evaluation.records import (
    Answer,
    Chat,
    Continuations,
    Example,
    Failure,
    Likelihood,
    Likelihoods,
    Outcome,
    Score,
    Unscored,
)


def task(kind: IclTaskType, **values: object) -> IclTaskConfig:
    return IclTaskConfig(label="task", dataset_uri="rows.jsonl", icl_task_type=kind, **values)  # type: ignore[arg-type]


def example(*references: str, gold: int | None = None) -> Example:
    question = Chat(prompt="?") if references else Continuations(pairs=(("a", " b"), ("a", " c")))
    kind: DatasetKind = "generation" if references else "multiple_choice"
    return Example(id="1", dataset="task", kind=kind, question=question, references=references, gold=gold)


def said(*each: tuple[float, int, bool]) -> Likelihoods:
    return Likelihoods(each=tuple(Likelihood(logprob=a, num_tokens=b, is_greedy=c) for a, b, c in each))


def score(metric: Metric, asked: Example, outcome: Outcome) -> Score | Unscored:
    return asyncio.run(metric.score(asked, outcome))


class TestLikelihoods:
    def test_a_continuation_must_be_greedy_to_its_last_token(self) -> None:
        metric = metrics_of(task("language_modeling"))["accuracy"]
        assert score(metric, example(gold=0), said((-9.0, 3, True))) == Score(parts=(1.0,), value=1.0)
        assert score(metric, example(gold=0), said((-0.1, 3, False))) == Score(parts=(0.0,), value=0.0)

    @pytest.mark.parametrize("kind", ["multiple_choice", "schema"])
    def test_the_lowest_perplexity_is_chosen(self, kind: IclTaskType) -> None:
        metric = metrics_of(task(kind))["accuracy"]
        # The second one is less likely as a whole, and more likely a token.
        found = score(metric, example(gold=1), said((-4.0, 2, False), (-6.0, 4, False)))
        assert found == Score(parts=(1.0,), value=1.0, details={"chosen": 1})

    def test_of_choices_that_are_alike_the_first_one_counts(self) -> None:
        metric = metrics_of(task("multiple_choice"))["accuracy"]
        found = score(metric, example(gold=1), said((-4.0, 2, False), (-2.0, 1, False)))
        assert found == Score(parts=(0.0,), value=0.0, details={"chosen": 0})

    def test_no_likelihoods_are_no_score(self) -> None:
        metric = metrics_of(task("multiple_choice"))["accuracy"]
        assert score(metric, example(gold=1), Failure(reason="HTTP 500")) == Unscored(reason="HTTP 500")
        assert isinstance(score(metric, example(gold=1), Answer(text="b")), Unscored)


class TestGeneration:
    @pytest.mark.parametrize(
        ("text", "right"),
        [(" Mason, the", 1.0), ("THE MASON!", 1.0), ("a mason's mate", 1.0), ("It was the mason", 0.0), ("", 0.0)],
    )
    def test_an_answer_must_begin_with_a_right_one(self, text: str, right: float) -> None:
        metric = metrics_of(task("generation_task_with_answers"))["accuracy"]
        found = score(metric, example("the mason", "a bricklayer"), Answer(text=text))
        assert isinstance(found, Score)
        assert found.value == right

    def test_reasoning_and_what_comes_after_the_end_do_not_count(self) -> None:
        config = task(
            "generation_task_with_answers",
            cot_delimiter="The answer is ",
            early_stopping_criteria=["\n\n", "Question:"],
            do_normalization=False,
        )
        metric = metrics_of(config)["accuracy"]
        right = "9 less 4. The answer is 5\n\nQuestion: 6? The answer is 7"
        assert score(metric, example("5"), Answer(text=right)) == Score(
            parts=(1.0,), value=1.0, details={"compared": "5"}
        )
        found = score(metric, example("Five"), Answer(text="The answer is five"))
        assert isinstance(found, Score)
        assert found.value == 0.0

    def test_no_answer_is_no_score(self) -> None:
        metric = metrics_of(task("question_answering"))["accuracy"]
        assert score(metric, example("5"), Failure(reason="no answer in 2 s")) == Unscored(reason="no answer in 2 s")
        assert isinstance(score(metric, example("5"), said((-1.0, 1, True))), Unscored)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        # What InContextLearningGenerationExactMatchAccuracy.normalize_answer makes of them.
        ("The Mason's  answer_is: A  'brick', an_Oak!", "mason s answer is brick oak"),
        ("`the\u00b4 (end) \u2014 an A.", "end \u2014"),
        ("Thea an' the", "thea"),
        ("\u00dcber the_a", "\u00fcber"),
        ("  ", ""),
    ],
)
def test_normalised_answers(text: str, wanted: str) -> None:
    assert normalise(text) == wanted


class TestNames:
    def test_those_of_llm_foundry_are_understood(self) -> None:
        names = {
            "language_modeling": "InContextLearningLMAccuracy",
            "schema": "InContextLearningMultipleChoiceAccuracy",
            "generation_task_with_answers": "InContextLearningGenerationExactMatchAccuracy",
            "question_answering": "InContextLearningQAAccuracy",
        }
        for kind, name in names.items():
            assert list(metrics_of(task(kind, metric_names=[name]))) == ["accuracy"]  # type: ignore[arg-type]

    def test_ours_are_too(self) -> None:
        metrics = metrics_of(task("multiple_choice", metric_names=["accuracy", "acc_norm"]))
        assert list(metrics) == ["accuracy", "acc_norm"]

    def test_one_of_another_kind_is_refused(self) -> None:
        with pytest.raises(UsageError, match="does not measure schema") as caught:
            metrics_of(task("schema", metric_names=["InContextLearningLMAccuracy"]))
        assert caught.value.fix == "write InContextLearningMultipleChoiceAccuracy"

    def test_calibration_is_refused_with_the_reason(self) -> None:
        with pytest.raises(UsageError, match="probability of every token"):
            metrics_of(task("multiple_choice", metric_names=["InContextLearningMCExpectedCalibrationError"]))

    def test_an_unknown_one(self) -> None:
        with pytest.raises(UsageError, match="unknown metric"):
            metrics_of(task("schema", metric_names=["acurracy_of_sorts"]))


def test_the_share_of_right_ones() -> None:
    metric = metrics_of(task("schema"))["accuracy"]
    weights_RN = np.array([[1.0, 1.0, 1.0, 1.0], [2.0, 0.0, 0.0, 2.0]])
    found = metric.aggregate(np.array([[1.0], [0.0], [0.0], [1.0]]), weights_RN)
    assert found.tolist() == [0.5, 1.0]
