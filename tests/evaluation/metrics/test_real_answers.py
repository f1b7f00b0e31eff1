"""Figures over what a model really answered, against the reference implementations (to 1e-9).

`scripts/real_answers.py` has written the answers: SmolLM2-135M's, greedy.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from metric_examples import answered, figure_of, metric_of, score_of, value_of
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU, CHRF
from sklearn.metrics import accuracy_score, f1_score

REAL = json.loads(Path(__file__).with_name("real_answers.json").read_text(encoding="utf-8"))
ANSWERS = [row["answer"] for row in REAL["answers"]]
REFERENCES = [row["reference"] for row in REAL["answers"]]
LABEL = r"review is (\w+)"


def figure(name: str, answers: list[str], references: list[str], **settings: Any) -> float:
    """As `genai eval` comes to it."""
    metric = metric_of(name, "classification" if name == "macro_f1" else "generation", **settings)
    return figure_of(
        metric, [score_of(metric, answered(each), text) for text, each in zip(answers, references, strict=True)]
    )


def test_bleu_is_that_of_sacrebleu() -> None:
    expected = BLEU().corpus_score(ANSWERS, [REFERENCES]).score / 100
    assert figure("bleu", ANSWERS, REFERENCES) == pytest.approx(expected, abs=1e-9)
    assert expected > 0.05


@pytest.mark.parametrize("word_order", [0, 2])
def test_chrf_is_that_of_sacrebleu(word_order: int) -> None:
    expected = CHRF(word_order=word_order).corpus_score(ANSWERS, [REFERENCES]).score / 100
    ours = figure("chrf", ANSWERS, REFERENCES, kwargs={"word_order": word_order})
    assert ours == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("name", ["rouge1", "rouge2", "rougeL"])
def test_rouge_is_that_of_rouge_score_where_texts_are_ascii(name: str) -> None:
    pairs = [(text, each) for text, each in zip(ANSWERS, REFERENCES, strict=True) if (text + each).isascii()]
    assert len(pairs) == 18
    expected = sum(RougeScorer([name]).score(each, text)[name].fmeasure for text, each in pairs) / len(pairs)
    assert figure(name, *map(list, zip(*pairs, strict=True))) == pytest.approx(expected, abs=1e-9)
    assert expected > 0.1


def test_labels_are_counted_as_by_scikit_learn() -> None:
    answers, labels = ([row[key] for row in REAL["labels"]] for key in ("answer", "label"))
    said = [text.split()[3].strip(".,") for text in answers]
    assert set(said) == {"positive", "neutral"}
    f1 = f1_score(labels, said, average="macro")
    assert figure("macro_f1", answers, labels, pattern=LABEL) == pytest.approx(f1, abs=1e-9)
    share = accuracy_score(labels, said)
    assert figure("accuracy", answers, labels, pattern=LABEL) == pytest.approx(share, abs=1e-9)


def test_what_a_model_says_beside_the_answer() -> None:
    by_reference = dict(zip(REFERENCES, ANSWERS, strict=True))
    assert value_of(metric_of("contains"), answered("Au"), by_reference["Au"]) == 1
    assert value_of(metric_of("exact_match"), answered("cold"), by_reference["cold"]) == 0
    assert value_of(metric_of("exact_match", pattern=r'is "(.*)"'), answered("cold"), by_reference["cold"]) == 1
    ada = '{"name": "Ada", "age": 36}'
    assert value_of(metric_of("json_valid"), answered(), by_reference[ada]) == 1
    assert value_of(metric_of("json_fields"), answered(ada), by_reference[ada]) == 1
