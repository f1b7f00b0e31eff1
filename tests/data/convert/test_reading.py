from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from genai.data.convert.inputs import HubOptions, Inputs, find_inputs
from genai.data.convert.reading import Document, Reader, fit_to_records
from genai.data.convert.settings import ConvertSettings
from genai.data.faults import DataConfigError
from genai.data.rows import BadRow


class NoTable:
    def __call__(self, uri: str, version: int | None) -> Any:
        raise AssertionError(uri)


Open = Callable[..., tuple[Reader, Inputs]]


@pytest.fixture
def opened(tmp_path: Path) -> Open:
    """opened({"name": content}, text=..., **settings): a reader that was fitted to files."""

    def open_files(files: dict[str, Any], *, text: str | None = None, **settings: Any) -> tuple[Reader, Inputs]:
        for name, content in files.items():
            lines = content if isinstance(content, str) else "\n".join(map(json.dumps, content))
            (tmp_path / name).write_text(lines)
        hub_options = HubOptions()
        references = [str(tmp_path / name) for name in files]
        inputs = find_inputs(references, part_bytes=1 << 20, hub_options=hub_options, open_table=NoTable())
        wanted = ConvertSettings(**{"target": "tokens", **settings})
        reader = Reader(inputs=inputs.inputs, settings=wanted, hub_options=hub_options, open_table=NoTable())
        return replace(reader, settings=fit_to_records(reader, inputs, text_column=text)), inputs

    return open_files


def _documents(opened: tuple[Reader, Inputs]) -> list[Document | BadRow]:
    reader, inputs = opened
    return [item for part in inputs.parts for piece in part.pieces for item in reader.documents(piece)]


def test_texts_of_all_kinds_of_files(opened: Open) -> None:
    files = {"a.jsonl": [{"text": "one"}, {"text": "two"}], "b.csv": "text,n\nthree,3\n", "c.md": "# four\n"}
    texts = [item.text for item in _documents(opened(files)) if isinstance(item, Document)]
    assert texts == ["one", "two", "three", "# four"]


def test_what_is_wrong_has_file_and_line(opened: Open, tmp_path: Path) -> None:
    rows = '{"text": "good"}\n{"text": 3}\n{"body": "x"}\nno json\n'
    found = _documents(opened({"a.jsonl": rows}))
    assert [(item.source, item.reason) for item in found if isinstance(item, BadRow)] == [
        (f"{tmp_path}/a.jsonl:2", "'text' is no text"),
        (f"{tmp_path}/a.jsonl:3", "has no 'text'"),
        (f"{tmp_path}/a.jsonl:4", "is no JSON: expecting value, column 1"),
    ]


def test_a_column_of_another_name(opened: Open) -> None:
    files = {"a.jsonl": [{"body": "one", "text": "not this"}]}
    (found,) = _documents(opened(files, text="body"))
    assert isinstance(found, Document)
    assert found.text == "one"


@pytest.mark.parametrize(
    ("row", "text", "message"),
    [
        ({"body": "x", "n": 1}, None, r"no column 'text'; the columns are body, n \(say which: --text body\)"),
        ({"texts": "x"}, None, "--text texts"),
        ({"zzz": "x"}, None, "--text COLUMN"),
        ({"text": "x"}, "txt", r"there is no column 'txt' \(did you mean 'text'\?\)"),
    ],
)
def test_columns_that_are_not_there(row: dict[str, Any], text: str | None, message: str, opened: Open) -> None:
    with pytest.raises(DataConfigError, match=message):
        opened({"a.jsonl": [row]}, text=text)


def test_rows_keep_what_is_said(opened: Open) -> None:
    tools = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    rows = [{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "tools": tools}]
    reader, inputs = opened({"a.jsonl": rows}, target="rows")
    assert reader.settings.mds_columns == {"messages": "json", "tools": "json"}
    (found,) = _documents((reader, inputs))
    assert isinstance(found, Document)
    assert found.sample == {
        "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}],
        "tools": tools,
    }


@pytest.mark.parametrize(
    ("row", "columns", "expected"),
    [
        ({"q": "a?", "r": "b"}, {"prompt": "q", "response": "r"}, "messages"),
        ({"instruction": "a?", "output": "b"}, {}, "messages"),
        ({"text": "plain"}, {}, "text"),
    ],
)
def test_rows_of_other_formats(row: dict[str, str], columns: dict[str, str], expected: str, opened: Open) -> None:
    (found,) = _documents(opened({"a.jsonl": [row]}, target="rows", columns=columns))
    assert isinstance(found, Document)
    assert list(found.sample or {}) == [expected]


def test_documents_as_rows_and_not_beside_chats(opened: Open) -> None:
    (found,) = _documents(opened({"a.txt": "plain"}, target="rows"))
    assert isinstance(found, Document)
    assert found.sample == {"text": "plain"}
    chat = [{"prompt": "q", "response": "a"}]
    with pytest.raises(
        DataConfigError, match=r"a\.txt: a file that is one document cannot be made a row of the format"
    ):
        opened({"a.txt": "plain", "b.jsonl": chat}, target="rows")
