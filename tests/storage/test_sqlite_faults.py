import sqlite3
from pathlib import Path

import pytest

from genai.errors import DataError, GenaiError
from genai.storage.sqlite_faults import explain_sqlite


def use(path: Path, sql: str, *, timeout_s: float = 0.05) -> None:
    with explain_sqlite(path, what="the file of scores", fix="remove it"):
        connection = sqlite3.connect(path, timeout=timeout_s, isolation_level=None)
        try:
            connection.execute(sql)
        finally:
            connection.close()


def test_another_file(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    path.write_bytes(b"something else " * 100)
    with pytest.raises(
        DataError, match=r"a\.sqlite: the file of scores is damaged, or another file: .* \(remove it\)$"
    ):
        use(path, "SELECT * FROM sqlite_master")


def test_another_process_writes(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(
        GenaiError, match=r"another process kept writing .*a\.sqlite for 60 s \(wait until it is done\)"
    ):
        use(path, "BEGIN IMMEDIATE")
    other.close()


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(GenaiError, match=r"cannot be opened: unable to open database file \(see who owns it\)"):
        use(tmp_path, "SELECT 1")


def test_a_full_disk(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    with (
        pytest.raises(GenaiError, match=r"cannot write .*full \(\d+ bytes free\).*nothing was lost"),
        explain_sqlite(path, what="it", fix="x"),
    ):
        connection = sqlite3.connect(path)
        try:
            connection.execute("PRAGMA max_page_count = 2")
            connection.execute("CREATE TABLE a (b)")
            connection.execute("INSERT INTO a VALUES (zeroblob(100000))")
        finally:
            connection.close()


def test_other_errors_stay(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="mine"), explain_sqlite(tmp_path, what="it", fix="x"):
        raise ValueError("mine")
