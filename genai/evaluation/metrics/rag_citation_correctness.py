"""citation_correctness: whether passages bear out the sentences that cite them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from genai.evaluation.citations import Citation, citations_of
from genai.evaluation.judges.judge import Request
from genai.evaluation.judges.judged_metric import JudgedMetric
from genai.evaluation.judges.prompting import conversation_of, flags_form, flags_schema, passage_sections
from genai.evaluation.judges.verdicts import Opinion, Unreadable, read_flags
from genai.evaluation.records import Answer, Example, Outcome, Unscored

_TASK = """You check citations, strictly and impartially.

Every line of CITATIONS names a sentence of an answer to the QUESTION, and the PASSAGE that the sentence cites. Say of \
each whether that passage, alone, supports at least a part of what the sentence states and contradicts none of it. Use \
that passage, not the others and not what you know."""


class CitationCorrectness(JudgedMetric):
    """Share of an answer's citations ([1], [2, 3]) whose passage supports the sentence; one of a passage that does not
    exist is wrong. Answers that cite nothing are not scored: whether something should have been cited is not seen.

    Source: Gao et al. 2023, "Enabling Large Language Models to Generate Text with Citations" (citation precision).

    Args:
        judges: all of the job, by name.
        judge: those that this metric asks; by default the only one.
    """

    name = "citation_correctness"
    what = "share of citations such as [1] whose passage supports the sentence, by a judge"
    kinds = ("generation",)

    def request(self, example: Example, outcome: Outcome, scale: tuple[int, int]) -> Request | Opinion | Unscored:
        """See `JudgedMetric`."""
        if not isinstance(outcome, Answer):
            return Unscored(reason="there is no answer to check")
        contexts = outcome.contexts or example.contexts
        if not contexts:
            return Unscored(reason="neither the answer nor the row has passages")
        citations = citations_of(outcome.text)
        if not citations:
            return Unscored(reason="the answer cites nothing")
        real = [each for each in citations if 1 <= each.passage <= len(contexts)]
        missing = [each for each in citations if not 1 <= each.passage <= len(contexts)]
        return _request(example, contexts, real, missing) if real else _opinion([], [], missing)


def _request(
    example: Example, contexts: Sequence[str], real: Sequence[Citation], missing: Sequence[Citation]
) -> Request:
    listed = "\n".join(f"{number}. PASSAGE {each.passage}: {each.sentence}" for number, each in enumerate(real, 1))
    cited = {each.passage for each in real}
    passages = [each for number, each in enumerate(passage_sections(contexts), 1) if number in cited]
    names = [f"citation_{number}" for number in range(1, len(real) + 1)]

    def read(said: Mapping[str, Any]) -> Opinion | Unreadable:
        flags = read_flags(said, names)
        return flags if isinstance(flags, Unreadable) else _opinion(flags, real, missing)

    return Request(
        messages=conversation_of(example, [*passages, ("CITATIONS", listed)], task=_TASK, form=flags_form(names)),
        json_schema=flags_schema(names),
        read=read,
    )


def _opinion(flags: Sequence[bool], real: Sequence[Citation], missing: Sequence[Citation]) -> Opinion:
    num = len(real) + len(missing)
    reason = f"{sum(flags)} of {num} citations right"
    if missing:
        reason += f", of passages that there are not: {len(missing)}"
    entries = [
        {"sentence": each.sentence, "passage": each.passage, "supported": flag}
        for each, flag in [*zip(real, flags, strict=True), *((each, False) for each in missing)]
    ]
    return Opinion(value=sum(flags) / num, reason=reason, details={"citations": entries})
