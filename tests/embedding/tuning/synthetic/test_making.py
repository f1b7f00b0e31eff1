import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from genai.config.embed_finetune import GeneratorConfig, SyntheticQueriesConfig
from genai.data.retrieval.records import Passage
from genai.embedding.tuning.synthetic import Made, make_queries
from genai.errors import GateError

GENERATOR = GeneratorConfig(model="m", batch_size=2)
CONFIG = SyntheticQueriesConfig(generator=GENERATOR, round_trip_k=1)


def question(prompt: str) -> str:
    """Of the passage at the end of the prompt: its first three words, which find it; keywords that find nothing."""
    text = prompt.rpartition("Text: ")[2]
    return f"{' '.join(text.split()[:3])}?" if prompt.endswith("Question:") else "weather forecast"


@pytest.fixture
def make(corpus: list[Passage], embedder: Any, neighbours_of: Any, cache: Path) -> Callable[..., Made]:
    def made(config: SyntheticQueriesConfig = CONFIG, **changes: Any) -> Made:
        values = {
            "generator": None,
            "judge": None,
            "embedder": embedder,
            "neighbours_of": neighbours_of,
            "corpus": corpus,
            "cache": cache,
            "seed": 17,
        }
        return make_queries(changes.pop("passages", corpus), config, **{**values, **changes})

    return made


def test_from_passages_to_pairs(make: Callable[..., Made], scripted: Any, corpus: list[Passage]) -> None:
    made = make(generator=scripted(answer=question))
    questions = [pair for pair in made.pairs if pair.provenance["style"] == "question"]
    assert [pair.positive for pair in questions] == [each.key for each in corpus]
    first = questions[0]
    assert first.query == "Bees leave the?"
    assert (first.source, first.positive_text, first.score) == ("corpus.jsonl:bees", None, None)
    assert first.provenance == {
        "method": "generator",
        "generator": "scripted@1",
        "style": "question",
        "prompt": "1",
        "round_trip_rank": "1",
    }
    assert (made.counts.method, made.counts.num_passages, made.counts.num_made) == ("scripted@1", 5, 10)
    assert made.counts.num_round_trip == made.counts.num_judged == len(made.pairs)
    assert made.counts.yield_share == len(made.pairs) / 10
    assert sum(made.reasons.values()) == 10 - len(made.pairs)
    assert made.by_style["question"] == (5, 5)
    assert made.by_style["keywords"][0] == 5
    assert 1 <= len(made.dropped) <= 3


def test_the_judge_has_the_last_word(make: Callable[..., Made], scripted: Any) -> None:
    judge = scripted(answer=lambda prompt: "yes" if "Bees leave the?" in prompt else "no", name="judge@1")
    made = make(
        replace(CONFIG, judge=GENERATOR, min_yield=0.05, styles=["question"], queries_per_chunk=1),
        generator=scripted(answer=question),
        judge=judge,
    )
    assert [pair.positive for pair in made.pairs] == ["bees"]
    assert made.pairs[0].provenance["judge"] == "judge@1"
    assert (made.counts.num_made, made.counts.num_round_trip, made.counts.num_judged, made.counts.yield_share) == (
        5,
        5,
        1,
        0.2,
    )
    assert made.reasons == {"denied by the judge": 4}


def test_killed_at_any_call_it_goes_on_and_asks_nothing_twice(
    make: Callable[..., Made], scripted: Any, tmp_path: Path
) -> None:
    whole = scripted(answer=question)
    expected = make(generator=whole, cache=tmp_path / "whole")
    assert whole.calls == [2] * 5
    for call in range(len(whole.calls)):
        folder = tmp_path / f"killed {call}"
        killed, again = scripted(answer=question, dies_at=call), scripted(answer=question)
        with pytest.raises(KeyboardInterrupt):
            make(generator=killed, cache=folder)
        assert make(generator=again, cache=folder) == expected
        assert sorted([*killed.asked, *again.asked]) == sorted(whole.asked)
    assert make(generator=scripted(answer=question, dies_at=0), cache=folder) == expected


def test_a_corpus_that_grows_asks_of_new_passages_only(
    make: Callable[..., Made], scripted: Any, corpus: list[Passage]
) -> None:
    make(generator=scripted(answer=question), passages=corpus[1:])
    again = scripted(answer=question)
    make(generator=again)
    assert len(again.asked) == 2
    assert all("Bees leave the hive when the weather" in prompt for prompt in again.asked)


def test_a_poor_yield_stops_the_job_and_says_why(make: Callable[..., Made], scripted: Any) -> None:
    answers = iter(["weather?", "I like it.", "What else?", "", "Who?", "Nobody", "Why?", "When?", "Where?", "How?"])
    with pytest.raises(GateError) as caught:
        make(replace(CONFIG, styles=["question"]), generator=scripted(answer=lambda prompt: next(answers)))
    problem = caught.value.problems[0]
    assert problem.where == "data.synthetic_queries.min_yield"
    assert problem.message.startswith("only 1 of 10 synthetic queries (10.0%) are of use, min_yield is 20%: ")
    assert "2 no question, 1 no answer" in problem.message
    assert "not found among the first 1" in problem.message
    assert problem.message.count("' (") == 3
    assert "stronger generator" in str(problem.fix)
    assert caught.value.exit_code == 3


def test_the_yield_is_logged(make: Callable[..., Made], scripted: Any, caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("genai")
    logger.addHandler(caplog.handler)
    level = logger.level
    logger.setLevel(logging.INFO)
    try:
        make(replace(CONFIG, styles=["question"], queries_per_chunk=1), generator=scripted(answer=question))
    finally:
        logger.removeHandler(caplog.handler)
        logger.setLevel(level)
    assert (
        "synthetic queries: 5 made of 5 passages, kept 5 by the round trip: a yield of 100.0 % (question 5/5)"
        in caplog.text
    )


def test_what_is_too_expensive_does_not_start(make: Callable[..., Made], scripted: Any, cache: Path) -> None:
    generator = scripted(answer=question)
    dear = replace(CONFIG, generator=replace(GENERATOR, usd_per_million_output_tokens=1e6), max_usd=1.0)
    with pytest.raises(GateError, match="more than max_usd 1"):
        make(dear, generator=generator)
    assert generator.calls == []
    assert not cache.exists()


def test_without_a_generator(make: Callable[..., Made], corpus: list[Passage]) -> None:
    titled = [replace(each, title=" ".join(each.text.split()[:3])) for each in corpus]
    config = SyntheticQueriesConfig(methods=["inverse_cloze", "title_body"], queries_per_chunk=2, round_trip_k=2)
    made = make(config, passages=titled, corpus=titled)
    assert made.counts.method == "inverse_cloze,title_body"
    assert made.counts.num_made == 15
    assert made.by_style["inverse_cloze"][0] == 10
    assert made.counts.usd == 0
    cloze = next(pair for pair in made.pairs if pair.provenance == {**pair.provenance, "sentence": "taken out"})
    text = next(each.text for each in corpus if each.key == cloze.positive)
    assert cloze.query in text
    assert cloze.positive_text is not None
    assert sorted(f"{cloze.query} {cloze.positive_text}".split()) == sorted(text.split())
    assert make(config, passages=titled, corpus=titled) == made


def test_passages_that_give_no_query(make: Callable[..., Made], new_passage: Callable[..., Passage]) -> None:
    single = [new_passage("1", "One sentence.")]
    with pytest.raises(GateError, match="no query can be made of 1 passages") as caught:
        make(SyntheticQueriesConfig(), passages=single, corpus=single)
    assert "inverse_cloze takes passages of two sentences" in str(caught.value)
