"""Texts as bags of words, for BM25 (Robertson and Zaragoza 2009, "The Probabilistic Relevance Framework", section 3).

    score(q, d) = sum over terms t of q:  count(t, q) * idf(t) * tf(t, d)
    tf(t, d)    = count (k1 + 1) / (count + k1 (1 - b + b length / average length))

The counts and `tf` are made here, as sparse vectors whose indices are hashes of the terms: the same in every process,
with no vocabulary to keep. `idf` changes with every chunk that comes or goes, so the engines multiply by it when they
search (see `SparseVector`). Two terms of one hash count as one term: of a vocabulary of 100,000 about one pair.
"""

from __future__ import annotations

import re
import threading
import unicodedata
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from genai.errors import MissingExtraError, UsageError
from genai.index.interfaces import SparseVector
from genai.registry import suggest

LANGUAGES = (
    "arabic", "armenian", "basque", "catalan", "czech", "danish", "dutch", "english", "esperanto", "estonian",
    "finnish", "french", "german", "greek", "hindi", "hungarian", "indonesian", "irish", "italian", "lithuanian",
    "nepali", "norwegian", "persian", "polish", "portuguese", "romanian", "russian", "serbian", "sesotho", "spanish",
    "swedish", "tamil", "turkish", "yiddish",
)  # fmt: skip
"""What the Snowball stemmers know."""
_ASCII_WORD = re.compile(r"[a-z0-9]+")
_CACHED_WORDS = 200_000
"""Stems are remembered up to so many words: a stemmer takes some 20 microseconds a word, and most words come again."""


class Analyzer:
    """Cuts texts into terms: words in small letters, stemmed where a language is named.

    A word is a run of letters, digits and the marks that belong to letters; text of the same look but another encoding
    (composed or not, wide or narrow) gives the same words. Chinese and Japanese, which leave no spaces between words,
    give every two neighbouring characters.

    May be used by several threads at once.

    Args:
        language: a Snowball stemmer's, or none.

    Raises:
        UsageError: there is no stemmer for the language.
        MissingExtraError: the stemmers are not installed.
    """

    def __init__(self, language: str = "none") -> None:
        self._stems: dict[str, str] = {}
        self._lock = threading.Lock()
        self._stem = None if language == "none" else open_stemmer(language)

    def terms(self, text: str) -> list[str]:
        """All terms in their order, repeated ones too."""
        words = _ASCII_WORD.findall(text.lower()) if text.isascii() else _unicode_words(text)
        if self._stem is None:
            return words
        stems = self._stems
        try:
            return [stems[word] for word in words]
        except KeyError:
            return self._with_new_stems(words, self._stem)

    def _with_new_stems(self, words: Sequence[str], stem: Callable[[str], str]) -> list[str]:
        with self._lock:  # a Snowball stemmer keeps the word that it works on in itself
            if len(self._stems) > _CACHED_WORDS:
                self._stems = {}
            found = {word: self._stems.get(word) or stem(word) for word in set(words)}
            self._stems.update(found)
        return [found[word] for word in words]


def check_language(language: str) -> None:
    """Whether `Analyzer` knows a language, without opening its stemmer.

    Raises:
        UsageError: it does not; the nearest one is suggested.
    """
    if language != "none" and language not in LANGUAGES:
        near = suggest(language, LANGUAGES)
        fix = f"did you mean '{near}'?" if near else f"known: none, {', '.join(LANGUAGES)}"
        raise UsageError(f"no stemmer for the language '{language}'", where="bm25.language", fix=fix)


def open_stemmer(language: str) -> Callable[[str], str]:
    """From a word in small letters to its stem.

    Raises:
        UsageError, MissingExtraError: as `Analyzer`.
    """
    check_language(language)
    try:
        import snowballstemmer
    except ImportError as error:
        raise MissingExtraError("snowballstemmer", extra="index", needed_for=f"bm25.language {language}") from error
    stem: Callable[[str], str] = snowballstemmer.stemmer(language).stemWord
    return stem


def document_vector(terms: Sequence[str], average_length: float, k1: float, b: float) -> SparseVector:
    """What a chunk says, as an engine stores it.

    Args:
        terms: of the chunk, as `Analyzer` gave them.
        average_length: terms a chunk, over the whole index; 0 takes every chunk as of average length.
        k1, b: as in the module's formula.
    """
    indices, counts = _count(terms)
    relative_length = len(terms) / average_length if average_length > 0 else 1.0
    values = counts * (k1 + 1) / (counts + k1 * (1 - b + b * relative_length))
    return SparseVector(indices=indices, values=values.astype(np.float32))


def query_vector(terms: Sequence[str]) -> SparseVector:
    """What a query asks for: each term with the number of times that it stands there."""
    indices, counts = _count(terms)
    return SparseVector(indices=indices, values=counts.astype(np.float32))


@lru_cache(maxsize=_CACHED_WORDS)
def term_id(term: str) -> int:
    """A number below 2^32 for a term, the same everywhere and always: the CRC-32 of its UTF-8 bytes."""
    return zlib.crc32(term.encode("utf-8", "surrogatepass"))


def _count(terms: Sequence[str]) -> tuple[NDArray[np.uint32], NDArray[np.float64]]:
    """The ids of the terms, ascending, and how often each occurs."""
    counted = Counter(map(term_id, terms))
    indices = np.fromiter(counted, dtype=np.uint32, count=len(counted))
    counts = np.fromiter(counted.values(), dtype=np.float64, count=len(counted))
    order = indices.argsort()
    return indices[order], counts[order]


def _unicode_words(text: str) -> list[str]:
    words: list[str] = []
    word, spaceless = _patterns()
    for found in word.findall(unicodedata.normalize("NFKC", text).casefold()):
        if not spaceless.search(found):
            words.append(found)
            continue
        for part in spaceless.split(found):  # the pattern is a group, so that what it found is among the parts
            if spaceless.match(part) and len(part) > 1:
                words.extend(part[i : i + 2] for i in range(len(part) - 1))
            elif part:
                words.append(part)
    return words


@lru_cache(maxsize=1)
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    r"""A word, and a run of characters between which no spaces are written.

    `\w` alone would cut the words of Hindi, Thai and others at their vowel signs, which are marks and not letters.
    """
    marks = "".join(chr(code) for code in range(0x300, 0x10000) if unicodedata.category(chr(code)) in ("Mn", "Mc"))
    word = re.compile(rf"(?:[^\W_]|[{marks}])+")
    spaceless = re.compile("([\u3005\u3041-\u309f\u30a1-\u30ff\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003ffff]+)")
    return word, spaceless
