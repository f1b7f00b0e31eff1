"""The clients people have talk to the text APIs unmodified, over real HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scripted_engine import ScriptedEngine, adapter_card, text_card, words
from serving_http import Running, running

from genai.config.serve import LimitsConfig
from genai.models.generation import Event, Fault, GenerationRequest
from genai.models.references import resolve_model
from genai.serving.apis import chat, completions, models, tokenize
from genai.serving.exchange import Caller, Services
from genai.serving.prompting import Prompters

pytestmark = pytest.mark.integration

ROUTES = (*chat.ROUTES, *completions.ROUTES, *tokenize.ROUTES, *models.ROUTES)
KEYS = {"sk-all": Caller(app="all"), "sk-lora": Caller(app="lora", routes=frozenset({"faq-lora"}))}
HI: Any = [{"role": "user", "content": "Hi"}]


def script(request: GenerationRequest) -> list[Event]:
    """A JSON object where one is asked for, a fault for adapter requests of one token."""
    if request.sampling.max_tokens == 1 and request.adapter:
        fault = Fault(code="overloaded", message="1024 requests wait already")
        return [Event(id=request.id, finish_reason="error", fault=fault)]
    return words(request, ['{"name":', ' "Ada"}']) if request.grammar else words(request)


@pytest.fixture(scope="module")
def engine() -> ScriptedEngine:
    folder = resolve_model("gallery:smollm2-135m-instruct").path
    card = text_card("faq", folder, vocab_size=49152, max_model_len=2048, adapters=[adapter_card("faq-lora")])
    return ScriptedEngine(card, script=script)


@pytest.fixture(scope="module")
def server(engine: ScriptedEngine) -> Iterator[Running]:
    with running(more_routes=ROUTES, keys=KEYS) as found:
        found.services.append(
            Services(engine=engine, indexes={}, limits=LimitsConfig(), metrics=found.metrics, prompters=Prompters())
        )
        yield found


@pytest.fixture
def client(server: Running) -> Iterator[Any]:
    import openai

    with openai.OpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key="sk-all", max_retries=0) as found:
        yield found


class TestOpenAI:
    def test_a_chat(self, client: Any, engine: ScriptedEngine) -> None:
        answer = client.chat.completions.create(model="faq", messages=HI, seed=1, logprobs=True, top_logprobs=2)
        assert answer.choices[0].message.content == "Hello world!"
        assert answer.choices[0].finish_reason == "stop"
        assert [len(token.top_logprobs) for token in answer.choices[0].logprobs.content] == [2, 2, 2]
        assert answer.usage.prompt_tokens_details.cached_tokens == 1
        assert answer.system_fingerprint
        assert engine.asked[-1].client == "all"

    def test_a_streamed_chat(self, client: Any) -> None:
        texts = ["", ""]
        with client.chat.completions.create(
            model="faq", messages=HI, n=2, stream=True, stream_options={"include_usage": True}
        ) as stream:
            for chunk in stream:
                for choice in chunk.choices:
                    texts[choice.index] += choice.delta.content or ""
                usage = chunk.usage
        assert texts == ["Hello world!"] * 2
        assert usage.completion_tokens == 6

    def test_a_schema_of_a_class(self, client: Any, engine: ScriptedEngine) -> None:
        import pydantic

        class Person(pydantic.BaseModel):
            name: str

        answer = client.chat.completions.parse(model="faq", messages=HI, response_format=Person)
        assert answer.choices[0].message.parsed == Person(name="Ada")
        grammar = engine.asked[-1].grammar
        assert grammar is not None
        assert grammar.kind == "json_schema"

    def test_a_conversation_goes_on_with_what_was_said(self, client: Any) -> None:
        said = client.chat.completions.create(model="faq", messages=HI).choices[0].message
        answer = client.chat.completions.create(model="faq", messages=[*HI, said, *HI])
        assert answer.choices[0].message.content == "Hello world!"
        dumped = client.chat.completions.create(model="faq", messages=[*HI, said.model_dump(), *HI])
        assert dumped.usage == answer.usage

    def test_completions(self, client: Any) -> None:
        answer = client.completions.create(model="faq", prompt=[[5, 6], [7]], echo=True, logprobs=1, max_tokens=3)
        assert [choice.text[-12:] for choice in answer.choices] == ["Hello world!"] * 2
        assert answer.choices[0].logprobs.token_logprobs[0] is None
        stream = client.completions.create(model="faq", prompt="a", stream=True)
        assert "".join(chunk.choices[0].text for chunk in stream) == "Hello world!"

    def test_vllms_extras(self, client: Any, engine: ScriptedEngine) -> None:
        client.chat.completions.create(model="faq", messages=HI, extra_body={"top_k": 5, "min_p": 0.1})
        assert engine.asked[-1].sampling.top_k == 5

    def test_models(self, client: Any, server: Running) -> None:
        import openai

        assert [model.id for model in client.models.list()] == ["faq", "faq-lora"]
        assert client.models.retrieve("faq-lora").parent == "faq"
        with client.with_options(api_key="sk-lora") as other:
            assert [model.id for model in other.models.list()] == ["faq-lora"]
            with pytest.raises(openai.NotFoundError):
                other.chat.completions.create(model="faq", messages=HI)

    def test_errors_are_those_the_client_knows(self, client: Any) -> None:
        import openai

        with pytest.raises(openai.NotFoundError, match="did you mean 'faq'"):
            client.chat.completions.create(model="faqs", messages=HI)
        with pytest.raises(openai.BadRequestError, match="temperature must be between 0 and 2, not 3") as caught:
            client.chat.completions.create(model="faq", messages=HI, temperature=3)
        assert caught.value.param == "temperature"
        with pytest.raises(openai.BadRequestError) as caught:
            client.completions.create(model="faq", prompt=[1] * 3000)
        assert caught.value.code == "context_length_exceeded"
        with pytest.raises(openai.RateLimitError, match="1024 requests wait already"):
            client.chat.completions.create(model="faq-lora", messages=HI, max_tokens=1, stream=True)


class TestLangChain:
    @pytest.fixture
    def model(self, server: Running) -> Any:
        from langchain_openai import ChatOpenAI

        return ChatOpenAI(
            model="faq",
            base_url=f"http://127.0.0.1:{server.port}/v1",
            api_key="sk-all",  # type: ignore[arg-type]
            max_retries=0,
            use_responses_api=False,
        )

    def test_a_chat(self, model: Any) -> None:
        answer = model.invoke([("system", "Be short."), ("human", "Hi")])
        assert answer.content == "Hello world!"
        assert answer.usage_metadata["output_tokens"] == 3
        assert answer.response_metadata["finish_reason"] == "stop"

    def test_a_streamed_chat(self, model: Any) -> None:
        chunks = list(model.stream("Hi"))
        assert "".join(chunk.content for chunk in chunks) == "Hello world!"

    def test_structured_output(self, model: Any) -> None:
        import pydantic

        class Person(pydantic.BaseModel):
            name: str

        asked = model.with_structured_output(Person, method="json_schema")
        assert asked.invoke("Who?") == Person(name="Ada")


class TestLmEval:
    @pytest.fixture
    def model(self, server: Running, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
        from lm_eval.models.openai_completions import LocalCompletionsAPI

        monkeypatch.setenv("OPENAI_API_KEY", "sk-all")
        url = f"http://127.0.0.1:{server.port}/v1/completions"
        return LocalCompletionsAPI(
            base_url=url, model="faq", tokenizer_backend="remote", auth_token="sk-all", max_retries=1
        )

    def test_likelihoods(self, model: Any) -> None:
        from lm_eval.api.instance import Instance

        asked: list[Any] = [("Once upon", " a time"), ("", "Hello")]
        found = model.loglikelihood(
            [Instance("loglikelihood", {}, arguments, number) for number, arguments in enumerate(asked)],
            disable_tqdm=True,
        )
        assert found == [(-1.0, True), (-0.5, True)]

    def test_answers(self, model: Any, engine: ScriptedEngine) -> None:
        from lm_eval.api.instance import Instance

        arguments: Any = ("Once upon", {"until": ["\n"], "max_gen_toks": 8})
        assert model.generate_until([Instance("generate_until", {}, arguments, 0)], disable_tqdm=True) == [
            "Hello world!"
        ]
        assert engine.asked[-1].sampling.stop[0] == "\n"
        assert engine.asked[-1].sampling.temperature == 0
