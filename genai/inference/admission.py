"""What is looked at before a request may wait for its turn: whether it can be carried out, and its grammar."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from genai.inference.commands import Compiled
from genai.inference.interfaces import Constraint, RefusedError
from genai.inference.sampling import check_sampling
from genai.log import get_logger
from genai.models.generation import Fault, GenerationRequest

if TYPE_CHECKING:
    from genai.inference.constraints import GrammarCompiler

_log = get_logger(__name__)
_COMPILING_AT_ONCE = 8


def check_request(request: GenerationRequest, *, vocab_size: int, max_model_len: int) -> None:
    """Refuse what cannot be carried out as it is.

    Raises:
        RefusedError: invalid or too_long.
    """
    prompt_ids, max_tokens = request.prompt_ids, request.sampling.max_tokens
    if not prompt_ids:
        raise RefusedError("the prompt is empty: it needs at least one token", param="prompt")
    check_sampling(request.sampling, vocab_size)
    if len(prompt_ids) + max_tokens > max_model_len:
        raise RefusedError(
            f"the prompt has {len(prompt_ids)} tokens and max_tokens is {max_tokens}, "
            f"but prompt and answer together may have {max_model_len}",
            fault="too_long",
            param="max_tokens" if len(prompt_ids) < max_model_len else "prompt",
        )
    if min(prompt_ids) < 0 or max(prompt_ids) >= vocab_size:
        wrong = next(token for token in prompt_ids if not 0 <= token < vocab_size)
        raise RefusedError(f"the prompt has token {wrong}, but tokens are 0 to {vocab_size - 1}", param="prompt")


def as_fault(error: RefusedError) -> Fault:
    """For the one who asked."""
    return Fault(code=error.fault, message=str(error), param=error.param)


class GrammarQueue:
    """Has grammars compiled in threads of its own, so that the engine's never waits for one.

    Args:
        compiler: makes constraints of grammars.
        timeout_s: for each.
        tell: takes what came of it.
    """

    def __init__(self, compiler: GrammarCompiler, *, timeout_s: float, tell: Callable[[Compiled], object]) -> None:
        self._compiler = compiler
        self._timeout_s = timeout_s
        self._tell = tell
        self._threads = ThreadPoolExecutor(_COMPILING_AT_ONCE, thread_name_prefix="grammars")

    def begin(self, request: GenerationRequest) -> None:
        """Make sense of its grammar; `tell` hears of it."""
        self._threads.submit(lambda: self._tell(Compiled(request.id, self._compile(request))))

    def close(self) -> None:
        """Begin nothing more; what is under way ends by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._compiler.close()

    def _compile(self, request: GenerationRequest) -> Constraint | Fault:
        assert request.grammar is not None
        try:
            return self._compiler.compile(request.grammar, timeout_s=self._timeout_s)
        except RefusedError as error:
            return as_fault(error)
        except Exception:
            _log.exception("the grammar of request %s could not be compiled", request.id)
            message = "the grammar could not be compiled; the server's log says why"
            return Fault(code="failed", message=message, param="response_format")
