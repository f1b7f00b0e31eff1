from pathlib import Path
from typing import Any

import pytest

from genai.config.embed_finetune import GeneratorConfig, SyntheticQueriesConfig
from genai.data.retrieval.records import Passage
from genai.embedding.tuning.synthetic import check_cost, estimate
from genai.embedding.tuning.synthetic.asking import Asked, ask
from genai.embedding.tuning.synthetic.cache import open_cache
from genai.embedding.tuning.synthetic.writing import wishes
from genai.errors import GateError

PAID = GeneratorConfig(
    model="m", max_new_tokens=10, usd_per_million_input_tokens=1e3, usd_per_million_output_tokens=1e4
)


def test_in_words(scripted: Any, corpus: list[Passage]) -> None:
    judged = estimate(corpus, SyntheticQueriesConfig(generator=PAID, judge=PAID), scripted(), scripted(), seed=1)
    assert judged.line().startswith("to be made: 10 queries of 5 passages, 10 to be judged; 1,")
    assert judged.line().endswith(f" 200 to write at most; ${judged.usd:.2f} at most")
    free = estimate(corpus, SyntheticQueriesConfig(generator=GeneratorConfig(model="m")), scripted(), None, seed=1)
    assert free.line().endswith("480 to write at most")


def test_counts_and_price(scripted: Any, corpus: list[Passage]) -> None:
    config = SyntheticQueriesConfig(generator=PAID, max_chunks=3)
    found = estimate(corpus, config, scripted(), None, seed=1)
    assert (found.num_passages, found.num_prompts, found.num_judge_prompts) == (3, 6, 0)
    assert found.output_tokens == 60
    assert 6 * 60 < found.input_tokens < 6 * 120
    assert found.usd == pytest.approx((found.input_tokens * 1e3 + 60 * 1e4) / 1e6)


def test_a_misspelt_query_costs_nothing_beside_its_question(scripted: Any, corpus: list[Passage]) -> None:
    config = SyntheticQueriesConfig(generator=PAID, styles=["question", "misspelt"])
    assert estimate(corpus, config, scripted(), None, seed=1).num_prompts == 5


def test_a_judge_reads_every_query_at_most(scripted: Any, corpus: list[Passage]) -> None:
    config = SyntheticQueriesConfig(generator=PAID, judge=PAID)
    without = estimate(corpus, config, scripted(), None, seed=1)
    both = estimate(corpus, config, scripted(), scripted(), seed=1)
    assert (both.num_prompts, both.num_judge_prompts) == (10, 10)
    assert both.output_tokens == 2 * without.output_tokens
    assert both.usd > without.usd


def test_what_was_answered_costs_nothing_more(cache: Path, scripted: Any, corpus: list[Passage]) -> None:
    config, generator = SyntheticQueriesConfig(generator=PAID), scripted()
    assert estimate(corpus, config, generator, None, seed=1, cache=cache).num_prompts == 10
    assert not cache.exists()
    with open_cache(cache) as answers:
        some = [wish.prompt for wish in wishes(corpus, config, seed=1)][:7]
        ask(Asked(generator=generator, config=PAID, cache=answers), some, what="asking")
    assert estimate(corpus, config, generator, None, seed=1, cache=cache).num_prompts == 3
    assert estimate(corpus, config, generator, None, seed=2, cache=cache).num_prompts == 10


def test_without_a_generator_nothing_is_asked(corpus: list[Passage]) -> None:
    found = estimate(corpus, SyntheticQueriesConfig(), None, None, seed=1)
    assert (found.num_passages, found.num_prompts, found.input_tokens, found.usd) == (5, 0, 0, 0)


def test_too_expensive(scripted: Any, corpus: list[Passage]) -> None:
    config = SyntheticQueriesConfig(generator=PAID, max_usd=0.5)
    found = estimate(corpus, config, scripted(), None, seed=1)
    with pytest.raises(GateError, match=r"may cost more than max_usd 0\.5: .* 10 queries of 5 .*; \$1\.\d\d at most"):
        check_cost(found, config)
    check_cost(found, SyntheticQueriesConfig(generator=PAID, max_usd=found.usd))
    check_cost(found, SyntheticQueriesConfig(generator=PAID))
