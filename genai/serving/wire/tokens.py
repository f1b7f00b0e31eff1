"""/v1/tokenize and /v1/detokenize on the wire, as vLLM has them."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct

from genai.serving.wire.chat import ChatMessage
from genai.serving.wire.generating import TokenId


class TokenizeRequest(Struct, kw_only=True, forbid_unknown_fields=True):
    """A text, or the messages of a chat."""

    model: str | None = None
    """May be left out where there is only one language model."""
    prompt: str | None = None
    messages: Annotated[list[ChatMessage], Meta(min_length=1, max_length=10_000)] | None = None
    add_special_tokens: bool | None = None
    """By default yes for a text, no for a chat."""
    add_generation_prompt: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    return_token_strs: bool | None = None


class TokenizeAnswer(Struct, kw_only=True):
    """The tokens."""

    tokens: list[int]
    count: int
    max_model_len: int
    token_strs: list[str] | None = None


class DetokenizeRequest(Struct, kw_only=True, forbid_unknown_fields=True):
    """Tokens."""

    model: str | None = None
    """May be left out where there is only one language model."""
    tokens: list[TokenId]


class DetokenizeAnswer(Struct, kw_only=True):
    """The text."""

    prompt: str


class TokenizerInfo(Struct, kw_only=True):
    """What a client needs to know to write prompts itself."""

    bos_token: str | None
    eos_token: str | None
    pad_token: str | None
    unk_token: str | None
    chat_template: str | None
    max_model_len: int
