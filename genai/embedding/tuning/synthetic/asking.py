"""Put prompts to a generator, batch by batch, each at most once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from genai.config.embed_finetune import GeneratorConfig
from genai.embedding.tuning.interfaces import Generator
from genai.embedding.tuning.synthetic.cache import Answer, AnswerCache, Prompt
from genai.errors import GenaiError
from genai.log import progress


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A generator, how it draws, and what it has answered already."""

    generator: Generator
    config: GeneratorConfig
    cache: AnswerCache


def ask(asked: Asked, prompts: Sequence[Prompt], *, what: str) -> dict[Prompt, str]:
    """The answer to each prompt. What the cache holds is not asked; the rest is kept batch by batch.

    Args:
        asked: who.
        prompts: what; equal ones are asked once.
        what: is going on, for the progress.

    Raises:
        GenaiError: the generator fails; answers until then are kept.
    """
    name = asked.generator.name
    keys = {prompt: prompt.key(name, asked.config) for prompt in dict.fromkeys(prompts)}
    found = asked.cache.get(keys.values())
    waiting = sorted(
        (prompt for prompt, key in keys.items() if key not in found),
        key=lambda each: (each.seed, each.kind, len(each.text)),
    )
    with progress(what, len(keys)) as task:
        done = len(keys) - len(waiting)
        for batch in _batches(waiting, asked.config.batch_size):
            texts = asked.generator.generate([prompt.text for prompt in batch], seed=batch[0].seed)
            if len(texts) != len(batch):
                raise GenaiError(f"{name} gave {len(texts)} answers to {len(batch)} prompts")
            answers = [
                Answer(key=keys[prompt], generator=name, prompt=prompt, text=text)
                for prompt, text in zip(batch, texts, strict=True)
            ]
            asked.cache.put(answers)
            found.update((answer.key, answer.text) for answer in answers)
            done += len(batch)
            task.update(done)
    return {prompt: found[key] for prompt, key in keys.items()}


def cost_usd(asked: Asked, answers: Mapping[Prompt, str]) -> float:
    """What the answers cost, by the prices of the config."""
    config = asked.config
    if not (config.usd_per_million_input_tokens or config.usd_per_million_output_tokens):
        return 0.0
    count = asked.generator.count_tokens
    return price_usd(config, sum(count(prompt.text) for prompt in answers), sum(map(count, answers.values())))


def price_usd(config: GeneratorConfig, input_tokens: float, output_tokens: float) -> float:
    """By the prices of the config."""
    paid = input_tokens * config.usd_per_million_input_tokens + output_tokens * config.usd_per_million_output_tokens
    return paid / 1e6


def _batches(prompts: Sequence[Prompt], size: int) -> list[list[Prompt]]:
    """Up to `size` prompts of one seed each, in their order."""
    batches: list[list[Prompt]] = []
    for prompt in prompts:
        if batches and len(batches[-1]) < size and batches[-1][0].seed == prompt.seed:
            batches[-1].append(prompt)
        else:
            batches.append([prompt])
    return batches
