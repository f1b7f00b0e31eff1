import pytest

from genai.config.eval import JudgeConfig, PriceConfig, SamplingConfig, TargetConfig
from genai.evaluation.costing import Estimate, add, by_characters, estimate, estimate_verdicts, price_of, total
from genai.evaluation.records import (
    Answer,
    Chat,
    Continuations,
    Example,
    Failure,
    Likelihoods,
    Query,
    Question,
    Ranking,
    Usage,
    WholeText,
)

PRICE = PriceConfig(usd_per_million_input_tokens=2.0, usd_per_million_output_tokens=8.0)
CONFIG = TargetConfig(endpoint="http://host", model="m", price=PRICE, sampling=SamplingConfig(max_tokens=100))


def words(text: str) -> int:
    return len(text.split())


def test_by_characters() -> None:
    assert [by_characters("x" * length) for length in (0, 1, 4, 5)] == [0, 1, 1, 2]


def test_what_tokens_cost() -> None:
    assert price_of(PRICE, prompt_tokens=1_000_000, completion_tokens=500_000) == pytest.approx(6.0)
    assert price_of(PriceConfig(), prompt_tokens=1, completion_tokens=1) is None
    assert price_of(PriceConfig(usd_per_million_input_tokens=1.0), prompt_tokens=0, completion_tokens=9) == 0.0


@pytest.mark.parametrize(
    ("question", "read", "said"),
    [
        (Chat(prompt="one two three"), 3, 100),
        (Chat(prompt="one", max_tokens=7), 1, 7),
        (Chat(prompt="one", max_tokens=0), 1, 0),
        (Chat(messages=({"role": "user", "content": "a b"}, {"role": "assistant", "content": None})), 2, 100),
        (Chat(messages=({"role": "user", "content": [{"type": "text", "text": "a b"}, {"type": "image"}]},)), 2, 100),
        (Chat(prompt="one", tools=({"name": "f"},), json_schema={"a": 1}), 5, 100),
        (Continuations(pairs=(("a b", " c"), ("a b", " d e"))), 7, 0),
        (WholeText(text="a b c"), 3, 0),
        (Query(text="a b", k=5), 2, 0),
    ],
)
def test_an_estimate_of_one_question(question: Question, read: int, said: int) -> None:
    found = estimate([question], CONFIG, count_tokens=words)
    assert (found.num_questions, found.prompt_tokens, found.completion_tokens) == (1, read, said)
    assert found.usd == pytest.approx((2 * read + 8 * said) / 1e6)


def test_the_system_prompt_is_read_with_every_answer() -> None:
    config = TargetConfig(endpoint="http://host", model="m", system="Be very brief.")
    found = estimate([Chat(prompt="a"), Chat(prompt="b"), WholeText(text="c")], config, count_tokens=words)
    assert (found.num_questions, found.prompt_tokens, found.usd) == (3, 9, None)


def test_without_a_tokenizer() -> None:
    assert estimate([Chat(prompt="x" * 4000)], CONFIG).prompt_tokens == 1000


def test_what_verdicts_take() -> None:
    example = Example(
        id="1", dataset="d", kind="generation", question=Chat(prompt="a b"), references=("c",), contexts=("d e f",)
    )
    judge = JudgeConfig(model="j", price=PRICE, sampling=SamplingConfig(max_tokens=50))
    one = estimate_verdicts([example] * 3, judge, max_answer_tokens=20, count_tokens=words)
    assert (one.num_questions, one.prompt_tokens, one.completion_tokens) == (3, 3 * (6 + 20 + 500), 150)
    both = estimate_verdicts(
        [example] * 3, judge, max_answer_tokens=20, num_answers=2, num_orders=2, count_tokens=words
    )
    assert (both.num_questions, both.prompt_tokens, both.completion_tokens) == (6, 6 * (6 + 40 + 500), 300)
    assert both.usd == pytest.approx((both.prompt_tokens * 2 + 300 * 8) / 1e6)


def test_estimates_add_up() -> None:
    free, paid = Estimate(num_questions=1, prompt_tokens=2), Estimate(completion_tokens=3, usd=0.5)
    assert free + paid == Estimate(num_questions=1, prompt_tokens=2, completion_tokens=3, usd=0.5)
    assert (paid + paid).usd == 1.0
    assert (free + free).usd is None


def test_what_outcomes_took() -> None:
    usage = Usage(prompt_tokens=2, completion_tokens=3, usd=0.5, latency_s=1.0, ttft_s=0.5)
    told = [
        Answer(text="a", usage=usage),
        Answer(text="b", usage=usage, cached=True),
        Likelihoods(each=(), usage=usage),
        Ranking(keys=(), usage=Usage(latency_s=1.0), cached=True),
        Failure(reason="x", usage=Usage(prompt_tokens=1)),
    ]
    assert total(told) == Usage(prompt_tokens=5, completion_tokens=6, usd=1.0)
    assert total([]) == Usage()
    assert add(Usage(usd=None), Usage(usd=None)).usd is None
