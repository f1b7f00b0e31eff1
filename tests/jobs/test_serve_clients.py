"""The clients people have talk to `genai serve` unmodified: SmolLM2 with an adapter, MiniLM, an index."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import lm_eval_tasks
import pytest
from genai_servers import GenaiServer
from served_gallery import KEY, MODEL, OTHER_KEY, serving_gallery

from genai.models.references import resolve_model

pytestmark = pytest.mark.integration

SCREED: Any = [{"role": "user", "content": "What is a screed?"}]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GenaiServer]:
    with serving_gallery(tmp_path_factory.mktemp("gallery")) as running:
        yield running


class TestOpenAI:
    @pytest.fixture
    def client(self, server: GenaiServer) -> Iterator[Any]:
        import openai

        with openai.OpenAI(base_url=f"{server.url}/v1", api_key=KEY, max_retries=0) as found:
            yield found

    def test_a_chat_streamed_and_whole(self, client: Any) -> None:
        asked = {"model": "chat", "messages": SCREED, "temperature": 0, "max_tokens": 24}
        whole = client.chat.completions.create(**asked, logprobs=True, top_logprobs=2)
        assert whole.usage.completion_tokens == 24 == len(whole.choices[0].logprobs.content)
        assert whole.choices[0].finish_reason == "length"
        pieces = []
        with client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}) as stream:
            for chunk in stream:
                pieces += [choice.delta.content or "" for choice in chunk.choices]
                usage = chunk.usage
        assert "".join(pieces) == whole.choices[0].message.content
        assert usage.completion_tokens == 24
        assert usage.prompt_tokens_details.cached_tokens > 0

    def test_seeds_and_several_answers(self, client: Any) -> None:
        def ask(seed: int) -> list[str]:
            answer = client.chat.completions.create(
                model="chat", messages=SCREED, seed=seed, n=2, max_tokens=12, temperature=1
            )
            return [choice.message.content for choice in answer.choices]

        first = ask(1)
        assert first == ask(1)
        assert first != ask(2)
        assert first[0] != first[1]

    def test_a_conversation_with_a_class_as_answer(self, client: Any) -> None:
        import pydantic

        class Colour(pydantic.BaseModel):
            is_warm: bool
            lightness: int

        messages = [{"role": "user", "content": "Describe red."}]
        answer = client.chat.completions.parse(
            model="chat", messages=messages, response_format=Colour, temperature=0, max_tokens=60
        )
        assert isinstance(answer.choices[0].message.parsed, Colour)

    def test_completions(self, client: Any) -> None:
        prompts = ["The capital of France is", "Two and two make"]
        asked = {"model": "chat", "temperature": 0, "max_tokens": 6}
        answer = client.completions.create(**asked, prompt=prompts, echo=True, logprobs=1)
        assert all(choice.text.startswith(prompt) for choice, prompt in zip(answer.choices, prompts, strict=True))
        assert "Paris" in answer.choices[0].text
        stream = client.completions.create(**asked, prompt=prompts[0], stream=True, stop=["Par"])
        assert "Paris" not in "".join(chunk.choices[0].text for chunk in stream)

    def test_embeddings(self, client: Any) -> None:
        texts = ["How thick is the screed?", "What is the thickness of a screed?", "Pay the invoice."]
        vectors = [each.embedding for each in client.embeddings.create(model="minilm", input=texts).data]
        numbers = client.embeddings.create(model="minilm", input=texts, encoding_format="float")
        for told, number in zip(vectors, numbers.data, strict=True):
            assert told == pytest.approx(number.embedding, abs=1e-6)
            assert math.hypot(*told) == pytest.approx(1, abs=1e-4)
        assert (
            1 - math.dist(vectors[0], vectors[1]) ** 2 / 2 > 0.7 > 0.3 > 1 - math.dist(vectors[0], vectors[2]) ** 2 / 2
        )

    def test_models_and_an_adapter_by_its_name(self, client: Any) -> None:
        assert [model.id for model in client.models.list()] == ["chat", "lora", "minilm"]
        assert client.models.retrieve("lora").parent == "chat"

        def ask(model: str) -> str:
            answer = client.chat.completions.create(model=model, messages=SCREED, temperature=0, max_tokens=8)
            assert answer.model == model
            return str(answer.choices[0].message.content)

        assert ask("chat") != ask("lora")

    def test_errors_are_those_the_client_knows(self, client: Any) -> None:
        import openai

        with pytest.raises(openai.NotFoundError, match="did you mean 'chat'"):
            client.chat.completions.create(model="chatt", messages=SCREED)
        with pytest.raises(openai.AuthenticationError):
            client.with_options(api_key="key-of-nobody-at-all").models.list()
        other = client.with_options(api_key=OTHER_KEY)
        assert [model.id for model in other.models.list()] == ["lora"]
        with pytest.raises(openai.NotFoundError):
            other.embeddings.create(model="minilm", input="a")
        with pytest.raises(openai.BadRequestError) as caught:
            client.completions.create(model="chat", prompt=[5] * 9000)
        assert caught.value.code == "context_length_exceeded"
        with pytest.raises(openai.BadRequestError, match="objekt") as caught:
            form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "objekt"}}}
            client.chat.completions.create(model="chat", messages=SCREED, response_format=form)
        assert (caught.value.param or "").startswith("response_format")

    def test_an_async_client_asks_many_things_at_once(self, server: GenaiServer) -> None:
        import asyncio

        import openai

        async def ask_all() -> list[Any]:
            async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key=KEY, max_retries=0) as client:
                asked: Any = {"max_tokens": 8, "temperature": 0}
                return await asyncio.gather(
                    *(
                        client.chat.completions.create(model=model, messages=SCREED, **asked)
                        for model in ["chat", "lora"] * 6
                    )
                )

        told = [answer.choices[0].message.content for answer in asyncio.run(ask_all())]
        assert told == told[:2] * 6


class TestLangChain:
    @pytest.fixture
    def options(self, server: GenaiServer) -> dict[str, Any]:
        return {"base_url": f"{server.url}/v1", "api_key": KEY, "max_retries": 0}

    def test_a_chat(self, options: dict[str, Any]) -> None:
        from langchain_openai import ChatOpenAI

        model = ChatOpenAI(model="chat", temperature=0, max_tokens=12, use_responses_api=False, **options)
        whole = model.invoke([("system", "Be short."), ("human", "What is a brick?")])
        assert whole.usage_metadata is not None
        assert 0 < whole.usage_metadata["output_tokens"] <= 12
        chunks = list(model.stream([("system", "Be short."), ("human", "What is a brick?")]))
        assert "".join(str(chunk.content) for chunk in chunks) == whole.content

    def test_embeddings_find_what_is_meant(self, options: dict[str, Any]) -> None:
        from langchain_core.vectorstores import InMemoryVectorStore
        from langchain_openai import OpenAIEmbeddings

        # texts, not the numbers that OpenAI's own tokenizer makes of them
        embeddings = OpenAIEmbeddings(model="minilm", check_embedding_ctx_length=False, **options)
        store = InMemoryVectorStore.from_texts(["bricks are laid in mortar", "the invoice is due"], embeddings)
        assert store.similarity_search("when do I have to pay?", k=1)[0].page_content == "the invoice is due"


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
class TestCurl:
    def ask(self, server: GenaiServer, path: str, body: Mapping[str, Any]) -> str:
        command = ["curl", "--silent", "--no-buffer", f"{server.url}{path}", "--json", json.dumps(body)]
        done = subprocess.run(
            [*command, "--oauth2-bearer", KEY], capture_output=True, text=True, check=True, timeout=60
        )
        return done.stdout

    def test_a_chat(self, server: GenaiServer) -> None:
        body = {"model": "chat", "messages": SCREED, "max_tokens": 4}
        assert json.loads(self.ask(server, "/v1/chat/completions", body))["usage"]["completion_tokens"] <= 4
        lines = self.ask(server, "/v1/chat/completions", {**body, "stream": True}).split("\n\n")
        assert lines[-2:] == ["data: [DONE]", ""]

    def test_an_index(self, server: GenaiServer) -> None:
        told = self.ask(server, "/v1/indexes/docs/query", {"query": "how thick is the screed", "k": 1})
        assert [result["key"] for result in json.loads(told)["results"]] == ["screed"]


# --- lm-eval ----------------------------------------------------------------------------------------------------------

LOGLIKELIHOOD_TOLERANCE = 2e-3
"""Of a whole text, in nats: both are fp32, but add up in another order."""
QUESTIONS = [(row["text"], row["choices"], row["label"]) for row in lm_eval_tasks.CHOICES]
TEXTS = lm_eval_tasks.SENTENCES
BEGINNINGS = ["The capital of France is", "1, 2, 3, 4,", "A brick is", "Once upon a time"]
TASKS: dict[str, dict[str, Any]] = {
    "choices": {
        "output_type": "multiple_choice",
        "doc_to_text": "{{text}}",
        "doc_to_choice": "{{choices}}",
        "doc_to_target": "label",
        "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
    },
    "rolling": {
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{text}}",
        "metric_list": [{"metric": "word_perplexity"}, {"metric": "bits_per_byte"}],
    },
    "going_on": {
        "output_type": "generate_until",
        "doc_to_text": "{{text}}",
        "doc_to_target": "{{text}}",
        "generation_kwargs": {"until": ["\n\n", "."], "max_gen_toks": 16, "temperature": 0, "do_sample": False},
        "metric_list": [{"metric": "exact_match"}],
    },
}


def write_tasks(folder: Path) -> Path:
    import yaml

    rows = {
        "choices": [{"text": text, "choices": choices, "label": label} for text, choices, label in QUESTIONS],
        "rolling": [{"text": text} for text in TEXTS],
        "going_on": [{"text": text} for text in BEGINNINGS],
    }
    folder.mkdir()
    for name, task in TASKS.items():
        data = folder / f"{name}.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in rows[name]))
        source = {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(data)}}, "test_split": "test"}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump({"task": name, **source, **task}))
    return folder


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("model", ["chat", "lora"])
def test_lm_eval_finds_over_http_what_it_finds_in_process(
    server: GenaiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.models.openai_completions import LocalCompletionsAPI
    from lm_eval.tasks import TaskManager

    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "huggingface"))
    folder, length = str(resolve_model(MODEL).path), 96  # so that the longest text is read in several windows
    adapter = {"peft": str(server._log.parent / "lora")} if model == "lora" else {}
    manager = TaskManager(include_path=str(write_tasks(tmp_path / "tasks")), include_defaults=False)

    def evaluate(asked: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        found = lm_eval.simple_evaluate(asked, tasks=list(TASKS), task_manager=manager, bootstrap_iters=0)
        assert found is not None
        return found["results"], found["samples"]

    here, here_each = evaluate(
        HFLM(pretrained=folder, dtype="float32", device="cpu", batch_size=1, max_length=length, **adapter)
    )
    there, there_each = evaluate(
        LocalCompletionsAPI(
            base_url=f"{server.url}/v1/completions",
            model=model,
            tokenizer=folder,
            max_length=length + 2,  # of which it keeps one for an answer and one for what is before a window
            batch_size=4,
            num_concurrent=3,
            max_retries=1,
        )
    )
    for task in TASKS:
        for ours, theirs in zip(there_each[task], here_each[task], strict=True):
            assert_same_answers(ours["resps"], theirs["resps"])
    assert there["choices"] == here["choices"]
    assert there["choices"]["acc,none"] > 0.5 or model == "lora"
    for metric in ("word_perplexity,none", "bits_per_byte,none"):
        assert there["rolling"][metric] == pytest.approx(here["rolling"][metric], rel=1e-4)
    assert there["going_on"] == here["going_on"]


def assert_same_answers(ours: Any, theirs: Any) -> None:
    """Texts, log likelihoods, and whether they are the greedy ones."""
    if isinstance(theirs, float):
        assert ours == pytest.approx(theirs, abs=LOGLIKELIHOOD_TOLERANCE)
    elif isinstance(theirs, (list, tuple)):
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            assert_same_answers(one, other)
    else:
        assert ours == theirs
