"""/v1/completions on the wire."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from genai.serving.wire.generating import Generating, PromptLogprobs, TokenId, UsageBody


class CompletionRequest(Generating, kw_only=True, forbid_unknown_fields=True):
    """Texts to go on from."""

    prompt: str | list[str | TokenId | list[TokenId]]
    """A text, several texts, the tokens of one, or of several. Special tokens in a text are read as such."""
    logprobs: Annotated[int, Meta(ge=0)] | None = None
    echo: bool | None = None
    """The answer begins with the prompt."""
    best_of: Annotated[int, Meta(ge=1)] | None = None
    """Not supported beyond n."""
    suffix: Any = None
    """Not supported."""


class CompletionLogprobs(Struct, kw_only=True):
    """Four lists, each with one for each token."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None] | None
    """Null when none were asked for."""
    text_offset: list[int]
    """Where the token begins in the text."""


class CompletionChoice(Struct, kw_only=True):
    """One of the answers."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None = None
    finish_reason: str
    stop_reason: str | int | None = None
    prompt_logprobs: PromptLogprobs | None = None


class CompletionAnswer(Struct, kw_only=True):
    """The answers, those to the first prompt first."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    system_fingerprint: str
    choices: list[CompletionChoice]
    usage: UsageBody
