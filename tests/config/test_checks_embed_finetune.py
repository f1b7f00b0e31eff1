from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from genai.config.checks_embed_finetune import COLUMNS, MEASURES, check_embed_finetune
from genai.config.embed_finetune import EmbedFinetuneConfig
from genai.config.loading import load
from genai.config.tree import dotted
from genai.errors import ConfigError, UsageError
from genai.metrics.retrieval import parse_metric

Write = Callable[..., Path]
MINIMAL = """\
model: {name: sentence_encoder, pretrained_model_name_or_path: "gallery:all-minilm-l6-v2"}
data: {pairs: pairs.jsonl}
"""
RERANKER = "model={name: cross_encoder, pretrained_model_name_or_path: cross}"
BCE = "loss.name=binary_cross_entropy"
CORPUS = "data={corpus: {path: docs}, synthetic_queries: {}}"
GENERATOR = "data.synthetic_queries.generator={model: gpt, base_url: http://127.0.0.1:1/v1, api_key: env:KEY}"
SPACE = "search={space: {optimizer.lr: [1e-5, 5e-5], max_duration: [1ep, 20ba]}}"


def findings(write: Write, *overrides: str) -> list[tuple[str, str, str | None]]:
    """The checks' findings for the minimal job with overrides, past the loader (which raises on the first faults)."""
    try:
        loaded = load(write(MINIMAL), EmbedFinetuneConfig, overrides)
    except ConfigError as error:
        return [(problem.where or "", problem.message, problem.fix) for problem in error.problems]
    return [(dotted(each.key), each.message, each.fix) for each in check_embed_finetune(loaded.config)]


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        [CORPUS],
        [CORPUS, GENERATOR, "data.synthetic_queries.styles=[terse, misspelt]"],
        [CORPUS, "data.synthetic_queries.methods=[title_body]", "data.corpus.title=heading"],
        [CORPUS, "data.corpus.chunking={name: recursive, max_tokens: 64, overlap_tokens: 8}"],
        ["data.columns={query: q, positive: a, negative: wrong, score: grade, id: key, group: file}"],
        ["data.split={validation: 0, test: 0.3, group_by: file}"],
        ["data.split.test=0.2", "evaluation.queries=test.jsonl"],
        ["loss={guide: other, guide_margin: 0.1}", "hard_negatives={refresh: 100ba, margin: 0.1}"],
        ["loss={name: margin_mse}"],
        ["loss={name: margin_mse, teacher: cross}", "hard_negatives={}"],
        ["loss={name: distillation, teacher: big, teacher_kind: sentence_encoder}", "hard_negatives={}"],
        ["loss={name: cosent}", "matryoshka={dimensions: [64, 32], weights: [1, 0.5]}"],
        [RERANKER, BCE, "hard_negatives={}"],
        [RERANKER, "loss.name=listwise", "model.peft_config={r: 8}"],
        ["hard_negatives={reranker: {model: cross}}"],
        ["evaluation={metrics: [recall@1, hit_rate@20], general: general.jsonl}"],
        ["then={promote_if: ndcg@10 >= baseline - 0.01, register: faq, alias: best, onnx: true}"],
        ["then={promote_if: recall@10 > baseline, reindex: configs/index/faq.yaml, tolerance: 0.01}"],
        ["then.onnx=true"],
        [SPACE],
        [SPACE, "device_train_microbatch_size=7"],
    ],
)
def test_sound_jobs_have_none(write: Write, overrides: list[str]) -> None:
    assert findings(write, *overrides) == []


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data={}"], "data names neither pairs nor a corpus"),
        (["data={corpus: {path: docs}}"], "a corpus alone has no queries to learn from"),
        (["data.synthetic_queries={}"], "queries are made from a corpus, and there is none"),
        (["data.columns={queri: q}"], "pairs have no column 'queri'"),
        (["data.columns={q: query}"], "pairs have no column 'q'; it is written {query: q}"),
        (["data.corpus={path: []}"], "data.corpus.path is empty"),
        (["data.corpus={path: x, text: []}"], "data.corpus.text names no column"),
        (
            ["data.corpus={path: x, chunking: {name: tokens, max_tokens: 8, overlap_tokens: 8}}"],
            "data.corpus.chunking.overlap_tokens of 8 is not less",
        ),
        (
            ["data.corpus={path: x, chunking: {name: tokens, max_tokens: 99}}", "model.max_tokens=64"],
            "data.corpus.chunking.max_tokens of 99 is more than model.max_tokens of 64",
        ),
        ([CORPUS, "data.synthetic_queries.methods=[]"], "data.synthetic_queries names neither a generator nor"),
        ([CORPUS, GENERATOR, "data.synthetic_queries.styles=[]"], "data.synthetic_queries.styles is empty"),
        (
            [CORPUS, "data.synthetic_queries.judge={model: m, base_url: localhost}"],
            "data.synthetic_queries.judge.base_",
        ),
        (["data.split={validation: 0.5, test: 0.5}"], "data.split holds back 1 of the documents"),
        (["data.split.test=0"], "data.split.test of 0 leaves no queries"),
        (["data.split.validation=0", "callbacks.early_stopping={}"], "early stopping needs validation queries"),
        (["data.split.validation=0", SPACE], "search needs validation queries"),
        ([RERANKER], "the loss multiple_negatives_ranking is not for a cross_encoder"),
        ([RERANKER, "loss.name=cosent"], "the loss cosent is not for a cross_encoder"),
        ([BCE], "the loss binary_cross_entropy is not for a sentence_encoder"),
        (["loss.name=listwise"], "the loss listwise is not for a sentence_encoder"),
        (["loss.name=cosent", "hard_negatives={}"], "the loss cosent learns from grades of pairs, and mined"),
        ([CORPUS, "loss.name=cosent"], "the loss cosent learns from grades of pairs, and queries that are made"),
        (["loss.name=margin_mse", "hard_negatives={}"], "margin_mse without a teacher takes the column score"),
        ([CORPUS, "loss={name: distillation, teacher: t}"], "the loss distillation compares a positive with negat"),
        ([RERANKER, BCE, "matryoshka={dimensions: [8]}"], "a cross_encoder gives one number"),
        (["matryoshka={dimensions: []}"], "matryoshka.dimensions names no length"),
        (["matryoshka={dimensions: [8, 8]}"], "matryoshka.dimensions names 8 twice"),
        (["matryoshka={dimensions: [8, 4], weights: [1]}"], "matryoshka.weights has 1 numbers for 2 lengths"),
        (["matryoshka={dimensions: [8], weights: [0]}"], "matryoshka.weights are all 0"),
        (["hard_negatives={refresh: 0ba}"], "hard_negatives.refresh of 0ba would mine before every step"),
        (["hard_negatives={candidates: 5, skip: 2}"], "hard_negatives.candidates of 5 is less than"),
        (["hard_negatives={exclude_above: 0}"], "hard_negatives.exclude_above of 0 leaves no candidate"),
        (["hard_negatives={reranker: {name: mmr}}"], "mmr gives no scores that tell an answer"),
        (["hard_negatives={reranker: {}}"], "a reranker by cross_encoder needs a model"),
        (["evaluation.metrics=[]"], "evaluation.metrics names no measure"),
        (["evaluation.metrics=[ndgc@10, recall@0]", "search=null"], "'ndgc@10' is no measure of retrieval"),
        (["evaluation.metrics=[recall@1, recall@1]"], "evaluation.metrics names recall@1 twice"),
        (["evaluation.general=pairs.jsonl"], "evaluation.general is the same as data.pairs"),
        (["evaluation={queries: q.jsonl, general: q.jsonl}"], "evaluation.general is the same as evaluation.queries"),
        (["evaluation.queries=pairs.jsonl"], "evaluation.queries is the same file as data.pairs"),
        (["then.register=faq"], "then.register needs promote_if"),
        (["then.reindex=faq.yaml"], "then.reindex needs promote_if"),
        (["then={promote_if: recall@10 > baseline, reindex: faq}"], "then.reindex 'faq' is no job file"),
        (["then.promote_if=recall@5 > baseline"], "the condition 'recall@5 > baseline' names 'recall@5'"),
        (["then.promote_if=better"], "'better' is no condition"),
        (
            [RERANKER, BCE, "then={promote_if: recall@1 > 0.5, reindex: a.yaml}"],
            "then.reindex is not for a cross_encoder",
        ),
        ([RERANKER, BCE, "then.onnx=true"], "then.onnx is not for a cross_encoder"),
        (["model.peft_config={lora_dropout: 1}"], "lora_dropout of 1 drops everything"),
        (["max_duration=1dur"], "max_duration cannot be a share of itself"),
        ([SPACE, "search.metric=mrr@5"], "search.metric 'mrr@5' is not among evaluation.metrics"),
    ],
)
def test_what_contradicts_itself(write: Write, overrides: list[str], message: str) -> None:
    found = findings(write, *overrides)
    assert [text.startswith(message) for _, text, _ in found][:1] == [True], found
    assert all(fix or "must be" in text for _, text, fix in found)


@pytest.mark.parametrize(
    ("overrides", "keys"),
    [
        ([CORPUS, "data.max_pairs=3", "data.columns={query: q}"], ["data.columns", "data.max_pairs"]),
        ([CORPUS, "data.split.group_by=file"], ["data.split.group_by"]),
        (["data.corpus={path: x, title: t}"], ["data.corpus.title"]),
        (["data.corpus={path: x, chunking: {name: none, max_tokens: 8}}"], ["data.corpus.chunking.max_tokens"]),
        ([CORPUS, "data.synthetic_queries.styles=[terse]"], ["data.synthetic_queries.styles"]),
        ([CORPUS, GENERATOR, "data.synthetic_queries.methods=[title_body]"], ["data.synthetic_queries.methods"]),
        ([CORPUS, GENERATOR, "data.synthetic_queries.max_usd=1"], ["data.synthetic_queries.max_usd"]),
        (
            [CORPUS, "data.synthetic_queries.judge={model: m, timeout_s: 5, temperature: 0, top_p: 0.5}"],
            ["data.synthetic_queries.judge.timeout_s", "data.synthetic_queries.judge.top_p"],
        ),
        (["data.split.test=0.3", "evaluation.queries=q.jsonl"], ["data.split.test"]),
        (["data.split.validation=0", "eval_interval=5ba"], ["eval_interval"]),
        (["loss.guide_margin=0.1"], ["loss.guide_margin"]),
        (["loss={name: margin_mse, teacher_kind: sentence_encoder}"], ["loss.teacher_kind"]),
        (
            ["hard_negatives={exclude_above: null, reranker: {model: m, candidates: 9, timeout_s: 1}}"],
            ["hard_negatives.reranker.timeout_s", "hard_negatives.reranker.candidates", "hard_negatives.reranker"],
        ),
        ([RERANKER, BCE, "hard_negatives={refresh: 100ba}"], ["hard_negatives.refresh"]),
        (["model.revision=main"], ["model.revision"]),
        (
            ["then={alias: x, tolerance: 0.1, significant: false}"],
            ["then.significant", "then.alias", "then.tolerance"],
        ),
    ],
)
def test_what_has_no_effect(write: Write, overrides: list[str], keys: list[str]) -> None:
    found = findings(write, *overrides)
    assert [key for key, *_ in found] == keys
    assert all("has no effect" in message for _, message, _ in found)


@pytest.mark.parametrize("place", ["generator", "judge"])
def test_a_literal_key_is_refused(write: Write, place: str) -> None:
    section = f"data.synthetic_queries.{place}={{model: m, base_url: http://127.0.0.1:1, api_key: abcdefgh}}"
    (found,) = findings(write, CORPUS, section)
    assert found[1] == f"data.synthetic_queries.{place}.api_key holds what looks like a secret"
    assert "abcdefgh" not in str(found)


def test_measures_are_those_that_can_be_computed(write: Write) -> None:
    for measure in MEASURES:
        parse_metric(f"{measure}@7")
    with pytest.raises(UsageError) as raised:
        parse_metric("x@1")
    assert set(re.findall(r"(\w+)@K", raised.value.problems[0].fix or "")) == set(MEASURES)


def test_columns_that_are_documented_can_be_renamed() -> None:
    from genai.config.embed_finetune import RetrievalDataConfig
    from genai.config.field_docs import field_docs

    text = field_docs(RetrievalDataConfig)["pairs"]
    assert all(re.search(rf"\b{column}\b", text) for column in COLUMNS)


def test_checking_imports_nothing_heavy() -> None:
    code = (
        "import sys\nimport genai.config.loading, genai.config.embed_finetune\n"
        "sys.exit(len({'torch', 'numpy', 'transformers'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def yaml_of_the_docs() -> list[str]:
    text = (Path(__file__).resolve().parents[2] / "docs" / "embed-finetune.md").read_text(encoding="utf-8")
    return re.findall(r"^```yaml\n(.*?)^```", text, flags=re.M | re.S)


@pytest.mark.parametrize("block", yaml_of_the_docs(), ids=lambda block: block.partition(":")[0])
def test_examples_of_the_docs_are_sound(write: Write, block: str) -> None:
    write(MINIMAL, "minimal.yaml")
    loaded = load(write(f"base: minimal.yaml\n{block}"), EmbedFinetuneConfig)
    assert check_embed_finetune(loaded.config) == []
