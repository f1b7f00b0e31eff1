from __future__ import annotations

from pathlib import Path

import pytest

from genai.data.convert.lineage import read_lineage
from genai.errors import DataError


def test_a_data_set_of_others_has_none(tmp_path: Path) -> None:
    assert read_lineage(str(tmp_path)) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "no lineage"),
        ("[]", "no lineage"),
        ("{}", "no lineage"),
        ('{"format_version": 99}', "version 99, only 1 is known"),
    ],
)
def test_one_that_cannot_be_read(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "lineage.json").write_text(text)
    with pytest.raises(DataError, match=message):
        read_lineage(str(tmp_path))
