"""What in a section that several jobs have contradicts itself or has no effect."""

from __future__ import annotations

from collections.abc import Iterator

from genai.config.embedding import RerankerConfig
from genai.config.findings import Finding, fault, no_effect
from genai.config.index import ChunkingConfig
from genai.config.training import PeftConfig

_OF_ENDPOINTS_ONLY = ("base_url", "api_key", "timeout_s")


def check_peft(peft: PeftConfig, key: str = "model.peft_config") -> Iterator[Finding]:
    """Of an adapter to train.

    Args:
        peft: the section.
        key: where it stands.
    """
    if peft.lora_dropout == 1:
        message = "lora_dropout of 1 drops everything the adapter would learn from"
        yield fault(f"{key}.lora_dropout", message, "write 0.05")
    if not peft.target_modules:
        message = "target_modules is empty, so that nothing would be trained"
        yield fault(f"{key}.target_modules", message, "write all-linear, or the names of linear layers")


def check_revision(reference: str, revision: str | None, key: str = "model.revision") -> Iterator[Finding]:
    """Of a model that a job begins with.

    Args:
        reference: the model's.
        revision: what is asked of the hub.
        key: where the revision stands.
    """
    scheme, colon, _ = reference.partition(":")
    if revision is not None and colon and scheme != "hf":
        yield no_effect(key, f"{scheme}: references have no revisions")


def check_chunking(chunking: ChunkingConfig, key: str, *, longest: int | None, longest_key: str) -> Iterator[Finding]:
    """Of how texts are cut.

    Args:
        chunking: the section.
        key: where it stands.
        longest: tokens that the encoder is told to read; None where its own folder says that.
        longest_key: where that stands.
    """
    if chunking.name == "none":
        yield from idle(chunking, ChunkingConfig(), key, ("max_tokens", "overlap_tokens"), "the text is not cut")
        return
    if chunking.overlap_tokens >= chunking.max_tokens:
        message = (
            f"{key}.overlap_tokens of {chunking.overlap_tokens} is not less than max_tokens of {chunking.max_tokens}"
        )
        yield fault(f"{key}.overlap_tokens", message, f"a tenth is usual: {chunking.max_tokens // 10}")
    if longest is not None and longest < chunking.max_tokens:
        message = f"{key}.max_tokens of {chunking.max_tokens} is more than {longest_key} of {longest}"
        yield fault(f"{key}.max_tokens", message, f"write {longest} or less, or the end of a chunk is not embedded")


def check_reranker(reranker: RerankerConfig, key: str) -> Iterator[Finding]:
    """Of what puts candidates into a better order.

    Args:
        reranker: the section.
        key: where it stands.
    """
    if reranker.name != "mmr" and reranker.model is None:
        fix = f"write {key}.model: a folder, hf:ORG/NAME, or the endpoint's name for it"
        yield fault(key, f"a reranker by {reranker.name} needs a model", fix)
    if reranker.name == "endpoint" and reranker.base_url is None:
        yield fault(key, "a reranker by endpoint needs base_url", f"write {key}.base_url; /rerank is put after it")
    if reranker.name != "endpoint":
        yield from idle(reranker, RerankerConfig(), key, _OF_ENDPOINTS_ONLY, f"the reranker is {reranker.name}")


def idle(section: object, defaults: object, above: str, names: tuple[str, ...], why: str) -> Iterator[Finding]:
    """Settings of a section that were given although they change nothing.

    Args:
        section: as it was read.
        defaults: the same with nothing given.
        above: where it stands.
        names: of the settings.
        why: they change nothing.
    """
    for name in names:
        if getattr(section, name) != getattr(defaults, name):
            yield no_effect(f"{above}.{name}", why)
