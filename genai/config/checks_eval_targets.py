"""What in the targets of an evaluation contradicts itself or has no effect."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

from genai.config.checks_sections import idle
from genai.config.eval import EvalConfig, JudgeConfig, PriceConfig, SamplingConfig, TargetConfig
from genai.config.findings import Finding, fault, no_effect

TargetKind = Literal["model", "endpoint", "index", "file"]
_OF_MODELS = ("precision", "batch_size", "max_model_len", "chat_template", "trust_remote_code")
_OF_ENDPOINTS = ("api_key", "max_attempts", "stream", "extra_body", "reuse_answers")
_OF_INDEXES = ("indexes_dir", "mode", "filter")
_OF_ANSWERS = ("api", "system", "sampling", "price", "concurrency", "timeout_s")
_IDLE: dict[TargetKind, tuple[tuple[str, ...], str]] = {
    "model": ((*_OF_ENDPOINTS, *_OF_INDEXES), "the model runs in this process"),
    "endpoint": ((*_OF_MODELS, *_OF_INDEXES), "the endpoint decides that"),
    "index": ((*_OF_MODELS, *_OF_ENDPOINTS, *_OF_ANSWERS), "an index is searched, it writes no answers"),
    "file": ((*_OF_MODELS, *_OF_ENDPOINTS, *_OF_INDEXES, *_OF_ANSWERS), "the answers are there already"),
}
_URLS = ("http://", "https://")
RUNS = "runs:"


def all_targets(config: EvalConfig) -> dict[str, TargetConfig | str]:
    """Key -> each target, the baseline too."""
    found: dict[str, TargetConfig | str] = {}
    if config.target is not None:
        found["target"] = config.target
    found |= {f"targets.{name}": target for name, target in config.targets.items()}
    if config.baseline is not None:
        found["baseline"] = config.baseline
    return found


def kind_of(target: TargetConfig | str) -> TargetKind | None:
    """What is asked; None where nothing, or too much, is named."""
    if isinstance(target, str):
        return "model"
    named: list[TargetKind] = [kind for kind in ("endpoint", "index", "file") if getattr(target, kind) is not None]
    if not named:
        return None if target.model is None else "model"
    return named[0] if len(named) == 1 and (target.model is None or named == ["endpoint"]) else None


def check_targets(config: EvalConfig) -> Iterator[Finding]:
    """Whether there is something to measure, and each target is of one kind and complete."""
    if config.target is None and not config.targets:
        fix = "write target: a model reference, or target: {endpoint: ..., model: ...}"
        yield fault("target", "there is nothing to measure: target is missing", fix)
    if config.target is not None and config.targets:
        yield fault("targets", "there are both target and targets", "put all of them into targets")
    for name in config.targets:
        if name == "baseline":
            fix = "write it as baseline: ..., beside targets"
            yield fault("targets.baseline", "the name 'baseline' means what targets are compared with", fix)
        elif not name or not all(sign.isalnum() or sign in "_-" for sign in name):
            fix = "take letters, digits, - and _"
            yield fault("targets", f"'{name}' cannot be the name of a target", fix)
    for key, target in all_targets(config).items():
        yield from _check_reference(key, target) if isinstance(target, str) else _check_target(key, target)


def check_sampling(sampling: SamplingConfig, key: str) -> Iterator[Finding]:
    """Of how answers are drawn.

    Args:
        sampling: the section.
        key: where it stands.
    """
    if sampling.temperature == 0 and sampling.top_p < 1:
        yield no_effect(f"{key}.top_p", f"{key}.temperature is 0, which takes the likeliest token")
    if sampling.top_p == 0:
        yield fault(f"{key}.top_p", "a top_p of 0 leaves no token to draw", "write 1.0, or temperature: 0")


def check_endpoint(endpoint: str, key: str) -> Iterator[Finding]:
    """Of an address.

    Args:
        endpoint: the URL.
        key: where it stands.
    """
    if not endpoint.startswith(_URLS):
        yield fault(key, f"'{endpoint}' is no URL", "it begins with http:// or https://")


def is_priced(part: TargetConfig | JudgeConfig | str) -> bool:
    """Whether it is known what answers cost."""
    return not isinstance(part, str) and part.price != PriceConfig()


def _check_reference(key: str, target: str) -> Iterator[Finding]:
    if not target.strip():
        yield fault(key, f"{key} is empty", "write a model reference")
    elif target.startswith(_URLS):
        fix = f"write {key}: {{endpoint: {target}, model: NAME}}"
        yield fault(key, f"{key} is a URL, which needs the name of a model", fix)


def _check_target(key: str, target: TargetConfig) -> Iterator[Finding]:
    kind = kind_of(target)
    if kind is None:
        named = [name for name in ("model", "endpoint", "index", "file") if getattr(target, name) is not None]
        if named:
            message = f"{key} names {' and '.join(named)}, which are different targets"
            yield fault(f"{key}.{named[-1]}", message, "keep one of them; several are several targets")
        else:
            yield fault(key, f"{key} names nothing to ask", "write model, endpoint, index or file")
        return
    if kind == "endpoint":
        yield from check_endpoint(target.endpoint or "", f"{key}.endpoint")
        if target.model is None:
            fix = "write the name that the endpoint knows it by; GET /v1/models lists them"
            yield fault(f"{key}.endpoint", f"{key}.endpoint needs a model", fix)
    if target.filter is not None and kind != "index":
        yield fault(f"{key}.filter", f"{key}.filter is for an index", "remove it, or name an index")
    names, why = _IDLE[kind]
    yield from idle(replace(target, filter=None), TargetConfig(), key, names, why)
    if kind == "endpoint" and target.api == "completions" and target.system is not None:
        yield no_effect(f"{key}.system", "a plain text has no system message")
    if kind in ("model", "endpoint"):
        yield from check_sampling(target.sampling, f"{key}.sampling")
