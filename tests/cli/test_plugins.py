from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def test_no_plugins(genai: Callable[..., Any]) -> None:
    ended = genai("plugins", "ls")
    assert (ended.code, ended.out) == (0, "no plugins are installed\n")


def test_entry_points_are_listed_and_not_loaded(
    genai: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "loud_callbacks-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: loud-callbacks\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[genai.callbacks]\nbell = no_such_module:Bell\n[console_scripts]\nloud = no_such_module:main\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    row = {"group": "genai.callbacks", "name": "bell", "object": "no_such_module:Bell", "package": "loud-callbacks"}
    assert genai("plugins", "ls", "--json").json["plugins"] == [row]
    assert genai("plugins", "ls").out.splitlines()[1].split() == list(row.values())
