"""A folder of real documents through a whole sync, and found again with their pages and headings."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from document_makers import make_docx, make_pdf, paragraph
from toy_index import ToyIndex, make_config

from genai.config.index import ChunkingConfig, IndexSourceConfig
from genai.errors import DataError
from genai.index.interfaces import Source
from genai.index.sources import open_source
from genai.index.sync import SyncReport, is_up_to_date, sync
from genai.index.taking import MassDeleteError


class DocumentIndex(ToyIndex):
    """An index over the folder `docs`."""

    def __init__(self, folder: Path) -> None:
        source = IndexSourceConfig(documents=str(folder / "docs"))
        super().__init__(make_config(folder, source=source, chunking=ChunkingConfig(name="heading", max_tokens=8)))
        self.source: Source = open_source(source)  # type: ignore[assignment]

    def sync(self, *, allow_mass_delete: bool = False) -> SyncReport:
        parts = (self.ledger, self.source, self.encoder, self.engine(), self.config)
        return sync(*parts, allow_mass_delete=allow_mass_delete)


@pytest.fixture
def docs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "docs"
    folder.mkdir()
    (folder / "guide.md").write_text("intro words\n\n# Floors\n\nscreed is thick\n\n## Tiles\n\ntiles are thin\n")
    (folder / "manual.pdf").write_bytes(
        make_pdf([["the first page says some more words there"], ["mortar of the second page"]])
    )
    (folder / "report.docx").write_bytes(make_docx(paragraph("Roof", "Heading1") + paragraph("slates keep rain out")))
    (folder / "scan.pdf").write_bytes(make_pdf([[]]))
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 3600)  # so that no file is young
    return folder


@pytest.fixture
def index(docs: Path) -> Iterator[DocumentIndex]:
    index = DocumentIndex(docs.parent)
    yield index
    index.source.close()  # type: ignore[attr-defined]
    index.ledger.close()


def test_documents_are_found_with_their_places(index: DocumentIndex) -> None:
    report = index.sync()
    assert (report.documents_upserted, report.documents_failed) == (3, 1)
    (failure,) = report.failures
    assert failure.key == "scan.pdf" and "OCR" in failure.reason
    with index.open() as opened:
        (found,) = opened.search(["mortar second"], k=1)[0]
        assert (found.key, found.page, found.heading) == ("manual.pdf", 2, None)
        assert found.source == str(index.source.uri + "/manual.pdf")
        (found,) = opened.search(["tiles thin"], k=1)[0]
        assert (found.key, found.page, found.heading) == ("guide.md", None, "Floors > Tiles")
        text = Path(found.source).read_text()
        assert text[found.start : found.end] == found.text == "## Tiles\n\ntiles are thin"
        (found,) = opened.search(["slates rain"], k=1, filter="suffix = '.docx'")[0]
        assert (found.key, found.heading) == ("report.docx", "Roof")


def test_only_what_changed_is_read_again(index: DocumentIndex, docs: Path) -> None:
    index.sync()
    assert is_up_to_date(index.ledger, index.source, index.encoder, index.config)
    assert not index.sync().changed
    os.utime(docs / "manual.pdf", (1, 1))
    report = index.sync()
    assert (report.documents_upserted, report.documents_unchanged, report.embeddings_new) == (0, 3, 0)
    (docs / "guide.md").rename(docs / "moved.md")
    (docs / "scan.pdf").write_bytes(make_pdf([["now with text"]]))
    report = index.sync(allow_mass_delete=True)  # one of three
    assert (report.documents_upserted, report.documents_deleted, report.documents_failed) == (2, 1, 0)
    assert report.embeddings_new == 1  # moved text was embedded before
    assert report.failures == ()


def test_a_folder_that_is_gone_or_empty_empties_nothing(index: DocumentIndex, docs: Path) -> None:
    index.sync()
    docs.rename(docs.with_name("elsewhere"))
    with pytest.raises(DataError, match="no such folder"):
        index.sync()
    docs.mkdir()
    with pytest.raises(MassDeleteError):
        index.sync()
    assert index.ledger.num_documents() == 3
