from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from genai.config.annotations import all_keys
from genai.config.foundry import UNKNOWN_NAMES
from genai.config.foundry_keys import KEYS, NAMES
from genai.config.foundry_table import _NOT_HERE, JOBS, render_foundry, status_of
from genai.config.schemas import SCHEMAS
from genai.config.tree import dotted

FILES = Path(__file__).with_name("llm_foundry")


@pytest.mark.parametrize(("title", "keys"), KEYS.items())
def test_every_key_is_answered_by_a_job(title: str, keys: tuple[str, ...]) -> None:
    model = "mpt_causal_lm" if title.endswith("mpt_causal_lm") else None
    for key in keys:
        assert any(status_of(key, job, model=model)[0] != _NOT_HERE for job in JOBS), key


def test_no_key_stands_in_two_blocks() -> None:
    keys = [key for block in KEYS.values() for key in block]
    assert len(keys) == len(set(keys))


def test_the_keys_of_the_public_files_are_in_the_table() -> None:
    known = {key for block in KEYS.values() for key in block}

    def leaves(values: dict[str, object], above: str = "") -> set[str]:
        found = set()
        for name, value in values.items():
            path = f"{above}{name}"
            if isinstance(value, dict) and value and path not in ("variables", "tokenizer.kwargs"):
                found |= leaves(value, f"{path}.")
            else:
                found.add(path.replace("eval_loader", "train_loader"))
        return found

    for file in FILES.glob("*.yaml"):
        for key in leaves(yaml.safe_load(file.read_text())):
            below = {known_key for known_key in known if key == known_key or key.startswith(f"{known_key}.")}
            assert below, f"{file.name}: {key}"


@pytest.mark.parametrize(
    ("key", "job", "status"),
    [
        ("max_duration", "pretrain", "yes"),
        ("train_loader.dataset.streams.NAME.proportion", "pretrain", "yes"),
        ("train_loader.dataset.streams.NAME.remote", "finetune", "yes"),
        ("train_loader.dataset.streams.NAME.proportion", "finetune", "refused"),
        ("fsdp_config.limit_all_gathers", "pretrain", "no effect"),
        ("fsdp_config.sharding_strategy", "pretrain", "yes"),
        ("model.use_flash_attention_2", "finetune", "translated"),
        ("model.peft_config.r", "pretrain", "refused"),
        ("model.d_model", "finetune", _NOT_HERE),
        ("icl_tasks", "finetune", "yes"),
        ("icl_tasks_str", "finetune", "refused"),
    ],
)
def test_status(key: str, job: str, status: str) -> None:
    assert status_of(key, job)[0] == status


def test_a_word_is_taken_or_there_is_a_reason() -> None:
    text = render_foundry()
    rows = [line.split("|")[1:-1] for line in text[text.index("## Names") :].splitlines() if line.startswith("| `")]
    assert len(rows) == sum(map(len, NAMES.values()))
    for _, word, pretrain, finetune, note in rows:
        assert "yes" in pretrain + finetune or note.strip(), word
    named = {word for words in UNKNOWN_NAMES.values() for word in words}
    assert named <= {word for words in NAMES.values() for word in words}


def test_the_table_has_a_row_for_every_key() -> None:
    text = render_foundry().partition("## Names")[0]
    for keys in KEYS.values():
        for key in keys:
            assert text.count(f"| `{key}` |") == 1, key


def test_keys_below_a_stream_are_ours() -> None:
    ours = {dotted(path) for path, _, _ in all_keys(SCHEMAS["pretrain"])}
    assert "train_loader.dataset.streams.NAME.remote" in ours
