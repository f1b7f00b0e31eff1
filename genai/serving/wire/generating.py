"""What requests for text have in common, and parts of their answers.

Names and ranges are OpenAI's; further ones are vLLM's. A parameter that is null is as if it were not there.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Raw, Struct, field

INT64 = 2**63

Share = Annotated[float, Meta(ge=0, le=1)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
Bias = Annotated[float, Meta(ge=-100, le=100)]
Count = Annotated[int, Meta(ge=0, le=2**31 - 1)]
TokenId = Annotated[int, Meta(ge=0, le=2**31 - 1)]
NO_SCHEMA = Raw(b"null")


def _no_schema() -> Raw:
    return NO_SCHEMA  # by a function, because msgspec cannot write a Raw as a default in a JSON schema


class StreamOptions(Struct, kw_only=True, forbid_unknown_fields=True):
    """What a stream tells beside the answer."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None
    """Accepted and ignored."""


class JsonSchema(Struct, kw_only=True, forbid_unknown_fields=True):
    """A schema that the answer follows; always strictly, whatever `strict` says."""

    name: str | None = None
    description: str | None = None
    schema: Raw = field(default_factory=_no_schema)
    strict: bool | None = None


class ResponseFormat(Struct, kw_only=True, forbid_unknown_fields=True):
    """What the answer must look like."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class StructuredOutputs(Struct, kw_only=True, forbid_unknown_fields=True):
    """vLLM's way to say what the answer must look like: exactly one of these."""

    json: Raw = field(default_factory=_no_schema)
    """A JSON schema, or a string that holds one."""
    json_object: bool | None = None
    regex: Annotated[str, Meta(min_length=1)] | None = None
    choice: Annotated[list[str], Meta(min_length=1)] | None = None
    grammar: Annotated[str, Meta(min_length=1)] | None = None
    """Lark, as llguidance reads it."""


class Generating(Struct, kw_only=True, forbid_unknown_fields=True):
    """Parameters of every request for text."""

    model: str
    """Name of an endpoint, or of one of its adapters."""
    max_tokens: Count | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Share | None = None
    n: Annotated[int, Meta(ge=1)] | None = None
    stop: str | list[str] | None = None
    seed: Annotated[int, Meta(ge=-INT64, le=INT64 - 1)] | None = None
    logit_bias: Annotated[dict[str, Bias], Meta(max_length=4096)] | None = None
    """Token id (as a string) -> what is added to its logit."""
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    response_format: ResponseFormat | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    top_k: Annotated[int, Meta(ge=-1, le=2**31 - 1)] | None = None
    """0 and -1: all."""
    min_p: Share | None = None
    repetition_penalty: Annotated[float, Meta(gt=0, le=100)] | None = None
    min_tokens: Count | None = None
    ignore_eos: bool | None = None
    stop_token_ids: Annotated[list[TokenId], Meta(max_length=1024)] | None = None
    include_stop_str_in_output: bool | None = None
    skip_special_tokens: bool | None = None
    add_special_tokens: bool | None = None
    """Whether the tokenizer's own beginning is put before the prompt: by default yes for a text, no for a chat, whose
    template has it."""
    prompt_logprobs: Annotated[int, Meta(ge=0)] | None = None
    structured_outputs: StructuredOutputs | None = None

    user: Any = None
    """Accepted and ignored, as are the next ones."""
    metadata: Any = None
    store: Any = None
    service_tier: Any = None
    safety_identifier: Any = None
    prompt_cache_key: Any = None
    prompt_cache_retention: Any = None


class PromptTokensDetails(Struct, kw_only=True):
    """Of the tokens of the prompt."""

    cached_tokens: int


class UsageBody(Struct, kw_only=True):
    """What the answers took."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails


class PromptLogprob(Struct, kw_only=True):
    """vLLM's form of a token's log-probability."""

    logprob: float
    rank: int
    decoded_token: str


PromptLogprobs = list[dict[int, PromptLogprob] | None]
"""One for each token of the prompt: token id -> log-probability, the token's own first."""
