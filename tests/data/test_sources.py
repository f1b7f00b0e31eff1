"""References: files, folders, patterns, lists; what leads nowhere is named with the nearest thing that exists."""

from __future__ import annotations

from pathlib import Path

import pytest

from genai.data.faults import DataConfigError
from genai.data.readers import Record
from genai.data.sources import find_files, read_records
from genai.storage import open_store


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """data/{a.jsonl,b.csv,sub/c.jsonl,.hidden.jsonl,notes.txt} in the working folder."""
    monkeypatch.chdir(tmp_path)
    data = tmp_path / "data"
    (data / "sub").mkdir(parents=True)
    (data / "a.jsonl").write_text('{"n": 1}\n{"n": 2}\n')
    (data / "b.csv").write_text("n\n3\n")
    (data / "sub" / "c.jsonl").write_text('{"n": 4}\n')
    (data / ".hidden.jsonl").write_text('{"n": 5}\n')
    (data / "notes.txt").write_text("no data")
    return data


def numbers(path: str | list[str]) -> list[int]:
    records = list(read_records(path))
    return [int(record.values["n"]) for record in records if isinstance(record, Record)]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("data/a.jsonl", [1, 2]),
        ("data", [1, 2, 3, 4]),
        ("data/", [1, 2, 3, 4]),
        ("data/*.jsonl", [1, 2]),
        ("data/**/*.jsonl", [1, 2, 4]),
        (["data/sub", "data/a.jsonl"], [4, 1, 2]),
    ],
)
def test_what_is_read(path: str | list[str], expected: list[int], folder: Path) -> None:
    assert numbers(path) == expected


def test_absolute_paths_and_file_urls(folder: Path) -> None:
    assert numbers(str(folder / "a.jsonl")) == numbers(f"file://{folder}/a.jsonl") == [1, 2]


def test_a_name_with_brackets_is_no_pattern(folder: Path) -> None:
    (folder / "rows[1].jsonl").write_text('{"n": 6}\n')
    assert numbers("data/rows[1].jsonl") == [6]


def test_places_are_named_as_the_user_wrote_them(folder: Path) -> None:
    sources = [record.source for record in read_records("data")]
    assert sources == ["data/a.jsonl:1", "data/a.jsonl:2", "data/b.csv:2", "data/sub/c.jsonl:1"]


@pytest.mark.parametrize(
    ("reference", "line"),
    [
        ("data/a.json", "data/a.json: no such file or folder (did you mean 'data/a.jsonl'?)"),
        ("dta/a.jsonl", "dta/a.jsonl: there is no 'dta' in {cwd} (did you mean 'data/a.jsonl'?)"),
        ("nowhere.jsonl", "nowhere.jsonl: no such file or folder"),
        ("HuggingFaceH4/no_robots", "hub"),
        (
            "gallry:construction-faq-en",
            "gallry:construction-faq-en: no such file (did you mean 'gallery:construction-faq-en'?)",
        ),
        ("data/*.parquet", "data/*.parquet: no file matches this pattern"),
        ("empty", "empty: the folder holds no .csv, .json, .jsonl, .ndjson, .parquet, .tsv files"),
        ("gallery:construction-faq-e", "gallery:construction-faq-e: no such data set in the gallery"),
    ],
)
def test_references_that_lead_nowhere(reference: str, line: str, folder: Path) -> None:
    (folder.parent / "empty").mkdir()
    with pytest.raises(DataConfigError) as caught:
        read_records(reference)
    if line == "hub":
        assert "for a data set of the Hugging Face hub write hf:HuggingFaceH4/no_robots" in str(caught.value)
    else:
        assert str(caught.value).startswith(line.format(cwd=folder.parent))
    assert (caught.value.key, caught.value.exit_code) == ("dataset.path", 2)


def test_all_of_them_are_named_before_anything_is_read(folder: Path) -> None:
    with pytest.raises(DataConfigError) as caught:
        read_records(["data/x.jsonl", "data/a.jsonl", "data/y.jsonl"])
    assert [problem.where for problem in caught.value.problems] == ["data/x.jsonl", "data/y.jsonl"]


def test_find_files_keeps_the_references_apart(folder: Path) -> None:
    found = find_files(["data/*.csv", "data/sub"])
    assert {ref: [file.name for file in files] for ref, files in found.items()} == {
        "data/*.csv": ["data/b.csv"],
        "data/sub": ["data/sub/c.jsonl"],
    }


@pytest.mark.integration
def test_a_bucket(folder: Path, s3_bucket: str) -> None:
    store = open_store(s3_bucket)
    for name in ("a.jsonl", "b.csv", "sub/c.jsonl"):
        store.upload(f"rows/{name}", folder / name)
    assert numbers(f"{s3_bucket}/rows/a.jsonl") == [1, 2]
    assert numbers(f"{s3_bucket}/rows") == [1, 2, 3, 4]
    assert numbers(f"{s3_bucket}/rows/**/*.jsonl") == [1, 2, 4]
    for reference in (f"{s3_bucket}/rows", f"{s3_bucket}/rows/", f"{s3_bucket}/rows/**/*"):
        sources = [record.source for record in read_records(reference)]
        assert sources[-2:] == [f"{s3_bucket}/rows/b.csv:2", f"{s3_bucket}/rows/sub/c.jsonl:1"]
    assert next(record.source for record in read_records(f"{s3_bucket}/rows/a.jsonl")) == f"{s3_bucket}/rows/a.jsonl:1"
    with pytest.raises(DataConfigError, match=r"nothing\.jsonl"):
        read_records(f"{s3_bucket}/nothing.jsonl")
