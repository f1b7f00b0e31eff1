import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from evaluated_runs import answered, answers, result_of, write_run

from genai.errors import DataError
from genai.evaluation.files import (
    read_examples,
    read_result,
    result_from_json,
    result_to_json,
    row_of,
    write_examples,
    write_result,
)
from genai.evaluation.records import (
    Answer,
    Chat,
    Continuations,
    EvalResult,
    Example,
    Likelihood,
    Likelihoods,
    Outcome,
    Query,
    Ranking,
    Score,
    Scored,
    Usage,
)
from genai.tracking.run import RunDirectory

RIGHT = [True, False] * 8


@pytest.fixture
def result(tmp_path: Path) -> EvalResult:
    run = RunDirectory.open(tmp_path, "faq-eval")
    scored = {"base": answers([False] * 16), "tuned": answers(RIGHT)}
    return result_of(run, scored, baseline="base", gates=["faq.token_f1 >= baseline", "cost_usd <= 1"])


def test_a_result_comes_back_as_it_was(tmp_path: Path, result: EvalResult) -> None:
    write_result(tmp_path / "result.json", result)
    assert read_result(tmp_path / "result.json") == result
    values = json.loads((tmp_path / "result.json").read_bytes())
    assert values["passed"] is True
    assert values["kind"] == "eval"
    assert values["measured"][0]["dataset"] == "faq"


def test_figures_that_are_no_numbers_come_back_too(result: EvalResult) -> None:
    odd = replace(result.measured[0], value=math.nan, low=-math.inf, high=math.inf)
    values = json.loads(json.dumps(result_to_json(replace(result, measured=(odd,))), allow_nan=False))
    found = result_from_json(values).measured[0]
    assert math.isnan(found.value)
    assert (found.low, found.high) == (-math.inf, math.inf)


def test_examples_come_back_as_they_were(tmp_path: Path) -> None:
    scored = {"base": answers([False] * 12), "tuned": answers([True] * 12)}
    write_examples(tmp_path / "examples.jsonl", scored)
    rows = read_examples(tmp_path / "examples.jsonl")
    assert [(row.target, row.id) for row in rows[11:13]] == [("base", "q11"), ("tuned", "q0")]
    written = [row_of(target, each) for target, all_scored in scored.items() for each in all_scored]
    assert rows == written
    assert [row.scored(each.example) for row, each in zip(rows[12:], scored["tuned"], strict=True)] == scored["tuned"]


def test_a_line_says_what_people_look_for(tmp_path: Path) -> None:
    write_examples(tmp_path / "examples.jsonl", {"tuned": [answered(4, is_right=True), answered(7, is_right=True)]})
    first, second = [json.loads(line) for line in (tmp_path / "examples.jsonl").read_text().splitlines()]
    assert first["question"] == "Question 4 "
    assert first["references"] == ["the right answer 4"]
    assert first["answer"] == "the right answer 4"
    assert first["scores"]["token_f1"]["value"] == 1.0
    assert first["slices"] == {"topic": "roofs"}
    assert (first["cluster"], first["synthetic"]) == ("document 2", False)
    assert (first["usd"], first["latency_s"], first["error"]) == (0.001, 0.54, None)
    assert second["answer"] is None
    assert second["error"].startswith("HTTP 500")
    assert second["scores"] == {}


OUTCOMES = [
    Answer(
        text="half a pair \ud800, a line separator \u2028 and a newline\n",
        tool_calls=({"name": "weather", "arguments": '{"city": "Ulm"}'},),
        contexts=("a passage",),
        finish_reason="stop",
        usage=Usage(prompt_tokens=3, ttft_s=0.1),
        cached=True,
    ),
    Likelihoods(each=(Likelihood(logprob=-math.inf, num_tokens=2, is_greedy=False),)),
    Ranking(keys=("a.md", "b.md"), texts=("first", "second")),
]


@pytest.mark.parametrize("outcome", OUTCOMES, ids=["answer", "likelihoods", "ranking"])
def test_all_of_an_outcome_is_kept(tmp_path: Path, outcome: Outcome) -> None:
    example = Example(id="1", dataset="d", kind="generation", question=Chat(prompt="p"))
    scored = Scored(example=example, outcome=outcome, scores={"nll": Score(parts=(math.inf, 2.0), details={"a": 1})})
    write_examples(tmp_path / "e.jsonl", {"t": [scored]})
    (line,) = (tmp_path / "e.jsonl").read_bytes().splitlines()
    json.loads(line, parse_constant=pytest.fail)
    assert read_examples(tmp_path / "e.jsonl")[0].scored(example) == scored


def test_texts_of_questions_that_are_no_conversations(tmp_path: Path) -> None:
    pairs = Continuations(pairs=(("2 + 2 =", " 4"), ("2 + 2 =", " 5")))
    likelihoods = Likelihoods(
        each=(
            Likelihood(logprob=-1.0, num_tokens=1, is_greedy=True),
            Likelihood(logprob=-3.0, num_tokens=1, is_greedy=False),
        )
    )
    choice = Example(id="1", dataset="d", kind="multiple_choice", question=pairs, gold=1)
    query = Example(id="2", dataset="d", kind="retrieval", question=Query(text="sand", k=2), relevant={"b": 1, "a": 2})
    rows = [
        row_of("t", Scored(example=choice, outcome=likelihoods)),
        row_of("t", Scored(example=query, outcome=Ranking(keys=("b", "c"), texts=("small  stones",)))),
    ]
    assert rows[0].question == "2 + 2 =\n1. 4\n2. 5"
    assert rows[0].references == ("2. 5",)
    assert rows[0].answer == "1. 4\n(log-probability -1.00 over 1 token)"
    assert (rows[1].question, rows[1].references) == ("sand", ("a (2)\nb (1)",))
    assert rows[1].answer == "1. b: small stones\n2. c"


@pytest.mark.parametrize("line", ["{", "[]", "{}", '{"target": "t"}', "null"])
def test_a_damaged_line_is_named(tmp_path: Path, line: str) -> None:
    write_run(tmp_path, "r", {"t": answers([True] * 2)})
    path = tmp_path / "r" / "examples.jsonl"
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(DataError, match="this line is no example") as caught:
        read_examples(path)
    assert caught.value.where == f"{path}:3"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"kind": "eval"}', '{"kind": "finetune", "losses": {}}'])
def test_what_is_no_result_is_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "result.json"
    with pytest.raises(DataError, match="has no result"):
        read_result(path)
    path.write_text(text)
    with pytest.raises(DataError, match="no result of genai eval") as caught:
        read_result(path)
    assert caught.value.where == str(path)


def test_a_run_without_examples_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no examples"):
        read_examples(tmp_path / "examples.jsonl")
