from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
CONFIGS = sorted(
    str(file.relative_to(REPOSITORY / "configs").with_suffix("")) for file in (REPOSITORY / "configs").rglob("*.yaml")
)
STORIES = sorted(readme.parent.name for readme in (REPOSITORY / "recipes").glob("*/README.md"))


def test_everything_that_is_shipped_is_listed(genai: Callable[..., Any]) -> None:
    listed = genai("recipes", "ls", "--json").json["recipes"]
    assert [item["name"] for item in listed] == [*STORIES, *CONFIGS]
    assert {item["name"] for item in listed if item["kind"] == "story"} == set(STORIES)
    assert all(len(item["title"]) > 10 for item in listed)
    text = genai("recipes", "ls").out
    assert all(name in text for name in [*STORIES, *CONFIGS])


@pytest.mark.parametrize("name", CONFIGS)
def test_a_config_is_shown_and_copied(name: str, genai: Callable[..., Any], tmp_path: Path) -> None:
    text = (REPOSITORY / "configs" / f"{name}.yaml").read_text()
    assert genai("recipes", "show", name).out == text
    ended = genai("recipes", "cp", name, tmp_path)
    copy = tmp_path / f"{Path(name).name}.yaml"
    assert copy.read_text() == text
    assert f"next: genai {name.partition('/')[0]} {copy} --dry-run" in ended.out


@pytest.mark.parametrize("name", STORIES)
def test_a_story_is_shown_and_copied_whole(name: str, genai: Callable[..., Any], tmp_path: Path) -> None:
    folder = REPOSITORY / "recipes" / name
    files = {str(file.relative_to(folder)): file for file in folder.rglob("*") if file.is_file()}
    shown = genai("recipes", "show", name, "--json").json["files"]
    assert shown == {path: file.read_text() for path, file in files.items()}
    ended = genai("recipes", "cp", name, tmp_path / "copy", "--json")
    assert sorted(ended.json["files"]) == sorted(str(tmp_path / "copy" / path) for path in files)
    for path, file in files.items():
        copy = tmp_path / "copy" / path
        assert copy.read_bytes() == file.read_bytes()
        assert os.access(copy, os.X_OK) == (copy.suffix == ".sh")


def test_nothing_is_overwritten(genai: Callable[..., Any], tmp_path: Path) -> None:
    name = CONFIGS[0]
    copy = tmp_path / f"{Path(name).name}.yaml"
    copy.write_text("mine")
    ended = genai("recipes", "cp", name, tmp_path)
    assert ended.code == 2
    assert f"error: {copy}: would overwrite a file" in ended.err
    assert copy.read_text() == "mine"


@pytest.mark.parametrize("verb", [["show"], ["cp"]])
def test_an_unknown_name_is_suggested(verb: list[str], genai: Callable[..., Any], tmp_path: Path) -> None:
    target = [str(tmp_path)] if verb == ["cp"] else []
    ended = genai("recipes", *verb, "finetune/quikstart", *target)
    assert ended.code == 2
    assert "did you mean 'finetune/quickstart'?" in ended.err
    assert "known:" in genai("recipes", *verb, "zzz", *target).err
