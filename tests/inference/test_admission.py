"""What is looked at before a request may wait: its own words, and its grammar."""

import threading
from collections.abc import Callable
from typing import Any, cast

import pytest
from toy_engine import ask

from genai.inference.admission import GrammarQueue, as_fault, check_request
from genai.inference.commands import Compiled
from genai.inference.interfaces import RefusedError
from genai.models.generation import Fault, Grammar

DEADLINE_S = 20.0


def refused(request: Any) -> Fault:
    with pytest.raises(RefusedError) as caught:
        check_request(request, vocab_size=100, max_model_len=10)
    return as_fault(caught.value)


def test_what_fits_exactly_is_taken() -> None:
    check_request(ask("a", [0, 99], max_tokens=8), vocab_size=100, max_model_len=10)
    check_request(ask("a", [1] * 10, max_tokens=0), vocab_size=100, max_model_len=10)


def test_too_long_tells_all_numbers_and_who_is_to_blame() -> None:
    fault = refused(ask("a", [1] * 3, max_tokens=8))
    assert (fault.code, fault.param) == ("too_long", "max_tokens")
    assert fault.message == ("the prompt has 3 tokens and max_tokens is 8, but prompt and answer together may have 10")
    assert refused(ask("a", [1] * 11, max_tokens=1)).param == "prompt"


@pytest.mark.parametrize(("prompt", "word"), [([], "empty"), ([5, 100], "token 100"), ([-3], "token -3")])
def test_prompts_that_are_none(prompt: list[int], word: str) -> None:
    fault = refused(ask("a", prompt, max_tokens=1))
    assert (fault.code, fault.param) == ("invalid", "prompt")
    assert word in fault.message


def test_sampling_is_looked_at() -> None:
    assert refused(ask("a", [1], max_tokens=1, top_p=0.0)).param == "top_p"


class Compiler:
    """Does what it is told."""

    def __init__(self, outcome: Callable[[], Any]) -> None:
        self.outcome = outcome
        self.is_closed = False

    def compile(self, grammar: Grammar, *, timeout_s: float) -> Any:
        assert timeout_s == 3.0
        return self.outcome()

    def close(self) -> None:
        self.is_closed = True


def compile_with(outcome: Callable[[], Any]) -> Compiled:
    told: list[Compiled] = []
    came = threading.Event()
    compiler = Compiler(outcome)

    def tell(result: Compiled) -> None:
        told.append(result)
        came.set()

    queue = GrammarQueue(cast("Any", compiler), timeout_s=3.0, tell=tell)
    queue.begin(ask("a", grammar=Grammar(kind="regex", text="x")))
    assert came.wait(DEADLINE_S)
    queue.close()
    assert compiler.is_closed
    assert told[0].id == "a"
    return told[0]


def raising(error: Exception) -> Callable[[], Any]:
    def raise_it() -> Any:
        raise error

    return raise_it


def test_a_constraint_is_handed_on() -> None:
    made = object()
    assert compile_with(lambda: made).result is made


def test_a_bad_grammar_is_a_fault() -> None:
    result = compile_with(raising(RefusedError("no such keyword", param="response_format"))).result
    assert result == Fault(code="invalid", message="no such keyword", param="response_format")


def test_a_broken_compiler_is_a_fault_too() -> None:
    result = compile_with(raising(RuntimeError("inner detail"))).result
    assert isinstance(result, Fault)
    assert result.code == "failed"
    assert "inner" not in result.message
