from __future__ import annotations

import pytest

from genai.config.checks_sections import check_chunking, check_peft, check_reranker, check_revision, idle
from genai.config.embedding import RerankerConfig
from genai.config.index import ChunkingConfig
from genai.config.training import PeftConfig
from genai.config.tree import dotted


def keys(findings: object) -> list[tuple[str, bool]]:
    """Key of each finding, and whether it is only a warning."""
    return [(dotted(each.key), each.is_warning) for each in findings]  # type: ignore[attr-defined]


def test_an_adapter() -> None:
    assert keys(check_peft(PeftConfig())) == []
    found = check_peft(PeftConfig(lora_dropout=1.0, target_modules=[]), "a.peft")
    assert keys(found) == [("a.peft.lora_dropout", False), ("a.peft.target_modules", False)]


@pytest.mark.parametrize(
    ("reference", "warns"),
    [("hf:org/name", False), ("org/name", False), ("./folder", False), ("gallery:x", True), ("runs:x", True)],
)
def test_a_revision_belongs_to_the_hub(reference: str, warns: bool) -> None:
    assert keys(check_revision(reference, "main")) == ([("model.revision", True)] if warns else [])
    assert keys(check_revision(reference, None)) == []


def test_chunking() -> None:
    def found(chunking: ChunkingConfig, longest: int | None = None) -> list[tuple[str, bool]]:
        return keys(check_chunking(chunking, "c", longest=longest, longest_key="m"))

    assert found(ChunkingConfig(max_tokens=64, overlap_tokens=8), 64) == []
    assert found(ChunkingConfig(name="none", max_tokens=64), 8) == [("c.max_tokens", True)]
    assert found(ChunkingConfig(max_tokens=8, overlap_tokens=8)) == [("c.overlap_tokens", False)]
    assert found(ChunkingConfig(max_tokens=64), 63) == [("c.max_tokens", False)]


def test_a_reranker() -> None:
    assert keys(check_reranker(RerankerConfig(model="m"), "r")) == []
    assert keys(check_reranker(RerankerConfig(name="mmr"), "r")) == []
    assert keys(check_reranker(RerankerConfig(name="endpoint"), "r")) == [("r", False), ("r", False)]
    assert keys(check_reranker(RerankerConfig(model="m", api_key="env:K"), "r")) == [("r.api_key", True)]


def test_only_what_was_given_is_idle() -> None:
    given = RerankerConfig(model="m", candidates=7)
    assert keys(idle(given, RerankerConfig(), "r", ("candidates", "timeout_s"), "why")) == [("r.candidates", True)]
