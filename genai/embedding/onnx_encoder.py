"""A transformer run by onnxruntime from a file with 8-bit weights: no torch once the file is made."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from genai.embedding.pooling import padded, pool
from genai.embedding.settings import Pooling
from genai.embedding.vectors import Vectors
from genai.errors import DataError, MissingExtraError

_ERRORS_ONLY = 3


class OnnxModel:
    """From tokens to pooled vectors; see `genai.embedding.encoder.TokenModel`.

    Args:
        file: takes input_ids and attention_mask, both (batch, seq), and gives hidden (batch, seq, width).
        pooling: from token vectors to one.
        pad_token_id: what shorter sequences are filled up with.
        num_threads: threads of its own; by default OMP_NUM_THREADS, else the processors that the process may use.

    Raises:
        DataError: the file cannot be read.
        MissingExtraError: onnxruntime is not installed.
    """

    def __init__(self, file: Path, *, pooling: Pooling, pad_token_id: int, num_threads: int | None = None) -> None:
        try:
            import onnxruntime
        except ModuleNotFoundError as error:
            raise MissingExtraError("onnxruntime", extra="onnx", needed_for="backend: onnx") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = num_threads or _usable_threads()
        options.log_severity_level = _ERRORS_ONLY
        # Threads that wait in a loop answer sooner by microseconds, and take the processor from everybody else.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session: Any = onnxruntime.InferenceSession(
                str(file), sess_options=options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            # Its exceptions have no common class but this one, in a private module.
            if type(error).__module__.partition(".")[0] != "onnxruntime":
                raise
            raise DataError(f"the ONNX file cannot be read: {error}", where=str(file), fix="remove it") from error
        self._pooling = pooling
        self._pad_token_id = pad_token_id

    def __call__(self, sequences: Sequence[Sequence[int]]) -> Vectors:
        """(n, width)"""
        ids, mask = padded(sequences, self._pad_token_id)
        hidden = self._session.run(["hidden"], {"input_ids": ids, "attention_mask": mask})[0]
        return pool(hidden, mask, self._pooling)


def _usable_threads() -> int:
    stated = os.environ.get("OMP_NUM_THREADS", "")
    return int(stated) if stated.isdecimal() and int(stated) > 0 else len(os.sched_getaffinity(0))
