"""/v1/chat/completions on the wire."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from genai.serving.wire.generating import Count, Generating, PromptLogprobs, UsageBody


class ContentPart(Struct, kw_only=True):
    """A piece of a message; only text is answered."""

    type: str
    text: str | None = None
    refusal: str | None = None


class ChatMessage(Struct, kw_only=True, forbid_unknown_fields=True):
    """What somebody said.

    Special tokens of the model that stand in a text are read as plain text, so that nobody can speak for somebody else;
    to write a prompt token by token there is /v1/completions.
    """

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[ContentPart] | None = None
    name: str | None = None
    refusal: str | None = None
    tool_calls: list[Any] | None = None
    tool_call_id: str | None = None
    function_call: Any = None
    audio: Any = None
    annotations: Any = None
    """Accepted and ignored."""
    reasoning_content: str | None = None
    """Handed to the template, as is the next one."""
    reasoning: str | None = None


class ChatRequest(Generating, kw_only=True, forbid_unknown_fields=True):
    """What is asked in a chat."""

    messages: Annotated[list[ChatMessage], Meta(min_length=1, max_length=10_000)]
    max_completion_tokens: Count | None = None
    """The newer name of max_tokens; by default what the context leaves."""
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0)] | None = None
    add_generation_prompt: bool | None = None
    """Whether the prompt ends with what opens the assistant's turn; true by default."""
    chat_template_kwargs: dict[str, Any] | None = None
    """Further names that the model's chat template knows, e.g. enable_thinking."""

    tools: Any = None
    """Not supported, as are the next ones: anything that asks for them is refused."""
    tool_choice: Any = None
    functions: Any = None
    function_call: Any = None
    audio: Any = None
    modalities: Any = None
    prediction: Any = None
    web_search_options: Any = None
    moderation: Any = None

    parallel_tool_calls: Any = None
    """Accepted and ignored, as are the next ones."""
    reasoning_effort: Any = None
    verbosity: Any = None


class TopLogprob(Struct, kw_only=True):
    """One of the likeliest tokens at a place."""

    token: str
    logprob: float
    bytes: list[int]


class ChatLogprob(Struct, kw_only=True):
    """A token of the answer."""

    token: str
    logprob: float
    bytes: list[int]
    top_logprobs: list[TopLogprob]


class ChatLogprobs(Struct, kw_only=True):
    """One for each token of the answer."""

    content: list[ChatLogprob]
    refusal: None = None


class AnswerMessage(Struct, kw_only=True):
    """What the model said."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class ChatChoice(Struct, kw_only=True):
    """One of the answers."""

    index: int
    message: AnswerMessage
    logprobs: ChatLogprobs | None = None
    finish_reason: str
    stop_reason: str | int | None = None


class ChatAnswer(Struct, kw_only=True, omit_defaults=False):
    """The answers to a chat."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    system_fingerprint: str
    choices: list[ChatChoice]
    usage: UsageBody
    prompt_logprobs: PromptLogprobs | None = None
