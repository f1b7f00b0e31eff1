"""What an engine tells of itself: plain numbers, for metrics and for whoever asks how it goes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineStats:
    """Of a text engine; what counts, counts from its beginning."""

    running: int
    """Answers that have blocks of the cache."""
    waiting: int
    """Requests that have none yet, those among them whose grammar is being compiled."""
    kv_usage: float
    """Share of the cache's blocks that answers under way hold, from 0 to 1."""
    kv_blocks: int
    """Of the cache."""
    prefix_queries: int
    """Tokens of prompts that were looked up among known beginnings."""
    prefix_hits: int
    """Tokens that were found there."""
    preemptions: int
    """Answers that had to give their blocks up for others, and were read again."""
    steps: int
    """Calls of the model."""
    prompt_tokens: int
    """Of all requests whose prompt was read."""
    generation_tokens: int
    """Chosen."""
    crashes: int
    """Steps that ended with a fault of ours."""
    peak_running: int
    """Most answers in one step."""
    peak_kv_usage: float
    """Highest `kv_usage` of a step."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchStats:
    """Of an encoder or reranker; what counts, counts from its beginning."""

    running: int
    """Requests of which texts are being read."""
    waiting: int
    """Requests of which no text is being read."""
    batches: int
    """Calls of the model."""
    texts: int
    """Read."""
    tokens: int
    """Read."""
    crashes: int
    """Calls that ended with a fault."""
