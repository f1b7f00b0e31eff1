"""A judge reads query and passage, and says whether the one answers the other."""

from __future__ import annotations

from collections.abc import Sequence

from genai.embedding.tuning.synthetic.answers import parse_verdict
from genai.embedding.tuning.synthetic.asking import Asked, ask, cost_usd
from genai.embedding.tuning.synthetic.cache import Prompt
from genai.embedding.tuning.synthetic.drafts import Draft, Dropped, dropped
from genai.embedding.tuning.synthetic.prompts import judge_prompt

_REASONS = {False: "denied by the judge", None: "the judge said neither yes nor no"}


def judge_drafts(asked: Asked, drafts: Sequence[Draft], *, seed: int) -> tuple[list[Draft], list[Dropped], float]:
    """Queries that the judge says yes to, the others, and what that cost in USD.

    Raises:
        GenaiError: the judge fails.
    """
    prompts = [Prompt(text=judge_prompt(each.query, each.passage.text), seed=seed, kind="judge") for each in drafts]
    answers = ask(asked, prompts, what="judging queries")
    kept: list[Draft] = []
    denied: list[Dropped] = []
    for draft, prompt in zip(drafts, prompts, strict=True):
        verdict = parse_verdict(answers[prompt])
        if verdict:
            kept.append(draft.noted(judge=asked.generator.name))
        else:
            denied.append(dropped(draft, _REASONS[verdict]))
    return kept, denied, cost_usd(asked, answers)
