from pathlib import Path
from typing import Any

import pytest

from genai.config.embed_finetune import GeneratorConfig
from genai.embedding.tuning.synthetic.asking import Asked, ask, cost_usd
from genai.embedding.tuning.synthetic.cache import Prompt, open_cache
from genai.errors import GenaiError

CONFIG = GeneratorConfig(model="m", batch_size=3)


def prompts(count: int, **changes: Any) -> list[Prompt]:
    return [Prompt(**{"text": f"prompt {n}", "seed": 17, "kind": "question 0", **changes}) for n in range(count)]


def test_each_prompt_is_asked_once(cache: Path, scripted: Any) -> None:
    generator = scripted(answer=str.upper)
    wanted = [*prompts(7), *prompts(2)]
    with open_cache(cache) as answers:
        asked = Asked(generator=generator, config=CONFIG, cache=answers)
        assert ask(asked, wanted, what="asking") == {prompt: prompt.text.upper() for prompt in wanted}
        assert generator.calls == [3, 3, 1]
        assert ask(asked, prompts(8), what="asking")[prompts(8)[7]] == "PROMPT 7"
    assert generator.calls == [3, 3, 1, 1]


def test_a_killed_job_asks_nothing_twice(cache: Path, scripted: Any) -> None:
    killed = scripted(answer=str.upper, dies_at=2)
    with pytest.raises(KeyboardInterrupt), open_cache(cache) as answers:
        ask(Asked(generator=killed, config=CONFIG, cache=answers), prompts(10), what="asking")
    again = scripted(answer=str.upper)
    with open_cache(cache) as answers:
        found = ask(Asked(generator=again, config=CONFIG, cache=answers), prompts(10), what="asking")
    assert len(killed.asked) == 6
    assert not set(killed.asked) & set(again.asked)
    assert sorted([*killed.asked, *again.asked]) == sorted(prompt.text for prompt in prompts(10))
    assert [found[prompt] for prompt in prompts(10)] == [f"PROMPT {n}" for n in range(10)]


def test_a_batch_is_of_one_seed_and_of_one_kind_first(cache: Path, scripted: Any) -> None:
    generator = scripted(answer=str.upper)
    wanted = [
        Prompt(text="b" * length, seed=seed, kind=kind)
        for length in (9, 1, 5)
        for kind in ("question 0", "keywords 0")
        for seed in (17, 18)
    ]
    with open_cache(cache) as answers:
        found = ask(Asked(generator=generator, config=CONFIG, cache=answers), wanted, what="asking")
    assert found == {prompt: prompt.text.upper() for prompt in wanted}
    assert generator.calls == [3, 3, 3, 3]
    assert generator.seeds == [17] * 6 + [18] * 6
    assert list(map(len, generator.asked)) == [1, 5, 9] * 4


def test_too_few_answers_are_an_error(cache: Path, scripted: Any) -> None:
    generator = scripted()
    generator.generate = lambda prompts, *, seed: ["one"]
    with pytest.raises(GenaiError, match="gave 1 answers to 3 prompts"), open_cache(cache) as answers:
        ask(Asked(generator=generator, config=CONFIG, cache=answers), prompts(4), what="asking")


def test_costs(cache: Path, scripted: Any) -> None:
    answered = {prompt: "three words here" for prompt in prompts(10)}
    with open_cache(cache) as answers:
        free = Asked(generator=scripted(), config=CONFIG, cache=answers)
        prices = {"usd_per_million_input_tokens": 1.0, "usd_per_million_output_tokens": 10.0}
        paid = Asked(generator=scripted(), config=GeneratorConfig(model="m", **prices), cache=answers)
        assert cost_usd(free, answered) == 0
        assert cost_usd(paid, answered) == pytest.approx((10 * 2 * 1 + 10 * 3 * 10) / 1e6)
