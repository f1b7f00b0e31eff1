import pytest

from genai.evaluation.records import (
    Answer,
    Chat,
    Continuations,
    Example,
    Failure,
    Likelihood,
    Likelihoods,
    Outcome,
    Query,
    Question,
    Ranking,
    WholeText,
)
from genai.evaluation.wording import expected_texts, outcome_text, question_text

CALL = {"name": "weather", "arguments": '{"city": "Ulm"}'}
SCHEMA = Continuations(pairs=(("The trophy is big", " so it fits."), ("The case is big", " so it fits.")))
CHOICE = Continuations(pairs=(("2 + 2 =", " 4"), ("2 + 2 =", " 5")))


@pytest.mark.parametrize(
    ("question", "text"),
    [
        (Chat(prompt="Once upon"), "Once upon"),
        (Chat(messages=({"role": "user", "content": "Hi"},)), "Hi"),
        (
            Chat(messages=({"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"})),
            "system: Be brief.\nuser: Hi",
        ),
        (
            Chat(
                messages=(
                    {"role": "user", "content": [{"type": "text", "text": "What is it?"}, {"type": "image_url"}]},
                )
            ),
            "What is it?\n(image_url)",
        ),
        (
            Chat(
                messages=({"role": "assistant", "content": None, "tool_calls": [{"function": CALL}]}, {"role": "tool"})
            ),
            'assistant: weather({"city": "Ulm"})\ntool: ',
        ),
        (CHOICE, "2 + 2 =\n1. 4\n2. 5"),
        (SCHEMA, "1. The trophy is big so it fits.\n2. The case is big so it fits."),
        (Continuations(pairs=(("The sky is", " blue"),)), "The sky is"),
        (WholeText(text="A whole text."), "A whole text."),
        (Query(text="sand", k=3), "sand"),
    ],
)
def test_questions(question: Question, text: str) -> None:
    assert question_text(question) == text


def likelihoods(*logprobs: float) -> Likelihoods:
    return Likelihoods(each=tuple(Likelihood(logprob=each, num_tokens=2, is_greedy=each > -2) for each in logprobs))


@pytest.mark.parametrize(
    ("question", "outcome", "text"),
    [
        (Chat(prompt="p"), Answer(text="Blue."), "Blue."),
        (Chat(prompt="p"), Answer(text="", tool_calls=(CALL,)), 'weather({"city": "Ulm"})'),
        (Chat(prompt="p"), Answer(text="I look.", tool_calls=(CALL,)), 'I look.\nweather({"city": "Ulm"})'),
        (Chat(prompt="p"), Failure(reason="HTTP 500"), None),
        (CHOICE, likelihoods(-3.0, -1.0), "2. 5\n(log-probability -1.00 over 2 tokens)"),
        (SCHEMA, likelihoods(-1.0, -3.0), "1. The trophy is big so it fits.\n(log-probability -1.00 over 2 tokens)"),
        (WholeText(text="t"), likelihoods(-9.5), "log-probability -9.50 over 2 tokens, not the likeliest text"),
        (
            Continuations(pairs=(("The sky is", " blue"),)),
            likelihoods(-1.0),
            "log-probability -1.00 over 2 tokens, the likeliest text",
        ),
        (CHOICE, likelihoods(), ""),
        (Query(text="sand", k=2), Ranking(keys=("a", "b"), texts=("small\nstones",)), "1. a: small stones\n2. b"),
    ],
)
def test_outcomes(question: Question, outcome: Outcome, text: str | None) -> None:
    assert outcome_text(question, outcome) == text


def test_a_long_ranking_is_cut() -> None:
    text = outcome_text(Query(text="sand", k=30), Ranking(keys=tuple(map(str, range(30)))))
    assert text is not None
    assert text.splitlines()[-1] == "and 20 more"


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ({"references": ("Blue.", "Sky blue.")}, ("Blue.", "Sky blue.")),
        ({"expected_tools": (CALL,)}, ('weather({"city": "Ulm"})',)),
        ({"expected_tools": ({"name": "now", "arguments": {"zone": "UTC"}},)}, ('now({"zone": "UTC"})',)),
        ({"relevant": {"b": 1.0, "a": 1.0}}, ("a\nb",)),
        ({"relevant": {"b": 1.0, "a": 2.0}}, ("a (2)\nb (1)",)),
        ({"question": CHOICE, "gold": 0}, ("1. 4",)),
        ({"question": CHOICE, "gold": 7}, ("7",)),
        ({}, ()),
    ],
)
def test_what_is_right(values: dict[str, object], texts: tuple[str, ...]) -> None:
    example = Example(**{"id": "1", "dataset": "d", "kind": "generation", "question": Chat(prompt="p"), **values})  # type: ignore[arg-type]
    assert expected_texts(example) == texts
