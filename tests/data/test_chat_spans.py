"""The text of a conversation and its trained stretches, to the character."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from genai.data.chat_spans import ChatRenderer, Rendered
from genai.data.rows import Row
from genai.errors import DataError, UsageError


def marked(rendered: Rendered) -> str:
    """The text with [[ ]] around what is trained."""
    text = rendered.text
    for start, stop in reversed(rendered.spans):
        text = f"{text[:start]}[[{text[start:stop]}]]{text[stop:]}"
    return text


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("chatml", "<|im_start|>user\nOne?<|im_end|>\n<|im_start|>assistant\n[[Yes.<|im_end|>]]\n"),
        ("llama3", "<s>{h}user{e}\n\nOne?<|eot_id|>{h}assistant{e}\n\n[[Yes.<|eot_id|>]]"),
        ("mistral", "<s>[INST] One? [/INST][[ Yes.</s>]]"),
        ("gemma", "<s><start_of_turn>user\nOne?<end_of_turn>\n<start_of_turn>model\n[[Yes.<end_of_turn>]]\n"),
        ("no_generation_prompt", "user: One?\nassistant: [[Yes.</s>]]\n"),
        ("prompt_ends_in_space", "User: One?\nAssistant: [[Yes.</s>]]\n"),
        ("generation_blocks", "<|im_start|>user\nOne?<|im_end|>\n<|im_start|>assistant\n[[Yes.<|im_end|>]]\n"),
        ("opens_reasoning", "<s><|user|>One?<|assistant|>[[Yes.</s>]]"),
    ],
)
def test_one_turn(template: str, expected: str, make_tokenizer: Callable[..., Any], chat: Callable[..., Row]) -> None:
    (rendered,) = ChatRenderer(make_tokenizer(template)).examples(chat("One?", "Yes."))
    assert marked(rendered) == expected.format(h="<|start_header_id|>", e="<|end_header_id|>")


def test_without_an_end_of_turn_token_white_space_ends_the_turn(
    make_tokenizer: Callable[..., Any], chat: Callable[..., Row]
) -> None:
    template = (
        "{% for m in messages %}{{ 'Q: ' if m.role == 'user' else 'A: ' }}{{ m.content }}\n\n{% endfor %}"
        "{% if add_generation_prompt %}A: {% endif %}"
    )
    (rendered,) = ChatRenderer(make_tokenizer(template)).examples(chat("One?", "Yes.", "Two?", "No."))
    assert marked(rendered) == "Q: One?\n\nA: [[Yes.\n\n]]Q: Two?\n\nA: [[No.\n\n]]"


def test_what_follows_the_last_trained_turn_is_left_out(
    make_tokenizer: Callable[..., Any], chat: Callable[..., Row]
) -> None:
    renderer = ChatRenderer(make_tokenizer("zephyr"))
    (rendered,) = renderer.examples(chat("One?", "Yes.", "Two?"))
    assert marked(rendered) == "<|user|>\nOne?</s>\n<|assistant|>\n[[Yes.</s>]]\n"


def test_content_that_looks_like_a_header_is_no_trouble(
    make_tokenizer: Callable[..., Any], chat: Callable[..., Row]
) -> None:
    row = chat("assistant: user:", "assistant: assistant", "user", "user: x")
    (rendered,) = ChatRenderer(make_tokenizer("no_generation_prompt")).examples(row)
    assert marked(rendered) == (
        "user: assistant: user:\nassistant: [[assistant: assistant</s>]]\nuser: user\nassistant: [[user: x</s>]]\n"
    )


def test_generation_blocks_that_do_not_match_the_turns(
    make_tokenizer: Callable[..., Any], chat: Callable[..., Row]
) -> None:
    template = (
        "{% for m in messages %}{% if m.role == 'assistant' %}{% if loop.last %}{% generation %}{{ m.content }}</s>"
        "{% endgeneration %}{% else %}{{ m.content }}</s>{% endif %}{% else %}<|user|>{{ m.content }}<|assistant|>"
        "{% endif %}{% endfor %}"
    )
    renderer = ChatRenderer(make_tokenizer(template))
    (rendered,) = renderer.examples(chat("One?", "Yes.", "Two?", "No."))
    assert marked(rendered) == "<|user|>One?<|assistant|>Yes.</s><|user|>Two?<|assistant|>[[No.</s>]]"
    (rendered,) = renderer.examples(chat("One?", "Yes.", "Two?", "No.", trained=lambda turn: turn == 0))
    assert marked(rendered) == "<|user|>One?<|assistant|>[[Yes.</s>]]"


def test_generation_blocks_that_are_never_reached(make_tokenizer: Callable[..., Any], chat: Callable[..., Row]) -> None:
    template = (
        "{% for m in messages %}{% if m.role == 'model' %}{% generation %}{{ m.content }}{% endgeneration %}"
        "{% else %}<|{{ m.role }}|>{{ m.content }}</s>{% endif %}{% endfor %}"
    )
    (rendered,) = ChatRenderer(make_tokenizer(template)).examples(chat("One?", "Yes."))
    assert marked(rendered) == "<|user|>One?</s><|assistant|>[[Yes.</s>]]"


def test_errors_of_the_template(make_tokenizer: Callable[..., Any], chat: Callable[..., Row]) -> None:
    row = chat("One?", "Yes.")
    with pytest.raises(DataError, match=r"^rows\.jsonl:1: the chat template refuses the conversation: .*'nothing'"):
        ChatRenderer(make_tokenizer("{{ messages[0].nothing.more }}")).examples(row)
    with pytest.raises(DataError, match="refuses the conversation: not today"):
        ChatRenderer(make_tokenizer("{{ raise_exception('not today') }}")).examples(row)
    with pytest.raises(DataError, match="refuses the conversation: access to attribute"):
        ChatRenderer(make_tokenizer("{{ messages.__class__.__mro__[1].__subclasses__() }}")).examples(row)
    with pytest.raises(UsageError, match="the chat template does not compile: line 1: "):
        ChatRenderer(make_tokenizer("{{ 1 | no_such_filter }}")).examples(row)
