"""Tokens of a row and which of them carry a loss.

A conversation is trained on what the assistant says, up to and with the token that ends each turn; a plain text on all
tokens but the first. Text is tokenised as a whole, once, and stretches of characters are carried over to tokens by the
tokenizer's offsets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from genai.data.chat_spans import ChatRenderer, Rendered, Span
from genai.data.rows import BadRow, Row
from genai.errors import DataError, UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, kw_only=True)
class LabelSettings:
    """What decides about labels beside the row and the tokenizer."""

    max_seq_len: int
    """Longest example in tokens."""
    target_prompts: Literal["none", "all"] = "none"
    """none: loss only on what the assistant says; all: on every token but the first."""
    truncation: Literal["cut", "drop"] = "cut"
    """What happens to a longer example."""


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """One example as tokens."""

    input_ids: NDArray[np.int32]
    """Token ids, shape (n,)."""
    trained: NDArray[np.bool_]
    """Which of them carry a loss, shape (n,); never the first."""
    truncated: bool
    """Whether it was longer than max_seq_len (and was cut, if `truncation` says so)."""
    answer_cut: bool
    """Whether trained tokens were among those cut off."""


class Encoder:
    """Turns rows into tokens and labels.

    Args:
        tokenizer: a fast tokenizer (one that knows which characters a token stands for).
        settings: lengths and what is trained.

    Raises:
        UsageError: the tokenizer has no offsets.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, settings: LabelSettings) -> None:
        if not tokenizer.is_fast:
            raise UsageError(
                f"{type(tokenizer).__name__} cannot say which characters a token stands for: answers cannot be located",
                fix="use a tokenizer that has a tokenizer.json",
            )
        self._tokenizer = tokenizer
        self._settings = settings
        self._renderer: ChatRenderer | None = None

    def encode(self, row: Row) -> tuple[Encoded, ...]:
        """One row: one example, or several when the chat template rewrites earlier turns.

        Raises:
            DataError: the row cannot be turned into labelled tokens.
            UsageError: the chat template is missing or broken.
        """
        (result,) = self.encode_all([row])
        if isinstance(result, BadRow):
            raise DataError(result.reason, where=result.source)
        return result

    def encode_all(self, rows: Sequence[Row]) -> list[tuple[Encoded, ...] | BadRow]:
        """Many rows at once, which is several times faster; bad rows are returned in their places.

        Raises:
            UsageError: the chat template is missing or broken.
        """
        rendered = [self._render(row) for row in rows]
        chats = [example for examples in rendered if not isinstance(examples, BadRow) for example in examples]
        labelled = iter(self._label_chats(chats))
        texts = iter(self._label_texts([row.text for row in rows if row.text is not None]))
        results: list[tuple[Encoded, ...] | BadRow] = []
        for row, examples in zip(rows, rendered, strict=True):
            if isinstance(examples, BadRow):
                results.append(examples)
                continue
            encoded = tuple(next(labelled) for _ in examples) if row.text is None else (next(texts),)
            empty = any(len(example.input_ids) < 2 for example in encoded)
            results.append(BadRow(source=row.source, reason="has no token to train on") if empty else encoded)
        return results

    def _render(self, row: Row) -> tuple[Rendered, ...] | BadRow:
        """The row's conversation as text; nothing for a plain text."""
        if row.text is not None:
            return ()
        if self._renderer is None:
            self._renderer = ChatRenderer(self._tokenizer)
        try:
            if self._settings.target_prompts == "all":
                text = self._renderer.render(row.messages, row=row)
                return (Rendered(text=text, spans=((0, len(text)),)),)
            return self._renderer.examples(row)
        except DataError as error:
            reason = error.message if error.fix is None else f"{error.message} ({error.fix})"
            return BadRow(source=row.source, reason=reason)

    def _label_chats(self, chats: Sequence[Rendered]) -> list[Encoded]:
        # The template writes the special tokens itself: another BOS from the tokenizer would be a doubled one.
        encodings = self._encodings([chat.text for chat in chats], add_special_tokens=False)
        return [
            self._cut(np.array(encoding.ids, dtype=np.int32), trained_tokens(encoding.offsets, chat.text, chat.spans))
            for encoding, chat in zip(encodings, chats, strict=True)
        ]

    def _label_texts(self, texts: Sequence[str]) -> list[Encoded]:
        bos, eos = self._tokenizer.bos_token_id, self._tokenizer.eos_token_id
        results = []
        for encoding in self._encodings(texts, add_special_tokens=True):
            ids = list(encoding.ids)
            if bos is not None and ids[:2] == [bos, bos]:
                del ids[0]
            if eos is not None and ids[-1:] != [eos]:
                ids.append(eos)
            results.append(self._cut(np.array(ids, dtype=np.int32), np.ones(len(ids), dtype=np.bool_)))
        return results

    def _encodings(self, texts: Sequence[str], *, add_special_tokens: bool) -> list[Any]:
        if not texts:
            return []
        batch = self._tokenizer(
            list(texts),
            add_special_tokens=add_special_tokens,
            padding=False,
            truncation=False,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )
        return list(batch.encodings)

    def _cut(self, ids: NDArray[np.int32], trained: NDArray[np.bool_]) -> Encoded:
        limit = self._settings.max_seq_len
        trained[:1] = False
        return Encoded(
            input_ids=ids[:limit],
            trained=trained[:limit],
            truncated=len(ids) > limit,
            answer_cut=bool(trained[limit:].any()),
        )


def trained_tokens(offsets: Sequence[Span], text: str, spans: Sequence[Span]) -> NDArray[np.bool_]:
    """Which tokens lie within stretches of the text.

    A token that begins before a stretch belongs to it when only white space of it lies outside: a prompt that ends in a
    space shares the token " Yes" with its answer.

    Args:
        offsets: start and end of each token in characters.
        text: what was tokenised.
        spans: the stretches, in characters.

    Returns:
        One flag a token, shape (n,).
    """
    starts, stops = np.array(offsets, dtype=np.int64).reshape(-1, 2).T
    # Tokenizers that trim offsets give a token of pure white space no width, at its end.
    starts = np.where(starts == stops, stops - 1, starts)
    flags = np.zeros(len(starts), dtype=np.bool_)
    for start, stop in spans:
        earliest = len(text[:start].rstrip())
        flags |= (starts >= earliest) & (stops > start) & (starts < stop)
    return flags
