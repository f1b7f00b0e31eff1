import hashlib
from pathlib import Path

import pytest

from genai.errors import DataError
from genai.tracking.fingerprints import file_fingerprint, fingerprint, folder_fingerprint


@pytest.mark.parametrize("size", [0, 1, 1 << 20, (1 << 20) + 1, 3_000_000])
def test_a_files_fingerprint_is_its_sha256(tmp_path: Path, size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    (tmp_path / "f").write_bytes(data[:size])
    assert file_fingerprint(tmp_path / "f") == hashlib.sha256(data[:size]).hexdigest()


def make(folder: Path, files: dict[str, str]) -> str:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder_fingerprint(folder)


def test_a_folders_fingerprint_is_of_names_and_contents_alone(tmp_path: Path) -> None:
    one = make(tmp_path / "1", {"a": "x", "sub/b": "y"})
    assert make(tmp_path / "2", {"sub/b": "y", "a": "x"}) == one
    others = [{"a": "x", "b": "y"}, {"a": "y", "sub/b": "x"}, {"a": "x"}, {"a": "x", "sub/b": "y", "c": ""}]
    assert len({one, *(make(tmp_path / f"other{i}", files) for i, files in enumerate(others))}) == 5


def test_either_kind_and_the_error_when_nothing_is_there(tmp_path: Path) -> None:
    folder = make(tmp_path / "1", {"a": "x"})
    assert fingerprint(tmp_path / "1") == folder
    assert fingerprint(tmp_path / "1" / "a") == file_fingerprint(tmp_path / "1" / "a")
    with pytest.raises(DataError, match="no such file or folder"):
        fingerprint(tmp_path / "2")
