"""Task files of a user's own run no Python unseen."""

from __future__ import annotations

from pathlib import Path

import pytest

from genai.errors import DataError
from genai.evaluation.engines.lm_eval_files import TaskFilesError, check_task_files

HARMLESS = """
task: choices
dataset_path: json
doc_to_text: "{{text}}"
metric_list:
  - metric: acc
"""


@pytest.fixture
def trusted(tmp_path: Path) -> Path:
    folder = tmp_path / "lm_eval"
    folder.mkdir()
    (folder / "of_theirs.yaml").write_text("process_docs: !function utils.process\n")
    return folder


def check(trusted: Path, *files: Path, folder: Path | None = None) -> None:
    check_task_files(files, folder, known_metrics={"acc"}, trusted=trusted)


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_harmless_files_pass(tmp_path: Path, trusted: Path) -> None:
    own = write(tmp_path, "own.yaml", f"include: {trusted / 'of_theirs.yaml'}\n{HARMLESS}")
    check(trusted, own)
    check(trusted, folder=tmp_path)


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("process_docs: !function os.system", "!function runs Python"),
        ("doc_to_text: !!python/name:os.system", "python/name:os.system runs Python"),
        ("class: anything", "a task with a class runs Python"),
        ("metric_list: [{metric: ./evil}]", "the metric './evil', which is none of lm-eval's, runs Python"),
        ("metric_list: [{metric: acc, hf_evaluate: true}]", "a metric of the hub runs Python"),
        ("task: [{task: inner, process_results: !function a.b}]", "!function runs Python"),
        ("a: &a {b: !function c.d}\ne: *a", "!function runs Python"),
    ],
)
def test_what_runs_python_is_refused(line: str, what: str, tmp_path: Path, trusted: Path) -> None:
    path = write(tmp_path, "own.yaml", f"group: x\n{line}\n")
    with pytest.raises(TaskFilesError) as caught:
        check(trusted, path)
    assert len(caught.value.problems) == 1
    assert what in caught.value.message
    assert caught.value.where is not None
    assert caught.value.where.startswith(f"{path}:2:")
    assert "--allow-code" in (caught.value.fix or "")


def test_what_a_file_includes_is_looked_at(tmp_path: Path, trusted: Path) -> None:
    write(tmp_path, "far.yml", "a: !function b.c\n")
    write(tmp_path, "near.yml", "include: [far.yml]\n")
    own = write(tmp_path, "own.yaml", "include: near.yml\ntask: x\n")
    with pytest.raises(TaskFilesError, match="!function"):
        check(trusted, own)


def test_files_that_include_each_other_are_read_once(tmp_path: Path, trusted: Path) -> None:
    one = write(tmp_path, "one.yaml", "include: two.yaml\n")
    write(tmp_path, "two.yaml", "include: one.yaml\n")
    check(trusted, one)


def test_all_places_are_named(tmp_path: Path, trusted: Path) -> None:
    folder = tmp_path / "tasks"
    (folder / "below").mkdir(parents=True)
    write(folder, "one.yaml", "a: !function b.c\nd: !function e.f\n")
    write(folder / "below", "two.yaml", "class: x\n")
    with pytest.raises(TaskFilesError) as caught:
        check(trusted, folder=folder)
    assert len(caught.value.problems) == 3


def test_what_is_no_yaml(tmp_path: Path, trusted: Path) -> None:
    with pytest.raises(DataError, match="is no YAML"):
        check(trusted, write(tmp_path, "own.yaml", "a: [b\n"))
    with pytest.raises(DataError, match="cannot be read"):
        check(trusted, write(tmp_path, "own.yaml", "include: nowhere.yaml\n"))
