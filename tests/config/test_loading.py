from __future__ import annotations

import copy
import logging
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from genai.config.dialect import dump
from genai.config.finetune import FinetuneConfig
from genai.config.loading import Loaded, config_hash, load
from genai.config.training import AdamWConfig, DecoupledLionWConfig
from genai.errors import ConfigError

Write = Callable[..., Path]
SECRET = "hf_" + "aB3" * 11

FULL: dict[str, Any] = {
    "variables": {"length": 512, "lr": 1e-4},
    "run_name": "try-${seed}",
    "seed": 3,
    "max_seq_len": "${variables.length}",
    "model": {
        "name": "hf_causal_lm",
        "pretrained_model_name_or_path": "gallery:tiny",
        "config_overrides": {"attention_dropout": 0.1},
        "peft_config": {"r": 8, "target_modules": ["q_proj", "v_proj"]},
    },
    "tokenizer": {"kwargs": {"padding_side": "right"}},
    "data": {"split": {"validation": 0.2, "group_by": ["topic"]}, "checks": {"min_rows": 5}},
    "train_loader": {"dataset": {"path": ["a.jsonl", "b.jsonl"], "columns": {"prompt": "q"}, "packing_ratio": "auto"}},
    "optimizer": {"name": "decoupled_adamw", "lr": "${variables.lr}", "betas": [0.9, 0.95]},
    "scheduler": {"name": "wsd", "t_warmup": "10ba", "t_decay": "0.1dur"},
    "max_duration": "2ep",
    "callbacks": {"early_stopping": {"patience": 2}, "webhook": {"url": "env:HOOK"}},
    "export": {"formats": ["hf", "gguf"]},
}


def refused(path: Path | str, *overrides: str) -> ConfigError:
    with pytest.raises(ConfigError) as error:
        load(path, FinetuneConfig, overrides)
    return error.value


def test_a_full_job(write: Write) -> None:
    config = load(write(dump(FULL)), FinetuneConfig).config
    assert (config.run_name, config.max_seq_len, config.optimizer.lr) == ("try-3", 512, 1e-4)
    assert config.callbacks.webhook is not None and config.callbacks.webhook.url == "env:HOOK"
    assert config.model.peft_config is not None and config.model.peft_config.target_modules == ["q_proj", "v_proj"]
    with pytest.raises(FrozenInstanceError):
        config.seed = 4  # type: ignore[misc]


def test_defaults_fill_the_rest(write: Write, minimal: str) -> None:
    loaded = load(str(write(minimal)), FinetuneConfig)
    assert loaded.config.optimizer == AdamWConfig()
    assert (loaded.path, loaded.overrides) == (Path("job.yaml"), ())


def test_overrides_win_over_the_file_and_the_file_over_its_base(write: Write, minimal: str) -> None:
    write(minimal + "seed: 1\nmax_seq_len: 64\noptimizer: {name: adamw, lr: 1e-3, eps: 1e-6}\n", "base.yaml")
    path = write("base: base.yaml\nmax_seq_len: 128\noptimizer: {lr: 2e-3}\n")
    loaded = load(path, FinetuneConfig, ["optimizer.eps=1e-5", "train_loader.dataset.max_rows=7"])
    assert loaded.config.optimizer == AdamWConfig(lr=2e-3, eps=1e-5)
    assert {
        key: loaded.origin(key) for key in ["seed", "max_seq_len", "optimizer.lr", "optimizer.eps", "precision"]
    } == {
        "seed": "base base.yaml:6",
        "max_seq_len": "job.yaml:2",
        "optimizer.lr": "job.yaml:3",
        "optimizer.eps": "override",
        "precision": "default",
    }


def test_an_override_can_swap_a_whole_section(write: Write) -> None:
    loaded = load(write(dump(FULL)), FinetuneConfig, ["optimizer={name: decoupled_lionw}"])
    assert loaded.config.optimizer == DecoupledLionWConfig()


def test_locate_and_problem(write: Write, minimal: str) -> None:
    loaded = load(write(minimal), FinetuneConfig, ["optimizer.lr=1e-3"])
    assert loaded.locate("train_loader.dataset.path") == "job.yaml:5:5"
    assert loaded.locate(("train_loader", "dataset", "hf_name")) == "job.yaml:4:3"
    assert loaded.locate("scheduler.t_warmup") == "job.yaml:1:1"
    assert loaded.locate("optimizer.lr") == "override 'optimizer.lr=1e-3'"
    problem = loaded.problem("train_loader.dataset.path", "no such file", "write another")
    assert problem.line() == "job.yaml:5:5: no such file (write another)"


def test_unresolved_keeps_references_and_the_dump_loads_again(write: Write) -> None:
    loaded = load(write(dump(FULL)), FinetuneConfig, ["seed=5"])
    assert loaded.unresolved["run_name"] == "try-${seed}"
    assert loaded.unresolved["callbacks"]["webhook"]["url"] == "env:HOOK"
    again = load(write(loaded.dump(), "again.yaml"), FinetuneConfig)
    assert again.config == loaded.config
    assert again.unresolved == loaded.unresolved


def test_the_hash_is_of_what_the_job_does(write: Write, minimal: str) -> None:
    def hash_of(text: str, *overrides: str) -> str:
        return config_hash(load(write(text), FinetuneConfig, overrides))

    plain_hash = hash_of(minimal)
    assert re.fullmatch("[0-9a-f]{8}", plain_hash)
    assert plain_hash == hash_of(f"# comment\n{minimal}seed: 17\n", "run_name=x", "runs_dir=elsewhere")
    assert plain_hash == hash_of("variables: {}\n" + minimal, "optimizer.name=adamw")
    assert plain_hash != hash_of(minimal, "seed=18")


def test_every_kind_of_fault_is_reported_at_once_in_the_order_of_the_file(write: Write) -> None:
    text = f"""\
    seed: .inf
    model: {{pretrained_model_name_or_path: x, revision: {SECRET}}}
    train_loader: {{dataset: {{pth: x}}}}
    tp_config: {{x: 1}}
    max_duration: ${{variables.x}}
    compile: yes
    """
    error = refused(write(text), "nope", "optimizer.name=sgd")
    assert [problem.where for problem in error.problems] == [
        "job.yaml:1:1",
        "job.yaml:2:43",
        "job.yaml:3:26",
        "job.yaml:4:1",
        "job.yaml:5:1",
        "job.yaml:6:1",
        "override 'nope'",
        "override 'optimizer.name=sgd'",
    ]
    assert SECRET not in str(error) and error.exit_code == 2


def test_contradictions_are_reported_when_the_fields_are_right(write: Write, minimal: str) -> None:
    error = refused(write(minimal + "eval_loader: {dataset: {}}\n"), "device_train_microbatch_size=3")
    assert [problem.where for problem in error.problems] == [
        "job.yaml:6:15",
        "override 'device_train_microbatch_size=3'",
    ]


def test_a_setting_without_effect_is_logged_with_its_place(
    write: Write, minimal: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="genai"):
        load(write(minimal + "    packing_ratio: 9\n"), FinetuneConfig)
    (record,) = caplog.records
    assert record.getMessage().startswith("job.yaml:6:5: train_loader.dataset.packing_ratio has no effect")


@pytest.mark.parametrize(
    "line",
    [
        f"run_name: {SECRET}",
        f"variables: {{x: {SECRET}}}",
        "callbacks: {webhook: {url: 'https://hooks.slack.com/services/T0/B0/xyz'}}",
        "loggers: {mlflow: {tracking_uri: 'https://me:hunter22@host'}}",
        "tokenizer: {kwargs: {token: hunter22}}",
        f"{SECRET}: 1",
        f"max_duration: {SECRET}",
        f"compile: {SECRET}",
    ],
)
def test_a_literal_secret_is_refused_and_not_repeated(write: Write, minimal: str, line: str) -> None:
    error = refused(write(f"{minimal}{line}\n"))
    said = repr([problem.line() for problem in error.problems])
    assert not any(part in said for part in (SECRET, "xyz", "hunter22"))
    if not line.startswith("hf_"):
        assert "holds what looks like a secret" in said and "write env:NAME" in said


def test_a_secret_in_an_override_is_not_repeated(write: Write, minimal: str) -> None:
    error = refused(write(minimal), f"model.revision={SECRET}", f"{SECRET}=1", f"model.{SECRET}")
    assert SECRET not in str(error)


def test_loading_imports_nothing_heavy(write: Write, minimal: str) -> None:
    path = write(minimal + "seed: 3\nrun_name: 'x-${seed}'\n")
    code = (
        "import sys; from genai.config.loading import load; from genai.config.finetune import FinetuneConfig;"
        f"load({str(path)!r}, FinetuneConfig);"
        "print([name for name in ('torch', 'transformers', 'numpy', 'pandas', 'boto3', 'rich') if name in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (ended.stdout.strip(), ended.stderr) == ("[]", "")


# --- whatever the file holds: a config or a ConfigError with places ---------------------------------------------------

PLACE = re.compile(r"(.+:\d+:\d+|override '.*')", re.DOTALL)
FUZZ = settings(max_examples=60, deadline=None, derandomize=True)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "job.yaml"


def load_or_refuse(path: Path, *overrides: str) -> Loaded[FinetuneConfig] | None:
    try:
        return load(path, FinetuneConfig, overrides)
    except ConfigError as error:
        assert error.problems
        for problem in error.problems:
            assert problem.where and PLACE.fullmatch(problem.where), problem
            assert problem.message and "\n" not in problem.line()
            assert not re.search(r"[Ii]nput should|pydantic|Traceback|NoneType", problem.line()), problem
        return None


PIECES = st.sampled_from(
    [
        *(
            "a",
            "model",
            ": ",
            ":",
            "\n",
            "\n  ",
            "- ",
            "[",
            "]",
            "{",
            "}",
            ", ",
            "&x",
            "*x",
            "<<",
            "!!str ",
            "'",
            '"',
            "${",
        ),
        *(
            "#",
            "|",
            ">",
            "%",
            "@",
            "\t",
            "\0",
            "\\",
            "???",
            "---\n",
            "...",
            "null",
            "1e-4",
            "010",
            ".nan",
            "base",
            "é",
            "\ud800",
        ),
    ]
)


@given(st.lists(PIECES, max_size=25).map("".join) | st.text(max_size=60))
@example("base: job.yaml")
@example("a: ${a}")
@FUZZ
def test_random_text(scratch: Path, text: str) -> None:
    scratch.write_bytes(text.encode("utf-8", errors="surrogatepass"))
    load_or_refuse(scratch)


@given(st.binary(max_size=60))
@FUZZ
def test_random_bytes(scratch: Path, data: bytes) -> None:
    scratch.write_bytes(data)
    load_or_refuse(scratch)


@given(
    st.lists(PIECES | st.sampled_from(["=", "optimizer.lr", "model.", ".0", "train_loader"]), max_size=8).map("".join)
)
@FUZZ
def test_random_overrides(scratch: Path, override: str) -> None:
    scratch.write_text(dump(FULL), encoding="utf-8")
    load_or_refuse(scratch, override)


def _keys(value: Any, above: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, item in items:
        yield (*above, name)
        yield from _keys(item, (*above, name))


ODD_VALUES: st.SearchStrategy[Any] = st.sampled_from(
    [
        *(
            None,
            True,
            0,
            -1,
            1.5,
            2**62,
            "",
            "yes",
            "1e-4",
            "x" * 80,
            "${seed}",
            "${variables.nope}",
            "env:X",
            "3 epochs",
        ),
        *("???", [], [1], ["x", None], {}, {"name": "x"}, {"zzz": 1}, [[{"a": []}]], {"name": ["x"]}, {"name": None}),
    ]
)


@given(st.data())
@FUZZ
def test_valid_jobs_with_one_key_changed(scratch: Path, data: st.DataObject) -> None:
    values = copy.deepcopy(FULL)
    *above, name = data.draw(st.sampled_from(list(_keys(FULL))))
    section: Any = values
    for step in above:
        section = section[step]
    how = data.draw(st.sampled_from(["drop", "revalue", "rename", "nest", "move up"]))
    item = section[name] if how in ("revalue", "nest") else section.pop(name)
    if how == "revalue":
        section[name] = data.draw(ODD_VALUES)
    elif how == "nest":
        section[name] = {str(name): item}
    elif how == "rename" and isinstance(section, dict):
        section[data.draw(st.sampled_from([f"{name}s", str(name)[:-1] or "x", "name", "Name", "zzz", "base"]))] = item
    elif how == "move up":
        values[f"{name}"] = item
    scratch.write_text(dump(values), encoding="utf-8")
    load_or_refuse(scratch)


def _checked_keys() -> list[str]:
    """Keys of the full job that the schema knows by name: not positions in lists, not what stands in free sections."""
    free = ("variables", "kwargs", "config_overrides", "columns")
    return [".".join(map(str, key)) for key in _keys(FULL) if isinstance(key[-1], str) and not {*key[:-1]} & {*free}]


@pytest.mark.parametrize("key", _checked_keys())
def test_a_misspelt_key_is_suggested_at_its_place(write: Write, key: str) -> None:
    *above, name = key.split(".")
    values = copy.deepcopy(FULL)
    section = values
    for step in above:
        section = section[step]
    section[f"{name}x"] = section.pop(name)
    path = write(dump(values))
    error = refused(path)
    found = [problem for problem in error.problems if problem.message == f"unknown key '{key}x'"]
    assert [problem.fix for problem in found] == [f"did you mean '{name}'?"]
    line, column = (int(part) for part in (found[0].where or "").split(":")[1:])
    assert path.read_text().splitlines()[line - 1][column - 1 :].startswith(f"{name}x:")
