from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from genai.data.mds import MDSWriter, write_index
from genai.errors import UsageError
from genai.jobs.data_convert import ConvertRequest
from genai.jobs.data_convert import run as convert
from genai.jobs.data_inspect import InspectRequest, run
from genai.models.tokenizer_training import save_tokenizer, train_tokenizer


@pytest.fixture(autouse=True)
def _seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("genai"), "propagate", True)


def test_shards_of_others_are_shown_as_numbers(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with MDSWriter(str(tmp_path), {"tokens": "ndarray:int32:3"}) as writer:
        writer.write_rows("tokens", np.array([[1, 2, 3], [4, 5, 6]], dtype=np.int32))
    (found,) = run(InspectRequest(references=(str(tmp_path),), samples=1))
    assert found.samples == ("1 2 3",)
    assert found.tokens is not None
    assert (found.tokens.tokens, found.tokens.documents, found.lineage) == (6, None, None)
    assert "name one with --tokenizer" in caplog.text


def test_a_set_without_shards(tmp_path: Path) -> None:
    write_index(str(tmp_path), [])
    with pytest.raises(UsageError, match="the data set holds no shard"):
        run(InspectRequest(references=(str(tmp_path),)))


@pytest.mark.integration
def test_another_tokenizer_does_not_decode(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "a.txt").write_text("The site office opens at seven. " * 20)
    save_tokenizer(train_tokenizer(["office " * 5], vocab_size=264), tmp_path / "one")
    save_tokenizer(train_tokenizer(["opens " * 5], vocab_size=262), tmp_path / "two")
    out = str(tmp_path / "out")
    convert(
        ConvertRequest(
            sources=(str(tmp_path / "a.txt"),), out=out, tokenizer=str(tmp_path / "one"), seq_len=8, workers=1
        )
    )
    (found,) = run(InspectRequest(references=(out,), samples=1))
    assert found.samples == ("The site",)  # its end was dropped with the last row, so that a row is shown
    (tmp_path / "one").rename(tmp_path / "old")
    (tmp_path / "two").rename(tmp_path / "one")
    (found,) = run(InspectRequest(references=(out,), samples=1))
    assert "is no longer the tokenizer that made these tokens" in caplog.text
    (found,) = run(InspectRequest(references=(out,), samples=1, tokenizer=str(tmp_path / "old")))
    assert found.samples == ("The site",)
    assert found.frequent[0][0]
