"""Documents joined by the end-of-text token and cut into rows of a fixed length."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from genai.data.convert.settings import TokenSettings

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_ROWS_AT_ONCE = 256


class DocumentTokenizer:
    """Texts to token ids, without special tokens: what looks like one in a text is spelt out as text.

    Args:
        tokenizer_json: the content of a tokenizer.json.
        settings: the token after each document, and the type of the ids.
    """

    def __init__(self, tokenizer_json: str, settings: TokenSettings) -> None:
        from tokenizers import Tokenizer

        tokenizer: Tokenizer = Tokenizer.from_str(tokenizer_json)
        # A page that shows "<|endoftext|>" must not end its own document.
        tokenizer.encode_special_tokens = True
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self._end = np.array([settings.end_of_text_id], dtype=settings.dtype)
        self._dtype = np.dtype(settings.dtype)

    def encode(self, texts: Sequence[str]) -> list[NDArray[np.unsignedinteger]]:
        """The ids of each text, shape (n,), with the end-of-text token behind them.

        Raises:
            UnicodeEncodeError: a text holds half a surrogate pair.
        """
        encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.concatenate([np.array(item.ids, dtype=self._dtype), self._end]) for item in encodings]


class RowCutter:
    """Cuts a stream of token ids into rows and hands them on in blocks.

    Args:
        seq_len: tokens a row.
        dtype: of the ids.
        write: takes a block of rows, shape (rows, seq_len).
    """

    def __init__(self, seq_len: int, dtype: str, write: Callable[[NDArray[np.unsignedinteger]], None]) -> None:
        self._seq_len = seq_len
        self._write = write
        self._waiting: list[NDArray[np.unsignedinteger]] = [np.zeros(0, dtype=dtype)]
        self._num_waiting = 0

    def add(self, ids_N: NDArray[np.unsignedinteger]) -> None:
        """Take the ids of one document, shape (N,)."""
        self._waiting.append(ids_N)
        self._num_waiting += len(ids_N)
        if self._num_waiting >= _ROWS_AT_ONCE * self._seq_len:
            self.flush()

    def flush(self) -> NDArray[np.unsignedinteger]:
        """Hand on all whole rows; gives the ids that are left, fewer than a row."""
        ids_N = np.concatenate(self._waiting)
        num_rows = len(ids_N) // self._seq_len
        if num_rows:
            self._write(ids_N[: num_rows * self._seq_len].reshape(num_rows, self._seq_len))
        rest = ids_N[num_rows * self._seq_len :].copy()
        self._waiting, self._num_waiting = [rest], len(rest)
        return rest
