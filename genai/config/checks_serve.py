"""What in a server's job file contradicts itself or has no effect, as far as the job file alone tells."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from genai.config.checks_sections import check_revision
from genai.config.embedding import EmbeddingConfig
from genai.config.findings import Finding, fault, no_effect
from genai.config.secrets import is_reference
from genai.config.serve import (
    EncoderEndpointConfig,
    IndexEndpointConfig,
    ModelEndpointConfig,
    ServeConfig,
)
from genai.registry import suggest

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,127}")
_NAME_HINT = "letters, digits and . _ - / , beginning with a letter or digit"
_PATH_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def check_serve(config: ServeConfig) -> list[Finding]:
    """Faults that no single field shows, and settings without an effect."""
    return [finding for check in _CHECKS for finding in check(config)]


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server that listens there."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _listen(config: ServeConfig) -> Iterator[Finding]:
    if not config.apps and not is_loopback(config.listen.host):
        message = f"listen.host {config.listen.host} is reached by other machines, and there are no keys"
        fix = "add apps: {NAME: {key: env:NAME_KEY}}, or listen on 127.0.0.1"
        yield fault("listen.host", message, fix)
    for index, origin in enumerate(config.listen.allowed_origins):
        if origin != "*" and not re.fullmatch(r"https?://[^/\s]+", origin):
            fix = "write scheme and host alone, e.g. https://app.example.com"
            yield fault(f"listen.allowed_origins[{index}]", f"'{origin}' is no origin", fix)
    if config.admin and 0 != config.listen.port == config.admin.port and config.admin.host == config.listen.host:
        yield fault("admin.port", "admin.port is the server's own port", "take another one")
    if config.limits.max_connections < config.limits.max_concurrent_requests:
        message = "each request has a connection, and there are fewer of those (limits.max_connections)"
        yield no_effect("limits.max_concurrent_requests", message)


def _endpoints(config: ServeConfig) -> Iterator[Finding]:
    if not config.endpoints:
        fix = "e.g. chat: {type: model, model: gallery:smollm2-135m-instruct}"
        yield fault("endpoints", "endpoints are empty: there is nothing to serve", fix)
    for name, endpoint in config.endpoints.items():
        key = f"endpoints.{name}"
        pattern = _PATH_NAME if isinstance(endpoint, IndexEndpointConfig) else _NAME
        if not pattern.fullmatch(name):
            yield fault(key, f"'{name}' is no name for an endpoint", _NAME_HINT)
        if isinstance(endpoint, ModelEndpointConfig):
            yield from _model(config, name, endpoint)
        elif isinstance(endpoint, IndexEndpointConfig):
            yield from _index(config, name, endpoint)
        elif isinstance(endpoint, EncoderEndpointConfig):
            yield from _encoder(key, endpoint.embedding)


def _model(config: ServeConfig, name: str, endpoint: ModelEndpointConfig) -> Iterator[Finding]:
    key = f"endpoints.{name}"
    yield from check_revision(endpoint.model, endpoint.revision, f"{key}.revision")
    for adapter in endpoint.adapters:
        place = f"{key}.adapters.{adapter}"
        if not _NAME.fullmatch(adapter):
            yield fault(place, f"'{adapter}' is no name for an adapter", _NAME_HINT)
        if adapter in config.endpoints:
            yield fault(place, f"adapter '{adapter}' has the name of an endpoint", "requests name both: rename one")
        for other, rival in config.endpoints.items():
            if other != name and isinstance(rival, ModelEndpointConfig) and adapter in rival.adapters and other < name:
                yield fault(place, f"adapter '{adapter}' is also one of endpoint '{other}'", "rename one")
    if len(endpoint.adapters) > endpoint.engine.max_adapters:
        message = f"{len(endpoint.adapters)} adapters are more than engine.max_adapters"
        yield fault(f"{key}.adapters", message, f"write engine.max_adapters: {len(endpoint.adapters)}")
    engine = endpoint.engine
    if engine.max_num_batched_tokens < engine.max_num_seqs:
        message = f"a step of {engine.max_num_batched_tokens} tokens has no room for {engine.max_num_seqs} answers"
        fix = "raise max_num_batched_tokens, or lower max_num_seqs"
        yield fault(f"{key}.engine.max_num_batched_tokens", message, fix)


def _encoder(key: str, embedding: EmbeddingConfig) -> Iterator[Finding]:
    if embedding.backend == "endpoint" or embedding.base_url is not None:
        message = "an encoder of another server is not served here"
        yield fault(f"{key}.embedding", message, "name a model; an index may use such an encoder by itself")
    yield from check_revision(embedding.model, embedding.revision, f"{key}.embedding.revision")


def _index(config: ServeConfig, name: str, endpoint: IndexEndpointConfig) -> Iterator[Finding]:
    if endpoint.encoder is None:
        return
    key = f"endpoints.{name}.encoder"
    encoders = [each for each, other in config.endpoints.items() if isinstance(other, EncoderEndpointConfig)]
    if endpoint.encoder not in encoders:
        near = suggest(endpoint.encoder, encoders)
        fix = f"did you mean '{near}'?" if near else "leave it out: an encoder is opened then"
        yield fault(key, f"there is no endpoint of type encoder named '{endpoint.encoder}'", fix)


def _apps(config: ServeConfig) -> Iterator[Finding]:
    known = list(config.endpoints)
    for endpoint in config.endpoints.values():
        known += endpoint.adapters if isinstance(endpoint, ModelEndpointConfig) else ()
    for name, app in config.apps.items():
        key = f"apps.{name}"
        if not is_reference(app.key):
            yield fault(f"{key}.key", f"{key}.key must be a reference", "write env:NAME or file:PATH")
        for index, route in enumerate(app.routes or ()):
            if route not in known:
                near = suggest(route, known)
                fix = f"did you mean '{near}'?" if near else f"there are {', '.join(known)}"
                yield fault(f"{key}.routes[{index}]", f"there is no endpoint or adapter '{route}'", fix)
    if config.admin and not is_reference(config.admin.token):
        yield fault("admin.token", "admin.token must be a reference", "write env:NAME or file:PATH")


_CHECKS = (_listen, _endpoints, _apps)
