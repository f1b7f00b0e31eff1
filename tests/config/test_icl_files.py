"""Tasks and gauntlets in files of their own: nothing in them is passed over unseen."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from genai.config.icl_files import load_gauntlet, load_icl_tasks
from genai.errors import ConfigError

Write = Callable[..., Path]
TASKS = """\
icl_tasks:
-
  label: copa
  dataset_uri: copa.jsonl
  num_fewshot: [0, 3]
  icl_task_type: multiple_choice
"""
GAUNTLET = """\
eval_gauntlet:
  weighting: EQUAL
  categories:
  - name: sense
    benchmarks:
    - {name: copa, num_fewshot: 3, random_baseline: 0.5}
"""


def problems(path: Path, load: Callable[[Path], object]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(path)
    return [problem.line() for problem in caught.value.problems]


def test_files_as_llm_foundry_has_them(write: Write) -> None:
    (copa,) = load_icl_tasks(write(TASKS))
    assert (copa.label, copa.num_fewshot) == ("copa", [0, 3])
    gauntlet = load_gauntlet(write(GAUNTLET))
    assert gauntlet.categories[0].benchmarks[0].random_baseline == 0.5


def test_keys_of_llm_foundry_are_answered(write: Write, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="genai"):
        (copa,) = load_icl_tasks(write(TASKS + "  prelimiter: 'Q: '\n"))
    assert copa.question_prelimiter == "Q: "
    assert "icl_tasks.0.prelimiter is translated" in caplog.text
    (line,) = problems(write(TASKS + "  hf_loading_vars: {split: test}\n"), load_icl_tasks)
    assert line.startswith("job.yaml:7:3: icl_tasks.0.hf_loading_vars is not supported")


def test_all_faults_have_their_place(write: Write) -> None:
    text = TASKS.replace("label: copa", "lable: copa").replace("multiple_choice", "multiple_choices")
    lines = problems(write(text), load_icl_tasks)
    assert len(lines) == 2
    assert lines[0].startswith("job.yaml:3:3:") and "did you mean 'label'?" in lines[0]
    assert lines[1].startswith("job.yaml:6:3:") and "multiple_choice" in lines[1]


def test_a_file_of_something_else(write: Write, tmp_path: Path) -> None:
    assert any("icl_tasks" in line for line in problems(write(GAUNTLET), load_icl_tasks))
    assert any("eval_gauntlet" in line for line in problems(write(TASKS), load_gauntlet))
    with pytest.raises(ConfigError):
        load_icl_tasks(tmp_path / "nowhere.yaml")
