import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from genai.embedding.settings import read_modules, read_prompts, read_settings
from genai.errors import DataError, UsageError


def write_json(file: Path, values: object) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(values))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sentence-transformers folder without weights, which nobody looks at here."""
    write_json(tmp_path / "config.json", {"model_type": "bert", "hidden_size": 32, "max_position_embeddings": 64})
    write_json(
        tmp_path / "modules.json",
        [
            {"idx": 0, "path": "", "type": "sentence_transformers.models.Transformer"},
            {"idx": 1, "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
            {"idx": 2, "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
        ],
    )
    write_json(tmp_path / "1_Pooling" / "config.json", {"pooling_mode_mean_tokens": True})
    return tmp_path


def test_a_whole_folder(folder: Path) -> None:
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": 40, "do_lower_case": True})
    write_json(folder / "config_sentence_transformers.json", {"prompts": {"query": "q: ", "passage": "p: "}})
    found = read_settings(folder)
    assert found.transformer == folder
    assert (found.width, found.max_length, found.max_positions, found.pad_token_id) == (32, 40, 64, 0)
    assert (found.pooling, found.lowercase, found.dense) == ("mean", True, ())
    assert (found.query_prompt, found.document_prompt) == ("q: ", "p: ")


def test_a_folder_of_transformers_alone(tmp_path: Path) -> None:
    write_json(tmp_path / "config.json", {"model_type": "t5", "d_model": 16})
    found = read_settings(tmp_path)
    assert (found.width, found.max_length, found.max_positions, found.pooling) == (16, 512, None, None)
    assert (found.query_prompt, found.document_prompt, found.lowercase) == ("", "", False)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode_lasttoken": True}, "last_token"),
        ({"pooling_mode_max_tokens": True}, "max"),
        ({"pooling_mode": "mean"}, "mean"),
        ({"pooling_mode": "lasttoken"}, "last_token"),
    ],
)
def test_poolings(folder: Path, values: dict[str, Any], expected: str) -> None:
    write_json(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": 32, **values})
    assert read_settings(folder).pooling == expected


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}, "cls_token, pooling_mode_mean_tokens"),
        ({"pooling_mode_weightedmean_tokens": True}, "weightedmean"),
        ({}, "none"),
    ],
)
def test_poolings_that_genai_has_not(folder: Path, values: dict[str, Any], named: str) -> None:
    write_json(folder / "1_Pooling" / "config.json", values)
    with pytest.raises(UsageError, match=f"pools in a way that genai cannot: .*{named}"):
        read_settings(folder)


def test_a_pooling_without_the_prompt_is_refused_where_there_is_one(folder: Path) -> None:
    write_json(folder / "1_Pooling" / "config.json", {"pooling_mode": "mean", "include_prompt": False})
    assert read_settings(folder).pooling == "mean"
    write_json(folder / "config_sentence_transformers.json", {"prompts": {"query": "Q: "}})
    with pytest.raises(UsageError, match="leaves the prompt out"):
        read_settings(folder)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, ("", "")),
        ({"prompts": {"query": "q", "document": ""}, "default_prompt_name": "query"}, ("q", "")),
        ({"prompts": {"query": "q", "sts": "s"}, "default_prompt_name": "sts"}, ("q", "s")),
        ({"prompts": {"corpus": "c", "document": "d"}, "default_prompt_name": None}, ("", "d")),
        ({"prompts": None}, ("", "")),
    ],
)
def test_prompts(tmp_path: Path, values: dict[str, Any], expected: tuple[str, str]) -> None:
    write_json(tmp_path / "config_sentence_transformers.json", values)
    assert read_prompts(tmp_path) == expected


@pytest.mark.parametrize(
    ("config", "tokenizer", "expected"),
    [
        ({"max_position_embeddings": 512}, {"model_max_length": 128}, 128),
        ({"max_position_embeddings": 100}, {"model_max_length": 512}, 100),
        ({"max_position_embeddings": 8192}, {"model_max_length": 10**30}, 8192),
        ({"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 1}, {}, 512),
        ({}, {}, 512),
    ],
)
def test_the_longest_input(tmp_path: Path, config: dict[str, Any], tokenizer: dict[str, Any], expected: int) -> None:
    write_json(tmp_path / "config.json", {"hidden_size": 8, **config})
    write_json(tmp_path / "tokenizer_config.json", tokenizer)
    assert read_settings(tmp_path).max_length == expected


def test_the_last_layer_says_the_width(folder: Path) -> None:
    listed = json.loads((folder / "modules.json").read_text())
    listed.insert(2, {"idx": 2, "path": "2_Dense", "type": "sentence_transformers.models.Dense"})
    write_json(folder / "modules.json", listed)
    write_json(folder / "2_Dense" / "config.json", {"in_features": 32, "out_features": 12})
    found = read_settings(folder)
    assert found.width == 12
    assert found.dense == (folder / "2_Dense",)


def test_the_transformer_may_lie_in_a_folder_of_its_own(folder: Path) -> None:
    write_json(folder / "modules.json", [{"path": "0_Transformer", "type": "sentence_transformers.models.Transformer"}])
    (folder / "0_Transformer").mkdir()
    (folder / "config.json").rename(folder / "0_Transformer" / "config.json")
    assert read_settings(folder).transformer == folder / "0_Transformer"


@pytest.mark.parametrize(
    ("listed", "said"),
    [
        ([{"path": "", "type": "a.Transformer"}, {"path": "1", "type": "a.CNN"}], "genai cannot run: CNN"),
        ([{"path": "", "type": "a.Pooling"}], "genai cannot run: Pooling"),
    ],
)
def test_parts_that_genai_cannot_run(tmp_path: Path, listed: object, said: str) -> None:
    write_json(tmp_path / "modules.json", listed)
    with pytest.raises(UsageError, match=said):
        read_modules(tmp_path)


@pytest.mark.parametrize(
    "listed", ["{", "[]", "{}", "[1]", '[{"type": "Transformer", "path": "../x"}]', '[{"type": "T", "path": "/x"}]']
)
def test_damaged_modules(tmp_path: Path, listed: str) -> None:
    (tmp_path / "modules.json").write_text(listed)
    with pytest.raises(DataError, match=r"modules\.json"):
        read_modules(tmp_path)


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (lambda folder: (folder / "config.json").unlink(), r"config\.json is missing"),
        (lambda folder: (folder / "config.json").write_text("[]"), "no JSON object"),
        (lambda folder: (folder / "config.json").write_text("{}"), "how long the vectors are"),
        (lambda folder: (folder / "1_Pooling" / "config.json").unlink(), r"config\.json is missing"),
    ],
)
def test_damaged_folders(folder: Path, break_it: Callable[[Path], object], said: str) -> None:
    break_it(folder)
    with pytest.raises(DataError, match=said):
        read_settings(folder)
