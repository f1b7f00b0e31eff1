from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from genai.jobs.text_vectors import KeptVectors


class Lengths:
    """A vector tells the length of a text; counts what it is asked."""

    def __init__(self, fingerprint: str = "a") -> None:
        self.fingerprint = fingerprint
        self.asked = 0

    def embed_documents(self, texts: Sequence[str]) -> np.ndarray:
        self.asked += len(texts)
        return np.array([[len(text), 1.0] for text in texts], dtype=np.float32)

    def embed_queries(self, texts: Sequence[str]) -> np.ndarray:
        return -self.embed_documents(texts)


TEXTS = ["bb", "a", "dddd", "", "ccc"] * 100


def test_vectors_come_back_in_the_order_of_the_texts(tmp_path: Path) -> None:
    kept = KeptVectors(Lengths(), tmp_path)
    assert kept.embed_documents(TEXTS)[:, 0].tolist() == [len(text) for text in TEXTS]
    assert kept.embed_queries(TEXTS)[:, 0].tolist() == [-len(text) for text in TEXTS]


def test_nothing_is_embedded_twice(tmp_path: Path) -> None:
    first, again = Lengths(), Lengths()
    vectors = KeptVectors(first, tmp_path).embed_documents(TEXTS)
    assert np.array_equal(KeptVectors(again, tmp_path).embed_documents(TEXTS), vectors)
    assert (first.asked, again.asked) == (len(TEXTS), 0)


def test_another_encoder_other_texts_and_queries_are_embedded(tmp_path: Path) -> None:
    KeptVectors(Lengths(), tmp_path).embed_documents(TEXTS)
    other = Lengths("b")
    KeptVectors(other, tmp_path).embed_documents(TEXTS)
    same = Lengths()
    kept = KeptVectors(same, tmp_path)
    kept.embed_documents([*TEXTS[1:], TEXTS[0]])
    kept.embed_queries(TEXTS)
    assert (other.asked, same.asked) == (len(TEXTS), 2 * len(TEXTS))


def test_a_damaged_file_is_made_anew(tmp_path: Path) -> None:
    kept = KeptVectors(Lengths(), tmp_path)
    vectors = kept.embed_documents(TEXTS)
    [file] = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:100])
    assert np.array_equal(kept.embed_documents(TEXTS), vectors)
    file.write_bytes(b"")
    assert np.array_equal(kept.embed_documents(TEXTS), vectors)


def test_texts_that_run_into_each_other_are_told_apart(tmp_path: Path) -> None:
    kept = KeptVectors(Lengths(), tmp_path)
    assert kept.embed_documents(["ab", "c"])[:, 0].tolist() == [2, 1]
    assert kept.embed_documents(["a", "bc"])[:, 0].tolist() == [1, 2]
