"""What synthetic queries will cost, before anything is asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from genai.config.embed_finetune import GeneratorConfig, SyntheticQueriesConfig
from genai.data.retrieval.records import Passage
from genai.embedding.tuning.interfaces import Generator
from genai.embedding.tuning.synthetic.asking import price_usd
from genai.embedding.tuning.synthetic.cache import answers_there
from genai.embedding.tuning.synthetic.choosing import choose_passages
from genai.embedding.tuning.synthetic.prompts import judge_prompt
from genai.embedding.tuning.synthetic.writing import wishes
from genai.errors import GateError


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """An upper bound: as if every answer were as long as allowed, and every query came before the judge."""

    num_passages: int
    """That queries are made of."""
    num_prompts: int
    """That are put to the generator; those that were answered before are left out."""
    num_judge_prompts: int
    """That are put to the judge."""
    input_tokens: int
    """Of all prompts."""
    output_tokens: int
    """Of all answers, at most."""
    usd: float
    """By the prices in the job file."""

    def line(self) -> str:
        """For people."""
        asked = f"{self.num_prompts:,} queries of {self.num_passages:,} passages"
        judged = f", {self.num_judge_prompts:,} to be judged" if self.num_judge_prompts else ""
        tokens = f"{self.input_tokens:,} tokens to read, {self.output_tokens:,} to write at most"
        price = f"; ${self.usd:.2f} at most" if self.usd else ""
        return f"to be made: {asked}{judged}; {tokens}{price}"


def estimate(
    passages: Sequence[Passage],
    config: SyntheticQueriesConfig,
    generator: Generator | None,
    judge: Generator | None,
    *,
    seed: int = 17,
    cache: Path | None = None,
) -> Estimate:
    """What making queries of `passages` takes.

    Args:
        passages: the corpus, or the part of it that queries are made of.
        config: the section.
        generator: writes the queries; None takes the methods without one.
        judge: judges them.
        seed: of the job.
        cache: file with answers from before, which cost nothing more.
    """
    chosen = choose_passages(passages, config.max_chunks, seed=seed)
    prompts = read = written = 0
    usd = 0.0
    if generator is not None and config.generator is not None:
        keys = {
            wish.prompt.key(generator.name, config.generator): wish.prompt for wish in wishes(chosen, config, seed=seed)
        }
        known = answers_there(cache, keys) if cache else set()
        waiting = [prompt.text for key, prompt in keys.items() if key not in known]
        prompts, read = len(waiting), sum(map(generator.count_tokens, waiting))
        written = prompts * config.generator.max_new_tokens
        usd = price_usd(config.generator, read, written)
    judged = 0
    if judge is not None and config.judge is not None:
        longest = " word" * (config.generator or GeneratorConfig(model="")).max_new_tokens
        judged = len(chosen) * config.queries_per_chunk
        put = sum(judge.count_tokens(judge_prompt(longest, each.text)) for each in chosen) * config.queries_per_chunk
        said = judged * config.judge.max_new_tokens
        usd += price_usd(config.judge, put, said)
        read, written = read + put, written + said
    return Estimate(
        num_passages=len(chosen),
        num_prompts=prompts,
        num_judge_prompts=judged,
        input_tokens=read,
        output_tokens=written,
        usd=usd,
    )


def check_cost(found: Estimate, config: SyntheticQueriesConfig) -> None:
    """Do not start what costs more than the job file allows.

    Raises:
        GateError: the estimate is above max_usd.
    """
    if config.max_usd is None or found.usd <= config.max_usd:
        return
    raise GateError(
        f"the synthetic queries may cost more than max_usd {config.max_usd:g}: {found.line()}",
        where="data.synthetic_queries.max_usd",
        fix="raise it, or lower max_chunks, queries_per_chunk or the generator's max_new_tokens",
    )
