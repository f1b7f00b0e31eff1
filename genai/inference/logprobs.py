"""Log-probabilities of tokens by the model's own logits: before temperature, penalties, bias and constraints.

Shapes: R rows; P places of a prompt; K the likeliest tokens; V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from genai.inference.interfaces import RefusedError, Sampled
from genai.inference.text import Vocabulary
from genai.models.generation import TokenLogprob

if TYPE_CHECKING:
    import torch

_ROWS_AT_A_TIME = 32
"""Of a prompt: its logits are large, and a copy of all of them is not needed."""


def token_logprobs(logits_RV: torch.Tensor, token_ids: Sequence[int], tops: Sequence[int]) -> list[Sampled]:
    """The log-probability and rank of one token a row, and those of the likeliest.

    Args:
        logits_RV: as the model gave them.
        token_ids: the token of each row.
        tops: how many of the likeliest are wanted of each row.
    """
    import torch

    with torch.inference_mode():
        totals_R = logits_RV.logsumexp(-1, keepdim=True)
        tokens_R1 = torch.tensor(token_ids, device=logits_RV.device)[:, None]
        chosen_R1 = logits_RV.gather(1, tokens_R1)
        ranks = ((logits_RV > chosen_R1).sum(-1) + 1).tolist()
        logprobs = (chosen_R1 - totals_R)[:, 0].tolist()
        values_RK, best_RK = logits_RV.topk(min(max(tops, default=0), logits_RV.shape[-1]))
        values, best = (values_RK - totals_R).tolist(), best_RK.tolist()
    return [
        Sampled(
            token_id=token,
            logprob=logprobs[row],
            rank=ranks[row],
            top=tuple(zip(best[row][:top], values[row][:top], strict=True)),
        )
        for row, (token, top) in enumerate(zip(token_ids, tops, strict=True))
    ]


def prompt_logprobs(logits_PV: torch.Tensor, token_ids: Sequence[int], top: int) -> list[Sampled]:
    """The log-probabilities of a prompt's tokens.

    Args:
        logits_PV: at the places before them.
        token_ids: what stands at each place: `token_ids[i]` comes after the token that row i was computed at.
        top: how many of the likeliest are wanted beside each.

    Raises:
        RefusedError: the model gave no numbers.
    """
    result: list[Sampled] = []
    for start in range(0, len(token_ids), _ROWS_AT_A_TIME):
        tokens = token_ids[start : start + _ROWS_AT_A_TIME]
        rows_RV = logits_PV[start : start + len(tokens)]
        if not bool(rows_RV.amax(-1).isfinite().all()):
            raise RefusedError("the model's output for the prompt is no number", fault="failed")
        result += token_logprobs(rows_RV, tokens, [top] * len(tokens))
    return result


def described(sampled: Sampled, vocabulary: Vocabulary) -> TokenLogprob:
    """A token's log-probability with its text, as it is reported.

    Args:
        sampled: with its log-probability.
        vocabulary: of the model's tokenizer.
    """
    assert sampled.logprob is not None
    return _described(
        vocabulary,
        sampled.token_id,
        sampled.logprob,
        sampled.rank,
        tuple(
            _described(vocabulary, token, logprob, rank) for rank, (token, logprob) in enumerate(sampled.top, start=1)
        ),
    )


def _described(
    vocabulary: Vocabulary, token_id: int, logprob: float, rank: int, top: tuple[TokenLogprob, ...] = ()
) -> TokenLogprob:
    return TokenLogprob(
        token_id=token_id,
        text=vocabulary.token_text(token_id),
        data=vocabulary.token_bytes(token_id),
        logprob=logprob,
        rank=rank,
        top=top,
    )
