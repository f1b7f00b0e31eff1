"""From a request for text to what an engine is asked: parameters checked, seeds dealt out, room counted."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from genai.models.generation import GenerationRequest, ModelCard, SamplingParams
from genai.serving.errors import ApiError
from genai.serving.grammars import grammar_of
from genai.serving.numbering import engine_id

if TYPE_CHECKING:
    from genai.config.serve import LimitsConfig
    from genai.serving.exchange import Request
    from genai.serving.prompting import Prompter
    from genai.serving.targets import Target
    from genai.serving.wire.generating import Generating

IN_THREAD_CHARACTERS = 20_000
"""Longer prompts are tokenised in a thread, so that nobody else's answer waits for it."""
HINTS = {
    "guided_json": "unknown parameter 'guided_json': use structured_outputs.json or response_format",
    "guided_regex": "unknown parameter 'guided_regex': use structured_outputs.regex",
    "guided_choice": "unknown parameter 'guided_choice': use structured_outputs.choice",
    "guided_grammar": "unknown parameter 'guided_grammar': use structured_outputs.grammar",
    "use_beam_search": "unknown parameter 'use_beam_search': beam search is not supported",
    "max_new_tokens": "unknown parameter 'max_new_tokens' (did you mean 'max_tokens'?)",
    "do_sample": "unknown parameter 'do_sample': temperature 0 takes the likeliest token",
}
"""What to say of parameters that other servers know."""
_SEEDS = 2**63
_DRAWN_BITS = 62


async def prompter_of(request: Request, card: ModelCard) -> Prompter:
    """The tokenizer and chat template of a model; read in a thread the first time."""
    prompters = request.services.prompters
    prompter = prompters.get(card)
    return await asyncio.to_thread(prompters.of, card) if prompter is None else prompter


def check_length(text: int, card: ModelCard, prompter: Prompter, param: str) -> None:
    """Refuse a text of so many characters that cannot fit, before time is spent on its tokens.

    Raises:
        ApiError: 400 context_length_exceeded.
    """
    longest = prompter.longest_token if text > IN_THREAD_CHARACTERS else None
    if longest is not None and text > longest * card.max_model_len:
        raise _too_long(card, f"the prompt has more than {text // longest}", param)


def check_tokens(tokens: list[int], card: ModelCard, param: str) -> None:
    """Refuse tokens that cannot fit, or that the model does not have.

    Raises:
        ApiError: 400.
    """
    if len(tokens) > card.max_model_len:
        raise _too_long(card, f"the prompt has {len(tokens)}", param)
    if tokens and max(tokens) >= card.vocab_size > 0:
        place = next(place for place, token in enumerate(tokens) if token >= card.vocab_size)
        raise ApiError(
            f"{param}[{place}] is no token of the model: ids are 0 to {card.vocab_size - 1}, not {tokens[place]}",
            param=f"{param}[{place}]",
        )


def requests_of(
    request: Request,
    target: Target,
    body: Generating,
    prompts: Sequence[list[int]],
    *,
    max_tokens: int | None,
    default_max_tokens: int | None,
    logprobs: int | None,
    prompt_logprobs: int | None,
    param: str,
) -> list[GenerationRequest]:
    """What the engine is asked: `n` answers to the first prompt, then to the next.

    Args:
        request: came in.
        target: the model.
        body: its parameters.
        prompts: tokens of each.
        max_tokens: of an answer, as the request says it.
        default_max_tokens: where it does not; None: what the context leaves.
        logprobs: likeliest tokens told at each place of the answer; None: not even the chosen one's.
        prompt_logprobs: the same for the prompt.
        param: what the prompt is called in this API.

    Raises:
        ApiError: 400.
    """
    limits, card = request.services.limits, target.card
    count = body.n or 1
    _check_counts(body, limits, len(prompts) * count)
    _check_logprobs("logprobs", logprobs, limits)
    _check_logprobs("prompt_logprobs", prompt_logprobs, limits)
    grammar = grammar_of(body, limits)
    stop, bias = _stop_texts(body, limits), _logit_bias(body.logit_bias, card)
    seed = random.getrandbits(_DRAWN_BITS) if body.seed is None else body.seed
    common, adapter = engine_id(request.id), target.adapter.name if target.adapter else None
    timeout_s = max(request.deadline - time.monotonic(), 0.001)
    answers = []
    for number, prompt_ids in enumerate(prompts):
        longest = _answer_length(prompt_ids, card, max_tokens, default_max_tokens, param)
        if body.min_tokens is not None and body.min_tokens > longest:
            raise ApiError(
                f"min_tokens must be at most max_tokens ({longest}), not {body.min_tokens}", param="min_tokens"
            )
        for choice in range(count):
            sampling = _sampling(body, longest, (seed + choice) % _SEEDS, stop, bias, logprobs, prompt_logprobs)
            answers.append(
                GenerationRequest(
                    id=f"{common}-{number * count + choice}",
                    model=card.name,
                    prompt_ids=prompt_ids,
                    sampling=sampling,
                    adapter=adapter,
                    grammar=grammar,
                    client=request.caller.app,
                    timeout_s=timeout_s,
                )
            )
    return answers


def _sampling(
    body: Generating,
    max_tokens: int,
    seed: int,
    stop: tuple[str, ...],
    bias: dict[int, float] | None,
    logprobs: int | None,
    prompt_logprobs: int | None,
) -> SamplingParams:
    temperature = 1.0 if body.temperature is None else body.temperature
    top_p = 1.0 if body.top_p is None else body.top_p
    return SamplingParams(
        max_tokens=max_tokens,
        min_tokens=body.min_tokens or 0,
        # a share of nothing leaves the likeliest token alone
        temperature=temperature if top_p else 0.0,
        top_k=body.top_k if body.top_k is not None and body.top_k > 0 else 0,
        top_p=top_p or 1.0,
        min_p=body.min_p or 0.0,
        presence_penalty=body.presence_penalty or 0.0,
        frequency_penalty=body.frequency_penalty or 0.0,
        repetition_penalty=1.0 if body.repetition_penalty is None else body.repetition_penalty,
        logit_bias=bias,
        seed=seed,
        stop=stop,
        stop_token_ids=tuple(body.stop_token_ids) if body.stop_token_ids else (),
        include_stop=bool(body.include_stop_str_in_output),
        ignore_eos=bool(body.ignore_eos),
        skip_special_tokens=body.skip_special_tokens is not False,
        logprobs=logprobs,
        prompt_logprobs=prompt_logprobs,
    )


def _check_counts(body: Generating, limits: LimitsConfig, num_answers: int) -> None:
    if body.n is not None and body.n > limits.max_n:
        raise ApiError(f"n must be between 1 and {limits.max_n}, not {body.n}", param="n")
    if num_answers > limits.max_prompts:
        raise ApiError(f"prompts times n must be at most {limits.max_prompts}, not {num_answers}", param="n")
    if body.stream_options is not None and not body.stream:
        raise ApiError("stream_options is only allowed with stream", param="stream_options")
    if body.prompt_logprobs is not None and body.stream:
        raise ApiError("prompt_logprobs cannot be given with stream", param="prompt_logprobs")


def _check_logprobs(name: str, wanted: int | None, limits: LimitsConfig) -> None:
    if wanted is not None and wanted > limits.max_logprobs:
        raise ApiError(f"{name} must be at most {limits.max_logprobs}, not {wanted}", param=name)


def _stop_texts(body: Generating, limits: LimitsConfig) -> tuple[str, ...]:
    if body.stop is None:
        return ()
    stop = (body.stop,) if isinstance(body.stop, str) else tuple(body.stop)
    if len(stop) > limits.max_stop_texts:
        raise ApiError(f"stop must have at most {limits.max_stop_texts} texts, not {len(stop)}", param="stop")
    if "" in stop:
        raise ApiError("stop must not have an empty text", param="stop")
    return stop


def _logit_bias(bias: Mapping[str, float] | None, card: ModelCard) -> dict[int, float] | None:
    if not bias:
        return None
    found: dict[int, float] = {}
    for text, value in bias.items():
        if not (text.isascii() and text.isdecimal() and len(text) < 10 and int(text) < (card.vocab_size or 10**9)):
            raise ApiError(
                f"logit_bias has '{text[:40]}', which is no token of the model: ids are 0 to {card.vocab_size - 1}",
                param="logit_bias",
            )
        found[int(text)] = value
    return found


def _answer_length(
    prompt_ids: list[int], card: ModelCard, max_tokens: int | None, default: int | None, param: str
) -> int:
    """How many tokens the answer may have."""
    if not prompt_ids:
        raise ApiError(f"{param} has no tokens: there is nothing to go on from", param=param)
    room = card.max_model_len - len(prompt_ids)
    if max_tokens is None:
        if room < 1:
            raise _too_long(card, f"the prompt has {len(prompt_ids)}", param)
        return room if default is None else min(default, room)
    if max_tokens > room:
        given = f"the prompt has {len(prompt_ids)} and max_tokens is {max_tokens}"
        raise _too_long(card, given, "max_tokens" if room > 0 else param)
    return max_tokens


def _too_long(card: ModelCard, given: str, param: str) -> ApiError:
    return ApiError(
        f"this model's maximum context length is {card.max_model_len} tokens, but {given}",
        param=param,
        code="context_length_exceeded",
    )
