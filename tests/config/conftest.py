"""Job files to load in tests."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

MINIMAL = """\
model:
  pretrained_model_name_or_path: gallery:tiny
train_loader:
  dataset:
    path: data/train.jsonl
"""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Write a file into an empty working directory; its relative path."""
    monkeypatch.chdir(tmp_path)

    def write_file(text: str | bytes, name: str = "job.yaml") -> Path:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        data = text if isinstance(text, bytes) else textwrap.dedent(text).encode()
        path.write_bytes(data)
        return path

    return write_file


@pytest.fixture
def minimal() -> str:
    """The shortest valid fine-tuning job."""
    return MINIMAL
