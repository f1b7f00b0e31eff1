from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from document_makers import make_docx, make_pdf, paragraph

from genai.config.index import DocumentLimitsConfig, IndexSourceConfig
from genai.errors import ConfigError, DataError, UsageError
from genai.index.interfaces import Change, Section
from genai.index.sources import open_source
from genai.index.sources.documents import DocumentSource, open_document_source
from genai.storage import open_store

Open = Callable[..., DocumentSource]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "docs"
    (root / "deep").mkdir(parents=True)
    (root / "a.md").write_text("# Head\n\nText")
    (root / "deep" / "b.pdf").write_bytes(make_pdf([["One"], ["Two"]]))
    (root / "c.docx").write_bytes(make_docx(paragraph("Word", "Heading1")))
    (root / "d.html").write_text("<h2>Page</h2>")
    (root / "broken.pdf").write_bytes(b"%PDF-")
    return root


@pytest.fixture
def open_documents() -> Iterator[Open]:
    opened: list[DocumentSource] = []

    def open_one(documents: str | Path, **settings: object) -> DocumentSource:
        opened.append(open_document_source(IndexSourceConfig(documents=str(documents), **settings)))
        return opened[-1]

    yield open_one
    for source in opened:
        source.close()


def _versions(changes: Iterator[Change]) -> dict[str, str]:
    return {change.key: change.version for change in changes}


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour goes by, so that the files of the test are no longer young."""
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 3600)


def test_every_document_comes_with_its_place_and_metadata(folder: Path, open_documents: Open) -> None:
    source = open_documents(folder)
    assert source.uri == str(folder)
    changes = source.changes(None)
    assert changes.complete
    assert changes.total == 5
    found = {change.key: change for change in changes.rows}
    assert list(found) == ["a.md", "broken.pdf", "c.docx", "d.html", "deep/b.pdf"]
    pdf = _load(found["deep/b.pdf"])
    status = (folder / "deep" / "b.pdf").stat()
    assert pdf.metadata == {
        "path": "deep/b.pdf",
        "suffix": ".pdf",
        "size_bytes": status.st_size,
        "modified": status.st_mtime,
    }
    assert set(pdf.metadata) == set(source.columns)
    assert (pdf.key, pdf.text, pdf.page_starts) == ("deep/b.pdf", "One\n\nTwo", (0, 5))
    assert pdf.source == str(folder / "deep/b.pdf")
    assert pdf.tenant is None
    assert _load(found["a.md"]).sections == (Section(start=0, level=1, title="Head"),)
    assert _load(found["c.docx"]).text == "Word"
    with pytest.raises(DataError, match="damaged") as caught:
        _load(found["broken.pdf"])
    assert caught.value.where == str(folder / "broken.pdf")


def _load(change: Change) -> object:
    assert change.load is not None
    return change.load()


@pytest.mark.usefixtures("later")
def test_an_unchanged_folder_is_told_without_opening_a_file(
    folder: Path, open_documents: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = open_documents(folder).changes(None)
    versions = _versions(changes.rows)
    state = json.loads(json.dumps(changes.state))
    source = open_documents(folder)
    assert state.items() >= source.position().items()

    def refuse(*arguments: object) -> int:
        raise AssertionError("a file was opened")

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        assert _versions(source.changes(state).rows) == versions
    (folder / "a.md").write_text("# Head\n\nTexT")
    (folder / "d.html").unlink()
    assert not state.items() >= source.position().items()
    changed = source.changes(state)
    now = _versions(changed.rows)
    assert changed.total == len(now) == 4
    assert {key for key in now if now[key] != versions[key]} == {"a.md"}


@pytest.mark.usefixtures("later")
def test_a_touched_file_keeps_its_version(folder: Path, open_documents: Open) -> None:
    source = open_documents(folder)
    first = source.changes(None)
    versions = _versions(first.rows)
    os.utime(folder / "a.md", (1, 1))
    assert source.position() != {name: first.state[name] for name in source.position()}
    assert _versions(source.changes(first.state).rows) == versions


def test_a_young_file_makes_no_position_that_stays(folder: Path, open_documents: Open) -> None:
    source = open_documents(folder)
    changes = source.changes(None)
    assert len(_versions(changes.rows)) == 5
    assert changes.state["_files"] == {}
    assert source.position() != source.position()


def test_an_empty_folder_is_empty_and_a_missing_one_raises(tmp_path: Path, open_documents: Open) -> None:
    (tmp_path / "empty").mkdir()
    changes = open_documents(tmp_path / "empty").changes(None)
    assert (changes.complete, changes.total, list(changes.rows)) == (True, 0, [])
    missing = open_documents(tmp_path / "missing")
    for look in (missing.position, lambda: missing.changes(None)):
        with pytest.raises(DataError, match="no such folder"):
            look()


def test_limits(folder: Path, open_documents: Open) -> None:
    source = open_documents(folder, limits=DocumentLimitsConfig(file_size="5b"), include=["*.md"])
    (change,) = source.changes(None).rows
    with pytest.raises(DataError, match="more than the 5 that are allowed"):
        _load(change)
    with pytest.raises(UsageError, match="less than 128mb"):
        open_documents(folder, limits=DocumentLimitsConfig(memory="1mb"))


def test_settings_that_documents_do_not_have(folder: Path, open_documents: Open) -> None:
    with pytest.raises(ConfigError) as caught:
        open_documents(folder, tenant="customer", text="body", metadata=["path", "sufix"])
    assert [problem.where for problem in caught.value.problems] == ["source.text", "source.tenant", "source.metadata"]
    assert caught.value.problems[2].fix == "did you mean 'suffix'?"


def test_open_source_opens_documents(folder: Path) -> None:
    assert isinstance(open_source(IndexSourceConfig(documents=str(folder))), DocumentSource)


@pytest.mark.integration
def test_a_bucket(s3_bucket: str, open_documents: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(s3_bucket)
    for key, content in (
        ("docs/a.md", b"# A"),
        ("docs/b/c.pdf", make_pdf([["One"]])),
        ("docs/b/.hidden.md", b"x"),
        ("docs/d.png", b"x"),
        ("docs2/e.md", b"x"),
    ):
        store.write(key, content)
    source = open_documents(f"{s3_bucket}/docs")
    changes = source.changes(None)
    found = {change.key: change for change in changes.rows}
    assert sorted(found) == ["a.md", "b/c.pdf"]
    assert _load(found["b/c.pdf"]).text == "One"
    assert _load(found["b/c.pdf"]).source == f"{s3_bucket}/docs/b/c.pdf"
    state = json.loads(json.dumps(changes.state))
    assert state["_files"] == {}
    assert state.items() >= source.position().items()
    store.write("docs/a.md", b"# B")
    assert not state.items() >= source.position().items()
    again = _versions(source.changes(state).rows)
    assert again["a.md"] != found["a.md"].version
    assert again["b/c.pdf"] == found["b/c.pdf"].version
    assert [change.key for change in open_documents(f"{s3_bucket}/docs/**/*.pdf").changes(None).rows] == ["b/c.pdf"]
    assert [change.key for change in open_documents(f"{s3_bucket}/docs/a.md").changes(None).rows] == ["a.md"]
    with pytest.raises(DataError, match="nothing lies there"):
        open_documents(f"{s3_bucket}/nowhere").changes(None)
    large = open_documents(f"{s3_bucket}/docs", limits=DocumentLimitsConfig(file_size="2b"), include=["a.md"])
    (change,) = large.changes(None).rows
    with pytest.raises(DataError, match="more than the 2 that are allowed"):
        _load(change)
