"""Likelihoods by the engine's runners are those of transformers' own pass, whatever rows share, wherever steps end."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers

from genai.config.serve import LocalEngineConfig
from genai.errors import GenaiError
from genai.inference import likelihoods
from genai.inference.interfaces import Step
from genai.inference.likelihoods import RunnerLikelihoods
from genai.inference.opening import OpenedModel, open_model
from genai.models.likelihoods import Row, RowScores, TextTokens, TransformersLikelihoods
from genai.models.references import resolve_model

TOLERANCE = 1e-4
"""Nats a token, in float32."""
VOCAB = 64
LLAMA = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
}
GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128}


@pytest.fixture(scope="module", params=[("LlamaConfig", LLAMA), ("GPT2Config", GPT2)], ids=["lean", "generic"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    import transformers

    kind, values = request.param
    path = tmp_path_factory.mktemp("models") / kind
    words = Tokenizer(models.WordLevel({f"w{index}": index for index in range(VOCAB)}, unk_token="w2"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    transformers.PreTrainedTokenizerFast(tokenizer_object=words, eos_token="w0").save_pretrained(path)
    torch.manual_seed(0)
    ends = {"vocab_size": VOCAB, "bos_token_id": 0, "eos_token_id": 0, "initializer_range": 0.3}
    config = getattr(transformers, kind)(**ends, **values)
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def opened(folder: Path) -> OpenedModel:
    return open_model(resolve_model(str(folder)), engine=LocalEngineConfig(precision="fp32", max_adapters=1))


@pytest.fixture(scope="module")
def texts(folder: Path) -> TextTokens:
    from transformers import AutoTokenizer

    return TextTokens(AutoTokenizer.from_pretrained(folder))


@pytest.fixture(scope="module")
def reference(folder: Path) -> TransformersLikelihoods:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    return TransformersLikelihoods(model, AutoTokenizer.from_pretrained(folder))


def random_rows(seed: int, *, longest: int = 60, count: int = 12) -> list[Row]:
    """Sorted, many with a beginning of another one."""
    draw = random.Random(seed)
    rows: list[Row] = []
    for _ in range(count):
        before = list(draw.choice(rows).ids[: draw.randint(0, longest - 1)]) if rows and draw.random() < 0.7 else []
        ids = before + [draw.randrange(VOCAB) for _ in range(draw.randint(1, longest - len(before)))]
        first = draw.randrange(len(ids))
        places = draw.choices(range(first, len(ids)), k=draw.randint(0, 6))
        rows.append(Row(ids=ids, places=places, tokens=[draw.randrange(VOCAB) for _ in places]))
    return sorted(rows, key=lambda row: list(row.ids))


def assert_same(found: list[RowScores], expected: list[RowScores]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one.logprobs == pytest.approx(other.logprobs, abs=TOLERANCE)
        assert one.are_likeliest == other.are_likeliest


@pytest.mark.parametrize("seed", range(6))
def test_rows_are_read_as_transformers_reads_them(
    opened: OpenedModel,
    texts: TextTokens,
    reference: TransformersLikelihoods,
    seed: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    draw = random.Random(seed)
    monkeypatch.setattr(likelihoods, "_STEP_TOKENS", draw.choice([1, 7, 64, 1024]))
    monkeypatch.setattr(likelihoods, "_STEP_LOGITS", draw.choice([1, 5, 1000]) * VOCAB)
    monkeypatch.setattr(likelihoods, "_CACHE_TOKENS", draw.choice([8, 100, 4096]))
    model = RunnerLikelihoods(opened, texts)
    for again in range(3):  # what is left of one reading is there in the next
        rows = random_rows(10 * seed + again)
        assert_same(model.read(rows), reference.read(rows))


def test_a_beginning_is_read_once(opened: OpenedModel, texts: TextTokens, monkeypatch: pytest.MonkeyPatch) -> None:
    model, read = RunnerLikelihoods(opened, texts), list[int]()
    runner = cast("Any", model)._runner
    forward = runner.forward

    def counted(step: Step) -> torch.Tensor:
        read.append(step.num_tokens)
        return cast("torch.Tensor", forward(step))

    monkeypatch.setattr(runner, "forward", counted)
    beginning = list(range(1, 41))
    rows = [Row(ids=[*beginning, ending, 7], places=[40, 41], tokens=[3, 4]) for ending in range(41, 51)]
    model.read(rows)
    assert sum(read) == 42 + 9 * 2
    model.read(rows[-1:])
    assert sum(read) == 42 + 10 * 2


def test_an_engine_answers_with_the_same_weights_meanwhile(
    opened: OpenedModel, texts: TextTokens, reference: TransformersLikelihoods
) -> None:
    model, rows = RunnerLikelihoods(opened, texts), random_rows(77)
    model.read(rows[:4])
    opened.runner.allocate(2, 16)  # as an engine does, whose cache is another one
    assert_same(model.read(rows), reference.read(rows))


def test_it_ends_when_it_is_stopped(opened: OpenedModel, texts: TextTokens) -> None:
    model = RunnerLikelihoods(opened, texts)
    model.stop()
    with pytest.raises(GenaiError, match="stopped"):
        model.read([Row(ids=[1], places=[0], tokens=[2])])


def test_after_a_fault_nothing_is_taken_for_read(
    opened: OpenedModel, texts: TextTokens, reference: TransformersLikelihoods, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, rows = RunnerLikelihoods(opened, texts), random_rows(5)
    runner = cast("Any", model)._runner

    def broken(step: Step) -> torch.Tensor:
        raise RuntimeError("the step exploded")

    with monkeypatch.context() as patch:
        patch.setattr(runner, "forward", broken)
        with pytest.raises(RuntimeError, match="exploded"):
            model.read(rows)
    assert_same(model.read(rows), reference.read(rows))
