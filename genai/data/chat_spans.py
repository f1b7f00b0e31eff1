"""A conversation as text by the tokenizer's chat template, and which stretches of that text the assistant says.

Chat templates are programs, so the stretches are found by running them:

1. A template with `{% generation %}` blocks says itself what is generated.
2. Otherwise turn i begins where the prompt of the first i messages ends (`add_generation_prompt`), and ends where the
   rendering of the first i + 1 messages ends. Both must be prefixes of the whole text; that is checked, never assumed.
3. Where the prompt is no prefix (a template without a generation prompt, or with one that opens a reasoning block), the
   turn is rendered again with a marker in place of its content, which shows where the content begins.

A template that rewrites earlier turns (drops their reasoning, moves the system prompt to the last question) fails the
check for those turns. Each of them then becomes an example of its own that ends with it, which is the text that a model
sees when that turn is its to say.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from genai.data.rows import Message, Row
from genai.errors import DataError, UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Span = tuple[int, int]
"""Start and end in characters."""
_MARKER = "\ue000answer\ue001"
_GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """A conversation as text."""

    text: str
    """What the chat template made of it."""
    spans: tuple[Span, ...]
    """What is trained: each turn with its end-of-turn token, without the white space after that."""


class ChatRenderer:
    """Runs one tokenizer's chat template.

    Args:
        tokenizer: any with a chat template; the template runs in transformers' sandbox.

    Raises:
        UsageError: there is no chat template.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        if tokenizer.chat_template is None:
            raise UsageError("the tokenizer has no chat template", fix="set tokenizer.chat_template")
        self._tokenizer = tokenizer
        special = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
        special |= set(tokenizer.all_special_tokens)
        self._special = tuple(sorted((token for token in special if token.strip()), key=len, reverse=True))

    def render(self, messages: Sequence[Message], *, row: Row, add_generation_prompt: bool = False) -> str:
        """The text of `messages`, which are some of the row's.

        Raises:
            DataError: the template refuses the conversation.
        """
        return self._run(messages, row, add_generation_prompt=add_generation_prompt)[0]

    def examples(self, row: Row) -> tuple[Rendered, ...]:
        """The row as text with its trained stretches; one example, or several when the template rewrites earlier turns.

        Raises:
            DataError: the template refuses the conversation, or a trained turn is not found in its output.
            UsageError: the template does not compile.
        """
        tagged = self._by_generation_blocks(row)
        if tagged is not None:
            return (tagged,)
        wanted = [index for index, message in enumerate(row.messages) if message.trained]
        examples: list[Rendered] = []
        while wanted:
            conversation = row.messages[: wanted[-1] + 1]
            text = self.render(conversation, row=row)
            spans = {index: self._span(conversation, index, text, row) for index in wanted}
            if spans[wanted[-1]] is None:
                raise DataError(
                    f"the chat template does not show where the assistant's turn {wanted[-1] + 1} begins",
                    where=row.source,
                    fix="put {% generation %} ... {% endgeneration %} around it in tokenizer.chat_template",
                )
            examples.append(Rendered(text=text, spans=tuple(span for span in spans.values() if span is not None)))
            wanted = [index for index in wanted if spans[index] is None]
        return tuple(reversed(examples))

    def _by_generation_blocks(self, row: Row) -> Rendered | None:
        """What the template's own marks say; None without marks, or when they do not match the turns one to one."""
        if not _GENERATION.search(self._template(row)):
            return None
        text, spans = self._run(row.messages, row, marks=True)
        flags = [message.trained for message in row.messages if message.role == "assistant"]
        if len(spans) != len(flags) and not all(flags):
            return None
        chosen = [span for k, span in enumerate(spans) if len(spans) != len(flags) or flags[k]]
        if not chosen:
            return None
        return Rendered(text=text, spans=tuple(self._to_end_of_turn(text, span) for span in chosen))

    def _span(self, conversation: Sequence[Message], index: int, text: str, row: Row) -> Span | None:
        """Where turn `index` stands in `text`, or None when the template rendered it otherwise there."""
        is_last = index == len(conversation) - 1
        turn = text if is_last else self.render(conversation[: index + 1], row=row)
        stop = self._without_trailing_space(turn, len(turn))
        if not text.startswith(turn[:stop]):
            return None
        start = self._start(conversation, index, text, row)
        return None if start is None or start >= stop else (start, stop)

    def _start(self, conversation: Sequence[Message], index: int, text: str, row: Row) -> int | None:
        prompt = bare = ""
        if index:
            prompt = self.render(conversation[:index], row=row, add_generation_prompt=True)
            bare = self.render(conversation[:index], row=row)
            if prompt != bare and text.startswith(prompt):
                return len(prompt)
        message = conversation[index]
        marked = Message(role=message.role, content=_MARKER, extra=message.extra)
        before, found, _ = self.render([*conversation[:index], marked], row=row).partition(_MARKER)
        if not found or not text.startswith(before):
            return None
        # A space between the question and the answer is the model's to write; a header is not.
        only_space = bool(prompt) and prompt == bare and before.startswith(prompt) and not before[len(prompt) :].strip()
        return len(prompt) if only_space else len(before)

    def _to_end_of_turn(self, text: str, span: Span) -> Span:
        """Take in the special token right after a generation block that does not hold one itself."""
        start, stop = span
        stop = self._without_trailing_space(text, stop, start)
        if not text.endswith(self._special, start, stop):
            stop += len(next((token for token in self._special if text.startswith(token, stop)), ""))
        return start, stop

    def _without_trailing_space(self, text: str, stop: int, start: int = 0) -> int:
        """Leave out white space after an end-of-turn token; without such a token, white space is what ends the turn."""
        stripped = start + len(text[start:stop].rstrip())
        return stripped if text.endswith(self._special, start, stripped) else stop

    def _template(self, row: Row) -> str:
        return str(self._tokenizer.get_chat_template(tools=list(row.tools) or None))

    def _run(
        self, messages: Sequence[Message], row: Row, *, add_generation_prompt: bool = False, marks: bool = False
    ) -> tuple[str, list[Span]]:
        from jinja2 import TemplateError, TemplateSyntaxError
        from transformers.utils.chat_template_utils import render_jinja_template

        # The annotations of render_jinja_template are narrower than what it takes and gives.
        render: Any = render_jinja_template
        try:
            texts, spans = render(
                conversations=[[_as_dict(message) for message in messages]],
                tools=list(row.tools) or None,
                chat_template=self._template(row),
                return_assistant_tokens_mask=marks,
                add_generation_prompt=add_generation_prompt,
                **self._tokenizer.special_tokens_map,
            )
        except TemplateSyntaxError as error:
            raise UsageError(f"the chat template does not compile: line {error.lineno}: {error.message}") from error
        except (TemplateError, TypeError, ValueError) as error:
            raise DataError(f"the chat template refuses the conversation: {error}", where=row.source) from error
        return texts[0], [(start, stop) for start, stop in (spans[0] if marks else ())]


def _as_dict(message: Message) -> dict[str, Any]:
    return {"role": message.role, "content": message.content, **message.extra}
