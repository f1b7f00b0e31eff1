"""Records to rows: what each format means, and one clear sentence for every record that cannot be used."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genai.config.finetune import FinetuningDatasetConfig
from genai.data.columns import REQUIRED, Format
from genai.data.formats import to_row
from genai.data.readers import Record
from genai.data.rows import BadRow, Row


def convert(values: dict[str, Any], kind: Format, *, group: tuple[str, ...] = (), **cfg: Any) -> Row | BadRow:
    record = Record(values=values, source="rows.jsonl:7")
    return to_row(record, kind, FinetuningDatasetConfig(path="rows.jsonl", **cfg), group_columns=group)


def turns(values: dict[str, Any], kind: Format, **cfg: Any) -> list[tuple[str, str, bool]]:
    row = convert(values, kind, **cfg)
    assert isinstance(row, Row), row
    assert row.source == "rows.jsonl:7"
    return [(message.role, message.content, message.trained) for message in row.messages]


def reason(values: dict[str, Any], kind: Format, **cfg: Any) -> str:
    row = convert(values, kind, **cfg)
    assert isinstance(row, BadRow), row
    assert row.source == "rows.jsonl:7"
    return row.reason


ASK: dict[str, Any] = {"role": "user", "content": "How?"}
SAY: dict[str, Any] = {"role": "assistant", "content": "So."}
QA = [("user", "How?", False), ("assistant", "So.", True)]


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("chat", {"messages": [{"role": "user", "content": "How?"}, {"role": "assistant", "content": "So."}]}),
        ("chat", {"messages": '[{"role": "user", "content": "How?"}, {"role": "assistant", "content": "So."}]'}),
        ("prompt_response", {"prompt": "How?", "response": "So."}),
        ("prompt_response", {"prompt": "How?", "completion": "So.", "response": None}),
        ("prompt_response", {"prompt": [{"role": "user", "content": "How?"}], "completion": "So."}),
        ("prompt_response", {"prompt": "How?", "completion": [{"role": "assistant", "content": "So."}]}),
        ("alpaca", {"instruction": "How?", "output": "So."}),
        ("alpaca", {"instruction": "How?", "input": " ", "output": "So."}),
        ("sharegpt", {"conversations": [{"from": "human", "value": "How?"}, {"from": "gpt", "value": "So."}]}),
    ],
)
def test_a_question_and_its_answer(kind: Format, values: dict[str, Any]) -> None:
    assert turns(values, kind) == QA


def test_turns_in_the_prompt_are_not_trained() -> None:
    prompt = [{"role": "user", "content": "One?"}, {"role": "assistant", "content": "Yes."}, ASK]
    found = turns({"prompt": prompt, "completion": [SAY]}, "prompt_response")
    assert [trained for _, _, trained in found] == [False, False, False, True]


def test_text() -> None:
    row = convert({"text": "Once upon a time"}, "text")
    assert isinstance(row, Row)
    assert (row.text, row.messages) == ("Once upon a time", ())


def test_renamed_columns() -> None:
    assert turns({"q": "How?", "a": "So."}, "prompt_response", columns={"prompt": "q", "response": "a"}) == QA


def test_alpaca_input_follows_the_instruction() -> None:
    values = {"instruction": "Translate.", "input": "ja", "output": "yes"}
    assert turns(values, "alpaca")[0] == ("user", "Translate.\n\nja", False)


def test_sharegpt_system_prompts() -> None:
    conversation = [{"from": "human", "value": "How?"}, {"from": "gpt", "value": "So."}]
    assert turns({"conversations": conversation, "system": "Be kind."}, "sharegpt")[0] == ("system", "Be kind.", False)
    own = [{"from": "system", "value": "Be terse."}, *conversation]
    assert turns({"conversations": own, "system": "Be kind."}, "sharegpt")[0] == ("system", "Be terse.", False)


def test_system_prompt_of_the_job_file() -> None:
    assert turns({"prompt": "How?", "response": "So."}, "prompt_response", system_prompt="Hi.") == [
        ("system", "Hi.", False),
        *QA,
    ]
    messages = [{"role": "system", "content": "Mine."}, {"role": "assistant", "content": "So."}]
    assert turns({"messages": messages}, "chat", system_prompt="Hi.")[0] == ("system", "Mine.", False)


CONVERSATION = [
    {"role": "user", "content": "One?"},
    {"role": "assistant", "content": "Yes."},
    {"role": "user", "content": "Two?"},
    {"role": "assistant", "content": "No."},
]


def test_which_turns_are_trained() -> None:
    values = {"messages": CONVERSATION}
    assert [trained for _, _, trained in turns(values, "chat")] == [False, True, False, True]
    assert [trained for _, _, trained in turns(values, "chat", target_responses="last")] == [False, False, False, True]


@pytest.mark.parametrize("off", [{"weight": 0}, {"weight": 0.0}, {"trained": False}])
def test_a_turn_can_be_left_out(off: dict[str, Any]) -> None:
    messages = [*CONVERSATION[:1], CONVERSATION[1] | off, *CONVERSATION[2:]]
    assert [trained for _, _, trained in turns({"messages": messages}, "chat")] == [False, False, False, True]


def test_tools_and_calls_are_kept() -> None:
    call = {"type": "function", "function": {"name": "weeks", "arguments": {"n": 1}}}
    messages = [
        {"role": "user", "content": "How?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "", "tool_call_id": "1"},
        {"role": "assistant", "content": "So.", "tool_calls": []},
    ]
    for tools in ([{"name": "weeks"}], json.dumps([{"name": "weeks"}])):
        row = convert({"messages": messages, "tools": tools}, "chat")
        assert isinstance(row, Row)
        assert row.tools == ({"name": "weeks"},)
        assert [dict(message.extra) for message in row.messages] == [
            {},
            {"tool_calls": [call]},
            {"tool_call_id": "1"},
            {},
        ]
        assert [message.trained for message in row.messages] == [False, True, False, True]


def test_content_in_parts() -> None:
    parts = [{"type": "text", "text": "So"}, {"type": "text", "text": "."}]
    assert turns({"messages": [CONVERSATION[0], {"role": "assistant", "content": parts}]}, "chat")[1][1] == "So."


def chat(*messages: dict[str, Any]) -> dict[str, Any]:
    return {"messages": list(messages)}


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        (
            "chat",
            chat(ASK, SAY | {"role": "assistent"}),
            "message 2 has the role 'assistent' (did you mean 'assistant'? allowed: system, user, assistant, tool)",
        ),
        (
            "chat",
            chat({"role": "developer", "content": "Hi"}, SAY),
            "message 1 has the role 'developer' (did you mean 'system'? allowed: system, user, assistant, tool)",
        ),
        ("chat", chat(ASK, SAY | {"role": "x"}), "message 2 has the role 'x' (allowed: system, user, assistant, tool)"),
        ("chat", chat({"role": "user", "contnt": "How?"}, SAY), "message 1 has a 'contnt' (did you mean 'content'?)"),
        ("chat", chat(ASK, SAY | {"wieght": 0}), "message 2 has a 'wieght' (did you mean 'weight'?)"),
        ("chat", chat(ASK, {"role": "assistant"}), "message 2 has no 'content'; it has role"),
        ("chat", chat(ASK, {"content": "So."}), "message 2 has no 'role'; it has content"),
        ("chat", chat({"from": "human", "value": "How?"}), "message 1 has 'from' in place of 'role' (set columns: "),
        ("chat", chat(ASK, SAY | {"content": " \n"}), "message 2, the assistant's, is empty"),
        ("chat", chat(ASK, SAY | {"content": 5}), "message 2 is a number, not a text"),
        ("chat", chat(ASK, SAY | {"content": {"a": 1}}), "message 2 is an object, not a text"),
        ("chat", chat(ASK, SAY | {"content": [{"type": "image"}]}), "message 2 has parts that are no text"),
        ("chat", chat(ASK, SAY | {"weight": 0.5}), "message 2 has a weight of 0.5, which must be 0 or 1"),
        ("chat", chat(ASK | {"weight": 1}, SAY), "message 1 is the user's and marked as trained; target_prompts: all"),
        ("chat", chat(ASK, SAY | {"weight": 0}), "no turn is trained: each that could be has weight 0"),
        ("chat", chat(ASK), "the assistant says nothing"),
        ("chat", chat(), "there is no message"),
        ("chat", {"messages": "How?"}, 'the messages must be a list of {"role": ..., "content": ...}'),
        ("chat", {"messages": ["How?"]}, 'the messages must be a list of {"role": ..., "content": ...}'),
        ("chat", chat(ASK, SAY) | {"tools": {"name": "x"}}, "tools must be a list of function schemas"),
        ("chat", chat(ASK, SAY) | {"tools": "no json"}, "tools must be a list of function schemas"),
        ("chat", {"message": [ASK, SAY]}, "has no 'messages'; it has message"),
        ("prompt_response", {"prompt": "How?"}, "has no 'response' or 'completion'; it has prompt"),
        ("prompt_response", {}, "has no 'prompt' and no 'response' or 'completion'; it has nothing"),
        ("prompt_response", {"prompt": "How?", "response": ""}, "the response is empty"),
        ("prompt_response", {"prompt": " ", "response": "So."}, "the prompt is empty"),
        ("prompt_response", {"prompt": "How?", "response": True}, "the response is true or false, not a text"),
        ("prompt_response", {"prompt": "\ud800", "response": "a"}, "the prompt holds half of a surrogate pair"),
        ("alpaca", {"instruction": "How?", "input": 7, "output": "So."}, "the input is a number, not a text"),
        ("sharegpt", {"conversations": 7}, 'conversations must be a list of {"from": ..., "value": ...}'),
        ("sharegpt", {"conversations": [{"from": "human"}]}, "turn 1 has no 'from' or no 'value'; it has from"),
        (
            "sharegpt",
            {"conversations": [{"from": "humn", "value": "x"}]},
            "turn 1 is from 'humn' (did you mean 'human'? allowed: system, human,",
        ),
        ("text", {"text": ""}, "the text is empty"),
        ("text", {"text": 7}, "the text is a number, not a text"),
    ],
)
def test_records_that_cannot_be_used(kind: Format, values: dict[str, Any], expected: str) -> None:
    found = reason(values, kind)
    assert found == expected or (found.startswith(expected) and not expected.endswith(")"))
    assert "\n" not in found


def test_keys_of_ones_own_are_no_misspellings() -> None:
    asks, says = ASK | {"id": 1, "lang": "en", "rating": 5}, SAY | {"model": "x", "contents": None}
    assert turns(chat(asks, says), "chat") == QA
    assert reason(chat(asks, says | {"weights": 1}), "chat") == "message 2 has a 'weights' (did you mean 'weight'?)"


def test_groups() -> None:
    values = {"prompt": "How?", "response": "So.", "topic": "x", "n": 1}
    row = convert(values, "prompt_response", group=("topic", "n"))
    assert isinstance(row, Row)
    assert row.group == '["x", 1]'
    assert reason(values | {"topic": None}, "prompt_response", group=("topic",)).startswith(
        "has no 'topic', which data"
    )


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)),
    max_leaves=12,
)
KEYS = [
    "messages",
    "prompt",
    "response",
    "completion",
    "instruction",
    "input",
    "output",
    "conversations",
    "text",
    "tools",
]
messages_like = st.lists(
    st.dictionaries(
        st.sampled_from(["role", "content", "from", "value", "weight", "trained", "tool_calls"]),
        st.one_of(json_values, st.sampled_from(["user", "assistant", "system", "tool", "human", "gpt"])),
    ),
    max_size=4,
)


@given(
    values=st.dictionaries(st.sampled_from(KEYS), st.one_of(json_values, messages_like)),
    kind=st.sampled_from(list(REQUIRED)),
)
def test_no_record_ends_in_a_traceback(values: dict[str, Any], kind: Format) -> None:
    row = convert(values, kind)
    if isinstance(row, Row):
        assert row.text or any(message.trained for message in row.messages)
        assert row.key
        assert row.content or any("tool_calls" in message.extra for message in row.messages)
    else:
        assert row.reason


def test_tool_calls_are_a_list_of_objects() -> None:
    row = convert({"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "tool_calls": "look"}]}, "chat")
    assert isinstance(row, BadRow)
    assert row.reason == "message 2 has tool_calls that are no list of objects"
