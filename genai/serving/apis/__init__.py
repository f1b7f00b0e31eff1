"""Everything the server answers: one API a file, gathered here."""

from __future__ import annotations

from genai.serving.apis import chat, completions, embeddings, health, indexes, models, openapi, rerank, tokenize
from genai.serving.exchange import Route

_ROUTES: tuple[Route, ...] = (
    *chat.ROUTES,
    *completions.ROUTES,
    *tokenize.ROUTES,
    *models.ROUTES,
    *embeddings.ROUTES,
    *rerank.ROUTES,
    *indexes.ROUTES,
    *health.ROUTES,
)

ALL_ROUTES: tuple[Route, ...] = (*_ROUTES, openapi.route_for(_ROUTES))
"""All operations, that which describes them included."""
