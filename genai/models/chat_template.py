"""Chat templates: the sandboxed Jinja text that turns messages into the string a model was trained on.

transformers renders them in an immutable sandbox: no attribute that leads out of it, no range over 100,000. What a
template does wrong is an error of the template, said in one line.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genai.errors import DataError, UsageError
from genai.log import get_logger
from genai.registry import suggest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MAX_TEMPLATE_CHARACTERS = 1 << 18
_IM_END = "<|im_end|>"
_MARK = "a7f3"
"""Text that no template writes by itself."""
_log = get_logger(__name__)


def render(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[Mapping[str, Any]],
    *,
    add_generation_prompt: bool = False,
    **variables: Any,
) -> str:
    """The text of a conversation.

    Args:
        tokenizer: has the template.
        messages: `{"role", "content"}` each.
        add_generation_prompt: end with what opens the assistant's turn.
        variables: further names the template knows, e.g. `enable_thinking`.

    Raises:
        DataError: the template refuses these messages, does something the sandbox forbids, or is no Jinja.
    """
    from jinja2.exceptions import TemplateError

    try:
        text = tokenizer.apply_chat_template(
            [dict(message) for message in messages],
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            **variables,
        )
    except (TemplateError, OverflowError, TypeError, ValueError, KeyError, RecursionError) as error:
        raise DataError(f"the chat template failed: {error}", fix="see tokenizer.chat_template") from error
    return str(text)


def ensure_chat_template(tokenizer: PreTrainedTokenizerBase, override: str | None = None) -> None:
    """Give `tokenizer` the template `override`, or a default one when it has none, and see that it renders.

    The default is ChatML; for a tokenizer without `<|im_end|>` its end-of-sequence token ends a turn, so that the end
    is one token that the model knows.

    Args:
        tokenizer: changed in place.
        override: Jinja text, or the path of a .jinja file.

    Raises:
        UsageError: there is no such file.
        DataError: the template fails on an ordinary conversation.
    """
    if override is not None:
        tokenizer.chat_template = template_text(override)
    elif not tokenizer.chat_template:
        tokenizer.chat_template = _chatml(tokenizer)
        _log.warning(
            "the tokenizer has no chat template; ChatML is used (set tokenizer.chat_template to choose another)"
        )
    render(tokenizer, [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}])


def template_text(override: str) -> str:
    """The Jinja text that `tokenizer.chat_template` means: itself, or what the .jinja file holds that it names.

    Raises:
        UsageError: there is no such file, or the text is too long.
    """
    path = Path(override).expanduser() if "{" not in override and "\n" not in override else None
    if path is None:
        text = override
    elif path.is_file():
        text = path.read_text(encoding="utf-8")
    else:
        near = suggest(path.name, (entry.name for entry in path.parent.iterdir())) if path.parent.is_dir() else None
        fix = f"did you mean '{path.parent / near}'?" if near else "give Jinja text or the path of a .jinja file"
        raise UsageError(f"there is no chat template '{override}'", fix=fix)
    if len(text) > MAX_TEMPLATE_CHARACTERS:
        raise UsageError(f"the chat template is longer than {MAX_TEMPLATE_CHARACTERS} characters")
    return text


def end_of_turn_id(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The special token that the template writes right after what the assistant said; None when it writes none."""
    if not tokenizer.chat_template:
        return None
    text = render(tokenizer, [{"role": "user", "content": "a"}, {"role": "assistant", "content": _MARK}])
    tail = text.rpartition(_MARK)[2].lstrip()
    specials = {token.content: index for index, token in tokenizer.added_tokens_decoder.items() if token.content}
    found = [token for token in specials if tail.startswith(token)]
    return specials[max(found, key=len)] if found else None


def stop_token_ids(tokenizer: PreTrainedTokenizerBase, also: Iterable[int] | int | None = None) -> list[int]:
    """Every token that ends an answer, sorted: the template's end of turn, the end of sequence, and `also`."""
    known = [also] if isinstance(also, int) else list(also or ())
    candidates = [end_of_turn_id(tokenizer), tokenizer.eos_token_id, *known]
    return sorted({int(token) for token in candidates if token is not None})


def _chatml(tokenizer: PreTrainedTokenizerBase) -> str:
    end = _IM_END if _IM_END in tokenizer.get_vocab() or not tokenizer.eos_token else tokenizer.eos_token
    turn = "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + END + '\\n' }}"
    return (
        "{% set END = " + repr(end) + " %}{% for message in messages %}" + turn + "{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    )
