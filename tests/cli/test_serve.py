"""`genai serve` as it is typed; servers that run are in tests/jobs/test_serve.py."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Genai = Callable[..., Any]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "a job file is missing"),
        (("serve.yml",), "no such file"),
        (("gallery:smollm",), "no model 'smollm' in the gallery"),
        (("runs:nothing",), "nothing"),
        (("./nowhere",), "nowhere"),
        (("listen.port=1", "serve.yaml"), "stands before the job file"),
        (("gallery:smollm2-135m-instruct", "listen.prt=1"), "did you mean 'port'?"),
    ],
)
def test_a_usage_error_is_one_line(
    words: tuple[str, ...], says: str, genai: Genai, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = genai("serve", *words)
    assert ended.code == 2
    assert ended.out == ""
    assert ended.err.count("\n") == 1, ended.err
    assert says in ended.err


@pytest.mark.integration
def test_a_dry_run_prints_the_plan_and_starts_nothing(genai: Genai) -> None:
    ended = genai("serve", "gallery:smollm2-135m-instruct", "listen.port=0", "--dry-run", "--json")
    assert ended.code == 0, ended.err
    plan = json.loads(ended.out)
    (model,) = plan["models"]
    assert model["name"] == "smollm2-135m-instruct"
    assert plan["fits"]
    assert plan["needed_bytes"] > sum(plan["memory"][0]["parts"].values()) > 400 << 20


@pytest.mark.integration
def test_what_does_not_fit_is_refused_with_its_parts(genai: Genai) -> None:
    ended = genai("serve", "gallery:smollm2-135m-instruct", "memory.limit=100mb", "--dry-run")
    assert ended.code == 2
    assert "the models do not fit into memory" in ended.err
    assert "smollm2-135m-instruct" in ended.err
