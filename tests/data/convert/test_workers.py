from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from genai.data.convert.inputs import Inputs
from genai.data.convert.parts import PartResult, Work
from genai.data.convert.pieces import Part
from genai.data.convert.workers import convert_parts
from genai.errors import CredentialsError, DataError, GenaiError

pytestmark = pytest.mark.integration
Prepare = Callable[..., tuple[Work, Inputs]]


@dataclass(frozen=True, kw_only=True)
class Failing(Work):
    """Work that goes wrong at the second part."""

    how: str

    def convert(self, part: Part, report: Any) -> PartResult:
        if part.index == 1 and self.how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if part.index == 1:
            error = CredentialsError if self.how == "credentials" else DataError
            raise error("the disk is gone", where="part 1", fix="buy another")
        return super().convert(part, report)


@pytest.mark.parametrize(
    ("how", "kind", "message"),
    [
        ("data", DataError, r"part 1: the disk is gone \(buy another\)"),
        ("credentials", CredentialsError, "the disk is gone"),
        ("killed", GenaiError, "a worker process was killed"),
    ],
)
def test_what_goes_wrong_in_a_worker_is_told(
    how: str, kind: type[GenaiError], message: str, prepare: Prepare, lines: Callable[..., Path]
) -> None:
    work, inputs = prepare(lines(["x" * 60] * 12))
    failing = Failing(reader=work.reader, out=work.out, tokenizer_json=work.tokenizer_json, how=how)
    with pytest.raises(kind, match=message):
        list(convert_parts(failing, inputs.parts, num_workers=2, progress=lambda _: None))


def test_progress_is_told_from_all_workers(prepare: Prepare, lines: Callable[..., Path]) -> None:
    work, inputs = prepare(lines(["x" * 60] * 12))
    told: list[int] = []
    results = list(convert_parts(work, inputs.parts, num_workers=2, progress=told.append))
    assert sorted(result.index for result in results) == [part.index for part in inputs.parts]
    assert sum(told) == 60 * 12
