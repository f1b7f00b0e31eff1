"""Faults in what a job file says about its data end with exit code 2 and name the key."""

from __future__ import annotations

from genai.data.faults import DataConfigError, data_fault
from genai.errors import Problem, UsageError


def test_one_and_several() -> None:
    error = data_fault("no such file", key="dataset.path", where="a.jsonl", fix="did you mean 'b.jsonl'?")
    assert isinstance(error, UsageError)
    assert (error.exit_code, error.code, error.key) == (2, "config", "dataset.path")
    assert str(error) == "a.jsonl: no such file (did you mean 'b.jsonl'?)"
    several = DataConfigError([Problem(message="a"), Problem(message="b", where="c")], key="dataset.path")
    assert str(several) == "a\nc: b"
