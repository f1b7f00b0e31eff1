"""Which fields of a JSON answer are right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from genai.evaluation.metrics.base import NO_REFERENCE, TextMetric
from genai.evaluation.records import Example, Score, Unscored
from genai.metrics.structured import compare_fields, read_json


class JsonFields(TextMetric):
    """The share of the fields that are as in the reference, which is a JSON object; of several the best one counts.
    An answer that is no JSON object has none.

    Args:
        fields: which are compared, nested ones as address.city; by default those of the reference's first level.
        ignore_case: capital letters make no difference in texts.
        fenced: JSON in a Markdown fence counts too.
        pattern: see `TextMetric`.
    """

    name = "json_fields"
    what = "share of the fields of a JSON answer that are as in the reference"

    def __init__(
        self,
        *,
        fields: Sequence[str] | None = None,
        ignore_case: bool = False,
        fenced: bool = False,
        pattern: str | None = None,
    ) -> None:
        super().__init__(pattern=pattern)
        self._fields = fields
        self._ignore_case = ignore_case
        self._fenced = fenced

    def of_text(self, example: Example, text: str) -> Score | Unscored:
        """The share, with the fields that are wrong."""
        if not example.references:
            return NO_REFERENCE
        try:
            wanted = [_object(reference) for reference in example.references]
        except ValueError as error:
            return Unscored(reason=f"the reference is no JSON object: {error}")
        note = ""
        try:
            found = read_json(text, fenced=self._fenced)
        except ValueError as error:
            found, note = None, f"no JSON: {error}"
        compared = [compare_fields(found, each, self._fields, ignore_case=self._ignore_case) for each in wanted]
        compared = [each for each in compared if each]
        if not compared:
            return Unscored(reason="the reference has no field")
        if not isinstance(found, Mapping):
            return Score(parts=(0.0,), value=0.0, note=note or "it is JSON, but no object")
        best = max(compared, key=_share)
        wrong = [name for name, right in best.items() if not right]
        note = f"wrong: {', '.join(wrong)}" if wrong else ""
        return Score(parts=(_share(best),), value=_share(best), note=note, details={"fields": best})


def _share(compared: Mapping[str, bool]) -> float:
    return sum(compared.values()) / len(compared)


def _object(reference: str) -> Mapping[str, object]:
    value = read_json(reference)
    if not isinstance(value, Mapping):
        raise ValueError("it is JSON of another kind")
    return value
