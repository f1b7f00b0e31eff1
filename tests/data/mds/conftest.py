"""Small data sets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from genai.data.mds import MDSWriter


@pytest.fixture
def make_set(tmp_path: Path) -> Callable[..., str]:
    """make_set(columns, samples, **settings of the writer): the folder of a data set."""

    def make(columns: Mapping[str, str], samples: Sequence[Mapping[str, Any]], **settings: Any) -> str:
        out = str(tmp_path / f"set{len(list(tmp_path.iterdir()))}")
        with MDSWriter(out, columns, **settings) as writer:
            for sample in samples:
                writer.write(sample)
        return out

    return make
