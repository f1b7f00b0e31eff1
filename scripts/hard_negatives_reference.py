"""Write tests/embedding/tuning/hard_negatives.json: vectors, and the negatives that sentence-transformers mines.

    pip install sentence-transformers==6.2.0
    python scripts/hard_negatives_reference.py

The tests hold `genai.embedding.tuning.negatives` against this file, so that nobody needs sentence-transformers to run
them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from sentence_transformers.util import mine_hard_negatives

PATH = Path(__file__).resolve().parents[1] / "tests" / "embedding" / "tuning" / "hard_negatives.json"
NUM_PASSAGES, NUM_QUERIES, WIDTH = 30, 12, 6
SETTINGS: list[dict[str, Any]] = [
    {"num_negatives": 4, "candidates": 20, "skip": 0, "exclude_above": 0.95, "margin": None},
    {"num_negatives": 3, "candidates": 12, "skip": 2, "exclude_above": 0.7, "margin": None},
    {"num_negatives": 2, "candidates": 6, "skip": 0, "exclude_above": None, "margin": 500.0},
    {"num_negatives": 4, "candidates": 10, "skip": 1, "exclude_above": 0.9, "margin": 2000.0},
    {"num_negatives": 5, "candidates": 8, "skip": 0, "exclude_above": None, "margin": None},
]
"""Tried with one answer a query, and the first also with several."""


class Table:
    """A model that knows the vector of each text; vectors are whole numbers, so that products are exact."""

    device = torch.device("cpu")
    model_card_data = SimpleNamespace(base_model="table")

    def __init__(self, vectors: dict[str, Sequence[int]]) -> None:
        self._vectors = vectors

    def encode_query(self, texts: Sequence[str], **_: Any) -> Any:
        return np.array([self._vectors[text] for text in texts], dtype=np.float32)

    encode_document = encode_query

    def similarity(self, first: Any, second: Any) -> torch.Tensor:
        return torch.as_tensor(first) @ torch.as_tensor(second).T

    def similarity_pairwise(self, first: Any, second: Any) -> torch.Tensor:
        return (torch.as_tensor(first) * torch.as_tensor(second)).sum(-1)


def main() -> None:
    """Some cases, each with its settings in our words."""
    generator = np.random.default_rng(5)
    cases = [_case(generator, settings, most_answers=1) for settings in SETTINGS]
    cases.append(_case(generator, {**SETTINGS[0], "candidates": NUM_PASSAGES}, most_answers=3))
    PATH.write_text("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n", encoding="utf-8")


def _case(generator: np.random.Generator, settings: dict[str, Any], *, most_answers: int) -> dict[str, Any]:
    passages = generator.integers(-99, 100, size=(NUM_PASSAGES, WIDTH))
    queries = generator.integers(-99, 100, size=(NUM_QUERIES, WIDTH))
    near = np.argsort(-(queries @ passages.T), axis=1)[:, :6]
    numbers = generator.integers(1, most_answers + 1, size=NUM_QUERIES)
    answers = [
        generator.choice(row, size=number, replace=False).tolist() for row, number in zip(near, numbers, strict=True)
    ]
    vectors = {f"p{number}": row.tolist() for number, row in enumerate(passages)}
    vectors |= {f"q{number}": row.tolist() for number, row in enumerate(queries)}
    pairs = [(f"q{row}", f"p{place}") for row, places in enumerate(answers) for place in places]
    share = settings["exclude_above"]
    mined = mine_hard_negatives(
        Dataset.from_dict({"query": [query for query, _ in pairs], "answer": [answer for _, answer in pairs]}),
        Table(vectors),
        corpus=[name for name in vectors if name.startswith("p")],
        num_negatives=settings["num_negatives"],
        range_min=settings["skip"],
        range_max=settings["candidates"],
        relative_margin=None if share is None else 1 - share,
        absolute_margin=settings["margin"],
        verbose=False,
    )
    negatives: list[list[int]] = [[] for _ in queries]
    for row in mined:
        place, query = int(row["negative"][1:]), int(row["query"][1:])
        if place not in negatives[query]:
            negatives[query].append(place)
    return {
        "settings": settings,
        "passages": passages.tolist(),
        "queries": queries.tolist(),
        "positives": answers,
        "negatives": negatives,
    }


if __name__ == "__main__":
    main()
