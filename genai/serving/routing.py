"""From a path to what answers it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes

from genai.serving.exchange import Route

_NO_PARAMS: Mapping[str, str] = {}


@dataclass(slots=True)
class Place:
    """A path of the API and what can be done there."""

    template: str
    """As the route has it, with {name} for parts that vary."""
    routes: dict[str, Route] = field(default_factory=dict)
    """Method -> operation; HEAD is answered where GET is."""

    @property
    def allow(self) -> str:
        """The methods, for the header of that name."""
        return ", ".join(sorted({*self.routes, "OPTIONS"}))


class Router:
    """All places of the API: exact paths by a look-up, those with parts that vary one after the other."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._exact: dict[str, Place] = {}
        self._patterns: list[tuple[list[str], Place]] = []
        for route in routes:
            place = self._place(route.path)
            if route.method in place.routes:
                raise ValueError(f"{route.method} {route.path} is there twice")
            place.routes[route.method] = route
            if route.method == "GET":
                place.routes["HEAD"] = route

    def find(self, path: str) -> tuple[Place, Mapping[str, str]] | None:
        """The place and the parts that vary, each decoded.

        Args:
            path: as it was sent, percent-encoded, so that an encoded slash belongs to a part.
        """
        place = self._exact.get(path)
        if place is not None:
            return place, _NO_PARAMS
        parts = path.split("/")
        for pattern, place in self._patterns:
            params = _match(pattern, parts)
            if params is not None:
                return place, params
        return None

    def _place(self, template: str) -> Place:
        if "{" not in template:
            return self._exact.setdefault(template, Place(template))
        for _, place in self._patterns:
            if place.template == template:
                return place
        self._patterns.append((template.split("/"), Place(template)))
        return self._patterns[-1][1]


def _match(pattern: Sequence[str], parts: Sequence[str]) -> dict[str, str] | None:
    if len(pattern) != len(parts):
        return None
    params: dict[str, str] = {}
    for wanted, part in zip(pattern, parts, strict=True):
        if not wanted.startswith("{"):
            if wanted != part:
                return None
        elif part:
            params[wanted[1:-1]] = unquote_to_bytes(part).decode("utf-8", "replace")
        else:
            return None
    return params
