"""POST /v1/completions (https://platform.openai.com/docs/api-reference/completions)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import msgspec

from genai.models.generation import Event, TokenLogprob
from genai.serving import sse
from genai.serving.answering import Answer, Answers, prompt_logprobs_body, told
from genai.serving.asking import HINTS, IN_THREAD_CHARACTERS, check_length, check_tokens, prompter_of, requests_of
from genai.serving.errors import ApiError
from genai.serving.exchange import Request, Response, Route, Streamed
from genai.serving.parsing import Body
from genai.serving.targets import find_target
from genai.serving.wire.completions import CompletionAnswer, CompletionChoice, CompletionLogprobs, CompletionRequest

if TYPE_CHECKING:
    from genai.config.serve import LimitsConfig
    from genai.models.generation import GenerationRequest, ModelCard
    from genai.serving.prompting import Prompter
    from genai.serving.targets import Target

_BODY = Body(CompletionRequest, hints=HINTS)
_DEFAULT_MAX_TOKENS = 16
_encode = msgspec.json.Encoder().encode


async def create(request: Request) -> Response | Streamed:
    """Go on from each prompt."""
    body = _BODY.read(request.body)
    target = find_target(request, body.model, "text")
    request.notes.model = target.name
    _refuse_unsupported(body)
    prompts = _prompts(body.prompt, target.card, request.services.limits)
    prompter = await prompter_of(request, target.card)
    tokens = await _tokens(prompter, target.card, prompts, body.add_special_tokens is not False)
    wanted = requests_of(
        request,
        target,
        body,
        tokens,
        max_tokens=body.max_tokens,
        default_max_tokens=_DEFAULT_MAX_TOKENS,
        logprobs=body.logprobs,
        prompt_logprobs=_prompt_logprobs(body),
        param="prompt",
    )
    asked = _Asked(request, target, wanted, prompter, prompts, body)
    return Streamed(_chunks(asked)) if body.stream else await _answer(asked)


ROUTES = (
    Route(
        method="POST",
        path="/v1/completions",
        handler=create,
        summary="Go on from a text or tokens",
        request_type=CompletionRequest,
        response_type=CompletionAnswer,
        streams=True,
    ),
)


# --- what is asked ----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Asked:
    """All that the answer is made of."""

    request: Request
    target: Target
    wanted: list[GenerationRequest]
    prompter: Prompter
    prompts: Sequence[str | list[int]]
    body: CompletionRequest
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def num_choices(self) -> int:
        return self.body.n or 1

    def echo(self, answer: Answer) -> str:
        """What stands before an answer."""
        if not self.body.echo:
            return ""
        prompt = self.prompts[answer.index // self.num_choices]
        return prompt if isinstance(prompt, str) else self.prompter.decode(prompt)

    def lists(self, answer: Answer) -> _Lists | None:
        """Where the log-probabilities of an answer are put; None where none are asked for."""
        if self.body.logprobs is None:
            return None
        lists = _Lists()
        prompt = self.prompts[answer.index // self.num_choices]
        if self.body.echo and isinstance(prompt, str):
            # what the tokenizer puts before a text is among the tokens, but not in the text that is sent back
            whole = self.prompter.decode(self.wanted[answer.index].prompt_ids)
            lists.offset = len(prompt) - len(whole) if whole.endswith(prompt) else 0
        return lists


def _refuse_unsupported(body: CompletionRequest) -> None:
    if body.suffix not in (None, ""):
        raise ApiError("suffix is not supported", param="suffix")
    if body.best_of is not None and body.best_of != (body.n or 1):
        raise ApiError("best_of other than n is not supported", param="best_of")
    if body.max_tokens == 0 and not (body.echo or body.prompt_logprobs is not None):
        raise ApiError("max_tokens must be at least 1 without echo, not 0", param="max_tokens")


def _prompt_logprobs(body: CompletionRequest) -> int | None:
    """For `echo` with `logprobs` those of the prompt are wanted too."""
    echoed = body.logprobs if body.echo else None
    if echoed is None or body.prompt_logprobs is None:
        return body.prompt_logprobs if echoed is None else echoed
    return max(echoed, body.prompt_logprobs)


def _prompts(
    prompt: str | list[str | int | list[int]], card: ModelCard, limits: LimitsConfig
) -> Sequence[str | list[int]]:
    """The prompts one by one, each a text or tokens."""
    if isinstance(prompt, str):
        return [prompt]
    if not prompt:
        raise ApiError("prompt must not be empty", param="prompt")
    if len(prompt) > limits.max_prompts and not isinstance(prompt[0], int):
        raise ApiError(f"prompt must have at most {limits.max_prompts} texts, not {len(prompt)}", param="prompt")
    if isinstance(prompt[0], int):
        try:
            check_tokens(cast("list[int]", prompt), card, "prompt")
        except TypeError:  # by a number beside a text or list: a look at each would take longer than the check
            raise _mixture() from None
        return [cast("list[int]", prompt)]
    if len(set(map(type, prompt))) > 1:
        raise _mixture()
    if isinstance(prompt[0], str):
        return cast("list[str]", prompt)
    for number, tokens in enumerate(cast("list[list[int]]", prompt)):
        check_tokens(tokens, card, f"prompt[{number}]")
    return cast("list[list[int]]", prompt)


def _mixture() -> ApiError:
    return ApiError("prompt must be a text, a list of texts, or lists of tokens, not a mixture", param="prompt")


async def _tokens(
    prompter: Prompter, card: ModelCard, prompts: Sequence[str | list[int]], add_special_tokens: bool
) -> list[list[int]]:
    if not isinstance(prompts[0], str):
        return cast("list[list[int]]", prompts)
    texts = cast("list[str]", prompts)
    for text in texts:
        check_length(len(text), card, prompter, "prompt")

    def tokens() -> list[list[int]]:
        return [prompter.text(text, add_special_tokens=add_special_tokens) for text in texts]

    return tokens() if sum(map(len, texts)) <= IN_THREAD_CHARACTERS else await asyncio.to_thread(tokens)


# --- what is answered -------------------------------------------------------------------------------------------------


async def _answer(asked: _Asked) -> Response:
    answers = Answers(asked.request, asked.target.name, asked.wanted, asked.num_choices)
    try:
        await answers.collect()
    finally:
        answers.close()
    body = CompletionAnswer(
        id=f"cmpl-{asked.request.id}",
        created=asked.created,
        model=asked.target.name,
        system_fingerprint=asked.target.fingerprint,
        choices=[_choice(asked, answer) for answer in answers.all],
        usage=answers.usage,
    )
    return Response(_encode(body))


def _choice(asked: _Asked, answer: Answer) -> CompletionChoice:
    lists = asked.lists(answer)
    if lists is not None:
        if asked.body.echo:
            lists.add_prompt(asked, answer, answer.prompt_logprobs)
        lists.add(answer.logprobs)
    wants_prompt = asked.body.prompt_logprobs is not None and answer.prompt_logprobs
    return CompletionChoice(
        index=answer.index,
        text=asked.echo(answer) + "".join(answer.texts),
        logprobs=lists.body if lists else None,
        finish_reason=answer.finish_reason,
        stop_reason=answer.stop_reason,
        prompt_logprobs=prompt_logprobs_body(answer.prompt_logprobs) if wants_prompt else None,
    )


async def _chunks(asked: _Asked) -> AsyncIterator[bytes]:
    answers = Answers(asked.request, asked.target.name, asked.wanted, asked.num_choices)
    options = asked.body.stream_options
    include_usage = bool(options and options.include_usage)
    write = _Writer(asked, include_usage)
    try:
        while answers.num_open:
            pieces = [write.event(answers.of[event.id], event) for event in await answers.next()]
            if not answers.num_open:
                if include_usage:
                    pieces.append(write.usage(answers))
                pieces.append(sse.DONE)
            chunk = b"".join(pieces)
            if chunk:
                yield chunk
    finally:
        answers.close()


class _Writer:
    """Writes chunks; all that stays the same from one to the next is made once."""

    def __init__(self, asked: _Asked, include_usage: bool) -> None:
        head = {
            "id": f"cmpl-{asked.request.id}",
            "object": "text_completion",
            "created": asked.created,
            "model": asked.target.name,
            "system_fingerprint": asked.target.fingerprint,
        }
        self._asked = asked
        self._head = b"data: " + _encode(head)[:-1] + b',"choices":['
        self._texts = [self._head + b'{"index":%d,"text":' % index for index in range(len(asked.wanted))]
        self._end = b'],"usage":null}\n\n' if include_usage else b"]}\n\n"
        self._open_end = b',"logprobs":null,"finish_reason":null}' + self._end
        self._is_plain = not asked.body.echo and asked.body.logprobs is None
        self._lists: dict[int, _Lists | None] = {}

    def event(self, answer: Answer, event: Event) -> bytes:
        """A chunk, or nothing where there is nothing to tell."""
        if self._is_plain and event.finish_reason is None:
            return self._texts[answer.index] + _encode(event.text) + self._open_end if event.text else b""
        text = event.text
        logprobs = self._logprobs(answer, event)
        if not answer.begun:
            answer.begun = True
            text = self._asked.echo(answer) + text
        if not text and logprobs is None and event.finish_reason is None:
            return b""
        reasons = b',"finish_reason":' + _encode(event.finish_reason) + b',"stop_reason":' + _encode(event.stop_reason)
        told = b',"logprobs":' + _encode(logprobs)
        return self._texts[answer.index] + _encode(text) + told + reasons + b"}" + self._end

    def usage(self, answers: Answers) -> bytes:
        return self._head + b'],"usage":' + _encode(answers.usage) + b"}\n\n"

    def _logprobs(self, answer: Answer, event: Event) -> CompletionLogprobs | None:
        """Those of this event, with those of the prompt before the first; offsets count from the text's beginning."""
        if answer.index not in self._lists:
            self._lists[answer.index] = self._asked.lists(answer)
        lists = self._lists[answer.index]
        if lists is None or not (event.logprobs or event.prompt_logprobs):
            return None
        lists.clear()
        if event.prompt_logprobs:
            lists.add_prompt(self._asked, answer, event.prompt_logprobs)
        lists.add(event.logprobs)
        return lists.body


class _Lists:
    """OpenAI's older form of log-probabilities, filled token by token."""

    def __init__(self) -> None:
        self.offset = 0
        """Characters of the text before the next token."""
        self.clear()

    def clear(self) -> None:
        """Begin new lists, further on in the same text."""
        self.body = CompletionLogprobs(tokens=[], token_logprobs=[], top_logprobs=[], text_offset=[])

    def add(self, logprobs: Sequence[TokenLogprob]) -> None:
        for entry in logprobs:
            # Two tokens may have the same text (pieces of a character): the likelier one is told.
            likeliest: dict[str, float] = {}
            for top in (*entry.top, entry):
                if top.text not in likeliest:
                    likeliest[top.text] = told(top.logprob)
            self._add(entry.text, entry.data, told(entry.logprob), likeliest)

    def add_prompt(self, asked: _Asked, answer: Answer, logprobs: Sequence[TokenLogprob | None]) -> None:
        prompt_ids = asked.wanted[answer.index].prompt_ids
        for token_id, entry in zip(prompt_ids, logprobs, strict=True):
            if entry is not None:
                self.add([entry])
            else:
                text = asked.prompter.decode([token_id])
                self._add(text, text.encode(), None, None)

    def _add(self, text: str, data: bytes, logprob: float | None, likeliest: dict[str, float] | None) -> None:
        assert self.body.top_logprobs is not None
        self.body.tokens.append(text)
        self.body.token_logprobs.append(logprob)
        self.body.top_logprobs.append(likeliest)
        begins_inside = bool(data) and data[0] & 0xC0 == 0x80
        self.body.text_offset.append(max(self.offset - begins_inside, 0))
        self.offset += sum(byte & 0xC0 != 0x80 for byte in data)
