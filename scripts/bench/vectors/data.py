"""What is searched: a mixture of Gaussians, and sentences as a model embeds them; with the true neighbours.

A data set is a folder: `base.npy` (n, dim) and `queries.npy` (q, dim), float32 of length 1; `truth.npz`, for each
filter (and `all`) the rows of the nearest neighbours, (q, k), filled up with -1; `columns.npz`, the metadata that
filters ask, (n,) each, values 0 to 999.
"""

from __future__ import annotations

import json
import re
import runpy
import time
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

DIM, K = 384, 10
CENTRES, SPREAD, SEED = 1000, 0.5, 20
SHARES = (500, 100, 10, 1)
"""Of a thousand: how many points a filter leaves."""
COLUMNS = ("independent", "correlated")
MODEL = "gallery:all-minilm-l6-v2"
REPOSITORY = Path(__file__).resolve().parents[3]
CACHE = REPOSITORY / ".cache" / "bench"
_ROWS_AT_ONCE = 20_000
_SENTENCE = re.compile(r"(?<=[.!?])\s+")
_LENGTHS = (40, 300)


def make_mixture(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Points around centres: a centre is normal, of expected length 1, and belongs to as many points as every other;
    a point is its centre plus normal noise of expected length SPREAD, scaled to length 1. Queries are further points.
    """
    folder, num_points, num_queries = Path(settings["data"]), settings["num_points"], settings["num_queries"]
    folder.mkdir(parents=True)
    random = np.random.default_rng(SEED)
    centres = random.standard_normal((CENTRES, DIM), dtype=np.float32) / np.sqrt(DIM)

    def draw(count: int) -> Any:
        noise = random.standard_normal((count, DIM), dtype=np.float32) * (SPREAD / np.sqrt(DIM))
        return unit(centres[random.integers(0, CENTRES, count)] + noise)

    np.save(folder / "queries.npy", draw(num_queries))
    base = np.lib.format.open_memmap(folder / "base.npy", mode="w+", dtype=np.float32, shape=(num_points, DIM))
    for start in range(0, num_points, _ROWS_AT_ONCE):
        base[start : start + _ROWS_AT_ONCE] = draw(min(_ROWS_AT_ONCE, num_points - start))
    base.flush()
    return finish(folder, filters=settings["filters"])


def make_text(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Sentences of docstrings and the answers of a FAQ; its questions and other sentences are the queries."""
    folder, num_queries = Path(settings["data"]), settings["num_queries"]
    folder.mkdir(parents=True)
    questions, answers = (texts[: num_queries // 2] for texts in faq())
    cached = CACHE / f"text-{num_queries}-{settings['embed_s']:g}s.npy"
    if not cached.exists():
        embed_to(cached, [*questions, *answers], settings["embed_s"])
    vectors = np.load(cached)
    asked, answered = vectors[: len(questions)], vectors[len(questions) : 2 * len(questions)]
    held_out, others = np.split(vectors[2 * len(questions) :], [num_queries - len(questions)])
    np.save(folder / "queries.npy", np.concatenate([asked, held_out]))
    np.save(folder / "base.npy", np.concatenate([answered, others]))
    return finish(folder, filters=False)


def embed_to(file: Path, first: list[str], seconds: float) -> None:
    """Embed those texts, and then as many sentences as there is time for."""
    from genai.config.embedding import EmbeddingConfig
    from genai.embedding.opening import open_encoder

    encoder = open_encoder(EmbeddingConfig(model=MODEL), num_threads=1)
    done = [encoder.embed_documents(first)]
    started = time.process_time()
    batch: list[str] = []
    for sentence in sentences():
        batch.append(sentence)
        if len(batch) == 512:
            done.append(encoder.embed_documents(batch))
            batch = []
            if time.process_time() - started > seconds:
                break
    file.parent.mkdir(parents=True, exist_ok=True)
    np.save(file, np.concatenate(done))


def faq() -> tuple[list[str], list[str]]:
    """Questions and answers, in the same order."""
    from genai.data.gallery import pull

    rows = [json.loads(line) for line in pull("construction-faq-en").read_text(encoding="utf-8").splitlines()]
    return [row["q"] for row in rows], [row["a"] for row in rows]


def sentences() -> Iterator[str]:
    """Each once, from the docstrings of the standard library and of the packages that are installed."""
    documents = runpy.run_path(str(REPOSITORY / "recipes" / "pretrain-from-scratch" / "collect.py"))["documents"]
    seen: set[str] = set()
    for _, text in documents(set()):
        for part in re.split(r"\n\s*\n", text):
            for sentence in _SENTENCE.split(" ".join(part.split())):
                if _LENGTHS[0] <= len(sentence) <= _LENGTHS[1] and sentence not in seen:
                    seen.add(sentence)
                    yield sentence


def pool(count: int) -> list[str]:
    """Some of the sentences, collected once."""
    cached = CACHE / f"sentences-{count}.json"
    if not cached.exists():
        cached.parent.mkdir(parents=True, exist_ok=True)
        cached.write_text(json.dumps(list(islice(sentences(), count))), encoding="utf-8")
    found: list[str] = json.loads(cached.read_text(encoding="utf-8"))
    return found


def make_pool(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {"sentences": len(pool(settings["pool"]))}


def unit(vectors: Any) -> Any:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def finish(folder: Path, *, filters: bool) -> dict[str, Any]:
    """Write columns and true neighbours, and say how many there are.

    `independent` is drawn at random. `correlated` sorts the points along one direction: for a query at its other end,
    the few that a filter leaves are far away, where a search in a graph does not come by.
    """
    base, queries = np.load(folder / "base.npy", mmap_mode="r"), np.load(folder / "queries.npy")
    random = np.random.default_rng(SEED + 1)
    along = base @ unit(random.standard_normal((1, DIM)))[0].astype(np.float32)
    columns = {
        "independent": random.integers(0, 1000, len(base)),
        "correlated": np.argsort(np.argsort(along)) * 1000 // len(base),
    }
    np.savez(folder / "columns.npz", **columns)
    masks = {"all": np.ones(len(base), bool)}
    if filters:
        masks |= {f"{name} {share}": columns[name] < share for name in COLUMNS for share in SHARES}
    np.savez(folder / "truth.npz", **neighbours(base, queries, masks))
    return {"num_points": len(base), "num_queries": len(queries)}


def neighbours(base: Any, queries: Any, masks: Mapping[str, Any]) -> dict[str, Any]:
    """For each mask the rows of the K points with the highest dot product that it leaves."""
    best = {name: np.full((len(queries), 0), -np.inf, np.float32) for name in masks}
    rows = {name: np.full((len(queries), 0), -1) for name in masks}
    for start in range(0, len(base), _ROWS_AT_ONCE):
        scores = queries @ base[start : start + _ROWS_AT_ONCE].T
        for name, mask in masks.items():
            left = np.flatnonzero(mask[start : start + _ROWS_AT_ONCE])
            found = np.concatenate([best[name], scores[:, left]], axis=1)
            names = np.concatenate([rows[name], np.broadcast_to(left + start, (len(queries), len(left)))], axis=1)
            if found.shape[1] > K:
                order = np.argpartition(-found, K - 1, axis=1)[:, :K]
                found, names = np.take_along_axis(found, order, axis=1), np.take_along_axis(names, order, axis=1)
            best[name], rows[name] = found, names
    return rows


def recall(found: list[list[int]], truth: Any) -> float:
    """Share of the true neighbours that were found."""
    hits = sum(len(set(rows) & set(true[true >= 0].tolist())) for rows, true in zip(found, truth, strict=True))
    return hits / max(1, int((truth >= 0).sum()))
