from __future__ import annotations

import logging
from collections.abc import Callable
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from genai.config.annotations import all_keys
from genai.config.finetune import FinetuneConfig
from genai.config.foundry import ANSWERS, answer_for, set_aside
from genai.config.loading import load
from genai.config.pretrain import MPTModelConfig, PretrainConfig
from genai.config.schemas import SCHEMAS
from genai.config.training import DecoupledAdamWConfig, LinearConfig
from genai.config.tree import Origin, dotted, graft, plain
from genai.errors import ConfigError

Write = Callable[..., Path]
FILES = Path(__file__).with_name("llm_foundry")
HERE = Origin("file", "job.yaml")


@pytest.fixture
def of_llm_foundry(write: Write) -> Callable[..., Path]:
    """A file with the keys of one of llm-foundry's, changed by replacing texts."""

    def copy(name: str, *changes: tuple[str, str]) -> Path:
        text = (FILES / name).read_text()
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        return write(text)

    return copy


def warnings_of(path: Path, schema: type, caplog: pytest.LogCaptureFixture) -> list[str]:
    with caplog.at_level(logging.WARNING, logger="genai"):
        load(path, schema)
    return [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize("name", ["mpt-125m.yaml", "mpt-1b.yaml"])
def test_a_pretraining_file_loads_as_it_is(
    of_llm_foundry: Callable[..., Path], name: str, caplog: pytest.LogCaptureFixture
) -> None:
    said = warnings_of(of_llm_foundry(name), PretrainConfig, caplog)
    config = load(Path("job.yaml"), PretrainConfig).config
    assert isinstance(config.model, MPTModelConfig)
    assert (config.seed, config.max_seq_len, config.model.max_seq_len) == (5, 1024, 1024)
    assert config.train_loader.dataset.local == "./shards"
    assert config.eval_subset_num_batches == (None if name == "mpt-125m.yaml" else 12)
    assert config.fsdp_config is not None and config.fsdp_config.mixed_precision == "PURE"
    assert any(line.startswith("job.yaml:13:1: model.attn_config.alibi is true here") for line in said)
    assert any("model.no_bias is true here" in line for line in said)
    assert any(line.startswith("job.yaml:40:3: train_loader.num_workers has no effect: ") for line in said)
    assert not any("eval_subset_num_batches" in line or "fsdp_config" in line for line in said)


def test_a_finetuning_file_loads_as_it_is(
    of_llm_foundry: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    said = warnings_of(of_llm_foundry("mpt-7b_dolly_sft.yaml"), FinetuneConfig, caplog)
    config = load(Path("job.yaml"), FinetuneConfig).config
    assert isinstance(config.optimizer, DecoupledAdamWConfig) and isinstance(config.scheduler, LinearConfig)
    assert config.eval_loader is not None and config.eval_loader.dataset.hf_name == "org/rows"
    assert config.tokenizer.kwargs == {"model_max_length": 1024}
    assert any("train_loader.num_workers has no effect: rows are tokenised once" in line for line in said)


def test_a_file_with_python_in_it_is_answered_at_that_key_alone(of_llm_foundry: Callable[..., Path]) -> None:
    path = of_llm_foundry("gpt2-arc-easy-cpu.yaml")
    with pytest.raises(ConfigError) as error:
        load(path, FinetuneConfig)
    assert [problem.line() for problem in error.value.problems] == [
        "job.yaml:24:5: train_loader.dataset.preprocessing_fn is not supported: a job file runs no Python "
        "(name the columns: format and columns)"
    ]
    path = of_llm_foundry("gpt2-arc-easy-cpu.yaml", ("    preprocessing_fn: rows.preprocessing:multiple_choice\n", ""))
    assert load(path, FinetuneConfig).config.eval_interval == "1ep"


@pytest.mark.parametrize(
    ("name", "schema", "written", "says"),
    [
        ("mpt-125m.yaml", PretrainConfig, "icl_tasks_str: tasks.yaml\n", "write them out, as icl_tasks"),
        ("mpt-125m.yaml", PretrainConfig, "eval_gauntlet: {}\n", "evaluate the finished model"),
        ("mpt-125m.yaml", PretrainConfig, "train_subset_num_batches: 5\n", "write train_loader.dataset.epoch_size"),
        ("mpt-125m.yaml", PretrainConfig, "save_weights_only: true\n", "remove it"),
        ("mpt-7b_dolly_sft.yaml", FinetuneConfig, "eval_gauntlet: {}\n", "`genai eval`"),
        ("mpt-7b_dolly_sft.yaml", FinetuneConfig, "eval_subset_num_batches: 4\n", "eval_loader.dataset.max_rows"),
        ("mpt-7b_dolly_sft.yaml", FinetuneConfig, "code_paths: [a.py]\n", "runs no Python"),
    ],
)
def test_what_changes_the_result_is_refused_with_its_line(
    of_llm_foundry: Callable[..., Path], name: str, schema: type, written: str, says: str
) -> None:
    path = of_llm_foundry(name, ("progress_bar: false\n", f"progress_bar: false\n{written}"))
    with pytest.raises(ConfigError) as error:
        load(path, schema)
    (problem,) = error.value.problems
    assert f"{written.partition(':')[0]} is not supported: " in problem.message
    assert says in problem.line() and (problem.where or "").startswith("job.yaml:")


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("ffn_config: {ffn_type: mb_dmoe}", "model.ffn_config is not supported: transformers' MPT does not have it"),
        ("head_dim: 32", "model.head_dim is not supported"),
        ("attn_config: {rope: true}", "model.attn_config.rope of true cannot be carried out"),
        ("attn_config: {rope_theta: 1}", "model.attn_config.rope_theta is not supported"),
        ("expansion_ratio: 5", "model.expansion_ratio of 5 cannot be carried out"),
        ("no_bias: false", "model.no_bias of false cannot be carried out: transformers' MPT has no biases"),
        ("learned_pos_emb: true", "model.learned_pos_emb of true cannot be carried out"),
    ],
)
def test_what_transformers_mpt_lacks_is_refused_by_name(
    of_llm_foundry: Callable[..., Path], written: str, says: str
) -> None:
    old = {"expansion_ratio: 5": "expansion_ratio: 4", "attn": "attn_config:\n    attn_impl: flash"}
    place = next((value for key, value in old.items() if written.startswith(key)), "init_device: meta")
    path = of_llm_foundry("mpt-125m.yaml", (place, written))
    with pytest.raises(ConfigError) as error:
        load(path, PretrainConfig)
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("job", "values", "becomes"),
    [
        ("pretrain", {"eval_interval": 1, "max_duration": 3}, {"eval_interval": "1ep", "max_duration": 3}),
        ("pretrain", {"eval_interval": "5ba"}, {"eval_interval": "5ba"}),
        (
            "finetune",
            {"model": {"use_flash_attention_2": True}},
            {"model": {"attn_implementation": "flash_attention_2"}},
        ),
        ("finetune", {"model": {"use_flash_attention_2": False}}, {"model": {}}),
        ("finetune", {"model": {"load_in_8bit": True}}, {"model": {"quantization": {"bits": 8}}}),
        ("finetune", {"model": {"pretrained_lora_id_or_path": "a"}}, {"model": {"adapter": "a"}}),
        ("pretrain", {"compile_config": {"mode": "default"}}, {"compile": True}),
        ("pretrain", {"compile_config": None}, {}),
        (
            "pretrain",
            {"callbacks": {"kill_loss_spike": {"patience": 4}}},
            {"callbacks": {"loss_spike": {"action": "stop"}}},
        ),
        ("pretrain", {"compile_config": {}, "compile": False}, {"compile": False}),
    ],
)
def test_translations(job: str, values: dict[str, object], becomes: dict[str, object]) -> None:
    rest, refused, _ = set_aside(graft(values, HERE), job=job)
    assert plain(rest) == becomes and not refused


def test_values_that_say_what_holds_anyway_pass_without_a_word() -> None:
    values = {
        "icl_tasks": None,
        "code_paths": [],
        "load_strict_model_weights": True,
        "accumulate_train_batch_on_tokens": True,
    }
    assert set_aside(graft(values, HERE), job="pretrain")[1:] == ([], [])
    _, refused, _ = set_aside(graft({"code_paths": ["a.py"]}, HERE), job="pretrain")
    assert len(refused) == 1


def test_an_answer_can_belong_to_one_job_or_model_alone() -> None:
    assert answer_for("model.head_dim", "pretrain", model="llama") is None
    assert answer_for("model.head_dim", "pretrain", model="mpt_causal_lm") is not None
    assert answer_for("train_loader.dataset.streams.a.repeat", "pretrain") is None
    assert answer_for("train_loader.dataset.streams.a.repeat", "finetune") is not None


def test_no_key_of_ours_is_taken_for_one_of_theirs() -> None:
    for job, schema in SCHEMAS.items():
        ours = {dotted(path) for path, _, _ in all_keys(schema)}
        for answer in ANSWERS:
            if job in answer.jobs and answer.model is None and answer.becomes is None:
                assert not [key for key in ours if fnmatchcase(key, answer.key)], answer.key
