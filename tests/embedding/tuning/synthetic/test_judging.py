from pathlib import Path
from typing import Any

from genai.config.embed_finetune import GeneratorConfig
from genai.data.retrieval.records import Passage
from genai.embedding.tuning.synthetic.asking import Asked
from genai.embedding.tuning.synthetic.cache import open_cache
from genai.embedding.tuning.synthetic.drafts import Draft
from genai.embedding.tuning.synthetic.judging import judge_drafts

SAID = {"bees": "yes", "loans": "No.", "ferry": "I think so", "bread": "Yes, it does", "screed": ""}


def test_only_a_clear_yes_keeps_a_query(cache: Path, scripted: Any, corpus: list[Passage]) -> None:
    drafts = [Draft(query=f"what of {each.key}?", passage=each, style="question", provenance={}) for each in corpus]

    def answer(prompt: str) -> str:
        return next(said for key, said in SAID.items() if f"what of {key}?" in prompt)

    judge = scripted(answer=answer, name="judge@1")
    with open_cache(cache) as answers:
        config = GeneratorConfig(model="j", batch_size=2, usd_per_million_input_tokens=1.0)
        asked = Asked(generator=judge, config=config, cache=answers)
        kept, denied, usd = judge_drafts(asked, drafts, seed=17)
        assert judge_drafts(asked, drafts, seed=17) == (kept, denied, usd)
    assert len(judge.asked) == len(corpus)
    assert [each.passage.key for each in kept] == ["bees", "bread"]
    assert all(each.provenance == {"judge": "judge@1"} for each in kept)
    assert {each.passage: each.reason for each in denied} == {
        "loans": "denied by the judge",
        "ferry": "the judge said neither yes nor no",
        "screed": "the judge said neither yes nor no",
    }
    assert usd > 0
