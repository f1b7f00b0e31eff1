"""A text taken apart into claims, each held against passages.

Source: Es et al. 2023, "RAGAS: Automated Evaluation of Retrieval Augmented Generation" (faithfulness, context recall):
the share of claims that follow from the passages. Both steps are one question here, so that a verdict can be read
beside the claim that it is of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from genai.evaluation.judges.judge import Request
from genai.evaluation.judges.prompting import Section, conversation_of, object_schema, passage_sections
from genai.evaluation.judges.verdicts import Opinion, Unreadable, text_of
from genai.evaluation.records import Example

_FORM = '{{"claims": [{{"claim": "a fact that the {source} states", "supported": true or false}}, ...]}}'
_TASK = """You check facts, strictly and impartially.

First take the {source} apart into its claims: every fact that it states, each as one short sentence that can be \
understood alone. Greetings, questions, offers of help and remarks about the passages themselves are no claims, nor is \
the statement that the answer is not known. Then say of each claim whether the PASSAGES support it: true when it \
follows from them, false when it contradicts them or cannot be found in them. Use the passages alone, not what you \
know. A {source} without claims has an empty list; of a long one take the fifteen claims that matter most."""


def claims_request(example: Example, contexts: Sequence[str], source: Section) -> Request:
    """Which claims of a text follow from passages: an opinion whose value is their share; None where it claims nothing.

    Args:
        example: whose question is shown.
        contexts: the passages.
        source: what is taken apart: ("ANSWER", text).
    """
    name = source[0]
    claim = object_schema(claim={"type": "string"}, supported={"type": "boolean"})
    return Request(
        messages=conversation_of(
            example,
            [*passage_sections(contexts), source],
            task=_TASK.format(source=name),
            form=_FORM.format(source=name),
        ),
        json_schema=object_schema(claims={"type": "array", "items": claim}),
        read=lambda said: _read(said["claims"], name.lower()),
    )


def _read(entries: Any, source: str) -> Opinion | Unreadable:
    if not isinstance(entries, list) or not all(map(_is_claim, entries)):
        return Unreadable(reason="'claims' is no list of objects with a text 'claim' and a true or false 'supported'")
    if not entries:
        return Opinion(value=None, reason=f"the {source} claims nothing that could be checked")
    claims = [{"claim": text_of(each["claim"]), "supported": each["supported"]} for each in entries]
    unsupported = [each["claim"] for each in claims if not each["supported"]]
    num = len(claims) - len(unsupported)
    reason = f"{num} of {len(claims)} claims supported"
    if unsupported:
        reason += f", not: {'; '.join(unsupported)}"
    return Opinion(value=num / len(claims), reason=reason, details={"claims": claims})


def _is_claim(entry: Any) -> bool:
    return (
        isinstance(entry, Mapping)
        and isinstance(entry.get("supported"), bool)
        and isinstance(entry.get("claim"), str)
        and bool(entry["claim"].strip())
    )
