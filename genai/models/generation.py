"""What it takes to ask a model for text or vectors, and what comes back: records shared by engines, servers, clients.

They are dataclasses of plain values, so that any of them can be sent to another process as it is. None is changed once
it is made; the type checker holds all to that, Python only those that are made seldom (see `_record`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeVar, dataclass_transform

T = TypeVar("T")

FinishReason = Literal["stop", "length", "abort", "error"]
"""stop: the model ended, or a stop text or token came; length: max_tokens or the model's context; abort: the asker went
away or its time was over; error: see `Event.fault`."""

FaultCode = Literal["invalid", "not_found", "too_long", "overloaded", "timeout", "not_loaded", "failed"]
"""invalid: the request cannot be carried out as it is; not_found: no such model or adapter; too_long: prompt and answer
do not fit; overloaded: the queue is full; timeout: its time was over; not_loaded: the model is not there at the moment;
failed: a fault of the engine."""

GrammarKind = Literal["json_object", "json_schema", "regex", "choice", "lark"]


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(field,))
def _record(kind: type[T]) -> type[T]:
    """A dataclass for what is made with every request or token: frozen for the type checker alone, because Python takes
    three to four times as long to make one that is frozen.
    """
    return dataclass(kw_only=True, slots=True)(kind)


@_record
class SamplingParams:
    """How the tokens of one answer are chosen, and when it is over."""

    max_tokens: int = 16
    """Where to stop if the model does not; at least 0 (0 only reads the prompt, for `prompt_logprobs`)."""
    min_tokens: int = 0
    """So many tokens come before the model may end."""
    temperature: float = 1.0
    """0 takes the likeliest token; above, the share of luck."""
    top_k: int = 0
    """Draw among so many of the likeliest tokens; 0: among all."""
    top_p: float = 1.0
    """Draw among the likeliest tokens that together have this probability."""
    min_p: float = 0.0
    """Draw among tokens with at least this share of the likeliest token's probability."""
    presence_penalty: float = 0.0
    """Taken from the logit of every token that the answer has already."""
    frequency_penalty: float = 0.0
    """Taken from a token's logit for each time that the answer has it already."""
    repetition_penalty: float = 1.0
    """Logits of tokens in prompt or answer are divided by it where positive, else multiplied (arXiv:1909.05858)."""
    logit_bias: dict[int, float] | None = None
    """Token -> what is added to its logit; -100 forbids, 100 all but commands."""
    seed: int = 0
    """The same seed gives the same answer to the same request, whatever else the engine does."""
    stop: tuple[str, ...] = ()
    """Texts that end the answer."""
    stop_token_ids: tuple[int, ...] = ()
    """Tokens that end the answer, beside the model's own."""
    include_stop: bool = False
    """Whether the text of the answer includes the stop text that ended it."""
    ignore_eos: bool = False
    """Go on past the model's own end (for measurements)."""
    skip_special_tokens: bool = True
    """Leave special tokens out of the text."""
    logprobs: int | None = None
    """Report the log-probability of each token of the answer, and so many of the likeliest beside it; None: neither.
    They are the model's own, before temperature, penalties and bias."""
    prompt_logprobs: int | None = None
    """The same for each token of the prompt but the first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Grammar:
    """What an answer must look like."""

    kind: GrammarKind
    """json_object: any JSON object; json_schema: `text` is a JSON schema; regex and lark: `text` is one; choice: `text`
    is a JSON list of strings, of which the answer is one."""
    text: str = ""


@_record
class GenerationRequest:
    """One answer that is wanted."""

    id: str
    """Unique among those that are under way; what `abort` takes."""
    model: str
    """Name of the endpoint."""
    prompt_ids: list[int]
    """Tokens of the prompt; at least one."""
    sampling: SamplingParams = field(default_factory=SamplingParams)
    adapter: str | None = None
    """Name of a LoRA adapter of that model."""
    grammar: Grammar | None = None
    client: str = ""
    """Whose it is: clients take turns, however much each asks for."""
    timeout_s: float | None = None
    """From its arrival to its last token; then it ends with fault `timeout`."""


@_record
class TokenLogprob:
    """A token and its log-probability (natural logarithm)."""

    token_id: int
    text: str
    """The token alone; the replacement character stands for bytes that are no whole character."""
    data: bytes
    """The token's bytes."""
    logprob: float
    rank: int
    """1 for the likeliest token of all."""
    top: tuple[TokenLogprob, ...] = ()
    """The likeliest tokens at this place, best first; each without a `top` of its own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """Why an answer could not be given, in words for the one who asked."""

    code: FaultCode
    message: str
    param: str | None = None
    """The part of the request that is to blame, e.g. `response_format`."""


@_record
class Usage:
    """What an answer took."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    """Of the prompt: read earlier, for another request that began alike."""


@_record
class Event:
    """What one step brought for one answer; the last one has a `finish_reason`, and every answer has a last one."""

    id: str
    """Of the request."""
    text: str = ""
    """New text, whole characters; text that may still turn out to be a stop text is held back until that is known."""
    token_ids: list[int] = field(default_factory=list)
    """New tokens, those that ended the answer included."""
    logprobs: list[TokenLogprob] = field(default_factory=list)
    """One for each new token, where asked for."""
    prompt_logprobs: list[TokenLogprob | None] = field(default_factory=list)
    """One for each token of the prompt, the first of them None; all in one event, where asked for."""
    finish_reason: FinishReason | None = None
    stop_reason: str | int | None = None
    """The stop text or token of the request that ended the answer; None when the model ended it."""
    fault: Fault | None = None
    """With finish_reason `error`, or `abort` after a timeout."""
    usage: Usage | None = None
    """With finish_reason."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EmbedRequest:
    """Vectors that are wanted of texts (or of tokens)."""

    id: str
    model: str
    """Name of the endpoint."""
    texts: list[str]
    role: Literal["document", "query"] = "document"
    """Which of the encoder's prompts is put before each text."""
    dimensions: int | None = None
    """Keep only the first numbers of every vector, scaled to length 1 again where the encoder scales."""
    truncate: bool = True
    """Cut a text that is longer than the encoder reads; else it is refused (`too_long`)."""
    client: str = ""
    timeout_s: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class EmbedResult:
    """Vectors, or why there are none."""

    id: str
    vectors: list[bytes] = field(default_factory=list)
    """One a text: float32, little endian."""
    num_tokens: int = 0
    """Of all texts, prompts of the encoder and special tokens included."""
    fault: Fault | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class RerankRequest:
    """Scores that are wanted: how well each text answers the query."""

    id: str
    model: str
    """Name of the endpoint."""
    query: str
    texts: list[str]
    client: str = ""
    timeout_s: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class RerankResult:
    """Scores, or why there are none."""

    id: str
    scores: list[float] = field(default_factory=list)
    """One a text, from 0 to 1, in the order of the texts."""
    num_tokens: int = 0
    fault: Fault | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class AdapterCard:
    """A LoRA adapter that requests can name."""

    name: str
    reference: str
    """What the operator wrote."""
    fingerprint: str
    rank: int
    created: int = 0
    """Seconds since 1970."""


ModelState = Literal["loading", "ready", "unloaded", "failed"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelCard:
    """What a server needs to know of a model that an engine has."""

    name: str
    """Of the endpoint."""
    kind: Literal["text", "encoder", "reranker"]
    state: ModelState
    """unloaded: it is loaded by the first request."""
    reference: str
    """What the operator wrote."""
    folder: str
    """Where tokenizer.json, its config and the chat template lie."""
    fingerprint: str
    created: int
    """Seconds since 1970."""
    version: int = 0
    """Counts up whenever other weights, tokenizer or template come under this name."""
    max_model_len: int = 0
    """Tokens of prompt and answer together (text), or that a text is cut at."""
    vocab_size: int = 0
    """Tokens the model can give; text only."""
    stop_token_ids: list[int] = field(default_factory=list)
    """The model's own ends; text only."""
    chat_template: str | None = None
    """Jinja, where the operator named one in place of the folder's."""
    dimension: int = 0
    """Numbers of a vector; encoder only."""
    default_role: Literal["document", "query"] = "document"
    """What a text is where the request does not say; encoder only."""
    adapters: list[AdapterCard] = field(default_factory=list)
    is_internal: bool = False
    """An encoder that only indexes use: requests cannot name it."""
    error: str | None = None
    """With state `failed`."""
