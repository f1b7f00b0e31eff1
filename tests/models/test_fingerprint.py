import shutil
from pathlib import Path

import pytest

from genai.models import fingerprint as module
from genai.models.fingerprint import fingerprint


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    (model / "model.safetensors").write_bytes(bytes(range(256)) * 1000)
    return model


def test_does_not_depend_on_place_or_time(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "elsewhere")
    (copy / "config.json").touch()
    assert fingerprint(copy) == fingerprint(folder)
    assert fingerprint(folder).startswith("sha256:")


def test_readme_and_provenance_do_not_count(folder: Path) -> None:
    before = fingerprint(folder)
    (folder / "README.md").write_text("hello")
    (folder / "genai-source.json").write_text("{}")
    assert fingerprint(folder) == before


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_content_counts(folder: Path, name: str) -> None:
    before = fingerprint(folder)
    content = bytearray((folder / name).read_bytes())
    content[0] ^= 1
    (folder / name).write_bytes(content)
    assert fingerprint(folder) != before


def test_a_renamed_file_counts(folder: Path) -> None:
    before = fingerprint(folder)
    (folder / "config.json").rename(folder / "other.json")
    assert fingerprint(folder) != before


def test_weights_only_ignores_the_config(folder: Path) -> None:
    before = fingerprint(folder, weights_only=True)
    (folder / "config.json").write_text('{"a": 1}')
    assert fingerprint(folder, weights_only=True) == before
    (folder / "model.safetensors").write_bytes(b"x")
    assert fingerprint(folder, weights_only=True) != before


@pytest.mark.parametrize("where", [0, -1])
def test_large_files_are_sampled_from_end_to_end(folder: Path, monkeypatch: pytest.MonkeyPatch, where: int) -> None:
    monkeypatch.setattr(module, "WHOLE_FILE_BYTES", 1000)
    monkeypatch.setattr(module, "BLOCK_BYTES", 16)
    before = fingerprint(folder)
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[where] ^= 1
    (folder / "model.safetensors").write_bytes(content)
    assert fingerprint(folder) != before


def test_one_file(folder: Path) -> None:
    assert fingerprint(folder / "config.json") != fingerprint(folder / "model.safetensors")
