"""Files of answers that people have scored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from genai.config.eval import CalibrationConfig, JudgeConfig
from genai.errors import ConfigError, UsageError
from genai.evaluation.judges.human_scores import HumanScore, are_yes_or_no, read_human_scores


def read(folder: Path, *rows: Any, columns: dict[str, str] | None = None, **config: Any) -> list[HumanScore]:
    path = folder / "people.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    calibration = CalibrationConfig(path=str(path), columns=columns or {})
    return read_human_scores(JudgeConfig(model="m", calibration=calibration, **config), judge="gpt")


def row(score: Any = 5, **more: Any) -> dict[str, Any]:
    return {"prompt": "What do bees eat?", "answer": "Honey.", "score": score, **more}


def test_rows_become_examples(tmp_path: Path) -> None:
    (full, bare) = read(tmp_path, row(reference="Honey", contexts=["a", "b"]), row(2.5, reference=["x", "y"]))
    assert full.example.references == ("Honey",) and full.example.contexts == ("a", "b")
    assert (full.answer.text, full.score, full.source) == ("Honey.", 5, f"{tmp_path / 'people.jsonl'}:1")
    assert (bare.example.references, bare.score) == (("x", "y"), 2.5)


def test_columns_by_other_names(tmp_path: Path) -> None:
    [found] = read(
        tmp_path, {"q": "Why?", "a": "So.", "stars": "4"}, columns={"prompt": "q", "answer": "a", "score": "stars"}
    )
    assert (found.answer.text, found.score) == ("So.", 4)


def test_good_and_bad(tmp_path: Path) -> None:
    rows = read(tmp_path, row(True), row(False), row("yes"), row(0))
    assert [each.score for each in rows] == [1, 0, 1, 0]
    assert are_yes_or_no(rows, (1, 5)) and not are_yes_or_no(rows, (0, 1))
    assert not are_yes_or_no(read(tmp_path, row(1), row(5)), (1, 5))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"prompt": "x", "answer": "y"}, "there is no 'score'"),
        (row("good"), "the score 'good' is no number"),
        (row(9), "does not lie on the scale of judge 'gpt', 1 to 5"),
        (row(float("nan")), "is no number"),
        (row(answer=["y"]), "'answer' is no text"),
        (row(contexts=[1]), "'contexts' is neither a text nor a list of texts"),
        ("text", "not an object"),
    ],
)
def test_faults_are_named_with_their_line(tmp_path: Path, bad: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        read(tmp_path, row(), bad)
    assert [each.where for each in error.value.problems] == [f"{tmp_path / 'people.jsonl'}:2"]


def test_many_faults_are_cut_short_and_columns_are_suggested(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        read(tmp_path, *[{"prompt": "x", "answr": "y", "score": 1}] * 50)
    assert len(error.value.problems) == 21 and error.value.problems[-1].message == "and 30 more"
    assert error.value.problems[0].fix == "set columns: {answer: answr}"


def test_no_file_and_no_calibration(tmp_path: Path) -> None:
    assert read_human_scores(JudgeConfig(model="m"), judge="gpt") == []
    missing = JudgeConfig(model="m", calibration=CalibrationConfig(path=str(tmp_path / "none.jsonl")))
    with pytest.raises(UsageError, match="no such file"):
        read_human_scores(missing, judge="gpt")
