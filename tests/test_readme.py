"""Every command that the README and docs/ show can be typed: verbs, flags, files, extras and make targets exist."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from genai_cli.main import command as genai_command
from genai_cli.main import main

REPOSITORY = Path(__file__).resolve().parents[1]
STARTER = REPOSITORY / "cli" / "starter"
GENERATED = {"cli.md", "llm-foundry.md"}
DOCUMENTS = sorted(
    [
        REPOSITORY / "README.md",
        STARTER / "README.md",
        *REPOSITORY.glob("recipes/*/README.md"),
        *(path for path in REPOSITORY.glob("docs/**/*.md") if path.name not in GENERATED),
    ]
)
JOB_FILES = sorted(
    [*REPOSITORY.glob("configs/*/*.yaml"), *REPOSITORY.glob("recipes/*/*.yaml"), *STARTER.glob("configs/*/*.yaml")]
)

ORDINARY = {
    "cd",
    "git",
    "export",
    "ollama",
    "llama-cli",
    "tensorboard",
    "mlflow",
    "source",
    "python3",
    "docker",
    "open",
}
"""Programs of others, which are not checked."""


def _commands() -> Iterator[tuple[Path, str]]:
    for document in DOCUMENTS:
        for language, block in re.findall(r"^```(\w*)\n(.*?)^```", document.read_text(), flags=re.M | re.S):
            if language in {"bash", "sh", "console"}:
                lines = block.replace("\\\n", " ").splitlines()
                yield from ((document, line.strip()) for line in lines if line.strip() and line.lstrip()[0] != "#")


def fault_of(line: str, folder: Path) -> str | None:
    """What is wrong with a command line that a document in `folder` shows, or None."""
    words = shlex.split(line, comments=True)
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words = words[1:]
    if not words or words[0] in ORDINARY:
        return None
    if words[0] == "genai":
        return _fault_of_genai(words[1:], folder)
    if words[0] == "make":
        targets = re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), flags=re.M)
        unknown = [word for word in words[1:] if "=" not in word and word not in targets]
        return f"no make target {unknown[0]}" if unknown else None
    if words[0] == "bash":
        copied = list(REPOSITORY.glob(f"recipes/*/{Path(words[1]).name}"))  # by `genai recipes cp`
        return None if copied or _find(words[1], folder) else f"no such script {words[1]}"
    if words[0] in {".venv/bin/python", "python"} and words[1].endswith(".py"):
        return None if _find(words[1], folder) else f"no such script {words[1]}"
    if words[:2] == ["pip", "install"]:
        return _fault_of_requirement(words[-1])
    return f"unknown program {words[0]}"


def _fault_of_genai(words: list[str], folder: Path) -> str | None:
    context: click.Context | None = None
    command: click.Command = genai_command
    name = "genai"
    try:
        while True:
            context = command.make_context(name, list(words), parent=context)
            if not isinstance(command, click.Group):
                break
            rest = [*context._protected_args, *context.args]
            found, sub, words = command.resolve_command(context, rest)
            assert found is not None
            assert sub is not None
            name, command = found, sub
    except click.exceptions.Exit:
        return None
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    files = [word for word in words if word.endswith((".yaml", ".yml")) and not word.startswith("-")]
    missing = [file for file in files if not _find(file, folder)]
    return f"no such file {missing[0]}" if missing else None


def _fault_of_requirement(requirement: str) -> str | None:
    match = re.fullmatch(r"genai-foundry(?:\[([\w,-]+)\])?", requirement)
    if match is None:
        return None if requirement in {".", "-e", "genai-foundry"} else f"unknown requirement {requirement}"
    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    unknown = set((match[1] or "train").split(",")) - set(extras)
    return f"no such extra {unknown}" if unknown else None


def _find(path: str, folder: Path) -> bool:
    """Does a file exist for the reader: in the repository, beside the document, or in what `genai init` writes?"""
    return any((root / path).exists() for root in (REPOSITORY, folder, STARTER))


def test_commands_are_found_at_all() -> None:
    assert len(list(_commands())) >= 10


@pytest.mark.parametrize(
    ("document", "line"), [pytest.param(*found, id=f"{found[0].stem}-{found[1][:60]}") for found in _commands()]
)
def test_a_command_of_the_documents_can_be_typed(document: Path, line: str) -> None:
    assert fault_of(line, document.parent) is None


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("genai finetun configs/finetune/quickstart.yaml", "unknown verb 'finetun'"),
        ("genai finetune configs/finetune/nothing.yaml", "no such file configs/finetune/nothing.yaml"),
        ("genai finetune configs/finetune/quickstart.yaml --dry", "No such option '--dry'"),
        ("genai recipes lss", "No such command 'lss'"),
        ("make everything", "no make target everything"),
        ("pip install 'genai-foundry[trian]'", "no such extra"),
        ("bash recipes/quickstart/go.sh", "no such script"),
        ("frobnicate", "unknown program frobnicate"),
    ],
)
def test_a_wrong_command_is_found(line: str, expected: str) -> None:
    assert expected in (fault_of(line, REPOSITORY) or "")


@pytest.mark.parametrize("file", JOB_FILES, ids=lambda file: str(file.relative_to(REPOSITORY)))
def test_every_shipped_job_file_is_valid(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(STARTER if STARTER in file.parents else REPOSITORY)
    assert main(["config", "validate", str(file)]) == 0, capsys.readouterr().err


def test_generated_documents_are_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, "scripts/docs.py", "--check"], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
