"""Running the command line inside the test process."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from genai import log
from genai_cli.main import main


@dataclass(frozen=True)
class Ended:
    """How a command line ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def genai(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Run `genai WORDS...` and tell how it ended."""

    def run(*words: str) -> Ended:
        capsys.readouterr()
        code = main([str(word) for word in words])
        captured = capsys.readouterr()
        return Ended(code, captured.out, captured.err)

    return run


@pytest.fixture(autouse=True)
def _logging_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    logger = logging.getLogger("genai")
    before = list(logger.handlers), logger.level, logger.propagate
    monkeypatch.setattr(log, "_factory", log._factory)
    yield
    logger.handlers[:], logger.level, logger.propagate = before
