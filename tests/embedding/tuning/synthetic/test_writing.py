from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from genai.config.embed_finetune import GeneratorConfig, SyntheticQueriesConfig
from genai.data.retrieval.records import Passage
from genai.embedding.tuning.synthetic.asking import Asked
from genai.embedding.tuning.synthetic.cache import open_cache
from genai.embedding.tuning.synthetic.writing import Written, wishes, write

GENERATOR = GeneratorConfig(model="m", batch_size=4)
QUESTIONS = "Question:"


def config(*styles: Any, per_chunk: int = 2) -> SyntheticQueriesConfig:
    return SyntheticQueriesConfig(generator=GENERATOR, styles=list(styles), queries_per_chunk=per_chunk)


def written(cache: Path, generator: Any, corpus: list[Passage], settings: SyntheticQueriesConfig) -> Written:
    with open_cache(cache) as answers:
        asked = Asked(generator=generator, config=GENERATOR, cache=answers)
        return write(asked, wishes(corpus, settings, seed=17), seed=17)


def test_every_passage_gets_the_styles_in_turn(corpus: list[Passage]) -> None:
    wanted = wishes(corpus, config("question", "keywords"), seed=17)
    assert len(wanted) == 10
    for each in corpus:
        assert {wish.style for wish in wanted if wish.passage is each} == {"question", "keywords"}
    three = Counter(wish.style for wish in wishes(corpus, config("question", "keywords", per_chunk=3), seed=17))
    assert sum(three.values()) == 15
    assert min(three.values()) >= 5


def test_what_is_asked_does_not_depend_on_other_passages(corpus: list[Passage]) -> None:
    settings = config("question", "terse", "keywords", per_chunk=1)
    alone = [wish for each in corpus for wish in wishes([each], settings, seed=17)]
    assert alone == wishes(corpus, settings, seed=17)
    firsts = {style for seed in range(9) for style in (wish.style for wish in wishes(corpus, settings, seed=seed))}
    assert firsts == {"question", "terse", "keywords"}


def test_more_queries_than_styles_are_other_prompts(corpus: list[Passage]) -> None:
    wanted = wishes(corpus[:1], config("question", per_chunk=3), seed=17)
    assert [wish.prompt.seed for wish in wanted] == [17, 18, 19]
    assert len({wish.prompt.text for wish in wanted}) == 2
    assert len({wish.prompt for wish in wanted}) == 3


def test_drafts_carry_where_they_are_from(cache: Path, scripted: Any, corpus: list[Passage]) -> None:
    def answer(prompt: str) -> str:
        return "When is it?" if prompt.endswith(QUESTIONS) else "honey, winter"

    done = written(cache, scripted(answer=answer), corpus[:1], config("question", "keywords"))
    assert {(draft.query, draft.style) for draft in done.drafts} == {
        ("When is it?", "question"),
        ("honey winter", "keywords"),
    }
    for draft in done.drafts:
        assert draft.provenance == {
            "method": "generator",
            "generator": "scripted@1",
            "style": draft.style,
            "prompt": "1",
        }
    assert done.dropped == ()


def test_a_misspelt_query_is_made_of_the_question_that_is_asked_anyway(
    cache: Path, scripted: Any, corpus: list[Passage]
) -> None:
    generator = scripted(answer=lambda prompt: "Where does heating happen under tiles?")
    done = written(cache, generator, corpus, config("question", "misspelt"))
    assert len(generator.asked) == len(corpus)
    slips = [draft for draft in done.drafts if draft.style == "misspelt"]
    assert len(slips) == len(corpus)
    assert all(
        draft.query != draft.provenance["question"] == "Where does heating happen under tiles?" for draft in slips
    )
    again = written(cache, generator, corpus, config("question", "misspelt"))
    assert again == done
    assert len(generator.asked) == len(corpus)


def test_misspelt_alone_asks_for_questions(cache: Path, scripted: Any, corpus: list[Passage]) -> None:
    generator = scripted(answer=lambda prompt: "Where does heating happen?")
    done = written(cache, generator, corpus, config("misspelt", per_chunk=1))
    assert all(prompt.endswith(QUESTIONS) for prompt in generator.asked)
    assert {draft.style for draft in done.drafts} == {"misspelt"}


def test_answers_of_no_use_are_dropped_with_a_reason(cache: Path, scripted: Any, corpus: list[Passage]) -> None:
    generator = scripted(answer=lambda prompt: "I like it." if "Bees leave the hive when the" in prompt else "Why so?")
    done = written(cache, generator, corpus, config("question", per_chunk=2))
    reasons = Counter(each.reason for each in done.dropped)
    assert reasons == {"no question": 2, "the same query again": 4}
    assert len(done.drafts) == 4
    first = done.dropped[0]
    assert (first.query, first.style, first.passage) == ("I like it.", "question", "bees")
    assert first.text.startswith("Bees leave")


def test_what_it_cost(cache: Path, scripted: Any, corpus: list[Passage]) -> None:
    paid = GeneratorConfig(model="m", usd_per_million_output_tokens=1e6)
    generator = scripted(answer=lambda prompt: "Why is that so?")
    with open_cache(cache) as answers:
        wanted = wishes(corpus, config("question", "misspelt"), seed=17)
        done = write(Asked(generator=generator, config=paid, cache=answers), wanted, seed=17)
        again = write(Asked(generator=generator, config=paid, cache=answers), wanted, seed=17)
    assert done.usd == again.usd == pytest.approx(4 * len(corpus))
