"""POST /v1/chat/completions (https://platform.openai.com/docs/api-reference/chat)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import msgspec

from genai.models.generation import Event, TokenLogprob
from genai.serving import sse
from genai.serving.answering import Answers, prompt_logprobs_body, told
from genai.serving.asking import HINTS, IN_THREAD_CHARACTERS, check_length, prompter_of, requests_of
from genai.serving.errors import ApiError
from genai.serving.exchange import Request, Response, Route, Streamed
from genai.serving.parsing import Body
from genai.serving.targets import find_target
from genai.serving.wire.chat import (
    AnswerMessage,
    ChatAnswer,
    ChatChoice,
    ChatLogprob,
    ChatLogprobs,
    ChatMessage,
    ChatRequest,
    ContentPart,
    TopLogprob,
)

if TYPE_CHECKING:
    from genai.models.generation import GenerationRequest, ModelCard
    from genai.serving.prompting import Prompter
    from genai.serving.targets import Target

_BODY = Body(ChatRequest, hints=HINTS)
_encode = msgspec.json.Encoder().encode

_MESSAGE_CHARACTERS = 32
"""What a message costs beside its text, counted in characters."""
_ROLES = {"developer": "system"}
"""OpenAI's newer name; chat templates know the older one."""


async def create(request: Request) -> Response | Streamed:
    """Answer a chat."""
    body = _BODY.read(request.body)
    target = find_target(request, body.model, "text")
    request.notes.model = target.name
    _refuse_unsupported(body)
    max_tokens, logprobs = _max_tokens(body), _logprobs(body)
    prompter = await prompter_of(request, target.card)
    prompt_ids = await chat_tokens(
        prompter,
        target.card,
        body.messages,
        add_generation_prompt=body.add_generation_prompt is not False,
        add_special_tokens=bool(body.add_special_tokens),
        variables=body.chat_template_kwargs,
    )
    wanted = requests_of(
        request,
        target,
        body,
        [prompt_ids],
        max_tokens=max_tokens,
        default_max_tokens=None,
        logprobs=logprobs,
        prompt_logprobs=body.prompt_logprobs,
        param="messages",
    )
    if body.stream:
        options = body.stream_options
        return Streamed(_chunks(request, target, wanted, bool(options and options.include_usage)))
    return await _answer(request, target, wanted)


ROUTES = (
    Route(
        method="POST",
        path="/v1/chat/completions",
        handler=create,
        summary="Answer a chat",
        request_type=ChatRequest,
        response_type=ChatAnswer,
        streams=True,
    ),
)


# --- what is asked ----------------------------------------------------------------------------------------------------


async def chat_tokens(
    prompter: Prompter,
    card: ModelCard,
    messages: list[ChatMessage],
    *,
    add_generation_prompt: bool,
    add_special_tokens: bool,
    variables: dict[str, Any] | None,
) -> list[int]:
    """Tokens of a chat; long ones are made in a thread.

    Raises:
        ApiError: 400, a message is not text, the template refuses, or it cannot fit.
    """
    plain = [_plain(message, place) for place, message in enumerate(messages)]
    length = sum(len(message["content"]) for message in plain)
    effort = length + _MESSAGE_CHARACTERS * len(plain)
    check_length(length, card, prompter, "messages")

    def tokens() -> list[int]:
        return prompter.chat(
            plain,
            add_generation_prompt=add_generation_prompt,
            add_special_tokens=add_special_tokens,
            variables=variables,
        )

    return tokens() if effort <= IN_THREAD_CHARACTERS else await asyncio.to_thread(tokens)


def _plain(message: ChatMessage, place: int) -> dict[str, Any]:
    """A message as templates know it."""
    if message.tool_calls or message.function_call is not None or message.tool_call_id or message.audio is not None:
        raise ApiError("tool calls and audio are not supported", param=f"messages[{place}]")
    if message.role in ("tool", "function"):
        raise ApiError(f"the role '{message.role}' is not supported", param=f"messages[{place}].role")
    content = message.content if message.content is not None else message.refusal
    if content is None:
        raise ApiError(f"parameter 'messages[{place}].content' is missing", param=f"messages[{place}].content")
    if not isinstance(content, str):
        content = "".join(_part(part, f"messages[{place}].content[{number}]") for number, part in enumerate(content))
    plain = {"role": _ROLES.get(message.role, message.role), "content": content}
    if message.name is not None:
        plain["name"] = message.name
    reasoning = message.reasoning if message.reasoning_content is None else message.reasoning_content
    if reasoning is not None:
        # under the names that templates know, as transformers does it
        plain |= {"reasoning_content": reasoning, "thinking": reasoning}
    return plain


def _part(part: ContentPart, param: str) -> str:
    text = {"text": part.text, "refusal": part.refusal}.get(part.type)
    if part.type not in ("text", "refusal"):
        raise ApiError(f"content of type '{part.type[:40]}' is not supported, only text is", param=f"{param}.type")
    if text is None:
        raise ApiError(f"parameter '{param}.{part.type}' is missing", param=f"{param}.{part.type}")
    return text


def _refuse_unsupported(body: ChatRequest) -> None:
    """What would change the answer is refused; what asks for nothing (no tools, text only) is not."""
    for name in ("tools", "functions", "function_call", "audio", "prediction", "web_search_options", "moderation"):
        value = getattr(body, name)
        if value is not None and value != [] and value != "none":
            raise ApiError(f"{name} is not supported", param=name)
    # without tools there is nothing that `auto` could choose
    if body.tool_choice not in (None, "none", "auto"):
        raise ApiError("tool_choice is not supported", param="tool_choice")
    if body.modalities not in (None, ["text"]):
        raise ApiError("modalities other than text are not supported", param="modalities")


def _max_tokens(body: ChatRequest) -> int | None:
    older, newer = body.max_tokens, body.max_completion_tokens
    if older is not None and newer is not None and older != newer:
        raise ApiError("max_tokens and max_completion_tokens cannot both be given", param="max_tokens")
    if older == 0 or newer == 0:
        param = "max_tokens" if older == 0 else "max_completion_tokens"
        raise ApiError(f"{param} must be at least 1, not 0", param=param)
    return older if newer is None else newer


def _logprobs(body: ChatRequest) -> int | None:
    if body.top_logprobs is not None and not body.logprobs:
        raise ApiError("top_logprobs is only allowed with logprobs: true", param="top_logprobs")
    return (body.top_logprobs or 0) if body.logprobs else None


# --- what is answered -------------------------------------------------------------------------------------------------


async def _answer(request: Request, target: Target, wanted: list[GenerationRequest]) -> Response:
    answers = Answers(request, target.name, wanted, len(wanted))
    created = int(time.time())
    try:
        await answers.collect()
    finally:
        answers.close()
    choices = [
        ChatChoice(
            index=answer.index,
            message=AnswerMessage(content="".join(answer.texts)),
            logprobs=_logprobs_body(answer.logprobs) if wanted[0].sampling.logprobs is not None else None,
            finish_reason=answer.finish_reason,
            stop_reason=answer.stop_reason,
        )
        for answer in answers.all
    ]
    of_prompt = answers.all[0].prompt_logprobs
    body = ChatAnswer(
        id=f"chatcmpl-{request.id}",
        created=created,
        model=target.name,
        system_fingerprint=target.fingerprint,
        choices=choices,
        usage=answers.usage,
        prompt_logprobs=prompt_logprobs_body(of_prompt) if of_prompt else None,
    )
    return Response(_encode(body))


async def _chunks(
    request: Request, target: Target, wanted: list[GenerationRequest], include_usage: bool
) -> AsyncIterator[bytes]:
    answers = Answers(request, target.name, wanted, len(wanted))
    write = _Writer(request, target, len(wanted), include_usage, wanted[0].sampling.logprobs is not None)
    try:
        while answers.num_open:
            pieces = []
            for event in await answers.next():
                answer = answers.of[event.id]
                if not answer.begun:
                    answer.begun = True
                    pieces.append(write.role(answer.index))
                if event.text or event.logprobs:
                    pieces.append(write.content(answer.index, event))
                if event.finish_reason is not None:
                    pieces.append(write.finish(answer.index, event))
            if not answers.num_open:
                if include_usage:
                    pieces.append(write.usage(answers))
                pieces.append(sse.DONE)
            if pieces:
                yield b"".join(pieces)
    finally:
        answers.close()


class _Writer:
    """Writes chunks; all that stays the same from one to the next is made once."""

    def __init__(
        self, request: Request, target: Target, num_choices: int, include_usage: bool, has_logprobs: bool
    ) -> None:
        head = {
            "id": f"chatcmpl-{request.id}",
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": target.name,
            "system_fingerprint": target.fingerprint,
        }
        self._head = b"data: " + _encode(head)[:-1] + b',"choices":['
        self._deltas = [self._head + b'{"index":%d,"delta":{' % index for index in range(num_choices)]
        self._contents = [delta + b'"content":' for delta in self._deltas]
        self._end = b'],"usage":null}\n\n' if include_usage else b"]}\n\n"
        self._open_end = b'},"logprobs":null,"finish_reason":null}' + self._end
        self._has_logprobs = has_logprobs

    def role(self, index: int) -> bytes:
        return self._deltas[index] + b'"role":"assistant","content":""' + self._open_end

    def content(self, index: int, event: Event) -> bytes:
        if not self._has_logprobs:
            return self._contents[index] + _encode(event.text) + self._open_end
        logprobs = _encode(_logprobs_body(event.logprobs))
        return (
            self._contents[index]
            + _encode(event.text)
            + b'},"logprobs":'
            + logprobs
            + b',"finish_reason":null}'
            + self._end
        )

    def finish(self, index: int, event: Event) -> bytes:
        reason, stop = _encode(event.finish_reason), _encode(event.stop_reason)
        return (
            self._deltas[index]
            + b'},"logprobs":null,"finish_reason":'
            + reason
            + b',"stop_reason":'
            + stop
            + b"}"
            + self._end
        )

    def usage(self, answers: Answers) -> bytes:
        return self._head + b'],"usage":' + _encode(answers.usage) + b"}\n\n"


def _logprobs_body(logprobs: list[TokenLogprob]) -> ChatLogprobs:
    return ChatLogprobs(
        content=[
            ChatLogprob(
                token=entry.text,
                logprob=told(entry.logprob),
                bytes=list(entry.data),
                top_logprobs=[
                    TopLogprob(token=top.text, logprob=told(top.logprob), bytes=list(top.data)) for top in entry.top
                ],
            )
            for entry in logprobs
        ]
    )
