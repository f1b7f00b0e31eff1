"""The same answers by FastAPI, as its documentation would have them written."""

from __future__ import annotations

import json
import logging
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import StreamingResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from prometheus_client import Counter, Histogram
from pydantic import BaseModel

from genai.models.generation import GenerationRequest, SamplingParams
from web.instant import InstantEngine
from web.servers import KEY


class CompletionRequest(BaseModel):
    """The body."""

    model: str
    prompt: list[int]
    max_tokens: int = 16
    temperature: float = 1.0
    stream: bool = False


class Choice(BaseModel):
    """An answer."""

    index: int = 0
    text: str
    logprobs: dict[str, Any] | None = None
    finish_reason: str | None = None


class Usage(BaseModel):
    """What it took."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class Completion(BaseModel):
    """The answers, or a piece of them."""

    id: str
    object: str = "text_completion"
    created: int
    model: str
    choices: list[Choice]
    usage: Usage | None = None


bearer = HTTPBearer()


async def check_key(given: Annotated[HTTPAuthorizationCredentials, Depends(bearer)]) -> str:
    if given.credentials != KEY:
        raise HTTPException(401)
    return "bench"


def create(folder: str, log_path: Path) -> FastAPI:
    app = FastAPI()
    engine = InstantEngine(folder)
    log = logging.getLogger("bench.access")
    log.addHandler(logging.FileHandler(log_path))
    log.setLevel(logging.INFO)
    requests = Counter("http_requests", "Requests.", ["path", "status"])
    tokens = Counter("generation_tokens", "Tokens.", ["model_name"])
    latency = Histogram("e2e_request_latency_seconds", "Latency.", ["model_name"])
    between = Histogram("inter_token_latency_seconds", "Latency.", ["model_name"])

    def tell(request: Request, number: int, started: float) -> None:
        duration = time.monotonic() - started
        requests.labels(request.url.path, "200").inc()
        tokens.labels("faq").inc(number)
        latency.labels("faq").observe(duration)
        log.info(json.dumps({"path": request.url.path, "status": 200, "duration_s": duration, "tokens": number}))

    @app.post("/v1/completions", response_model=None)
    async def completions(
        body: CompletionRequest, request: Request, caller: Annotated[str, Depends(check_key)]
    ) -> Completion | StreamingResponse:
        started = time.monotonic()
        asked = GenerationRequest(
            id=uuid.uuid4().hex,
            model=body.model,
            prompt_ids=body.prompt,
            sampling=SamplingParams(max_tokens=body.max_tokens, temperature=body.temperature),
            client=caller,
        )
        answers = engine.generate([asked])
        created = int(time.time())

        async def events() -> AsyncIterator[str]:
            reason, last = None, time.monotonic()
            while reason is None:
                (event,) = await answers.next()
                now = time.monotonic()
                between.labels("faq").observe(now - last)
                reason, last = event.finish_reason, now
                choice = Choice(text=event.text, finish_reason=reason)
                piece = Completion(id=f"cmpl-{asked.id}", created=created, model=body.model, choices=[choice])
                yield f"data: {piece.model_dump_json()}\n\n"
            yield "data: [DONE]\n\n"
            tell(request, body.max_tokens, started)

        if body.stream:
            return StreamingResponse(events(), media_type="text/event-stream")
        (event,) = await answers.next()
        assert event.usage is not None
        usage = Usage(
            prompt_tokens=event.usage.prompt_tokens,
            completion_tokens=event.usage.completion_tokens,
            total_tokens=event.usage.prompt_tokens + event.usage.completion_tokens,
        )
        choice = Choice(text=event.text, finish_reason=event.finish_reason)
        tell(request, body.max_tokens, started)
        return Completion(id=f"cmpl-{asked.id}", created=created, model=body.model, choices=[choice], usage=usage)

    return app
