"""The training stream of a pretraining job: no token leaves it that the tokenizer does not have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from genai.data.batches import Batch
from genai.data.token_streams import StreamSpec, TokenStream
from genai.errors import DataError


class CheckedStream(TokenStream):
    """A token stream that is held against a vocabulary: a GPU would only say that an assertion failed somewhere.

    Args:
        specs: the streams that are mixed.
        vocab_size: how many tokens there are.
        settings: those of `TokenStream`.
    """

    def __init__(self, specs: Sequence[StreamSpec], *, vocab_size: int, **settings: Any) -> None:
        super().__init__(specs, **settings)
        self._vocab_size = vocab_size

    def next_batch(self) -> Batch:
        """The next batch.

        Raises:
            DataError: it holds a token that is not in the vocabulary.
        """
        batch = super().next_batch()
        if batch.input_ids.size and int(batch.input_ids.max()) >= self._vocab_size:
            largest = batch.input_ids.max(axis=1)
            row = int((largest >= self._vocab_size).argmax())
            raise DataError(
                f"sample {batch.row_ids[row][0]} of the training shards holds token {int(largest[row])}, and the "
                f"tokenizer has {self._vocab_size} tokens",
                where="train_loader.dataset",
                fix="convert the text anew with this tokenizer, or name the one that wrote the shards",
            )
        return batch
