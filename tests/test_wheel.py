"""What is installed from a wheel: built from a copy of this repository, installed into an environment of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
FOLDERS = {"genai": "genai", "cli": "genai_cli", "configs": "genai_configs", "recipes": "genai_recipes"}
"""Folder of the repository -> package that it is installed as."""

pytestmark = pytest.mark.integration


def _run(*command: str | Path, cwd: Path) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run([str(word) for word in command], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository without what builds and tests leave in it."""
    copy = tmp_path_factory.mktemp("source")
    for folder in FOLDERS:
        shutil.copytree(REPOSITORY / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__", "runs"))
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / file, copy)
    return copy


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    _run(*pip, "wheel", "--no-build-isolation", "--no-deps", "--no-index", "--wheel-dir", folder, source, cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of an environment with the wheel in it; its dependencies are those of this environment."""
    environment = tmp_path_factory.mktemp("environment")
    _run(sys.executable, "-m", "venv", "--without-pip", environment, cwd=environment)
    python = environment / "bin" / "python"
    (site,) = environment.glob("lib/python*/site-packages")
    # a path in a .pth file brings the dependencies, but not the editable install that lies beside them
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    _run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", wheel, cwd=environment)
    return environment / "bin"


def _files(source: Path) -> set[str]:
    return {
        str(Path(package) / file.relative_to(source / folder))
        for folder, package in FOLDERS.items()
        for file in (source / folder).rglob("*")
        if file.is_file()
    }


def test_the_wheel_holds_every_file_and_no_other(source: Path, wheel: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    wanted = _files(source)
    assert {"genai/py.typed", "genai_cli/py.typed", "genai_configs/finetune/quickstart.yaml"} <= wanted
    assert {"genai_cli/starter/data/support.jsonl", "genai_cli/starter/gitignore"} <= wanted
    assert names == wanted


def test_nothing_is_called_cli_when_installed(wheel: Path) -> None:
    top = {name.partition("/")[0] for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert top == set(FOLDERS.values())


def test_the_metadata(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
    metadata = archive.read(name).decode()
    assert "Name: genai-foundry\n" in metadata
    assert "Requires-Python: >=3.11\n" in metadata
    assert "License-Expression: Apache-2.0\n" in metadata
    core = [line for line in metadata.splitlines() if line.startswith("Requires-Dist:") and "extra ==" not in line]
    assert len(core) <= 8
    assert not any("torch" in line or "numpy" in line for line in core)


def test_the_command_works_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    genai = installed / "genai"
    where = _run(installed / "python", "-c", "import genai, genai_cli; print(genai.__file__)", cwd=tmp_path)
    assert where.startswith(str(installed.parent))
    names = {item["name"] for item in json.loads(_run(genai, "recipes", "ls", "--json", cwd=tmp_path))["recipes"]}
    assert "finetune/quickstart" in names
    for name in names:
        _run(genai, "recipes", "cp", name, tmp_path / name, cwd=tmp_path)
    assert (tmp_path / "finetune/quickstart/quickstart.yaml").is_file()
    _run(genai, "init", "project", cwd=tmp_path)
    _run(genai, "config", "validate", "configs/finetune/support.yaml", cwd=tmp_path / "project")
