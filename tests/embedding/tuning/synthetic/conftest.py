"""A corpus of a few passages, a generator that says what it is told to, an encoder that counts words."""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genai.data.retrieval.records import Passage

TEXTS = {
    "bees": "Bees leave the hive when the weather is warm. They collect nectar and pollen. Honey feeds them in winter.",
    "loans": "Library books are lent for four weeks. Loans can be extended twice. Fines begin on the first day late.",
    "ferry": "The ferry sails at seven and at noon. Bicycles travel free of charge. Cars pay forty euros each way.",
    "bread": "Bread goes stale quickly in the fridge. Linen bags keep it fresh. Slices can be frozen for months.",
    "screed": "The screed is sixty millimetres thick. Heating pipes lie inside it. Tiles follow after four weeks.",
}


def passage(key: str, text: str, **changes: Any) -> Passage:
    return Passage(key=key, text=text, document=key, source=f"corpus.jsonl:{key}", **changes)


@dataclass
class Scripted:
    """Answers with what `answer` makes of a prompt, and remembers what it was asked."""

    answer: Callable[[str], str] = lambda prompt: "yes"
    name: str = "scripted@1"
    asked: list[str] = field(default_factory=list)
    seeds: list[int] = field(default_factory=list)
    calls: list[int] = field(default_factory=list)
    dies_at: int | None = None
    """Call at which the process is killed."""

    def generate(self, prompts: Sequence[str], *, seed: int) -> list[str]:
        if len(self.calls) == self.dies_at:
            raise KeyboardInterrupt
        self.calls.append(len(prompts))
        self.asked += prompts
        self.seeds += [seed] * len(prompts)
        return [self.answer(prompt) for prompt in prompts]

    def count_tokens(self, text: str) -> int:
        return len(text.split())


class WordEmbedder:
    """Counts words in 512 bins."""

    def __init__(self) -> None:
        self.documents = 0

    def embed_documents(self, texts: Sequence[str]) -> Any:
        self.documents += len(texts)
        return self.embed_queries(texts)

    def embed_queries(self, texts: Sequence[str]) -> Any:
        vectors = np.zeros((len(texts), 512), dtype=np.float32)
        for row, text in enumerate(texts):
            for word in text.lower().replace(".", "").replace("?", "").split():
                vectors[row, zlib.crc32(word.encode()) % 512] += 1
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


class Brute:
    def __init__(self, vectors: Any) -> None:
        self.vectors = vectors

    def nearest(self, queries: Any, k: int) -> Any:
        scores = queries @ self.vectors.T
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return order, np.take_along_axis(scores, order, axis=1)


@pytest.fixture
def corpus() -> list[Passage]:
    return [passage(key, text) for key, text in TEXTS.items()]


@pytest.fixture
def scripted() -> type[Scripted]:
    return Scripted


@pytest.fixture
def new_passage() -> Callable[..., Passage]:
    return passage


@pytest.fixture
def embedder() -> WordEmbedder:
    return WordEmbedder()


@pytest.fixture
def neighbours_of() -> Any:
    return Brute


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "queries" / "answers.sqlite"
