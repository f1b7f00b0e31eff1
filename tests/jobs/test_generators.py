"""Language models that answer prompts, over a tiny random model, a server on this machine, and SmolLM2."""

import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from genai.config.embed_finetune import GeneratorConfig, SyntheticQueriesConfig
from genai.errors import CredentialsError, DataError, GenaiError, UsageError
from genai.jobs.generators import EndpointGenerator, LocalGenerator, open_generator, prompt_seed


@dataclass
class Server:
    """An OpenAI-compatible server that says what `answer` says: a text, or a status and a body."""

    url: str = ""
    requests: list[tuple[str, str | None, Any]] = field(default_factory=list)
    """Path, Authorization, body."""
    answer: Callable[[str], Any] = lambda prompt: f"about {prompt}?"
    at_once: int = 0
    most_at_once: int = 0
    pause_s: float = 0.0


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    state, turn = Server(), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with turn:
                state.requests.append((self.path, self.headers["Authorization"], body))
                state.at_once += 1
                state.most_at_once = max(state.most_at_once, state.at_once)
            time.sleep(state.pause_s)
            with turn:
                state.at_once -= 1
            said = state.answer(body["messages"][0]["content"])
            status, values = said if isinstance(said, tuple) else (200, None)
            if values is None:
                message = {"role": "assistant", "content": said}
                values = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
            content = json.dumps(values).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args: Any) -> None:
            pass

    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("genai.embedding.posting.FIRST_PAUSE_S", 0.01)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        state.url = f"http://127.0.0.1:{http.server_address[1]}/v1"
        yield state
        http.shutdown()
        thread.join()


def opened(server: Server, **changes: Any) -> Any:
    return open_generator(GeneratorConfig(model="small", base_url=server.url, **changes))


def test_an_endpoint_answers_in_order(server: Server) -> None:
    generator = opened(server, temperature=0.3, top_p=0.8, max_new_tokens=20, batch_size=3)
    prompts = [f"prompt {n}" for n in range(7)]
    assert isinstance(generator, EndpointGenerator)
    assert generator.generate(prompts, seed=5) == [f"about prompt {n}?" for n in range(7)]
    bodies = {body["messages"][0]["content"]: body for _, _, body in server.requests}
    assert {path for path, _, _ in server.requests} == {"/v1/chat/completions"}
    assert bodies["prompt 3"] == {
        "model": "small",
        "messages": [{"role": "user", "content": "prompt 3"}],
        "max_tokens": 20,
        "temperature": 0.3,
        "top_p": 0.8,
        "seed": prompt_seed(5, "prompt 3"),
    }


def test_requests_go_out_several_at_a_time(server: Server) -> None:
    server.pause_s = 0.05
    opened(server, batch_size=4).generate([str(n) for n in range(12)], seed=1)
    assert server.most_at_once == 4


def test_the_key_is_sent_and_shown_nowhere(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_KEY", "very-secret")
    generator = opened(server, api_key="env:TEST_KEY")
    generator.generate(["a"], seed=1)
    assert server.requests[0][1] == "Bearer very-secret"
    assert generator.name == f"small at {server.url}"
    monkeypatch.delenv("TEST_KEY")
    with pytest.raises(CredentialsError, match="TEST_KEY is not set"):
        generator.generate(["a"], seed=1)


def test_a_busy_server_is_asked_again(server: Server) -> None:
    said = iter([(503, {}), (429, {}), "now?"])
    server.answer = lambda prompt: next(said)
    assert opened(server).generate(["a"], seed=1) == ["now?"]


def test_a_prompt_that_a_filter_refuses_is_left_out(server: Server) -> None:
    server.answer = lambda prompt: (400, {"error": "filtered"}) if prompt == "bad" else "fine?"
    generator = opened(server)
    assert generator.generate(["a", "bad", "c"], seed=1) == ["fine?", "", "fine?"]
    assert generator.generate(["bad"], seed=1) == [""]


def test_a_server_that_refuses_all_is_an_error(server: Server) -> None:
    server.answer = lambda prompt: (400, {"error": "temperature is not supported"})
    with pytest.raises(DataError, match="cannot use what was sent: HTTP 400, temperature is not supported"):
        opened(server).generate(["a", "b"], seed=1)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "without a message"),
        ({"choices": []}, "without a message"),
        ([], "without a message"),
        ({"choices": [{"message": {"content": [1]}}]}, "with a message that is no text"),
    ],
)
def test_answers_that_cannot_be_used(server: Server, values: Any, said: str) -> None:
    server.answer = lambda prompt: (200, values)
    with pytest.raises(GenaiError, match=f"the server gave an answer {said}"):
        opened(server).generate(["a"], seed=1)


def test_an_answer_of_nothing(server: Server) -> None:
    server.answer = lambda prompt: (200, {"choices": [{"message": {"content": None, "refusal": "no"}}]})
    assert opened(server).generate(["a"], seed=1) == [""]


def test_no_such_model_names_the_section(server: Server) -> None:
    server.answer = lambda prompt: (404, {"error": {"message": "no model small"}})
    config = GeneratorConfig(model="small", base_url=server.url)
    judge = open_generator(config, section="data.synthetic_queries.judge")
    with pytest.raises(UsageError, match=r"check data\.synthetic_queries\.judge\.base_url"):
        judge.generate(["a"], seed=1)
    with pytest.raises(UsageError, match=r"data\.synthetic_queries\.generator\.base_url: 'here' is no URL"):
        open_generator(GeneratorConfig(model="small", base_url="here"))


def test_tokens_of_an_endpoint_are_estimated() -> None:
    generator = open_generator(GeneratorConfig(model="small", base_url="http://127.0.0.1:1/v1"))
    assert [generator.count_tokens(text) for text in ("", "a", "abcd", "abcde")] == [0, 1, 1, 2]


def test_a_seed_is_of_prompt_and_seed() -> None:
    seeds = {prompt_seed(seed, prompt) for seed in range(20) for prompt in ("a", "b")}
    assert len(seeds) == 40
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert prompt_seed(17, "a") == 1916180957  # another one would ask everything anew


@pytest.fixture
def folder(tiny_material: Path) -> Path:
    """A Llama of two layers with random weights."""
    return tiny_material / "model"


@pytest.mark.integration
def test_a_model_in_this_process(folder: Path) -> None:
    config = GeneratorConfig(model=str(folder), max_new_tokens=8, batch_size=2)
    generator: Any = open_generator(config)
    assert isinstance(generator, LocalGenerator)
    assert "_model" not in vars(generator)  # loaded by the first prompt
    assert re.fullmatch(r"[0-9a-f]{12}", generator.name.removeprefix(f"{folder}@"))
    prompts = ["what is a brick ?", "what is a", "roof"]
    given = generator.generate(prompts, seed=1)
    assert len(given) == 3
    assert given == open_generator(config).generate(prompts, seed=1)
    assert given[::-1] == generator.generate(prompts[::-1], seed=1)
    assert given != generator.generate(prompts, seed=2)
    assert generator.count_tokens("what is a brick ?") == len(generator._tokenizer("what is a brick ?")["input_ids"])


@pytest.mark.integration
def test_another_model_has_another_name(folder: Path, tmp_path: Path) -> None:
    import shutil

    copied = Path(shutil.copytree(folder, tmp_path / "copy"))
    one, same = (open_generator(GeneratorConfig(model=str(path))).name.partition("@")[2] for path in (folder, copied))
    assert one == same
    weights = bytearray((copied / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copied / "model.safetensors").write_bytes(weights)
    assert open_generator(GeneratorConfig(model=str(copied))).name.partition("@")[2] != one


def test_there_is_no_such_model() -> None:
    with pytest.raises(UsageError, match="gallery"):
        open_generator(GeneratorConfig(model="gallery:smolm2"))


@pytest.mark.integration
@pytest.mark.timeout(600)
def test_smollm2_makes_queries_of_the_faq(tmp_path: Path) -> None:
    """Eight queries of four answers; what the model writes is parsed, finds its answer or not, and can be had again."""
    from genai.config.embedding import EmbeddingConfig
    from genai.data.gallery import pull
    from genai.data.retrieval.records import Passage
    from genai.embedding.opening import open_encoder
    from genai.embedding.tuning.synthetic import make_queries
    from genai.jobs.passage_neighbours import passage_neighbours

    rows = [json.loads(line) for line in pull("construction-faq-en").read_text().splitlines()]
    corpus = [Passage(key=row["id"], text=row["a"], document=row["id"]) for row in rows[:60]]
    config = SyntheticQueriesConfig(
        generator=GeneratorConfig(model="gallery:smollm2-135m-instruct", max_new_tokens=24), max_chunks=4
    )
    assert config.generator is not None
    values: dict[str, Any] = {
        "embedder": open_encoder(EmbeddingConfig(model="gallery:all-minilm-l6-v2")),
        "neighbours_of": passage_neighbours(),
        "corpus": corpus,
        "cache": tmp_path / "answers.sqlite",
        "seed": 17,
        "judge": None,
    }
    generator: Any = open_generator(config.generator)
    made = make_queries(corpus, config, generator=generator, **values)
    assert (made.counts.num_made, made.counts.num_passages) == (8, 4)
    assert made.counts.yield_share >= 0.25
    assert all(pair.query and "\n" not in pair.query for pair in made.pairs)
    assert {pair.provenance["style"] for pair in made.pairs} <= {"question", "keywords"}
    again: Any = open_generator(config.generator)
    assert make_queries(corpus, config, generator=again, **values) == made
    assert "_model" not in vars(again)  # all answers were there
    assert os.listdir(tmp_path) == ["answers.sqlite"]
