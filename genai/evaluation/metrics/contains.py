"""Whether an answer has a reference in it."""

from __future__ import annotations

from genai.evaluation.metrics.base import ReferenceMetric
from genai.metrics.text import normalise


class Contains(ReferenceMetric):
    """1 where one of the references stands somewhere in the answer, as whole words.

    Args:
        ignore_case: capital letters make no difference.
        ignore_punctuation: punctuation and the articles of English make no difference.
        whole_words: `cat` is not in `category`; switch it off for scripts without blanks between words.
        pattern: see `TextMetric`.
    """

    name = "contains"
    what = "share of answers in which a reference stands, as whole words"

    def __init__(
        self,
        *,
        ignore_case: bool = True,
        ignore_punctuation: bool = False,
        whole_words: bool = True,
        pattern: str | None = None,
    ) -> None:
        super().__init__(pattern=pattern)
        self._ignore_case = ignore_case
        self._ignore_punctuation = ignore_punctuation
        self._whole_words = whole_words

    def compare(self, text: str, reference: str) -> float:
        """1 or 0; a reference without any text is in no answer."""
        wanted = self._normal(reference)
        return float(bool(wanted) and _is_in(wanted, self._normal(text), whole_words=self._whole_words))

    def _normal(self, text: str) -> str:
        return normalise(text, ignore_case=self._ignore_case, ignore_punctuation=self._ignore_punctuation)


def _is_in(wanted: str, text: str, *, whole_words: bool) -> bool:
    start = text.find(wanted)
    while start >= 0:
        end = start + len(wanted)
        if not whole_words or not (_joined(text, start) or _joined(text, end)):
            return True
        start = text.find(wanted, start + 1)
    return False


def _joined(text: str, place: int) -> bool:
    """Whether a word runs across this place."""
    return 0 < place < len(text) and text[place - 1].isalnum() and text[place].isalnum()
