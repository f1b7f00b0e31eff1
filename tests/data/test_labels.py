"""Labels: exactly what the assistant says is trained, whatever the chat template and the tokenizer."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from genai.data.labels import Encoded, Encoder, LabelSettings, trained_tokens
from genai.data.rows import BadRow, Message, Row
from genai.errors import DataError, UsageError

LONG = LabelSettings(max_seq_len=4096)
REWRITES = {"strips_reasoning", "mistral_late_system"}


def runs(tokenizer: Any, encoded: Encoded) -> list[str]:
    """The trained stretches as text."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], encoded.trained, [False]]).astype(int)))
    return [tokenizer.decode(encoded.input_ids[a:b].tolist()) for a, b in edges.reshape(-1, 2)]


def squeezed(text: str) -> str:
    """Without white space, which some tokenizers drop."""
    return re.sub(r"\s", "", text)


def test_every_turn_and_its_end_is_trained_and_nothing_else(
    template: str, end_of_turn: str, kind: str, make_tokenizer: Callable[..., Any], chat: Callable[..., Row]
) -> None:
    tokenizer = make_tokenizer(template, kind)
    answers = ["It takes ten weeks.", "Yes.\n\nNo!"]
    row = chat("How long does it take?", answers[0], "As a rule?", answers[1])

    examples = Encoder(tokenizer, LONG).encode(row)

    assert len(examples) == (2 if template == "strips_reasoning" else 1)
    found = [text for example in examples for text in runs(tokenizer, example)]
    opening = "<think>\n\n</think>\n\n" if template == "strips_reasoning" else ""
    assert [squeezed(text) for text in found] == [squeezed(opening + answer + end_of_turn) for answer in answers]
    if kind == "byte_level":
        assert [text.lstrip(" ") for text in found] == [opening + answer + end_of_turn for answer in answers]


def test_tokens_are_those_the_template_gives_at_inference(
    template: str, make_tokenizer: Callable[..., Any], chat: Callable[..., Row]
) -> None:
    tokenizer = make_tokenizer(template)
    row = chat("How long?", "Ten weeks.")
    (example,) = Encoder(tokenizer, LONG).encode(row)
    messages = [{"role": m.role, "content": m.content} for m in row.messages]
    assert example.input_ids.tolist() == tokenizer.apply_chat_template(messages, return_dict=False)
    prompt = tokenizer.apply_chat_template(messages[:1], add_generation_prompt=True, return_dict=False)
    if template not in ("prompt_ends_in_space", "opens_reasoning", "no_generation_prompt"):
        assert example.input_ids[: len(prompt)].tolist() == prompt
        assert np.flatnonzero(example.trained)[0] == len(prompt)


def test_no_doubled_bos(template: str, make_tokenizer: Callable[..., Any], chat: Callable[..., Row]) -> None:
    tokenizer = make_tokenizer(template)
    (example,) = Encoder(tokenizer, LONG).encode(chat("How long?", "Ten weeks."))
    assert (example.input_ids == tokenizer.bos_token_id).sum() <= 1
    assert not example.trained[0]


def test_only_the_turns_marked_as_trained(
    template: str, end_of_turn: str, make_tokenizer: Callable[..., Any], chat: Callable[..., Row]
) -> None:
    tokenizer = make_tokenizer(template)
    row = chat("One?", "Yes.", "Two?", "No!", trained=lambda turn: turn == 1)
    (example,) = Encoder(tokenizer, LONG).encode(row)
    (text,) = runs(tokenizer, example)
    assert text.endswith("No!" + end_of_turn) and "Yes" not in text
    row = chat("One?", "Yes.", "Two?", "No!", trained=lambda turn: turn == 0)
    (example,) = Encoder(tokenizer, LONG).encode(row)
    (text,) = runs(tokenizer, example)
    assert text.endswith("Yes." + end_of_turn) and "No" not in text


def test_reasoning_that_later_turns_lose_is_trained_where_it_is_said(
    make_tokenizer: Callable[..., Any], chat: Callable[..., Row]
) -> None:
    tokenizer = make_tokenizer("strips_reasoning")
    first, second = "<think> Let me see. </think>\nYes.", "<think> It is. </think>\nNo!"
    examples = Encoder(tokenizer, LONG).encode(chat("One?", first, "Two?", second))
    assert [runs(tokenizer, example) for example in examples] == [[first + "<|im_end|>"], [second + "<|im_end|>"]]
    assert "Let me see" not in tokenizer.decode(examples[1].input_ids.tolist())


def test_system_prompt_that_moves_makes_an_example_a_turn(
    make_tokenizer: Callable[..., Any], chat: Callable[..., Row]
) -> None:
    tokenizer = make_tokenizer("mistral_late_system")
    examples = Encoder(tokenizer, LONG).encode(chat("One?", "Yes.", "Two?", "No!", system="Be terse."))
    texts = [tokenizer.decode(example.input_ids.tolist()) for example in examples]
    assert texts == [
        "<s>[INST] Be terse.\n\nOne? [/INST] Yes.</s>",
        "<s>[INST] One? [/INST] Yes.</s>[INST] Be terse.\n\nTwo? [/INST] No!</s>",
    ]
    assert [runs(tokenizer, example) for example in examples] == [[" Yes.</s>"], [" No!</s>"]]


def test_conversation_that_begins_with_the_assistant(make_tokenizer: Callable[..., Any]) -> None:
    tokenizer = make_tokenizer("chatml")
    messages = (
        Message(role="assistant", content="Yes?", trained=True),
        Message(role="user", content="How long?"),
        Message(role="assistant", content="Ten weeks.", trained=True),
    )
    (example,) = Encoder(tokenizer, LONG).encode(Row(messages=messages))
    assert runs(tokenizer, example) == ["Yes?<|im_end|>", "Ten weeks.<|im_end|>"]


def test_tools_reach_the_template(make_tokenizer: Callable[..., Any]) -> None:
    template = (
        "{% if tools %}tools: {{ tools | map(attribute='name') | join }}\n{% endif %}{% for m in messages %}"
        "{{ m.role }}: {{ m.content }}{% for call in m.tool_calls %}{{ call.name }}(){% endfor %}{{ eos_token }}\n"
        "{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
    )
    tokenizer = make_tokenizer(template)
    messages = (
        Message(role="user", content="How long?"),
        Message(role="assistant", content="", trained=True, extra={"tool_calls": [{"name": "weeks"}]}),
        Message(role="tool", content="10"),
        Message(role="assistant", content="Ten.", trained=True),
    )
    (example,) = Encoder(tokenizer, LONG).encode(Row(messages=messages, tools=({"name": "weeks"},)))
    assert tokenizer.decode(example.input_ids.tolist()).startswith("tools: weeks\nuser:")
    assert [text.lstrip() for text in runs(tokenizer, example)] == ["weeks()</s>", "Ten.</s>"]


def test_target_prompts_trains_all_but_the_first_token(
    make_tokenizer: Callable[..., Any], chat: Callable[..., Row]
) -> None:
    encoder = Encoder(make_tokenizer("llama3"), LabelSettings(max_seq_len=512, target_prompts="all"))
    (example,) = encoder.encode(chat("One?", "Yes."))
    assert example.trained.tolist() == [False] + [True] * (len(example.input_ids) - 1)


def test_plain_text_gets_one_bos_and_one_eos(make_tokenizer: Callable[..., Any]) -> None:
    tokenizer = make_tokenizer(None)
    encoder = Encoder(tokenizer, LONG)
    for text in ("Ten weeks.", "<s>Ten weeks.", "Ten weeks.</s>"):
        (example,) = encoder.encode(Row(text=text))
        assert tokenizer.decode(example.input_ids.tolist()) == "<s>Ten weeks.</s>"
        assert example.trained.tolist() == [False] + [True] * (len(example.input_ids) - 1)


def test_cut_answer_is_flagged(make_tokenizer: Callable[..., Any], chat: Callable[..., Row]) -> None:
    tokenizer = make_tokenizer("chatml")
    row = chat("One?", "It takes ten weeks, as a rule.")
    (whole,) = Encoder(tokenizer, LONG).encode(row)
    (cut,) = Encoder(tokenizer, LabelSettings(max_seq_len=len(whole.input_ids) - 4)).encode(row)
    assert (cut.truncated, cut.answer_cut) == (True, True)
    assert cut.input_ids.tolist() == whole.input_ids[:-4].tolist()
    (newline,) = Encoder(tokenizer, LabelSettings(max_seq_len=len(whole.input_ids) - 1)).encode(row)
    assert (newline.truncated, newline.answer_cut) == (True, False)
    assert (whole.truncated, whole.answer_cut) == (False, False)


def test_what_the_template_refuses_is_a_bad_row(make_tokenizer: Callable[..., Any], chat: Callable[..., Row]) -> None:
    encoder = Encoder(make_tokenizer("gemma"), LONG)
    good, bad = chat("One?", "Yes."), chat("One?", "Yes.", system="Be terse.")
    results = encoder.encode_all([good, bad, Row(text="Ten weeks."), good])
    assert isinstance(results[1], BadRow)
    assert results[1] == BadRow(
        source="rows.jsonl:1", reason="the chat template refuses the conversation: System role not supported"
    )
    assert [isinstance(result, BadRow) for result in results] == [False, True, False, False]
    with pytest.raises(DataError, match=r"rows\.jsonl:1: .*System role not supported"):
        encoder.encode(bad)


def test_rows_without_tokens_are_bad(make_tokenizer: Callable[..., Any]) -> None:
    (result,) = Encoder(make_tokenizer(None, eos_token=None), LONG).encode_all([Row(text="", source="rows.jsonl:7")])
    assert result == BadRow(source="rows.jsonl:7", reason="has no token to train on")


def test_a_turn_that_cannot_be_found_is_a_bad_row(make_tokenizer: Callable[..., Any], chat: Callable[..., Row]) -> None:
    hides = (
        "{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% else %}{{ m.content | length }}{% endif %}"
        "{% endfor %}"
    )
    with pytest.raises(DataError, match=r"does not show where the assistant's turn 2 begins.*generation"):
        Encoder(make_tokenizer(hides), LONG).encode(chat("One?", "Yes."))


def test_missing_and_broken_templates(make_tokenizer: Callable[..., Any], chat: Callable[..., Row]) -> None:
    with pytest.raises(UsageError, match="no chat template"):
        Encoder(make_tokenizer(None), LONG).encode(chat("One?", "Yes."))
    with pytest.raises(UsageError, match="does not compile: line 2"):
        Encoder(make_tokenizer("{% for m in messages %}\n{% fi %}"), LONG).encode(chat("One?", "Yes."))


def test_tokenizers_without_offsets_are_refused(make_tokenizer: Callable[..., Any]) -> None:
    class Slow:
        is_fast = False

    with pytest.raises(UsageError, match=r"Slow cannot say which characters .*tokenizer\.json"):
        Encoder(Slow(), LONG)  # type: ignore[arg-type]


words = st.text(alphabet="aeho tk.\n?🙂åé'\"{}%<>|", min_size=1, max_size=20).filter(lambda text: text.strip() != "")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(turns=st.lists(st.tuples(words, words), min_size=1, max_size=4), system=st.one_of(st.none(), words))
def test_any_text_is_labelled_to_the_character(
    turns: list[tuple[str, str]], system: str | None, make_tokenizer: Callable[..., Any], chat: Callable[..., Row]
) -> None:
    tokenizer = make_tokenizer("zephyr")
    row = chat(*(text for turn in turns for text in turn), system=system)
    (example,) = Encoder(tokenizer, LONG).encode(row)
    expected = [answer + "</s>" for _, answer in turns]
    # A new line before the answer can share a token with the new line that ends the prompt.
    assert [text.lstrip() for text in runs(tokenizer, example)] == [text.lstrip() for text in expected]


def test_trained_tokens_by_hand() -> None:
    text = "Q: A b\n"
    assert trained_tokens([(0, 2), (2, 4), (4, 6), (6, 7)], text, [(3, 6)]).tolist() == [False, True, True, False]
    trimmed = [(0, 2), (3, 4), (5, 6), (7, 7)]
    assert trained_tokens(trimmed, text, [(3, 6)]).tolist() == [False, True, True, False]
    # Without an end-of-turn token the white space at the end is trained, also when the tokenizer trims its offsets.
    assert trained_tokens([(0, 2), (3, 4), (5, 6), (7, 7)], text, [(3, 7)]).tolist() == [False, True, True, True]
    assert trained_tokens([(0, 2), (3, 3), (3, 4)], text, [(3, 4)]).tolist() == [False, False, True]
    assert trained_tokens([(0, 4), (4, 7)], text, [(3, 7)]).tolist() == [False, True]
    assert trained_tokens([], "", []).tolist() == []
