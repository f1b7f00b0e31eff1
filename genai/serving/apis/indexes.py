"""/v1/indexes: vector indexes, asked and changed."""

from __future__ import annotations

import binascii
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import msgspec

from genai.errors import UsageError
from genai.registry import suggest
from genai.serving.errors import ApiError
from genai.serving.exchange import Request, Response, Route
from genai.serving.interfaces import IndexAccess, IndexChange, IndexQuery, UnavailableError
from genai.serving.parsing import Body
from genai.serving.wire.indexes import (
    ChangeResponse,
    DeleteRequest,
    IndexBody,
    IndexesResponse,
    QueryRequest,
    QueryResponse,
    UpsertRequest,
)

_QUERY, _UPSERT, _DELETE = Body(QueryRequest), Body(UpsertRequest), Body(DeleteRequest)
_ENCODER = msgspec.json.Encoder()
_SHOWN_CHARACTERS = 100


async def indexes(request: Request) -> Response:
    """All indexes that the caller may ask."""
    data = [IndexBody(id=index.name, writable=index.writable) for index in _known(request)]
    return Response(_ENCODER.encode(IndexesResponse(data=data)))


async def query(request: Request) -> Response:
    """The best chunks for a question."""
    index = _index(request)
    asked = _QUERY.read(request.body)
    if asked.query is None and asked.vector is None:
        raise ApiError("give a query (a text), a vector, or both", param="query")
    with _explained():
        answer = await index.query(
            IndexQuery(
                text=asked.query,
                vector=_decoded(asked.vector) if isinstance(asked.vector, str) else asked.vector,
                k=asked.k,
                mode=asked.mode,
                filter=asked.filter,
                tenant=asked.tenant,
                columns=None if asked.columns is None else tuple(asked.columns),
                score_threshold=asked.score_threshold,
                rerank=asked.rerank,
            )
        )
    told = {"object": "list", "index": index.name, "generation": answer.generation, "results": answer.results}
    return Response(_ENCODER.encode(told))


async def upsert(request: Request) -> Response:
    """Put rows there: all of them, or none."""
    index = _writable(request)
    rows = _UPSERT.read(request.body).rows
    limit = request.services.limits.max_prompts
    if len(rows) > limit:
        raise ApiError(f"rows has {len(rows)} rows; at most {limit} are taken at once", param="rows")
    with _explained("rows"):
        return _changed(index, await index.upsert(rows))


async def delete(request: Request) -> Response:
    """Remove documents."""
    index = _writable(request)
    keys = [str(key) for key in _DELETE.read(request.body).keys]
    with _explained("keys"):
        return _changed(index, await index.delete(keys))


def _changed(index: IndexAccess, change: IndexChange) -> Response:
    answer = ChangeResponse(
        index=index.name,
        generation=change.generation,
        documents=change.documents,
        chunks=change.chunks,
        embedded=change.embedded,
    )
    return Response(_ENCODER.encode(answer))


# --- which index ------------------------------------------------------------------------------------------------------


def _index(request: Request) -> IndexAccess:
    name = request.path_params["name"]
    index = request.services.indexes.get(name)
    if index is None or not request.caller.may_ask(name):
        near = suggest(name, [known.name for known in _known(request)])
        hint = f"did you mean '{near}'?" if near else "GET /v1/indexes lists what there is"
        shown = name[:_SHOWN_CHARACTERS]
        raise ApiError(f"there is no index '{shown}' ({hint})", status=404, param="name", code="index_not_found")
    request.notes.model = index.name
    return index


def _writable(request: Request) -> IndexAccess:
    index = _index(request)
    if not index.writable:
        message = f"index '{index.name}' is only to be read here (the server's operator can set writable: true for it)"
        raise ApiError(message, status=403, param="name", code="index_not_writable")
    return index


def _known(request: Request) -> Sequence[IndexAccess]:
    return [index for index in request.services.indexes.values() if request.caller.may_ask(index.name)]


# --- details ----------------------------------------------------------------------------------------------------------


def _decoded(text: str) -> bytes:
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError:  # also what is no ASCII
        raise ApiError("vector must be a list of numbers or base64 of float32 numbers", param="vector") from None


@contextmanager
def _explained(param: str | None = None) -> Iterator[None]:
    """What an index says about a request, as answers."""
    try:
        yield
    except UsageError as error:
        raise ApiError(str(error).replace("\n", "; "), param=param) from None
    except UnavailableError as error:
        headers = ((b"retry-after", b"%d" % error.retry_after_s),)
        raise ApiError(str(error), status=503, code="index_unavailable", headers=headers) from None


ROUTES: tuple[Route, ...] = (
    Route(
        method="GET",
        path="/v1/indexes",
        handler=indexes,
        summary="The indexes that may be asked",
        response_type=IndexesResponse,
    ),
    Route(
        method="POST",
        path="/v1/indexes/{name}/query",
        handler=query,
        summary="The best chunks of an index for a question",
        request_type=QueryRequest,
        response_type=QueryResponse,
    ),
    Route(
        method="POST",
        path="/v1/indexes/{name}/upsert",
        handler=upsert,
        summary="Put rows into an index",
        request_type=UpsertRequest,
        response_type=ChangeResponse,
    ),
    Route(
        method="POST",
        path="/v1/indexes/{name}/delete",
        handler=delete,
        summary="Remove documents from an index",
        request_type=DeleteRequest,
        response_type=ChangeResponse,
    ),
)
