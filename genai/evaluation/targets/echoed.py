"""Likelihoods of given texts, from servers that repeat a prompt with the log-probability of each of its tokens.

They are asked for /v1/completions with `echo` and `logprobs`; the reply's `text_offset` says where each token begins in
the text. A token across the border of context and continuation counts to the continuation; spaces at the end of a
context are moved there first, as lm-eval does (lm_eval/api/model.py, `_encode_pair`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from genai.evaluation.records import Likelihood


class NoEchoError(Exception):
    """The reply does not have what was asked for; its text says what is missing."""


@dataclass(frozen=True, kw_only=True)
class EchoedToken:
    """A token of a text that was repeated."""

    begin: int
    """In characters of the text."""
    end: int
    """Of the next token the begin, or of the text the end."""
    logprob: float | None
    """None: of the first token, which nothing comes before."""
    is_greedy: bool
    """Whether no other token was likelier."""


def texts_of_pairs(pairs: Sequence[tuple[str, str]]) -> list[tuple[str, int]]:
    """The text to be repeated for each pair, and where in it the continuation begins."""
    return [(context + continuation, len(context.rstrip())) for context, continuation in pairs]


def read_tokens(reply: Any, texts: Sequence[str]) -> list[list[EchoedToken]]:
    """The tokens of each text.

    Args:
        reply: the body of the answer to `asking.echo_body(texts)`.
        texts: that were sent.

    Raises:
        NoEchoError: the server does not do this.
    """
    try:
        choices = {int(choice["index"]): choice for choice in reply["choices"]}
        return [_tokens(choices[place]["logprobs"], text) for place, text in enumerate(texts)]
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise NoEchoError(f"it has no log-probabilities of the prompt ({type(error).__name__}: {error})") from None


def likelihood_from(tokens: Sequence[EchoedToken], begin: int = 0) -> Likelihood:
    """The likelihood of a text from the character `begin` to its end.

    Raises:
        NoEchoError: the server does not say how likely the first token is, which belongs to it.
    """
    found = [token for token in tokens if token.begin >= begin or token.end > begin]
    if not found or any(token.logprob is None for token in found):
        raise NoEchoError("it says nothing of the first token, and there is no context before it")
    return Likelihood(
        logprob=sum(token.logprob or 0.0 for token in found),
        num_tokens=len(found),
        is_greedy=all(token.is_greedy for token in found),
    )


def whole_likelihood(tokens: Sequence[EchoedToken]) -> Likelihood:
    """The likelihood of a whole text; without its first token, where the server says nothing of that.

    Raises:
        NoEchoError: there is no other token.
    """
    known = tokens[1:] if tokens and tokens[0].logprob is None else tokens
    return likelihood_from(known)


def _tokens(told: Mapping[str, Any], text: str) -> list[EchoedToken]:
    lead = _before(told["tokens"], text)
    offsets = [max(0, offset - lead) for offset in told["text_offset"]]
    ends = [*offsets[1:], len(text)]
    rows = zip(offsets, ends, told["token_logprobs"], told["top_logprobs"], strict=True)
    tokens = [
        EchoedToken(begin=begin, end=end, logprob=logprob, is_greedy=logprob is None or logprob >= max(top.values()))
        for begin, end, logprob, top in rows
        if begin < len(text)  # some servers cannot but say a token more
    ]
    return tokens[1:] if lead else tokens


def _before(tokens: Sequence[str], text: str) -> int:
    """Characters of a token that the server put before the text (<s>), which its offsets count; pieces of a character,
    which are shown as something else, are none.
    """
    first = tokens[0] if tokens else ""
    is_piece = "\N{REPLACEMENT CHARACTER}" in first or first.startswith("bytes:")
    return 0 if is_piece or text.startswith(first) else len(first)
