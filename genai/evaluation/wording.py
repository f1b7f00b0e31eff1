"""Questions, answers and what is right, as people read them in reports and files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from genai.evaluation.records import (
    Answer,
    Chat,
    Continuations,
    Example,
    Failure,
    Likelihoods,
    Outcome,
    Question,
    Ranking,
    WholeText,
)

_SHOWN_DOCUMENTS = 10


def question_text(question: Question) -> str:
    """What is asked, as one text: of a conversation with a single turn that turn alone."""
    if isinstance(question, Chat):
        return _conversation(question)
    if isinstance(question, Continuations):
        return _continuations(question)
    return question.text


def expected_texts(example: Example) -> tuple[str, ...]:
    """What is right, any of them; empty where a data set does not say."""
    if example.references:
        return example.references
    if example.expected_tools:
        return ("\n".join(_call(call) for call in example.expected_tools),)
    if example.relevant:
        ranked = sorted(example.relevant.items(), key=lambda item: (-item[1], item[0]))
        graded = any(grade != 1 for _, grade in ranked)
        return ("\n".join(f"{key} ({grade:g})" if graded else key for key, grade in ranked),)
    if example.gold is not None and isinstance(example.question, Continuations):
        return (_pair(example.question, example.gold),)
    return ()


def outcome_text(question: Question, outcome: Outcome) -> str | None:
    """What a target said, found or held likely; None where it gave no outcome."""
    if isinstance(outcome, Failure):
        return None
    if isinstance(outcome, Answer):
        return "\n".join([*([outcome.text] if outcome.text else []), *(_call(call) for call in outcome.tool_calls)])
    if isinstance(outcome, Ranking):
        return _ranking(outcome)
    return _likelihoods(question, outcome)


def _conversation(question: Chat) -> str:
    if question.prompt is not None:
        return question.prompt
    if len(question.messages) == 1 and question.messages[0].get("role") == "user":
        return _content(question.messages[0])
    return "\n".join(f"{message.get('role', '?')}: {_content(message)}" for message in question.messages)


def _content(message: Mapping[str, Any]) -> str:
    """A text, or the parts of OpenAI's form: {type: text, text} and others."""
    content = message.get("content")
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(str(part.get("text", f"({part.get('type', '?')})")) for part in content)
    calls = [_call(call.get("function", call)) for call in message.get("tool_calls") or ()]
    return "\n".join(calls)


def _continuations(question: Continuations) -> str:
    """A context once, and under it what may follow; of contexts that differ each with its continuation."""
    contexts = {context for context, _ in question.pairs}
    if len(question.pairs) == 1:
        return question.pairs[0][0]
    if len(contexts) == 1:
        choices = [f"{number}. {continuation.strip()}" for number, (_, continuation) in enumerate(question.pairs, 1)]
        return "\n".join([contexts.pop(), *choices])
    return "\n".join(f"{number}. {context}{text}" for number, (context, text) in enumerate(question.pairs, 1))


def _pair(question: Continuations, number: int) -> str:
    """One of several continuations, by what makes it different from the others."""
    if not 0 <= number < len(question.pairs):
        return str(number)
    context, continuation = question.pairs[number]
    same_context = len({each for each, _ in question.pairs}) == 1
    return f"{number + 1}. {continuation.strip() if same_context else context + continuation}"


def _likelihoods(question: Question, outcome: Likelihoods) -> str:
    best = max(range(len(outcome.each)), key=lambda number: outcome.each[number].logprob, default=None)
    if best is None:
        return ""
    found = outcome.each[best]
    tokens = f"{found.num_tokens:,} token{'' if found.num_tokens == 1 else 's'}"
    figures = f"log-probability {found.logprob:.2f} over {tokens}"
    if len(outcome.each) == 1 or isinstance(question, WholeText) or not isinstance(question, Continuations):
        return f"{figures}, {'the likeliest' if found.is_greedy else 'not the likeliest'} text"
    return f"{_pair(question, best)}\n({figures})"


def _ranking(outcome: Ranking) -> str:
    lines = []
    for number, key in enumerate(outcome.keys[:_SHOWN_DOCUMENTS]):
        text = " ".join(outcome.texts[number].split()) if number < len(outcome.texts) else ""
        lines.append(f"{number + 1}. {key}{f': {text}' if text else ''}")
    more = len(outcome.keys) - _SHOWN_DOCUMENTS
    return "\n".join([*lines, *([f"and {more:,} more"] if more > 0 else [])])


def _call(call: Mapping[str, Any]) -> str:
    arguments = call.get("arguments")
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False, default=str)
    return f"{call.get('name', '?')}({text})"
