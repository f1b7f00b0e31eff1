"""Data sets by the `datasets` package, with its readers of local files; no hub is asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from genai.data import hub
from genai.data.faults import DataConfigError
from genai.data.readers import Record
from genai.data.sources import read_records
from genai.errors import GenaiError, MissingExtraError

pytestmark = pytest.mark.integration


@pytest.fixture
def kwargs(tmp_path: Path) -> dict[str, object]:
    (tmp_path / "rows.jsonl").write_text('{"q": "How?"}\n{"q": "Why?"}\n')
    return {"data_files": str(tmp_path / "rows.jsonl"), "cache_dir": str(tmp_path / "cache")}


def test_rows_of_a_split(kwargs: dict[str, object]) -> None:
    assert list(read_records("hf:json", hf_kwargs=kwargs)) == [
        Record(values={"q": "How?"}, source="hf:json[train][1]"),
        Record(values={"q": "Why?"}, source="hf:json[train][2]"),
    ]
    assert len(list(read_records(["hf:json", "hf:json"], split="train[:1]", hf_kwargs=kwargs))) == 2


@pytest.mark.parametrize("split", ["trian", "test"])
def test_unknown_splits(split: str, kwargs: dict[str, object]) -> None:
    with pytest.raises(DataConfigError) as caught:
        list(read_records("hf:json", split=split, hf_kwargs=kwargs))
    assert str(caught.value).startswith(f"hf:json: has no split '{split}' (")
    assert "train" in str(caught.value)
    assert caught.value.key == "dataset.split"


def test_arguments_that_the_job_file_sets_elsewhere() -> None:
    with pytest.raises(DataConfigError) as caught:
        read_records("hf:json", hf_kwargs={"split": "train", "trust_remote_code": True, "data_files": "x"})
    assert [problem.where for problem in caught.value.problems] == ["hf_kwargs.split", "hf_kwargs.trust_remote_code"]
    assert caught.value.key == "dataset.hf_kwargs"


def test_files_that_are_not_there(kwargs: dict[str, object]) -> None:
    with pytest.raises(DataConfigError, match=r"hf:json: .*nowhere"):
        list(read_records("hf:json", hf_kwargs=kwargs | {"data_files": "nowhere.jsonl"}))


def test_arguments_that_a_reader_does_not_know(kwargs: dict[str, object]) -> None:
    with pytest.raises(GenaiError, match="hf:json: ") as caught:
        list(read_records("hf:json", hf_kwargs=kwargs | {"no_such_argument": 1}))
    assert "\n" not in str(caught.value)


def test_offline_the_hub_is_not_asked() -> None:
    with pytest.raises(GenaiError, match=r"hf:nobody/nothing: ") as caught:
        list(read_records("hf:nobody/nothing"))
    assert "\n" not in str(caught.value)


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'genai-foundry\[datasets\]'"):
        hub.check({})
