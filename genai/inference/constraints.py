"""Grammars that answers must follow, by llguidance: compiled once, a state of its own for each answer.

Shapes: W = ceil(V / 32) numbers of a mask, V the model's vocabulary.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Collection
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING

from genai.errors import MissingExtraError
from genai.inference.grammar_trials import TooComplexError, Trials
from genai.inference.grammars import compiled, llguidance_text
from genai.inference.interfaces import Constraint, RefusedError
from genai.models.generation import Grammar

if TYPE_CHECKING:
    import torch
    from llguidance import LLMatcher, LLTokenizer

_MAX_KEPT = 256
"""Compiled grammars; some kB each."""
_PARAM = "response_format"


class GrammarCompiler:
    """Makes constraints of grammars for one model.

    Each grammar is tried in a process of its own before it is compiled here (see `grammar_trials`); the same grammar is
    compiled once, however many ask for it.

    Args:
        tokenizer_file: tokenizer.json.
        vocab_size: V; ids that the tokenizer does not have are never allowed.
        stop_token_ids: tokens that may come when the grammar is complete.
    """

    def __init__(self, tokenizer_file: Path, *, vocab_size: int, stop_token_ids: Collection[int]) -> None:
        self._tokenizer_file = tokenizer_file
        self._vocab_size = vocab_size
        self._stop_token_ids = frozenset(stop_token_ids)
        self._tokenizer: LLTokenizer | None = None
        self._tokenizer_lock = threading.Lock()
        self._trials = Trials()
        self._kept: OrderedDict[tuple[str, str], Future[LLMatcher | RefusedError]] = OrderedDict()
        self._kept_lock = threading.Lock()

    def compile(self, grammar: Grammar, *, timeout_s: float) -> Constraint:
        """A constraint for one answer; may be called from any thread and takes the time of the caller.

        Args:
            grammar: what the answer must look like.
            timeout_s: to find out whether it can be compiled.

        Raises:
            RefusedError: it cannot; names the keyword and its place as far as they are known.
            MissingExtraError: llguidance is not installed.
        """
        deadline = time.monotonic() + timeout_s
        future, is_mine = self._find(grammar)
        if is_mine:
            self._compile(grammar, future, timeout_s)
        try:
            result = future.result(None if is_mine else max(0.0, deadline - time.monotonic()))
        except TimeoutError as error:
            raise TooComplexError(f"it was not compiled within {timeout_s:g} s") from error
        if isinstance(result, RefusedError):
            raise RefusedError(result.message, fault=result.fault, param=result.param)
        return _Matching(result.deep_copy(), self._stop_token_ids, self._open_tokenizer().vocab_size)

    def close(self) -> None:
        """End the processes that try grammars."""
        self._trials.close()

    def _find(self, grammar: Grammar) -> tuple[Future[LLMatcher | RefusedError], bool]:
        """Where the result lies or will lie, and whether the caller is the one to bring it about."""
        key = (grammar.kind, grammar.text)
        with self._kept_lock:
            known = self._kept.get(key)
            if known is not None:
                self._kept.move_to_end(key)
                return known, False
            future: Future[LLMatcher | RefusedError] = Future()
            self._kept[key] = future
            while len(self._kept) > _MAX_KEPT:
                self._kept.popitem(last=False)
            return future, True

    def _compile(self, grammar: Grammar, future: Future[LLMatcher | RefusedError], timeout_s: float) -> None:
        try:
            self._trials.check(grammar, timeout_s=timeout_s)
            matcher = compiled(self._open_tokenizer(), llguidance_text(grammar))
            if matcher.is_error():
                raise RefusedError(f"the grammar cannot be used: {matcher.get_error()}", param=_PARAM)
            future.set_result(matcher)
        except RefusedError as error:
            if error.fault != "invalid" or isinstance(error, TooComplexError):
                self._forget(grammar)
            future.set_result(error)
        except BaseException as error:
            self._forget(grammar)
            future.set_exception(error)

    def _forget(self, grammar: Grammar) -> None:
        """What failed for no fault of the grammar is tried again when it is asked for again."""
        with self._kept_lock:
            self._kept.pop((grammar.kind, grammar.text), None)

    def _open_tokenizer(self) -> LLTokenizer:
        with self._tokenizer_lock:
            if self._tokenizer is None:
                try:
                    from llguidance import LLTokenizer
                except ImportError as error:
                    raise MissingExtraError("llguidance", extra="serve", needed_for="response_format") from error
                self._tokenizer = self._read_tokenizer(LLTokenizer)
            return self._tokenizer

    def _read_tokenizer(self, make: type[LLTokenizer]) -> LLTokenizer:
        text, ends = self._tokenizer_file.read_text(encoding="utf-8"), sorted(self._stop_token_ids) or None
        try:
            try:
                return make(text, n_vocab=self._vocab_size, eos_token=ends)
            except ValueError as error:
                if "vocab size too small" not in str(error):
                    raise
                return make(text, eos_token=ends)
        except ValueError as error:
            message = f"this model's tokenizer cannot be used with a grammar: {error}"
            raise RefusedError(message, param=_PARAM) from error


class _Matching:
    """How far one answer has come in its grammar.

    Args:
        matcher: its own.
        stop_token_ids: of the model.
        num_tokens: of the tokenizer, or of the model where that has more.
    """

    def __init__(self, matcher: LLMatcher, stop_token_ids: frozenset[int], num_tokens: int) -> None:
        self._matcher = matcher
        self._num_words = -(-num_tokens // 32)
        self._stop_token_ids = stop_token_ids
        self._was_ended = False

    def fill_mask(self, mask_W: torch.Tensor) -> None:
        """See `Constraint`.

        Raises:
            RefusedError: the grammar costs more than a step may.
        """
        # A tokenizer may have tokens that its model does not know.
        whole = mask_W if mask_W.numel() == self._num_words else mask_W.new_empty(self._num_words)
        self._matcher.unsafe_compute_mask_ptr(whole.data_ptr(), whole.numel() * whole.element_size())
        if whole is not mask_W:
            mask_W.copy_(whole[: mask_W.numel()])
        self._check()

    def accept(self, token_id: int) -> None:
        """See `Constraint`.

        Raises:
            RefusedError: the token is none of those that the mask allowed.
        """
        if token_id in self._stop_token_ids:
            self._was_ended = True
            return
        self._matcher.consume_token(token_id)
        self._check()

    @property
    def is_over(self) -> bool:
        """See `Constraint`."""
        return self._was_ended or bool(self._matcher.is_stopped())

    def _check(self) -> None:
        if self._matcher.is_error():
            message = f"the grammar is too complex to go on with: {self._matcher.get_error()}"
            raise RefusedError(message, param=_PARAM)
