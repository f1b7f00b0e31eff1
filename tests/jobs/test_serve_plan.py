"""`genai serve --dry-run`: what would be served and what it takes, or why it would not start."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from index_jobs import make_word_model

from genai.config.loading import load
from genai.config.serve import ServeConfig
from genai.errors import ConfigError
from genai.jobs.serve_plan import ServePlan, make_plan


@pytest.fixture
def place(tmp_path: Path, tiny_material: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "model").symlink_to(tiny_material / "model")
    make_word_model(tmp_path / "words")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def plan(place: Path, **sections: Any) -> ServePlan:
    path = place / "serve.yaml"
    endpoints = {
        "chat": {"type": "model", "model": "./model"},
        "lazy": {"type": "model", "model": "./model", "load": "lazy"},
        "words": {"type": "encoder", "embedding": {"model": "./words"}},
    }
    path.write_text(json.dumps({"endpoints": endpoints, **sections}))
    return make_plan(load(path, ServeConfig))


def test_a_plan_has_models_and_their_parts(place: Path) -> None:
    made = plan(place, listen={"workers": 2})
    assert made.fits
    assert [card.name for card in made.models] == ["chat", "lazy", "words"]
    assert made.models[0].max_model_len == 256
    chat, lazy, words = made.memory
    assert set(chat.parts) == {"weights", "keys and values", "a step", "adapters"}
    assert chat.parts["weights"] > 0
    assert lazy.is_lazy
    assert made.needed_bytes == made.processes_bytes + chat.total_bytes + lazy.total_bytes + words.total_bytes
    told = json.loads(json.dumps(made.to_json()))
    assert told["fits"] is True
    text = made.text()
    for said in ("chat", "lazy", "words", "http://127.0.0.1:8080"):
        assert said in text


def test_more_than_fits_is_one_line_with_its_place(place: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        plan(place, memory={"limit": "100mb"})
    (problem,) = caught.value.problems
    assert "serve.yaml:1:" in problem.line()
    assert "the models do not fit into memory" in problem.message
    assert "chat " in problem.message


def test_all_that_cannot_be_served_is_told_at_once(place: Path) -> None:
    endpoints = {
        "one": {"type": "model", "model": "./words"},
        "two": {"type": "model", "model": "./model", "engine": {"max_model_len": 100_000}},
    }
    with pytest.raises(ConfigError) as caught:
        plan(place, endpoints=endpoints)
    lines = [problem.line() for problem in caught.value.problems]
    assert len(lines) == 2
    assert "max_model_len: 100000 is more than" in lines[1]
