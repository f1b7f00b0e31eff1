import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from loops import on_a_loop

from genai.errors import DataError, GenaiError
from genai.evaluation.interfaces import Target
from genai.evaluation.records import Answer, Chat, Example, Failure, Outcome, Usage
from genai.evaluation.running import collect
from genai.evaluation.store import open_store
from genai.evaluation.targets.logged import LoggedTarget


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def example(key: str, *, dataset: str = "faq", prompt: str = "same") -> Example:
    return Example(id=key, dataset=dataset, kind="generation", question=Chat(prompt=prompt))


async def answers(path: Path, *examples: Example) -> list[Outcome]:
    target = LoggedTarget("earlier", path)
    target.bind(examples)
    as_target: Target = target
    async with as_target:
        return [await as_target.ask(each.question) for each in examples]


@on_a_loop
async def test_answers_by_id(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.jsonl",
        {"id": 1, "answer": "one"},
        {"id": "2", "answer": {"a": "ü"}, "contexts": ["c", "d"], "finish_reason": "length"},
        {"id": "3", "answer": "x", "latency_s": 0.5, "prompt_tokens": 3, "completion_tokens": 2.0, "usd": 0.25},
        {"id": "4", "answer": None, "error": "HTTP 500", "latency_s": 1},
        {"id": "5", "tool_calls": [{"name": "f", "arguments": {"a": 1}}, {"function": {"name": "g"}}]},
    )
    one, two, three, four, five, six = await answers(path, *(example(str(number)) for number in range(1, 7)))
    assert one == Answer(text="one")
    assert two == Answer(text='{"a": "ü"}', contexts=("c", "d"), finish_reason="length")
    assert three == Answer(text="x", usage=Usage(latency_s=0.5, prompt_tokens=3, completion_tokens=2, usd=0.25))
    assert four == Failure(reason="HTTP 500", usage=Usage(latency_s=1))
    assert five == Answer(
        text="", tool_calls=({"name": "f", "arguments": '{"a": 1}'}, {"name": "g", "arguments": "{}"})
    )
    assert six == Failure(reason="the file has no answer with this id")


@on_a_loop
async def test_equal_questions_have_answers_of_their_own_and_nothing_is_kept(tmp_path: Path) -> None:
    target = LoggedTarget(
        "earlier", write(tmp_path / "a.jsonl", {"id": "a", "answer": "1"}, {"id": "b", "answer": "2"})
    )
    examples = [example("a"), example("b")]
    target.bind(examples)
    with open_store(tmp_path / "answers.sqlite") as store:
        for _ in range(2):
            found = await collect(target, examples, store=store, kept_as="run")
            assert found == [Answer(text="1"), Answer(text="2")]
    assert target.fingerprint is None
    assert target.name == "earlier"
    assert target.sha256 == hashlib.sha256((tmp_path / "a.jsonl").read_bytes()).hexdigest()
    assert isinstance(await target.ask(Chat(prompt="same")), Failure)


@on_a_loop
async def test_two_data_sets_with_the_same_ids(tmp_path: Path) -> None:
    rows = [{"id": "1", "answer": "faq", "dataset": "faq"}, {"id": "1", "answer": "law", "dataset": "law"}]
    path = write(tmp_path / "a.jsonl", *rows, {"id": "2", "answer": "any"})
    found = await answers(path, example("1"), example("1", dataset="law"), example("2", dataset="law"))
    assert found == [Answer(text="faq"), Answer(text="law"), Answer(text="any")]
    with pytest.raises(DataError, match=r"the id .2. is one of data set faq and of law \(add a column `dataset`"):
        LoggedTarget("x", path).bind([example("2"), example("2", dataset="law")])


def test_ids_that_have_nothing_in_common(tmp_path: Path) -> None:
    target = LoggedTarget("x", write(tmp_path / "a.jsonl", {"id": "q-1", "answer": "x"}))
    with pytest.raises(
        DataError, match="none of the 1 answers has an id of the data: the file has 'q-1', the data '7'"
    ):
        target.bind([example("7")])
    target.bind([])


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"answer": "x"}, "the row has no `id`"),
        ({"id": "1"}, "no `answer`, and no `error`"),
        ({"id": "0", "answer": "again"}, "a second answer with the id '0'"),
        ({"id": "1", "answer": "x", "usd": "much"}, "`usd` is 'much', which is no such number"),
        ({"id": "1", "answer": "x", "latency_s": -1}, "`latency_s` is -1"),
        ({"id": "1", "answer": "x", "prompt_tokens": True}, "`prompt_tokens` is True"),
        ({"id": "1", "answer": "x", "contexts": "one"}, "`contexts` is no list"),
        ({"id": "1", "tool_calls": [{"function": {}}]}, "a tool call has no name"),
        (["no object"], "a.jsonl:2"),
    ],
)
def test_rows_that_are_none(tmp_path: Path, row: Any, said: str) -> None:
    path = write(tmp_path / "a.jsonl", {"id": "0", "answer": "x"}, row)
    with pytest.raises(DataError) as caught:
        LoggedTarget("x", path)
    assert said in str(caught.value)
    assert f"{path}:2" in str(caught.value)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        LoggedTarget("x", tmp_path / "missing.jsonl")
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(GenaiError, match="the file is empty"):
        LoggedTarget("x", tmp_path / "empty.jsonl")
