"""Hashes of golden sets: what changes them, what does not."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from genai.data.faults import DataConfigError
from genai.data.readers import SourceFile
from genai.evaluation.golden import check_hash, hash_of_files, hash_of_rows

ROWS = [{"q": "a", "n": 1}, {"q": "b", "n": 2}, {"q": "a", "n": 1}]


def source(path: Path, text: str) -> SourceFile:
    path.write_text(text)
    return SourceFile(path=path, name=str(path))


def test_one_file_has_the_hash_of_sha256sum(tmp_path: Path) -> None:
    file = source(tmp_path / "a.jsonl", "{}\n")
    assert hash_of_files([file]) == hashlib.sha256(b"{}\n").hexdigest()


def test_several_files_have_one_of_their_own(tmp_path: Path) -> None:
    first, second = source(tmp_path / "a.jsonl", "1"), source(tmp_path / "b.jsonl", "2")
    both = hash_of_files([first, second])
    assert both != hash_of_files([second, first])
    assert both not in (hash_of_files([first]), hash_of_files([second]))
    assert len(both) == 64


def test_rows_in_any_order_and_columns_in_any_order() -> None:
    wanted = hash_of_rows(ROWS)
    assert hash_of_rows([{"n": 2, "q": "b"}, *ROWS[::2]]) == wanted
    assert len(wanted) == 64


@pytest.mark.parametrize("rows", [ROWS[:2], [*ROWS, ROWS[0]], [{"q": "a", "n": "1"}, *ROWS[1:]], []])
def test_a_row_more_or_less_or_another_changes_the_hash(rows: list[dict[str, object]]) -> None:
    assert hash_of_rows(rows) != hash_of_rows(ROWS)


def test_what_the_job_file_wants() -> None:
    found = hashlib.sha256(b"x").hexdigest()
    for wanted in (None, found, found.upper(), found[:8]):
        check_hash(found, wanted, path="faq.jsonl")
    for wanted in (found[:7], found[1:], "0" * 64):
        with pytest.raises(DataConfigError) as refused:
            check_hash(found, wanted, path="faq.jsonl")
        assert refused.value.key == "dataset.sha256"
        assert found in refused.value.message
