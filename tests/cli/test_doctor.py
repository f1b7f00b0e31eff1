from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from genai import __version__
from genai_cli import doctor


@pytest.fixture
def versions(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Pretend that exactly these distributions are installed."""

    def pretend(**installed: str) -> None:
        def version(name: str) -> str:
            if name.replace("-", "_") not in installed:
                raise importlib.metadata.PackageNotFoundError(name)
            return installed[name.replace("-", "_")]

        monkeypatch.setattr(importlib.metadata, "version", version)

    return pretend


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home without credentials."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("HF_TOKEN", "HF_HOME", "WANDB_API_KEY", "MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def _present() -> set[str]:
    return {name for name, present in doctor.CREDENTIALS.items() if present()}


@pytest.mark.integration
def test_this_machine(genai: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_do-not-print-me")
    found = genai("doctor", "--json")
    assert found.code == 0
    data = found.json
    assert data["environment"]["genai"] == __version__
    assert data["environment"]["num_cores"] >= 1
    assert data["torch"]["import_s"] >= 0
    assert data["extras"]["train"] == {"installed": True, "missing": []}
    assert data["disk"]["here"]["free_bytes"] > 0
    assert data["credentials"]["hugging face"] is True
    assert data["offline"] == ["HF_HUB_OFFLINE"]
    text = genai("doctor").out
    assert f"genai         {__version__}, Python 3." in text
    assert "devices       " in text
    assert "credentials   hugging face: present" in text
    assert "do-not-print-me" not in text + json.dumps(data)


def test_without_torch_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, genai: Callable[..., Any]) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "torch         not installed (pip install 'genai-foundry[train]')" in genai("doctor").out


def test_extras_name_what_is_missing_or_too_old(versions: Callable[..., None]) -> None:
    versions(boto3="1.99", datasets="1.0")
    extras = {extra.name: extra for extra in doctor.find_extras()}
    assert extras["s3"].installed
    assert not extras["datasets"].installed
    assert extras["datasets"].missing[0].startswith("datasets")
    assert {item.partition(">")[0].partition("<")[0] for item in extras["train"].missing} >= {"torch", "peft"}


@pytest.mark.parametrize(
    ("installed", "expected"),
    [
        (
            {"mosaicml": "0.32.1", "torch": "2.13.0"},
            "mosaicml 0.32.1 with torch 2.13.0: mosaicml up to 0.32 is made for",
        ),
        ({"torch": "2.13.0+cpu", "numpy": "1.26.4"}, "torch 2.13.0+cpu with numpy 1.26.4: torch from 2.9 on"),
        ({"torch": "2.13.0", "numpy": "2.4.6"}, None),
        ({"mosaicml": "0.32.1"}, None),
    ],
)
def test_known_bad_pairs(installed: dict[str, str], expected: str | None, versions: Callable[..., None]) -> None:
    versions(**installed)
    found = list(doctor.find_bad_pairs())
    assert len(found) == (expected is not None)
    assert expected is None or found[0].startswith(expected)


def test_no_credentials_in_an_empty_home(home: Path) -> None:
    assert _present() == set()


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        ({"HF_TOKEN": "x"}, "hugging face"),
        ({"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y"}, "s3"),
        ({"WANDB_API_KEY": "x"}, "weights & biases"),
        ({"MLFLOW_TRACKING_TOKEN": "x"}, "mlflow"),
    ],
)
def test_credentials_from_the_environment(
    environment: dict[str, str], name: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    assert _present() == {name}


@pytest.mark.parametrize(
    ("path", "name"),
    [(".cache/huggingface/token", "hugging face"), (".aws/credentials", "s3"), (".netrc", "weights & biases")],
)
def test_credentials_from_files(path: str, name: str, home: Path) -> None:
    (home / path).parent.mkdir(parents=True, exist_ok=True)
    (home / path).write_text("machine api.wandb.ai login user password x")
    assert _present() == {name}


def test_a_machine_without_compiler_and_memory_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    small = {"memory_limit_bytes": 2_000_000_000, "memory_bytes": 64_000_000_000}
    assert [line.partition(":")[0] for line in doctor._small_things(small)] == [
        "only 2.0 GB of memory",
        "no C++ compiler",
    ]
