"""Penalties for what a text has already, with counts that grow by a token at a time.

Shapes: N different tokens that a text has; V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from genai.models.generation import SamplingParams

if TYPE_CHECKING:
    import torch

_FIRST_ROOM = 256
"""Different tokens that there is room for at the beginning."""


def has_penalties(params: SamplingParams) -> bool:
    """Whether logits depend on what the text has already."""
    return params.repetition_penalty != 1 or params.presence_penalty != 0 or params.frequency_penalty != 0


class Penalties:
    """The penalties of one answer.

    Repetition counts prompt and answer and scales a logit towards less (arXiv:1909.05858); presence and frequency count
    the answer alone and are subtracted (OpenAI's definition).

    Args:
        params: of the request.
        prompt_ids: its prompt.
    """

    def __init__(self, params: SamplingParams, prompt_ids: Sequence[int]) -> None:
        import torch

        self._repetition = params.repetition_penalty
        self._presence = params.presence_penalty
        self._frequency = params.frequency_penalty
        known = dict.fromkeys(prompt_ids) if self._repetition != 1 else {}
        self._place_of = {token: place for place, token in enumerate(known)}
        room = max(_FIRST_ROOM, 2 * len(known))
        self._tokens_N = torch.zeros(room, dtype=torch.long)
        self._tokens_N[: len(known)] = torch.tensor(list(known), dtype=torch.long)
        self._counts_N = torch.zeros(room)
        self._num_counted = 0

    def apply(self, logits_V: torch.Tensor, output_ids: Sequence[int]) -> None:
        """Change the logits of the next token in place.

        Args:
            logits_V: of one row.
            output_ids: the answer so far; it only ever grows between calls.
        """
        import torch

        for token in output_ids[self._num_counted :]:
            self._count(token)
        self._num_counted = len(output_ids)
        size = len(self._place_of)
        tokens_N = self._tokens_N[:size].to(logits_V.device)
        values_N = logits_V[tokens_N]
        if self._repetition != 1:
            values_N = torch.where(values_N > 0, values_N / self._repetition, values_N * self._repetition)
        if self._presence or self._frequency:
            counts_N = self._counts_N[:size].to(logits_V.device)
            values_N -= self._frequency * counts_N + self._presence * (counts_N > 0)
        logits_V[tokens_N] = values_N

    def _count(self, token: int) -> None:
        import torch

        place = self._place_of.setdefault(token, len(self._place_of))
        if place == len(self._tokens_N):
            self._tokens_N = torch.cat([self._tokens_N, torch.zeros_like(self._tokens_N)])
            self._counts_N = torch.cat([self._counts_N, torch.zeros_like(self._counts_N)])
        self._tokens_N[place] = token
        self._counts_N[place] += 1
