"""/v1/completions: prompts of every form, echo, and log-probabilities as lm-eval reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from scripted_engine import ScriptedEngine, answered, logprob, request_to, streamed, text_card, words

from genai.config.serve import LimitsConfig
from genai.models.generation import Event, GenerationRequest, TokenLogprob
from genai.models.references import resolve_model
from genai.serving.apis.completions import create
from genai.serving.errors import ApiError
from genai.serving.prompting import Prompters


@pytest.fixture(scope="module")
def folder() -> Path:
    return resolve_model("gallery:smollm2-135m-instruct").path


@pytest.fixture
def engine(folder: Path) -> ScriptedEngine:
    return ScriptedEngine(text_card("faq", folder, vocab_size=49152))


def body(**changes: Any) -> dict[str, Any]:
    return {"model": "faq", "prompt": "Once upon", **changes}


def refused(engine: ScriptedEngine, sent: Any, **more: Any) -> ApiError:
    with pytest.raises(ApiError) as caught:
        answered(create, request_to(engine, sent, **more))
    assert not engine.asked, "nothing reaches the engine"
    return caught.value


def texts_of(chunks: list[Any], number: int = 1) -> list[str]:
    texts = [""] * number
    for chunk in chunks[:-1]:
        for choice in chunk["choices"]:
            texts[choice["index"]] += choice["text"]
    return texts


def test_an_answer_has_openais_form(engine: ScriptedEngine) -> None:
    answer = answered(create, request_to(engine, body()))
    assert answer.pop("created") > 1_700_000_000
    assert answer == {
        "id": "cmpl-r1",
        "object": "text_completion",
        "model": "faq",
        "system_fingerprint": "fp_0123456789ab",
        "choices": [
            {
                "index": 0,
                "text": "Hello world!",
                "logprobs": None,
                "finish_reason": "stop",
                "stop_reason": None,
                "prompt_logprobs": None,
            }
        ],
        "usage": {
            "prompt_tokens": 2,
            "completion_tokens": 3,
            "total_tokens": 5,
            "prompt_tokens_details": {"cached_tokens": 1},
        },
    }
    assert engine.asked[0].sampling.max_tokens == 16


def test_the_default_length_is_cut_to_what_the_context_leaves(engine: ScriptedEngine) -> None:
    answered(create, request_to(engine, body(prompt=[5] * 95)))
    assert engine.asked[0].sampling.max_tokens == 5


@pytest.mark.parametrize("as_list", [False, True])
def test_texts_and_their_tokens_are_the_same_prompts(engine: ScriptedEngine, as_list: bool) -> None:
    tokens = Prompters().of(engine.cards["faq"]).text("Once upon")
    forms: list[Any] = [["Once upon", "Once"], [tokens, tokens[:1]]] if as_list else ["Once upon", tokens]
    wanted = [tokens, tokens[:1]] if as_list else [tokens]
    for prompt in forms:
        engine.asked.clear()
        answer = answered(create, request_to(engine, body(prompt=prompt, n=2)))
        assert [asked.prompt_ids for asked in engine.asked] == [ids for ids in wanted for _ in range(2)]
        assert [choice["index"] for choice in answer["choices"]] == list(range(2 * len(wanted)))
        assert answer["usage"]["prompt_tokens"] == sum(map(len, wanted)), "each prompt counts once"
        assert answer["usage"]["completion_tokens"] == 6 * len(wanted)


@pytest.mark.parametrize(
    ("changes", "message", "param"),
    [
        ({"prompt": []}, "prompt must not be empty", "prompt"),
        ({"prompt": ""}, "prompt has no tokens: there is nothing to go on from", "prompt"),
        ({"prompt": [[]]}, "prompt has no tokens: there is nothing to go on from", "prompt"),
        (
            {"prompt": [1, "a"]},
            "prompt must be a text, a list of texts, or lists of tokens, not a mixture",
            "prompt",
        ),
        (
            {"prompt": [[1], [5, 49152]]},
            "prompt[1][1] is no token of the model: ids are 0 to 49151, not 49152",
            "prompt[1][1]",
        ),
        ({"suffix": "x"}, "suffix is not supported", "suffix"),
        ({"best_of": 3}, "best_of other than n is not supported", "best_of"),
        ({"logprobs": 21}, "logprobs must be at most 20, not 21", "logprobs"),
        ({"max_tokens": 0}, "max_tokens must be at least 1 without echo, not 0", "max_tokens"),
        ({"prompt": ["a"] * 257}, "prompt must have at most 256 texts, not 257", "prompt"),
        ({"prompt": ["a"] * 200, "n": 2}, "prompts times n must be at most 256, not 400", "n"),
    ],
)
def test_what_cannot_be_done_is_refused(
    engine: ScriptedEngine, changes: dict[str, Any], message: str, param: str
) -> None:
    error = refused(engine, body(**changes))
    assert (error.status, error.message, error.param) == (400, message, param)


def test_too_long_a_prompt_is_told_with_both_numbers(engine: ScriptedEngine) -> None:
    error = refused(engine, body(prompt=[5] * 120))
    assert error.message == "this model's maximum context length is 100 tokens, but the prompt has 120"
    error = refused(engine, body(prompt=[5] * 90, max_tokens=11))
    assert error.message == (
        "this model's maximum context length is 100 tokens, but the prompt has 90 and max_tokens is 11"
    )
    assert (error.code, error.param) == ("context_length_exceeded", "max_tokens")
    assert refused(engine, body(prompt=[5] * 120, max_tokens=1)).param == "prompt"


# --- echo and log-probabilities ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("as_tokens", [False, True])
@pytest.mark.parametrize("stream", [False, True])
def test_echo_puts_the_prompt_before_the_answer(engine: ScriptedEngine, as_tokens: bool, stream: bool) -> None:
    answered(create, request_to(engine, body()))
    prompt: Any = engine.asked[0].prompt_ids if as_tokens else "Once upon"
    sent = body(prompt=[prompt, prompt], echo=True, stream=stream)
    if stream:
        assert texts_of(streamed(create, request_to(engine, sent)), 2) == ["Once uponHello world!"] * 2
    else:
        answer = answered(create, request_to(engine, sent))
        assert [choice["text"] for choice in answer["choices"]] == ["Once uponHello world!"] * 2


def test_log_probabilities_have_openais_older_form(engine: ScriptedEngine) -> None:
    answer = answered(create, request_to(engine, body(logprobs=2)))
    assert answer["choices"][0]["logprobs"] == {
        "tokens": ["Hello", " world", "!"],
        "token_logprobs": [-0.5, -0.5, -0.5],
        "top_logprobs": [
            {"Hello": -0.5, "Hello~": -1.5},
            {" world": -0.5, " world~": -1.5},
            {"!": -0.5, "!~": -1.5},
        ],
        "text_offset": [0, 5, 11],
    }


def test_lm_eval_finds_what_it_looks_for(engine: ScriptedEngine) -> None:
    """It sums the prompt's log-probabilities behind the context, leaves out the last token, which was generated, and
    compares each with the likeliest one."""
    from lm_eval.models.openai_completions import LocalCompletionsAPI

    engine.script = lambda request: words(request, ["!"], reason="length")
    sent = {"prompt": [[5, 6, 7], [8, 9]], "temperature": 0, "max_tokens": 1, "logprobs": 1, "seed": 1234, "echo": True}
    answer = answered(create, request_to(engine, body(**sent)))
    assert [asked.sampling.prompt_logprobs for asked in engine.asked] == [1, 1]
    first = answer["choices"][0]["logprobs"]
    assert first["token_logprobs"] == [None, -0.5, -0.5, -0.5]
    assert first["top_logprobs"][0] is None
    assert first["tokens"][1:] == ["<6>", "<7>", "!"]
    found = LocalCompletionsAPI.parse_logprobs(answer, ctxlens=[1, 1])
    assert found == [(-1.0, True), (-0.5, True)]
    assert LocalCompletionsAPI.parse_generations(answer)[0].endswith("!")


def test_the_likelier_of_two_tokens_with_one_text_is_told(engine: ScriptedEngine) -> None:
    def script(request: GenerationRequest) -> list[Event]:
        events = words(request, ["\ufffd"])
        best = TokenLogprob(token_id=1, text="\ufffd", data=b"\xc3", logprob=-0.1, rank=1)
        chosen = TokenLogprob(token_id=2, text="\ufffd", data=b"\xa5", logprob=-3.0, rank=2, top=(best,))
        events[0].logprobs[:] = [chosen]
        return events

    engine.script = script
    told = answered(create, request_to(engine, body(logprobs=1)))["choices"][0]["logprobs"]
    assert told["token_logprobs"] == [-3.0]
    assert told["top_logprobs"] == [{"\ufffd": -0.1}]


def test_offsets_count_characters_not_bytes(engine: ScriptedEngine) -> None:
    pieces = [b"a", b"\xf0\x9f", b"\x99\x82", "å".encode(), b"b"]

    def script(request: GenerationRequest) -> list[Event]:
        events = words(request, ["a", "", "🙂", "å", "b"])
        for event, data in zip(events, pieces, strict=False):
            event.logprobs[:] = [
                TokenLogprob(token_id=1, text=data.decode(errors="replace"), data=data, logprob=-1.0, rank=1)
            ]
        return events

    engine.script = script
    choice = answered(create, request_to(engine, body(logprobs=0, echo=False)))["choices"][0]
    assert choice["text"] == "a🙂åb"
    assert choice["logprobs"]["text_offset"] == [0, 1, 1, 2, 3]


def test_a_stream_with_echo_and_log_probabilities_is_the_whole_in_pieces(engine: ScriptedEngine) -> None:
    sent = body(echo=True, logprobs=1, n=2)
    whole = answered(create, request_to(engine, sent))
    chunks = streamed(create, request_to(engine, {**sent, "stream": True}))
    for index in range(2):
        joined: dict[str, list[Any]] = {"tokens": [], "token_logprobs": [], "top_logprobs": [], "text_offset": []}
        for chunk in chunks[:-1]:
            choice = chunk["choices"][0]
            if choice["index"] == index and choice["logprobs"]:
                for name, values in joined.items():
                    values += choice["logprobs"][name]
        assert joined == whole["choices"][index]["logprobs"]
        assert joined["tokens"][-1] == "!"
    assert texts_of(chunks, 2) == [choice["text"] for choice in whole["choices"]]


def test_the_prompt_alone_can_be_read(engine: ScriptedEngine) -> None:
    engine.script = lambda request: words(request, [], reason="length")
    answer = answered(create, request_to(engine, body(max_tokens=0, echo=True, logprobs=0)))
    assert answer["choices"][0]["text"] == "Once upon"
    assert len(answer["choices"][0]["logprobs"]["tokens"]) == 2
    answer = answered(create, request_to(engine, body(max_tokens=0, prompt_logprobs=1)))
    assert [entry and len(entry) for entry in answer["choices"][0]["prompt_logprobs"]] == [None, 1]


# --- streams ----------------------------------------------------------------------------------------------------------


def test_a_stream_has_openais_form(engine: ScriptedEngine) -> None:
    chunks = streamed(create, request_to(engine, body(stream=True, stream_options={"include_usage": True})))
    assert chunks.pop() == "[DONE]"
    usage = chunks.pop()
    assert (usage["choices"], usage["usage"]["total_tokens"]) == ([], 5)
    assert {(chunk["id"], chunk["object"], chunk["usage"]) for chunk in chunks} == {
        ("cmpl-r1", "text_completion", None)
    }
    assert [(chunk["choices"][0]["text"], chunk["choices"][0]["finish_reason"]) for chunk in chunks] == [
        ("Hello", None),
        (" world", None),
        ("!", None),
        ("", "stop"),
    ]


def test_special_tokens_are_put_before_a_text_unless_told_otherwise(engine: ScriptedEngine) -> None:
    answered(create, request_to(engine, body(prompt="<|im_start|>a", add_special_tokens=False)))
    assert engine.asked[0].prompt_ids[0] == 1


def test_limits_are_the_operators(engine: ScriptedEngine) -> None:
    assert refused(engine, body(prompt=["a"] * 3), limits=LimitsConfig(max_prompts=2)).status == 400


def test_the_double_tells_the_likeliest_first() -> None:
    assert [top.logprob for top in logprob(1, "a", 2).top] == [-0.5, -1.5]
