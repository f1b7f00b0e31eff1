"""Rows of nearly the same words: questions asked twice, answers copied with a word changed.

Two rows are near duplicates when their prompts are, or their answers are. Texts are compared by their character 5-grams
(letters and digits in small letters, all else a space): the Jaccard similarity |A & B| / |A | B| is estimated by
MinHash signatures, and only pairs that agree in a band of theirs are looked at (Broder 1997, "On the resemblance and
containment of documents"; Leskovec, Rajaraman, Ullman, "Mining of Massive Datasets", section 3.4).

A 5-gram of more than a tenth of the rows is a turn of phrase and does not count, so that a prompt template does not tie
all rows together; a text of which less than a third is left then is compared with equal ones only. Answers shorter than
40 characters do not count. The threshold of 0.5 was chosen on the construction FAQ: it joins what is asked twice in
other words ("Is a building permit required for a deck?" and "Do I need a building permit for a deck?"), and its largest
group is 7 of 503 rows. Groups are connected components: two rows of one may be alike only through a third.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from genai.data.disjoint_sets import DisjointSets
from genai.data.rows import Row

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SIMILARITY = 0.5
_GRAM = 5
_BANDS, _ROWS_A_BAND = 42, 3
"""Pairs of similarity 0.5 agree in some band with probability 1 - (1 - 0.5^3)^42 = 0.996, those of 0.1 with 0.04."""
_NEIGHBOURS = 8
"""Within a band that many texts share, each is compared with this many; the others are reached over steps."""
_MAX_GRAMS = 128
_SAMPLE = 2000
_COMMON_SHARE, _COMMON_ROWS = 0.1, 50
_MIN_KEPT = 1 / 3
_MIN_ANSWER_LENGTH = 40
_NO_WORD = re.compile(r"[\W_]+")


def near_duplicate_groups(rows: Sequence[Row], *, similarity: float = SIMILARITY) -> list[int]:
    """The group of each row, named by the index of its first row.

    Args:
        rows: what to compare; 100,000 short ones take about half a minute.
        similarity: Jaccard similarity from which two texts are nearly the same.
    """
    sets = DisjointSets(len(rows))
    prompts = [normalise(row.said_by("user", "tool")) for row in rows]
    answers = [normalise(row.said_by("assistant")) for row in rows]
    for texts, min_length in ((prompts, 1), (answers, _MIN_ANSWER_LENGTH)):
        representatives = _join_equal(texts, min_length, sets)
        for left, right in _similar_pairs([texts[index] for index in representatives], similarity):
            sets.join(representatives[left], representatives[right])
    return [sets.root(index) for index in range(len(rows))]


def normalise(text: str) -> str:
    """Letters and digits in small letters, with one space between words."""
    return _NO_WORD.sub(" ", text.casefold()).strip()


def _join_equal(texts: Sequence[str], min_length: int, sets: DisjointSets) -> list[int]:
    """Join rows of equal text, and return the first row of each text that is long enough.

    What a tenth of the rows say (and more than 50 of them) is a form, such as "Go on.", and joins nothing.
    """
    rows_of: dict[str, list[int]] = {}
    for index, text in enumerate(texts):
        if len(text) >= min_length:
            rows_of.setdefault(text, []).append(index)
    for indices in rows_of.values():
        if len(indices) <= max(_COMMON_ROWS, _COMMON_SHARE * len(texts)):
            for index in indices[1:]:
                sets.join(indices[0], index)
    return [indices[0] for indices in rows_of.values()]


def _similar_pairs(texts: Sequence[str], similarity: float) -> Iterator[tuple[int, int]]:
    import numpy as np

    compared, signatures = _signatures(texts)
    for band in range(_BANDS):
        columns = np.ascontiguousarray(signatures[:, band * _ROWS_A_BAND : (band + 1) * _ROWS_A_BAND])
        keys = columns.view([("", columns.dtype)] * _ROWS_A_BAND).ravel()
        order = np.argsort(keys, kind="stable")
        for step in range(1, _NEIGHBOURS + 1):
            left, right = order[:-step], order[step:]
            same = keys[left] == keys[right]
            if not same.any():
                break
            left, right = left[same], right[same]
            close = (signatures[left] == signatures[right]).mean(axis=1) >= similarity
            yield from zip(compared[left[close]].tolist(), compared[right[close]].tolist(), strict=True)


def _signatures(texts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
    """The texts that can be compared (their indices), and their MinHash signatures, shape (compared, signature)."""
    import numpy as np

    common = _common_grams(texts)
    # Raw numbers of PCG64 are promised never to change, so the groups of a data set do not either.
    numbers = np.random.PCG64(5).random_raw(2 * _BANDS * _ROWS_A_BAND)
    masks, factors = numbers[::2], numbers[1::2] | np.uint64(1)
    compared: list[int] = []
    signatures: list[NDArray[np.uint64]] = []
    for index, text in enumerate(texts):
        grams = five_grams(text)
        kept = grams[~_contains(common, grams)] if len(common) else grams
        if len(kept) and len(kept) >= _MIN_KEPT * len(grams):
            hashes = kept[:_MAX_GRAMS, None] ^ masks
            hashes *= factors
            signatures.append(hashes.min(axis=0))
            compared.append(index)
    shape = (len(compared), len(masks))
    return np.array(compared, dtype=np.int64), np.array(signatures, dtype=np.uint64).reshape(shape)


def _common_grams(texts: Sequence[str]) -> NDArray[np.uint64]:
    """Sorted 5-grams of more than a tenth of the texts, found in a sample that does not depend on their order."""
    import numpy as np

    sample = sorted(texts, key=lambda text: (zlib.crc32(text.encode(errors="surrogatepass")), text))[:_SAMPLE]
    found = np.concatenate([np.zeros(0, dtype=np.uint64), *map(five_grams, sample)])
    grams, counts = np.unique(found, return_counts=True)
    return grams[counts > max(_COMMON_ROWS, _COMMON_SHARE * len(sample))]


def _contains(values: NDArray[np.uint64], wanted: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """For each of `wanted` whether it is among the sorted `values`, of which there is at least one."""
    import numpy as np

    found = values[np.minimum(np.searchsorted(values, wanted), len(values) - 1)]
    result: NDArray[np.bool_] = found == wanted
    return result


def five_grams(text: str) -> NDArray[np.uint64]:
    """Sorted hashes of a normalised text's 5-grams, each once; the smallest of them are a random sample."""
    import numpy as np

    codes = np.frombuffer(text.ljust(_GRAM).encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.uint64)
    hashes = np.zeros(len(codes) - _GRAM + 1, dtype=np.uint64)
    for offset in range(_GRAM):
        hashes = hashes * np.uint64(1_000_003) + codes[offset : offset + len(hashes)]
    # The mixing of SplitMix64, so that order and low bits are as good as random.
    hashes = (hashes ^ hashes >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    hashes = (hashes ^ hashes >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    hashes ^= hashes >> np.uint64(31)
    hashes.sort()
    # np.unique, without its overhead on short arrays.
    distinct: NDArray[np.uint64] = hashes[np.append(True, hashes[1:] != hashes[:-1])]
    return distinct
