"""Tables as records: how a job file names them."""

from __future__ import annotations

from typing import Any

import pytest
from fake_tables import open_fake

from genai.data.faults import DataConfigError
from genai.data.readers import Record
from genai.data.sources import read_records
from genai.data.tables import name_of, split_table_reference
from genai.errors import UsageError


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("delta:lake/faq", ("lake/faq", None)),
        ("delta:lake/faq@12", ("lake/faq", 12)),
        ("delta:s3://user@host/faq", ("s3://user@host/faq", None)),
        ("delta:s3://bucket/faq@0", ("s3://bucket/faq", 0)),
    ],
)
def test_references(reference: str, expected: tuple[str, int | None]) -> None:
    assert split_table_reference(reference) == expected


@pytest.mark.parametrize("reference", ["delta:", "delta:faq@newest", "delta:@3"])
def test_references_that_name_no_table(reference: str) -> None:
    with pytest.raises(UsageError, match="names no table"):
        split_table_reference(reference)


def test_records_beside_those_of_files(tmp_path: Any) -> None:
    assert name_of(open_fake("faq", None)) == "delta:faq@7"
    (tmp_path / "rows.jsonl").write_text('{"text": "x"}\n')
    found = list(read_records(["delta:b@3", str(tmp_path / "rows.jsonl"), "delta:a"], open_table=open_fake))
    assert found == [
        Record(values={"text": "row 0 of b"}, source="delta:b@3[1]"),
        Record(values={"text": "row 1 of b"}, source="delta:b@3[2]"),
        Record(values={"text": "x"}, source=f"{tmp_path}/rows.jsonl:1"),
        Record(values={"text": "row 0 of a"}, source="delta:a@7[1]"),
        Record(values={"text": "row 1 of a"}, source="delta:a@7[2]"),
    ]


def test_mistakes() -> None:
    with pytest.raises(DataConfigError, match=r"^delta:nothing: there is no Delta table .name the folder") as caught:
        read_records("delta:nothing", open_table=open_fake)
    assert caught.value.key == "dataset.path"
    with pytest.raises(DataConfigError, match="names no table"):
        read_records("delta:faq@x", open_table=open_fake)
    with pytest.raises(DataConfigError, match="tables cannot be read here"):
        read_records("delta:faq")
