from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from genai.storage.upload_journal import Begun, Content, open_journal

CONTENT = Content(sha256="ab" * 32, size_bytes=100, part_bytes=10)
BEGUN = Begun(upload="id", content=CONTENT, sent_bytes=30)

HOLD = """
import time
from genai.storage.upload_journal import Begun, Content, open_journal
with open_journal("target") as journal:
    journal.note(Begun(upload="theirs", content=Content(sha256="cd", size_bytes=1, part_bytes=1)))
    print("open", flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GENAI_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_what_was_begun_is_known_until_it_has_ended(cache: Path) -> None:
    with open_journal("target") as journal:
        assert journal.begun() is None
        journal.note(BEGUN)
    with open_journal("target") as journal, open_journal("other") as other:
        assert journal.begun() == BEGUN
        assert other.begun() is None
        journal.end()
    with open_journal("target") as journal:
        assert journal.begun() is None
    assert list((cache / "uploads").iterdir()) == []
    assert (cache / "uploads").stat().st_mode & 0o77 == 0


def test_a_damaged_page_is_no_page(cache: Path) -> None:
    with open_journal("target") as journal:
        journal.note(BEGUN)
    (page,) = (cache / "uploads").glob("*.json")
    for damaged in ("", "[]", "{}", '{"upload": "id", "content": {"size_bytes": 1}}'):
        page.write_text(damaged)
        with open_journal("target") as journal:
            assert journal.begun() is None


def test_one_process_at_a_time_writes_a_page_and_a_dead_one_leaves_it(
    start_python: Callable[..., subprocess.Popen[str]],
) -> None:
    with start_python(HOLD) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        with open_journal("target") as journal:
            assert journal.begun() is None
            journal.note(BEGUN)
            assert journal.begun() is None
            journal.end()
    with open_journal("target") as journal:
        assert journal.begun() == Begun(upload="theirs", content=Content(sha256="cd", size_bytes=1, part_bytes=1))


def test_without_a_cache_nothing_is_remembered(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache.write_text("a file where the folder should be")
    with open_journal("target") as journal:
        journal.note(BEGUN)
        assert journal.begun() is None
        journal.end()
    assert "will begin anew" in caplog.text
