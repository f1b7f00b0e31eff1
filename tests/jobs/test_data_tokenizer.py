from __future__ import annotations

import json
from pathlib import Path

import pytest

from genai.errors import DataError, UsageError
from genai.jobs.data_tokenizer import TokenizerRequest, run

pytestmark = pytest.mark.integration


def _lines(path: Path, texts: list[str]) -> str:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return str(path)


def test_a_share_of_the_text_is_enough(tmp_path: Path) -> None:
    source = _lines(tmp_path / "a.jsonl", [f"document {number} of many" for number in range(200)])
    whole = run(TokenizerRequest(sources=(source,), out=tmp_path / "whole", vocab_size=280))
    part = run(TokenizerRequest(sources=(source,), out=tmp_path / "part", vocab_size=280, max_bytes=1000))
    assert whole.documents == 200
    assert 20 <= part.documents <= 60
    assert whole.vocab_size == 280
    assert whole.text_bytes == whole.sample_bytes == sum(len(f"document {n} of many") for n in range(200))
    assert 1 < whole.bytes_per_token < 10


def test_no_text_and_a_folder_that_is_there(tmp_path: Path) -> None:
    source = _lines(tmp_path / "a.jsonl", [])
    (tmp_path / "b.jsonl").write_text('{"text": 1}\n')
    with pytest.raises(UsageError, match="nothing to convert"):
        run(TokenizerRequest(sources=(source,), out=tmp_path / "t", vocab_size=280))
    with pytest.raises(DataError, match="there is no text in it"):
        run(TokenizerRequest(sources=(str(tmp_path / "b.jsonl"),), out=tmp_path / "t", vocab_size=280))
    with pytest.raises(UsageError, match="already exists"):
        run(TokenizerRequest(sources=(source,), out=tmp_path, vocab_size=280))
