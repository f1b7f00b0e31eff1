"""POST /v1/rerank: how well texts answer a query.

Source:
    https://jina.ai/reranker, https://docs.cohere.com/reference/rerank
"""

from __future__ import annotations

import time

import msgspec

from genai.models.generation import RerankRequest
from genai.serving.apis.embeddings import check_texts
from genai.serving.errors import ApiError, of_fault
from genai.serving.exchange import Request, Response, Route
from genai.serving.numbering import engine_id
from genai.serving.parsing import Body
from genai.serving.targets import find_target
from genai.serving.wire.rerank import RerankBody, RerankDocument, RerankedDocument, RerankResponse, RerankUsage

_BODY = Body(
    RerankBody,
    hints={
        "rank_fields": "rank_fields is not supported: send each document as a text",
        "max_tokens_per_doc": "max_tokens_per_doc is not supported: documents are cut at what the model reads",
        "max_chunks_per_doc": "max_chunks_per_doc is not supported: documents are cut at what the model reads",
    },
)
_ENCODER = msgspec.json.Encoder()


async def rerank(request: Request) -> Response:
    """The texts that answer the query best, best first; of equal ones the first stays so."""
    asked = _BODY.read(request.body)
    card = find_target(request, asked.model, "reranker").card
    request.notes.model = card.name
    if not asked.query.strip():
        raise ApiError("query is empty", param="query")
    texts = [document if isinstance(document, str) else document.text for document in asked.documents]
    check_texts(texts, "documents", request.services.limits.max_prompts)
    result = await request.services.engine.rerank(
        RerankRequest(
            id=engine_id(request.id),
            model=card.name,
            query=asked.query,
            texts=texts,
            client=request.caller.app,
            timeout_s=request.deadline - time.monotonic(),
        )
    )
    if result.fault is not None:
        raise of_fault(result.fault)
    request.notes.prompt_tokens = result.num_tokens
    ranked = sorted(enumerate(result.scores), key=lambda pair: -pair[1])[: asked.top_n]
    answer = RerankResponse(
        id=f"rerank-{request.id}",
        model=card.name,
        results=[_result(place, score, texts[place] if asked.return_documents else None) for place, score in ranked],
        usage=RerankUsage(prompt_tokens=result.num_tokens, total_tokens=result.num_tokens),
    )
    return Response(_ENCODER.encode(answer))


def _result(place: int, score: float, text: str | None) -> RerankedDocument:
    if text is None:
        return RerankedDocument(index=place, relevance_score=score)
    return RerankedDocument(index=place, relevance_score=score, document=RerankDocument(text=text))


ROUTES: tuple[Route, ...] = (
    Route(
        method="POST",
        path="/v1/rerank",
        handler=rerank,
        summary="Texts in the order in which they answer a query",
        request_type=RerankBody,
        response_type=RerankResponse,
    ),
)
