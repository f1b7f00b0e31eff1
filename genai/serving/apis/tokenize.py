"""POST /v1/tokenize and /v1/detokenize, and the same where vLLM has them, without /v1.

lm-eval asks GET /tokenizer_info and /tokenize, without a model, to find out whether it needs a tokenizer of its own.
"""

from __future__ import annotations

import asyncio

import msgspec

from genai.serving.apis.chat import chat_tokens
from genai.serving.asking import IN_THREAD_CHARACTERS, prompter_of
from genai.serving.errors import ApiError
from genai.serving.exchange import Request, Response, Route
from genai.serving.parsing import Body
from genai.serving.targets import Target, find_target, targets
from genai.serving.wire.tokens import (
    DetokenizeAnswer,
    DetokenizeRequest,
    TokenizeAnswer,
    TokenizeRequest,
    TokenizerInfo,
)

_TOKENIZE = Body(TokenizeRequest)
_DETOKENIZE = Body(DetokenizeRequest)


async def tokenize(request: Request) -> Response:
    """Tokens of a text or a chat, as the model would read them."""
    body = _TOKENIZE.read(request.body)
    target = _target(request, body.model)
    if (body.prompt is None) == (body.messages is None):
        raise ApiError("give either prompt or messages", param="prompt")
    prompter = await prompter_of(request, target.card)
    if body.messages is not None:
        tokens = await chat_tokens(
            prompter,
            target.card,
            body.messages,
            add_generation_prompt=body.add_generation_prompt is not False,
            add_special_tokens=bool(body.add_special_tokens),
            variables=body.chat_template_kwargs,
        )
    else:
        text, with_special = body.prompt or "", body.add_special_tokens is not False
        if len(text) <= IN_THREAD_CHARACTERS:
            tokens = prompter.text(text, add_special_tokens=with_special)
        else:
            tokens = await asyncio.to_thread(prompter.text, text, add_special_tokens=with_special)
    answer = TokenizeAnswer(
        tokens=tokens,
        count=len(tokens),
        max_model_len=target.card.max_model_len,
        token_strs=[prompter.token(token) for token in tokens] if body.return_token_strs else None,
    )
    return Response(msgspec.json.encode(answer))


async def detokenize(request: Request) -> Response:
    """The text of tokens, special ones included."""
    body = _DETOKENIZE.read(request.body)
    target = _target(request, body.model)
    prompter = await prompter_of(request, target.card)
    if len(body.tokens) <= IN_THREAD_CHARACTERS:
        text = prompter.decode(body.tokens)
    else:
        text = await asyncio.to_thread(prompter.decode, body.tokens)
    return Response(msgspec.json.encode(DetokenizeAnswer(prompt=text)))


async def tokenizer_info(request: Request) -> Response:
    """What a client needs to write prompts itself; for a server of one language model."""
    target = _target(request, None)
    prompter = await prompter_of(request, target.card)
    named = prompter.named_tokens
    answer = TokenizerInfo(
        bos_token=named.get("bos_token"),
        eos_token=named.get("eos_token"),
        pad_token=named.get("pad_token"),
        unk_token=named.get("unk_token"),
        chat_template=prompter.chat_template,
        max_model_len=target.card.max_model_len,
    )
    return Response(msgspec.json.encode(answer))


def _target(request: Request, name: str | None) -> Target:
    if name is None:
        known = [found for found in targets(request.services.engine.cards, request.caller) if found.card.kind == "text"]
        if len({found.card.name for found in known}) != 1:
            raise ApiError("parameter 'model' is missing: there is not exactly one language model", param="model")
        name = known[0].name
    target = find_target(request, name, "text")
    request.notes.model = target.name
    return target


def _route(path: str, prefix: str) -> Route:
    handler, summary, asks, answers = {
        "/tokenize": (tokenize, "Turn a text or a chat into tokens", TokenizeRequest, TokenizeAnswer),
        "/detokenize": (detokenize, "Turn tokens into text", DetokenizeRequest, DetokenizeAnswer),
    }[path]
    return Route(
        method="POST",
        path=prefix + path,
        handler=handler,
        summary=summary,
        request_type=asks,
        response_type=answers,
    )


ROUTES = (
    *(_route(path, prefix) for path in ("/tokenize", "/detokenize") for prefix in ("/v1", "")),
    Route(
        method="GET",
        path="/tokenizer_info",
        handler=tokenizer_info,
        summary="Special tokens and chat template of the only language model",
        response_type=TokenizerInfo,
    ),
)
