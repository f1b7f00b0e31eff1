"""A model in this process as a target: its answers are transformers' own, its likelihoods are lm-eval's."""

from __future__ import annotations

import asyncio
import json
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import lm_eval_tasks
import pytest

from genai.config.eval import PriceConfig, SamplingConfig, TargetConfig
from genai.errors import DataError, GenaiError, UsageError
from genai.evaluation.records import Answer, Chat, Continuations, Failure, Likelihoods, Outcome, Query, WholeText
from genai.evaluation.records import Question as AnyQuestion
from genai.jobs.eval_models import ModelTarget
from genai.models.references import resolve_model

pytestmark = pytest.mark.integration

MODEL = "gallery:smollm2-135m-instruct"
ASKED = [f"what is a {word} ?" for word in ("brick", "beam", "roof", "wall", "floor")]


def tiny_config(folder: Path, **changes: Any) -> TargetConfig:
    sampling = SamplingConfig(max_tokens=12)
    return TargetConfig(**{"model": str(folder / "model"), "precision": "fp32", "sampling": sampling, **changes})


@pytest.fixture
def make(tiny_material: Path) -> Callable[..., ModelTarget]:
    """A target over the tiny model; `changes` are of its config."""

    def made(**changes: Any) -> ModelTarget:
        config = tiny_config(tiny_material, **changes)
        assert config.model is not None
        return ModelTarget("tiny", config, resolve_model(config.model), num_threads=1)

    return made


def ask(target: ModelTarget, questions: Sequence[AnyQuestion]) -> list[Outcome]:
    """All at once."""

    async def asked() -> list[Outcome]:
        async with target:
            return await asyncio.gather(*map(target.ask, questions))

    return asyncio.run(asked())


def user(text: str, **fields: Any) -> Chat:
    return Chat(messages=({"role": "user", "content": text},), **fields)


# --- answers ----------------------------------------------------------------------------------------------------------


def test_answers_are_those_of_transformers_alone(make: Callable[..., ModelTarget], tiny_material: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from genai.models.generate import answer

    folder = tiny_material / "model"
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    system = {"role": "system", "content": "be brief"}
    target = make(system="be brief", price=PriceConfig(usd_per_million_output_tokens=1e6))
    questions = [user(text) if index % 2 else Chat(prompt=text) for index, text in enumerate(ASKED)]
    for text, found in zip(ASKED, ask(target, questions), strict=True):
        assert isinstance(found, Answer)
        messages = [system, {"role": "user", "content": text}]
        assert found.text == answer(model.eval(), tokenizer, messages, max_new_tokens=12)
        assert found.finish_reason in ("stop", "length")
        usage = found.usage
        assert usage.usd == usage.completion_tokens > 0 < usage.prompt_tokens
        assert usage.latency_s is not None
        assert usage.ttft_s is not None
        assert 0 < usage.ttft_s <= usage.latency_s


def test_completions_go_on_with_the_text(make: Callable[..., ModelTarget]) -> None:
    plain, short, stopped = ask(
        make(api="completions"),
        [Chat(prompt="what is a"), Chat(prompt="what is a", max_tokens=3), Chat(prompt="what is a", stop=("",))],
    )
    assert isinstance(plain, Answer)
    assert isinstance(short, Answer)
    assert plain.text.startswith(short.text)
    assert (short.usage.completion_tokens, short.finish_reason) == (3, "length")
    assert isinstance(stopped, Answer)


def test_an_answer_follows_a_schema(make: Callable[..., ModelTarget]) -> None:
    [found] = ask(make(), [user("go", json_schema={"enum": ["x", "y"]})])
    assert isinstance(found, Answer)
    assert json.loads(found.text) in ("x", "y")


def test_what_cannot_be_answered_is_a_failure_beside_answers(make: Callable[..., ModelTarget]) -> None:
    questions = [
        user("brick " * 300),
        user("go", tools=({"type": "function", "function": {"name": "f"}},)),
        user("go", json_schema={"type": "objekt"}),
        user("go"),
    ]
    too_long, tools, schema, good = ask(make(), questions)
    assert isinstance(good, Answer)
    for found, reason in ((too_long, "prompt and answer may have 256"), (tools, "tools"), (schema, "objekt")):
        assert isinstance(found, Failure)
        assert reason in found.reason


def test_an_answer_that_takes_too_long_is_a_failure(make: Callable[..., ModelTarget]) -> None:
    [found] = ask(make(timeout_s=1e-6, sampling=SamplingConfig(max_tokens=200)), [user("go")])
    assert isinstance(found, Failure)
    assert found.reason == "no answer in 1e-06 s"


def test_more_than_the_engine_takes_wait_and_are_all_answered(make: Callable[..., ModelTarget]) -> None:
    outcomes = ask(make(concurrency=2), [user(ASKED[number % 5]) for number in range(20)])
    texts = [found.text for found in outcomes if isinstance(found, Answer)]
    assert texts == texts[:5] * 4


def test_a_question_that_is_given_up_does_not_hold_up_others(make: Callable[..., ModelTarget]) -> None:
    async def asked() -> Outcome:
        async with make(concurrency=1, sampling=SamplingConfig(max_tokens=200)) as target:
            first = asyncio.create_task(target.ask(user("go")))
            await asyncio.sleep(0.2)
            first.cancel()
            return await target.ask(user("go", max_tokens=1))

    assert isinstance(asyncio.run(asked()), Answer)


# --- likelihoods ------------------------------------------------------------------------------------------------------

PAIRS = Continuations(pairs=(("what is a", " brick"), ("what is a", " roof ?"), ("", "it is a wall")))


def logprobs_of(outcome: Outcome) -> list[float]:
    assert isinstance(outcome, Likelihoods)
    return [each.logprob for each in outcome.each]


def test_likelihoods_and_answers_at_the_same_time(make: Callable[..., ModelTarget]) -> None:
    text = WholeText(text="it is a wall . " * 40, context=32)
    alone = ask(make(), [PAIRS, text])
    mixed = ask(make(batch_size=1), [user("go"), PAIRS, user("brick"), text, PAIRS, text])
    for found, expected in zip([mixed[1], mixed[3]], alone, strict=True):
        assert logprobs_of(found) == pytest.approx(logprobs_of(expected), abs=1e-4)
    assert isinstance(mixed[0], Answer)
    assert isinstance(mixed[2], Answer)


def test_what_is_read_has_its_price(make: Callable[..., ModelTarget]) -> None:
    [found] = ask(make(price=PriceConfig(usd_per_million_input_tokens=1e6)), [PAIRS])
    assert isinstance(found, Likelihoods)
    assert found.usage.usd == found.usage.prompt_tokens > 0


def test_closing_ends_what_is_read(make: Callable[..., ModelTarget]) -> None:
    async def closed() -> list[Any]:
        async with make(batch_size=1) as target:
            tasks = [asyncio.create_task(target.ask(WholeText(text="it is a wall . " * 2000))) for _ in range(40)]
            await asyncio.sleep(0.3)
        return await asyncio.gather(*tasks, return_exceptions=True)

    outcomes = asyncio.run(closed())
    assert isinstance(outcomes[-1], GenaiError)
    assert "stopped" in str(outcomes[-1])


# --- what it is -------------------------------------------------------------------------------------------------------


def test_the_fingerprint_is_of_all_that_an_answer_depends_on(make: Callable[..., ModelTarget]) -> None:
    target = make()
    assert target.fingerprint == make(concurrency=3, batch_size=2, timeout_s=5).fingerprint
    assert target.fingerprint.startswith(target.model_fingerprint)
    changes: list[dict[str, Any]] = [
        {"system": "be brief"},
        {"api": "completions"},
        {"precision": "bf16"},
        {"max_model_len": 64},
        {"chat_template": "{{ messages[0]['content'] }}"},
        {"sampling": SamplingConfig(max_tokens=13)},
    ]
    assert len({target.fingerprint, *(make(**change).fingerprint for change in changes)}) == 1 + len(changes)


def test_tokens_are_counted_without_weights(make: Callable[..., ModelTarget]) -> None:
    assert make().count_tokens("what is a brick ?") == 5


def test_an_index_is_needed_for_queries(make: Callable[..., ModelTarget]) -> None:
    with pytest.raises(UsageError, match="answers no queries"):
        ask(make(), [Query(text="brick", k=3)])


def test_a_model_without_a_template_is_asked_by_plain_text(tiny_material: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for file in (tiny_material / "model").iterdir():
        if file.name != "chat_template.jinja":
            (folder / file.name).write_bytes(file.read_bytes())
    settings = folder / "tokenizer_config.json"
    values = json.loads(settings.read_text())
    values.pop("chat_template", None)
    settings.write_text(json.dumps(values))
    config = TargetConfig(model=str(folder), precision="fp32", sampling=SamplingConfig(max_tokens=2))
    resolved = resolve_model(str(folder))
    with pytest.raises(UsageError, match="no chat template") as caught:
        ask(ModelTarget("bare", config, resolved), [user("go")])
    assert caught.value.fix == "set api: completions, or chat_template"
    [found] = ask(ModelTarget("bare", replace(config, api="completions"), resolved), [user("go")])
    assert isinstance(found, Answer)


def test_a_damaged_tokenizer_is_told_in_one_line(tiny_material: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for file in (tiny_material / "model").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(DataError):
        ask(ModelTarget("broken", TargetConfig(model=str(folder)), resolve_model(str(folder))), [user("go")])


def test_code_of_a_model_runs_only_when_it_is_allowed(make: Callable[..., ModelTarget]) -> None:
    with pytest.raises(UsageError, match="Python that comes with the model") as caught:
        make(trust_remote_code=True)
    assert caught.value.where == "target.trust_remote_code"


# --- lm-eval ----------------------------------------------------------------------------------------------------------

TOLERANCE = 1e-4
"""Relative, of perplexities; of scores absolute. Both in float32."""
LENGTH = 96
"""So that the longest text is read in several windows."""
CHOICES = [(row["text"], row["choices"], row["label"]) for row in lm_eval_tasks.CHOICES]
TEXTS = lm_eval_tasks.SENTENCES
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
        "metric_list": [{"metric": "word_perplexity"}, {"metric": "byte_perplexity"}, {"metric": "bits_per_byte"}],
    },
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_scores_are_those_of_lm_eval(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import math

    resolved = resolve_model(MODEL)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "huggingface"))
    theirs, samples = run_lm_eval(tmp_path / "tasks", str(resolved.path))
    config = TargetConfig(model=MODEL, precision="fp32", max_model_len=LENGTH)
    questions: list[AnyQuestion] = [
        Continuations(pairs=tuple((text, f" {choice}") for choice in choices)) for text, choices, _ in CHOICES
    ]
    outcomes = ask(ModelTarget("smollm2", config, resolved), [*questions, *(WholeText(text=text) for text in TEXTS)])
    found = [logprobs_of(outcome) for outcome in outcomes]
    of_choices, of_texts = found[: len(CHOICES)], [sum(each) for each in found[len(CHOICES) :]]

    for ours, sample in zip(of_choices, samples["choices"], strict=True):
        assert ours == pytest.approx([logprob for logprob, _ in sample["filtered_resps"]], rel=TOLERANCE)
    gold = [label for _, _, label in CHOICES]
    best = [max(range(3), key=logprobs.__getitem__) for logprobs in of_choices]
    by_length = [
        max(range(3), key=lambda at, row=row: row[0][at] / len(row[1][at]))  # type: ignore[misc]
        for row in zip(of_choices, [choices for _, choices, _ in CHOICES], strict=True)
    ]
    assert share(best, gold) == pytest.approx(theirs["choices"]["acc,none"], abs=TOLERANCE)
    assert share(by_length, gold) == pytest.approx(theirs["choices"]["acc_norm,none"], abs=TOLERANCE)
    assert share(best, gold) > 0.5
    num_words, num_bytes = sum(len(re.split(r"\s+", text)) for text in TEXTS), sum(len(t.encode()) for t in TEXTS)
    rolling, total = theirs["rolling"], sum(of_texts)
    assert math.exp(-total / num_words) == pytest.approx(rolling["word_perplexity,none"], rel=TOLERANCE)
    assert math.exp(-total / num_bytes) == pytest.approx(rolling["byte_perplexity,none"], rel=TOLERANCE)
    assert -total / num_bytes / math.log(2) == pytest.approx(rolling["bits_per_byte,none"], rel=TOLERANCE)


def share(found: Sequence[int], gold: Sequence[int]) -> float:
    return sum(one == other for one, other in zip(found, gold, strict=True)) / len(gold)


def run_lm_eval(folder: Path, model: str) -> tuple[dict[str, Any], dict[str, Any]]:
    import lm_eval
    import yaml
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    rows: dict[str, list[dict[str, Any]]] = {
        "choices": [{"text": text, "choices": choices, "label": label} for text, choices, label in CHOICES],
        "rolling": [{"text": text} for text in TEXTS],
    }
    folder.mkdir()
    for name, task in TASKS.items():
        data = folder / f"{name}.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in rows[name]))
        source = {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(data)}}, "test_split": "test"}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump({"task": name, **source, **task}))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = lm_eval.simple_evaluate(
            HFLM(pretrained=model, dtype="float32", device="cpu", batch_size=4, max_length=LENGTH),
            tasks=list(TASKS),
            task_manager=TaskManager(include_path=str(folder), include_defaults=False),
            bootstrap_iters=0,
        )
    assert found is not None
    return found["results"], found["samples"]
