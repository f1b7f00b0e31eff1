from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from genai.errors import DataError, UsageError
from genai.models.chat_template import end_of_turn_id, ensure_chat_template, render, stop_token_ids

pytestmark = pytest.mark.integration
TALK = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]


def test_renders_with_and_without_the_opening_of_an_answer(tiny_tokenizer: Any) -> None:
    text = "<|im_start|>user\nhi<|im_end|>\n"
    assert render(tiny_tokenizer, TALK[:1]) == text
    assert render(tiny_tokenizer, TALK[:1], add_generation_prompt=True) == f"{text}<|im_start|>assistant\n"


@pytest.mark.parametrize(
    "template",
    [
        "{% for i in range(10**9) %}x{% endfor %}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ raise_exception('only one system message') }}",
        "{{ messages[9].content }}",
        "{% if %}",
        "{{ 1 + 'a' }}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    ],
)
def test_bad_templates_fail_in_one_line(tokenizer_with: Callable[..., Any], template: str) -> None:
    tokenizer = tokenizer_with(chat_template=template)
    with pytest.raises(DataError, match="the chat template failed"):
        render(tokenizer, TALK)


def test_a_missing_template_becomes_chatml(
    tokenizer_with: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    tokenizer = tokenizer_with(chat_template=None)
    ensure_chat_template(tokenizer)
    assert render(tokenizer, TALK) == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nyo<|im_end|>\n"
    assert "ChatML" in caplog.text


def test_without_its_token_chatml_ends_turns_with_the_end_of_sequence(tokenizer_with: Callable[..., Any]) -> None:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    vocabulary = {"</s>": 0, "a": 1, "<unk>": 2}
    backend = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>", unk_token="<unk>")
    ensure_chat_template(tokenizer)
    assert render(tokenizer, TALK[:1]) == "<|im_start|>user\nhi</s>\n"
    assert end_of_turn_id(tokenizer) == 0


def test_override_by_text_and_by_file(tokenizer_with: Callable[..., Any], tmp_path: Path) -> None:
    tokenizer = tokenizer_with()
    ensure_chat_template(tokenizer, "{{ messages[0].content }}")
    assert render(tokenizer, TALK) == "hi"
    (tmp_path / "mine.jinja").write_text("{{ messages[1].content }}")
    ensure_chat_template(tokenizer, str(tmp_path / "mine.jinja"))
    assert render(tokenizer, TALK) == "yo"
    with pytest.raises(UsageError, match="there is no chat template") as caught:
        ensure_chat_template(tokenizer, str(tmp_path / "mien.jinja"))
    assert caught.value.fix == f"did you mean '{tmp_path / 'mine.jinja'}'?"
    with pytest.raises(UsageError, match="longer than"):
        ensure_chat_template(tokenizer, "{# " + "x" * 300_000 + " #}")


def test_an_override_that_fails_is_found_at_once(tokenizer_with: Callable[..., Any]) -> None:
    with pytest.raises(DataError, match="the chat template failed"):
        ensure_chat_template(tokenizer_with(), "{{ nope.nope }}")


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (None, 2),
        ("{% for m in messages %}{{ m.content }}<|endoftext|>{% endfor %}", 0),
        ("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}", None),
    ],
)
def test_end_of_turn(tokenizer_with: Callable[..., Any], template: str | None, expected: int | None) -> None:
    tokenizer = tokenizer_with(chat_template=template) if template else tokenizer_with()
    assert end_of_turn_id(tokenizer) == expected


def test_stop_tokens_are_all_that_end_an_answer(tokenizer_with: Callable[..., Any]) -> None:
    tokenizer = tokenizer_with(chat_template="{% for m in messages %}{{ m.content }}<|endoftext|>{% endfor %}")
    assert stop_token_ids(tokenizer) == [0, 2]
    assert stop_token_ids(tokenizer, 7) == [0, 2, 7]
    assert stop_token_ids(tokenizer, [9, 2]) == [0, 2, 9]
