"""POST /v1/embeddings: vectors of texts.

Source:
    https://platform.openai.com/docs/api-reference/embeddings
"""

from __future__ import annotations

import asyncio
import time
from array import array
from collections.abc import Sequence

import msgspec

from genai.models.generation import EmbedRequest, EmbedResult, ModelCard
from genai.serving.errors import ApiError, of_fault
from genai.serving.exchange import Request, Response, Route
from genai.serving.numbering import engine_id
from genai.serving.parsing import Body
from genai.serving.targets import find_target
from genai.serving.wire.embeddings import EmbeddingsRequest, EmbeddingsResponse

_BODY = Body(EmbeddingsRequest)
_ENCODER = msgspec.json.Encoder()
_VECTORS_A_PIECE = 32


async def embeddings(request: Request) -> Response:
    """Vectors of the texts, in their order."""
    asked = _BODY.read(request.body)
    card = find_target(request, asked.model, "encoder").card
    request.notes.model = card.name
    texts = _texts(asked.input, request.services.limits.max_prompts)
    _check_dimensions(asked.dimensions, card)
    result = await request.services.engine.embed(
        EmbedRequest(
            id=engine_id(request.id),
            model=card.name,
            texts=texts,
            role=asked.input_type or card.default_role,
            dimensions=asked.dimensions,
            truncate=bool(asked.truncate),
            client=request.caller.app,
            timeout_s=request.deadline - time.monotonic(),
        )
    )
    if result.fault is not None:
        raise of_fault(result.fault)
    request.notes.prompt_tokens = result.num_tokens
    return Response(await _body(card.name, result, is_base64=asked.encoding_format == "base64"))


def check_texts(texts: Sequence[str], param: str, limit: int) -> None:
    """Refuse texts that a model has nothing to say of.

    Raises:
        ApiError: there are none, too many, or one is empty.
    """
    if not texts:
        raise ApiError(f"{param} is empty", param=param)
    if len(texts) > limit:
        raise ApiError(f"{param} has {len(texts)} texts; at most {limit} are taken at once", param=param)
    for place, text in enumerate(texts):
        if not text:
            raise ApiError(f"{param}[{place}] is empty", param=f"{param}[{place}]")


def _texts(given: str | list[str | int | list[int]], limit: int) -> list[str]:
    if isinstance(given, str):
        if not given:
            raise ApiError("input is empty", param="input")
        return [given]
    texts = [text for text in given if isinstance(text, str)]
    if len(texts) != len(given):
        message = "input must be a text or a list of texts, not tokens: which tokenizer they come from cannot be known"
        hint = "with langchain_openai, set check_embedding_ctx_length=False"
        raise ApiError(f"{message} ({hint})", param="input")
    check_texts(texts, "input", limit)
    return texts


def _check_dimensions(dimensions: int | None, card: ModelCard) -> None:
    if dimensions is not None and 0 < card.dimension < dimensions:
        message = f"dimensions must be between 1 and {card.dimension}, not {dimensions}"
        raise ApiError(message, param="dimensions")


async def _body(model: str, result: EmbedResult, *, is_base64: bool) -> bytes:
    """The answer, written in pieces between which others get their turn: hundreds of vectors are megabytes of text."""
    pieces, vectors = [], result.vectors
    for start in range(0, len(vectors), _VECTORS_A_PIECE):
        if start:
            await asyncio.sleep(0)
        some = enumerate(vectors[start : start + _VECTORS_A_PIECE], start)
        piece = [_Vector(index, vector if is_base64 else _floats(vector)) for index, vector in some]
        pieces.append(_ENCODER.encode(piece))
    head = _ENCODER.encode({"object": "list", "model": model})[:-1]
    usage = _ENCODER.encode({"prompt_tokens": result.num_tokens, "total_tokens": result.num_tokens})
    return b'%s,"data":[%s],"usage":%s}' % (head, b",".join(piece[1:-1] for piece in pieces), usage)


def _floats(vector: bytes) -> list[float]:
    return array("f", vector).tolist()


class _Vector(msgspec.Struct, frozen=True, gc=False):
    """`EmbeddingBody`, written quickly: bytes become base64 in msgspec's JSON."""

    index: int
    embedding: bytes | list[float]
    object: str = "embedding"


ROUTES: tuple[Route, ...] = (
    Route(
        method="POST",
        path="/v1/embeddings",
        handler=embeddings,
        summary="Vectors of texts",
        request_type=EmbeddingsRequest,
        response_type=EmbeddingsResponse,
    ),
)
