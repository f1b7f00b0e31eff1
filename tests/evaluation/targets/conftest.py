"""The server that targets ask."""

from collections.abc import Iterator

import pytest
from openai_upstream import Upstream, openai_upstream


@pytest.fixture
def upstream(monkeypatch: pytest.MonkeyPatch) -> Iterator[Upstream]:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with openai_upstream() as state:
        yield state
