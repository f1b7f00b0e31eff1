"""How likely a model finds tokens: what is read, what is looked up in the logits; and models of transformers doing it.

Several continuations of a context may be looked up in one row: what a row is asked is a list of (place, token), and a
place may be asked several times.

Shapes: B rows of a batch; S tokens of the longest; Q questions of a row; R places that are asked; V vocabulary.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from genai.errors import UsageError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_ROWS_AT_A_TIME = 8
"""Of logits: a copy of so many of them stays in the processor's cache."""
_BATCH_TOKENS = 4096
"""Tokens that are read at once, at most, where a row alone is not longer: from there on only memory grows."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """Tokens that are read, and what is asked about those that follow."""

    ids: Sequence[int]
    """At least one."""
    places: Sequence[int]
    """(Q,) indices of `ids`."""
    tokens: Sequence[int]
    """(Q,); the log-probability of tokens[q] after ids[: places[q] + 1] is wanted."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RowScores:
    """What a row's questions found."""

    logprobs: list[float]
    """(Q,) natural logarithms; nan where the model gave no numbers."""
    are_likeliest: list[bool]
    """(Q,) whether the model would have said that very token."""


def look_up(logits_RV: torch.Tensor, rows: Sequence[int], tokens: Sequence[int]) -> RowScores:
    """Log-probabilities of tokens, in float32 whatever the logits are in.

    Args:
        logits_RV: (R, V), as the model gave them; left as they are.
        rows: (Q,) which row each question is about.
        tokens: (Q,) and which token.
    """
    import torch

    if not tokens:
        return RowScores(logprobs=[], are_likeliest=[])
    device = logits_RV.device
    rows_Q = torch.tensor(rows, dtype=torch.int64, device=device)
    tokens_Q = torch.tensor(tokens, dtype=torch.int64, device=device)
    with torch.inference_mode():
        pieces = [_totals(piece_RV.float()) for piece_RV in logits_RV.split(_ROWS_AT_A_TIME)]
        highest_Q, sums_Q, best_Q = (torch.cat(each)[rows_Q] for each in zip(*pieces, strict=True))
        logprobs_Q = logits_RV[rows_Q, tokens_Q].float() - highest_Q - sums_Q
        return RowScores(logprobs=logprobs_Q.tolist(), are_likeliest=(best_Q == tokens_Q).tolist())


def _totals(logits_RV: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Of each row the highest logit, the logarithm of the sum of exp(logit - highest), and the likeliest token (the
    first of several).
    """
    highest_R1, best_R1 = logits_RV.max(-1, keepdim=True)
    return highest_R1[:, 0], (logits_RV - highest_R1).exp_().sum(-1).log_(), best_R1[:, 0]


class TextTokens:
    """A tokenizer as likelihoods need it.

    Args:
        tokenizer: of the model.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self.prefix_id = _prefix_id(tokenizer)
        """Stands before a text without a context: the token of a text's beginning, else of its end."""
        self.prefix_text = str(tokenizer.decode([self.prefix_id]))
        """The same as text."""

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Tokens of a text.

        Args:
            text: special tokens in it are read as such.
            add_special_tokens: put the tokenizer's own beginning before it, where it has one.
        """
        return [int(token) for token in self._tokenizer.encode(text, add_special_tokens=add_special_tokens)]


class TransformersLikelihoods:
    """A causal language model of transformers, also one that is being trained; meets
    `genai.evaluation.likelihood.LikelihoodModel`.

    Rows of like length are read together, padded on the right, where causal attention does not see it. Logits are
    computed from the first place on that a row of the batch is asked about.

    Args:
        model: in evaluation mode while rows are read; nothing of it is changed.
        tokenizer: its own.
        batch_size: rows that are read together, at most.
        max_length: tokens that it looks at; by default what its config says.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        batch_size: int = 16,
        max_length: int | None = None,
    ) -> None:
        self._model: Any = model
        self._batch_size = batch_size
        self._keeps_logits = "logits_to_keep" in inspect.signature(model.forward).parameters
        self.max_length = max_length or _context_of(model)
        self.texts = TextTokens(tokenizer)

    def read(self, rows: Sequence[Row]) -> list[RowScores]:
        """Read rows, each of at most `max_length` tokens; what their questions found, in the order of the rows."""
        import torch

        found: list[RowScores | None] = [None] * len(rows)
        for places in _batches(rows, self._batch_size):
            batch = [rows[place] for place in places]
            with torch.inference_mode():
                for place, scores in zip(places, self._read_batch(batch), strict=True):
                    found[place] = scores
        return cast("list[RowScores]", found)

    def _read_batch(self, rows: Sequence[Row]) -> Iterator[RowScores]:
        import torch

        longest = max(len(row.ids) for row in rows)
        padded = [[*row.ids, *[0] * (longest - len(row.ids))] for row in rows]
        first = min((place for row in rows for place in row.places), default=longest - 1)
        arguments = {"logits_to_keep": longest - first} if self._keeps_logits else {}
        ids_BS = torch.tensor(padded, device=self._model.device)
        logits_BRV = self._model(input_ids=ids_BS, use_cache=False, **arguments).logits
        start = longest - logits_BRV.shape[1]
        for logits_RV, row in zip(logits_BRV, rows, strict=True):
            yield look_up(logits_RV[: len(row.ids) - start], [place - start for place in row.places], row.tokens)


def _prefix_id(tokenizer: PreTrainedTokenizerBase) -> int:
    found = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    if not isinstance(found, int):
        raise UsageError(
            "the tokenizer has no token for the beginning or the end of a text, so that no text's first token has a "
            "likelihood",
            fix="name one in tokenizer_config.json: eos_token",
        )
    return found


def _batches(rows: Sequence[Row], batch_size: int) -> Iterator[list[int]]:
    """Which rows are read together: longest first, so that those of a batch are alike."""
    batch: list[int] = []
    for place in sorted(range(len(rows)), key=lambda place: -len(rows[place].ids)):
        longest = len(rows[batch[0]].ids) if batch else len(rows[place].ids)
        if batch and (len(batch) == batch_size or longest * (len(batch) + 1) > _BATCH_TOKENS):
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


def _context_of(model: PreTrainedModel) -> int:
    """Tokens that a model can read."""
    text: Any = model.config.get_text_config(decoder=True)
    return int(text.max_position_embeddings)
