"""Terms and BM25 vectors, against the formula written down plainly."""

from __future__ import annotations

import math
import random
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from genai.errors import MissingExtraError, UsageError
from genai.index.words import LANGUAGES, Analyzer, check_language, document_vector, query_vector, term_id


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("The screed, 45 mm thick.", ["the", "screed", "45", "mm", "thick"]),
        ("snake_case and kebab-case", ["snake", "case", "and", "kebab", "case"]),
        ("", []),
        (" ... !? ", []),
        ("Straße STRASSE", ["strasse", "strasse"]),
        ("ÅÄÖ åäö", ["åäö", "åäö"]),
        ("cafe\u0301 café", ["café", "café"]),
        ("\uff21\uff22\uff23 \uff11\uff12", ["abc", "12"]),
        ("हिन्दी में", ["हिन्दी", "में"]),
        ("日本語 text", ["日本", "本語", "text"]),
        ("水", ["水"]),
        ("GPU搭載PC", ["gpu", "搭載", "pc"]),
        ("한국어 문서", ["한국어", "문서"]),
        ("😀 ok", ["ok"]),
    ],
)
def test_words_of_many_scripts(text: str, terms: list[str]) -> None:
    assert Analyzer().terms(text) == terms


def test_ascii_and_other_text_are_cut_alike() -> None:
    text = "The quick-brown fox (2nd) isn't A_B."
    assert Analyzer().terms(text + " é") == [*Analyzer().terms(text), "é"]


def test_a_stemmer_brings_forms_of_a_word_together() -> None:
    english = Analyzer("english")
    assert english.terms("floors floor flooring Floored") == ["floor"] * 4
    assert Analyzer("swedish").terms("husen huset") == ["hus", "hus"]


def test_every_language_that_is_offered_can_be_opened() -> None:
    for language in LANGUAGES:
        assert Analyzer(language).terms("x") == ["x"]


def test_an_unknown_language_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"no stemmer for the language 'englisch' \(did you mean 'english'\?\)"):
        check_language("englisch")
    with pytest.raises(UsageError, match="known: none, arabic"):
        Analyzer("klingon")
    check_language("none")


def test_without_the_package_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "snowballstemmer", None)
    with pytest.raises(MissingExtraError, match=r"genai-foundry\[index\]"):
        Analyzer("english")
    assert Analyzer().terms("no stemmer needed") == ["no", "stemmer", "needed"]


def test_threads_that_share_an_analyzer_do_not_disturb_each_other() -> None:
    words = [f"running{number}s flooring houses{number}" for number in range(400)]
    expected = [Analyzer("english").terms(text) for text in words]
    shared = Analyzer("english")
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(shared.terms, words * 3)) == expected * 3


def test_term_ids_are_the_same_in_every_process() -> None:
    code = "from genai.index.words import term_id; print(term_id('screed'), term_id('हिन्दी'))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert [int(text) for text in told] == [term_id("screed"), term_id("हिन्दी")]
    assert term_id("123456789") == 0xCBF43926  # the check value of CRC-32


def test_term_ids_hardly_ever_collide() -> None:
    words = {f"{a}{b}" for a in "abcdefghij" for b in range(10_000)}
    assert len({term_id(word) for word in words}) >= len(words) - 5


def test_document_vectors_are_those_of_the_formula() -> None:
    terms = ["a", "b", "a", "a", "c"]
    vector = document_vector(terms, average_length=4.0, k1=1.2, b=0.75)
    expected = {
        term_id(term): count * 2.2 / (count + 1.2 * (1 - 0.75 + 0.75 * 5 / 4.0))
        for term, count in Counter(terms).items()
    }
    assert vector.indices.dtype == np.uint32
    assert vector.values.dtype == np.float32
    assert list(vector.indices) == sorted(expected)
    assert vector.values == pytest.approx([expected[index] for index in sorted(expected)])


def test_query_vectors_count() -> None:
    vector = query_vector(["a", "b", "a"])
    assert dict(zip(vector.indices.tolist(), vector.values.tolist(), strict=True)) == {term_id("a"): 2, term_id("b"): 1}


def test_empty_texts_and_unknown_lengths() -> None:
    assert len(document_vector([], average_length=3.0, k1=1.2, b=0.75).indices) == 0
    assert len(query_vector([]).values) == 0
    vector = document_vector(["a"], average_length=0.0, k1=1.2, b=0.75)
    assert vector.values == pytest.approx([1.0])
    assert document_vector(["a", "a"], average_length=1.0, k1=0.0, b=0.75).values == pytest.approx([1.0])


def test_scores_of_a_collection_are_those_of_a_plain_bm25() -> None:
    generator = random.Random(5)
    vocabulary = [f"w{number}" for number in range(60)]
    documents = [generator.choices(vocabulary, k=generator.randint(1, 40)) for _ in range(80)]
    average = sum(map(len, documents)) / len(documents)
    vectors = [document_vector(terms, average, k1=1.5, b=0.6) for terms in documents]
    held = [dict(zip(v.indices.tolist(), v.values.tolist(), strict=True)) for v in vectors]
    for _ in range(20):
        asked = generator.choices(vocabulary, k=4)
        query = query_vector(asked)
        for terms, values in zip(documents, held, strict=True):
            ours = 0.0
            for index, count in zip(query.indices.tolist(), query.values.tolist(), strict=True):
                num_with = sum(index in other for other in held)
                idf = math.log(1 + (len(documents) - num_with + 0.5) / (num_with + 0.5))
                ours += count * idf * values.get(index, 0.0)
            assert ours == pytest.approx(plain_bm25(asked, terms, documents, k1=1.5, b=0.6), rel=1e-5)


def plain_bm25(query: list[str], terms: list[str], documents: list[list[str]], *, k1: float, b: float) -> float:
    """Robertson and Zaragoza 2009, equation 3.15, with the idf that is never negative, on words rather than hashes."""
    average = sum(map(len, documents)) / len(documents)
    score = 0.0
    for word in query:
        num_with = sum(word in document for document in documents)
        if num_with == 0:
            continue
        idf = math.log(1 + (len(documents) - num_with + 0.5) / (num_with + 0.5))
        tf = terms.count(word)
        score += idf * tf * (k1 + 1) / (tf + k1 * (1 - b + b * len(terms) / average))
    return score
