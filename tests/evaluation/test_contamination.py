"""Contamination: what counts as a copy, and what is done about it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from genai.config.eval import ContaminationConfig
from genai.data.faults import DataConfigError
from genai.errors import DataError, GateError
from genai.evaluation import contamination
from genai.evaluation.contamination import Contamination, act_on, find_contamination
from genai.evaluation.records import Chat, Continuations, Example, Query, Question, WholeText

TEXT = "the screed dries one centimetre a week while the window stays open and nobody walks on it"
WORDS = TEXT.split()
Train = Callable[..., str]


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    """Write training rows; their path."""
    monkeypatch.chdir(tmp_path)

    def write(*rows: Any) -> str:
        rows = tuple({"text": row} if isinstance(row, str) else row for row in rows)
        Path("train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return "train.jsonl"

    return write


def example(text: str, *, id_: str = "r1", dataset: str = "faq", reference: str | None = None) -> Example:
    references = () if reference is None else (reference,)
    return Example(id=id_, dataset=dataset, kind="generation", question=Chat(prompt=text), references=references)


def found(*examples: Example, training: str, **settings: Any) -> Contamination:
    return find_contamination(examples, ContaminationConfig(training=training, **settings))


def share(text: str, *rows: Any, train: Train, **settings: Any) -> float:
    overlaps = found(example(text), training=train(*rows), **settings).overlaps
    return overlaps[0].share if overlaps else 0.0


# --- shares -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (TEXT, 1.0),
        (f"Before. {TEXT.upper().replace(' ', ', ')}! After.", 1.0),
        (" ".join(WORDS[:12]), 5 / 10),
        (" ".join(WORDS[:8]), 1 / 10),
        (" ".join(WORDS[:7]), 0.0),
        (" ".join([*WORDS[:8], "really", *WORDS[8:]]), 3 / 10),
        ("quite another text about windows that stay open for as long as it takes", 0.0),
    ],
)
def test_how_much_of_an_example_stands_in_a_row(train: Train, row: str, expected: float) -> None:
    assert len(WORDS) == 17, "ten 8-grams"
    assert share(TEXT, "something else", row, train=train) == pytest.approx(expected)


def test_pieces_of_several_rows_add_up_but_do_not_run_together(train: Train) -> None:
    halves = " ".join(WORDS[:8]), " ".join(WORDS[8:])
    assert share(TEXT, *halves, train=train) == pytest.approx(3 / 10)
    assert share(TEXT, {"a": halves[0], "b": halves[1]}, train=train) == pytest.approx(3 / 10)


def test_by_brute_force_on_random_words(train: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same shares as sets of words give; small blocks, so that rows fall into many of them."""
    import random

    monkeypatch.setattr(contamination, "_BLOCK_WORDS", 50)
    draw = random.Random(3)
    texts = [" ".join(draw.choices("abcd", k=30)) for _ in range(40)]
    rows = [" ".join(draw.choices("abcd", k=draw.randrange(1, 60))) for _ in range(30)]
    result = found(
        *(example(text, id_=str(number)) for number, text in enumerate(texts)), training=train(*rows), ngram=5
    )

    def grams(text: str) -> set[str]:
        words = text.split()
        return {" ".join(words[start : start + 5]) for start in range(len(words) - 4)}

    everywhere = [grams(text) for text in texts]
    rare = {gram for each in everywhere for gram in each if sum(gram in other for other in everywhere) <= 4}
    seen = set().union(*map(grams, rows))
    expected = {str(number): len(each & rare & seen) / len(each & rare) for number, each in enumerate(everywhere)}
    assert {each.id: each.share for each in result.overlaps} == pytest.approx(
        {id_: value for id_, value in expected.items() if value}
    )
    assert len(result.overlaps) > 10


def test_the_row_that_holds_most_is_named(train: Train) -> None:
    path = train("x", " ".join(WORDS[:9]), {"messages": [{"role": "user", "content": " ".join(WORDS[3:])}]})
    (overlap,) = found(example(TEXT), training=path).overlaps
    assert overlap.source == "train.jsonl:3"
    assert (overlap.dataset, overlap.id, overlap.num_ngrams) == ("faq", "r1", 10)


def test_right_answers_count_too(train: Train) -> None:
    path = train(TEXT)
    known = example("How fast does it dry, and what has one to look after in the meantime?", reference=TEXT)
    (overlap,) = found(known, training=path).overlaps
    assert overlap.share == pytest.approx(10 / 18)


@pytest.mark.parametrize(
    "question",
    [
        Chat(messages=({"role": "system", "content": "Be brief."}, {"role": "user", "content": TEXT})),
        Continuations(pairs=((" ".join(WORDS[:9]), " is wrong"), (" ".join(WORDS[:9]), " " + " ".join(WORDS[9:])))),
        WholeText(text=TEXT),
        Query(text=TEXT, k=10),
    ],
)
def test_every_kind_of_question(train: Train, question: Question) -> None:
    asked = Example(id="r1", dataset="d", kind="generation", question=question, gold=1)
    (overlap,) = found(asked, training=train(TEXT)).overlaps
    assert overlap.share == 1.0


def test_words_of_a_template_do_not_count(train: Train) -> None:
    template = "Answer the following question about building in Sweden in one short sentence: "
    questions = [
        example(f"{template}{number} " + " ".join(f"w{number}x{each}" for each in range(9)), id_=str(number))
        for number in range(40)
    ]
    assert found(*questions, training=train(template)).overlaps == ()
    (alone,) = found(questions[0], training=train(template)).overlaps
    assert alone.share < 0.5, "of a single example nobody knows what is template"


def test_short_examples_cannot_be_judged(train: Train) -> None:
    result = found(example("Too short?"), example(TEXT, id_="r2"), training=train("Too short?"))
    assert (result.num_examples, result.num_unjudged, result.overlaps) == (2, 1, ())
    assert result.summary() == (
        "0 of 1 examples have 50% or more of their 8-grams in the 1 rows of train.jsonl; 1 are too short to tell"
    )


def test_chosen_columns(train: Train) -> None:
    rows = {"q": "nothing", "a": TEXT}
    assert share(TEXT, rows, train=train, columns={"text": "a"}) == 1.0
    assert share(TEXT, rows, train=train, columns={"text": "q"}) == 0.0
    with pytest.raises(DataConfigError) as refused:
        share(TEXT, rows, train=train, columns={"text": "aa"})
    assert (refused.value.key, refused.value.fix) == ("contamination.columns", "did you mean 'a'?")


def test_training_data_that_are_not_there(train: Train) -> None:
    with pytest.raises(DataConfigError) as refused:
        found(example(TEXT), training="gone.jsonl")
    assert refused.value.key == "contamination.training"


# --- what is done -----------------------------------------------------------------------------------------------------


@pytest.fixture
def two(train: Train) -> tuple[list[Example], str]:
    """One example that was trained on, and one that was not."""
    fresh = example(" ".join(f"new{each}" for each in range(12)), id_="fresh")
    return [example(TEXT), fresh], train(TEXT)


def act(two: tuple[list[Example], str], **settings: Any) -> list[str]:
    examples, training = two
    config = ContaminationConfig(training=training, **settings)
    return [each.id for each in act_on(examples, find_contamination(examples, config), config)]


def test_it_is_reported(two: tuple[list[Example], str], caplog: pytest.LogCaptureFixture) -> None:
    assert act(two) == ["r1", "fresh"]
    assert "1 of 2 examples have 50% or more of their 8-grams in the 1 rows of train.jsonl" in caplog.text
    assert "faq r1 (100% in train.jsonl:1)" in caplog.text


def test_it_is_left_out(two: tuple[list[Example], str]) -> None:
    assert act(two, action="exclude") == ["fresh"]
    examples, training = two
    with pytest.raises(DataError, match="all examples of faq were trained on"):
        act((examples[:1], training), action="exclude")


def test_it_stops_the_job(two: tuple[list[Example], str]) -> None:
    with pytest.raises(GateError, match="1 of 2 examples") as refused:
        act(two, action="fail")
    assert refused.value.exit_code == 3
    examples, training = two
    assert act((examples[1:], training), action="fail") == ["fresh"]


def test_as_json(two: tuple[list[Example], str]) -> None:
    examples, training = two
    values = json.loads(json.dumps(find_contamination(examples, ContaminationConfig(training=training)).to_json()))
    assert values["num_contaminated"] == 1
    assert values["overlaps"][0]["share"] == 1.0
