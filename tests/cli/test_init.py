from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml


def test_the_project_is_written_with_its_next_steps(genai: Callable[..., Any], tmp_path: Path) -> None:
    ended = genai("init", tmp_path / "bikes")
    assert ended.code == 0
    written = {str(path.relative_to(tmp_path / "bikes")) for path in (tmp_path / "bikes").rglob("*") if path.is_file()}
    assert written == {
        ".github/workflows/genai.yml",
        ".gitignore",
        "README.md",
        "configs/finetune/support.yaml",
        "data/support.jsonl",
    }
    assert all(f"wrote {tmp_path / 'bikes' / path}\n" in ended.out for path in written)
    assert f"  cd {tmp_path / 'bikes'}\n  genai finetune configs/finetune/support.yaml --dry-run\n" in ended.out


def test_here_is_the_default(genai: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ended = genai("init", "--json").json
    assert ended["next"][0] == "genai finetune configs/finetune/support.yaml --dry-run"
    assert all((tmp_path / file).is_file() for file in ended["files"])


def test_nothing_is_overwritten(genai: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine")
    ended = genai("init", tmp_path)
    assert ended.code == 2
    assert ended.err.startswith(f"error: {tmp_path}/README.md: would overwrite a file")
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]
    assert (tmp_path / "README.md").read_text() == "mine"


def test_a_file_in_the_way_is_named(genai: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "bikes").touch()
    assert genai("init", tmp_path / "bikes").code == 2


def test_the_job_file_is_valid_and_commented(
    genai: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    genai("init", tmp_path)
    monkeypatch.chdir(tmp_path)
    ended = genai("config", "validate", "configs/finetune/support.yaml")
    assert ended.code == 0, ended.err
    assert Path("configs/finetune/support.yaml").read_text().count("#") > 12


def test_the_rows_are_good_enough_to_train_on(genai: Callable[..., Any], tmp_path: Path) -> None:
    genai("init", tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "data/support.jsonl").read_text().splitlines()]
    assert len(rows) >= 40
    assert len({row["prompt"] for row in rows}) == len(rows)
    assert all(row.keys() == {"prompt", "response"} and len(row["response"]) > 40 for row in rows)


def test_the_workflow_checks_every_job_file(genai: Callable[..., Any], tmp_path: Path) -> None:
    genai("init", tmp_path)
    workflow = yaml.safe_load((tmp_path / ".github/workflows/genai.yml").read_text())
    commands = [step["run"] for step in workflow["jobs"]["check"]["steps"] if "run" in step]
    assert commands[-1] == 'for file in configs/*/*.yaml; do genai config validate "$file"; done'


@pytest.mark.slow
def test_the_project_trains_as_it_is(
    genai: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    genai("init", tmp_path)
    monkeypatch.chdir(tmp_path)
    ended = genai("finetune", "configs/finetune/support.yaml", "--json")
    assert ended.code == 0, ended.err
    losses = ended.json["losses"]
    assert losses["after"] < 0.8 * losses["before"]
    assert "support-" in genai("runs", "ls").out
