"""Built-in rubrics, files and plain words."""

from __future__ import annotations

from pathlib import Path

import pytest

from genai.errors import DataError, UsageError
from genai.evaluation.judges.built_in_rubrics import BUILT_IN
from genai.evaluation.judges.criteria import Rubric
from genai.evaluation.judges.rubrics import open_rubric


@pytest.mark.parametrize("name", BUILT_IN)
def test_built_in_rubrics_name_every_score(name: str) -> None:
    rubric = open_rubric(name)
    text = rubric.text((1, 5))
    assert all(f"\n{score}: " in text for score in range(1, 6))
    assert "between them" not in text
    assert ("high score means" in rubric.criteria) == (not rubric.higher_is_better)


def test_levels_are_spread_over_the_scale() -> None:
    rubric = Rubric(name="x", criteria="How good?", levels=("bad", "fair", "good"))
    assert "0: bad\n5: fair\n10: good\nScores between" in rubric.text((0, 10))
    assert rubric.text((0, 1)).endswith("0: bad\n1: good")
    assert Rubric(name="x", criteria="How good?").text((1, 3)).endswith("3 is the best there is.")


def test_words_are_criteria() -> None:
    rubric = open_rubric("Is the answer polite?")
    assert (rubric.name, rubric.criteria) == ("criteria", "Is the answer polite?")


def test_markdown_and_yaml_files(tmp_path: Path) -> None:
    (tmp_path / "polite.md").write_text("# Politeness\n\nJudge how polite it is.\n")
    assert open_rubric(str(tmp_path / "polite.md")) == Rubric(
        name="polite", criteria="# Politeness\n\nJudge how polite it is."
    )
    (tmp_path / "rude.yaml").write_text(
        "criteria: Judge how rude.\nlevels: [polite, rude]\nneeds: [reference]\nhigher_is_better: false\n"
    )
    rude = open_rubric(str(tmp_path / "rude.yaml"))
    assert (rude.name, rude.levels, rude.higher_is_better) == ("rude", ("polite", "rude"), False)
    assert rude.lacks((), ()) == "rubric 'rude' needs a reference, which this row has not"
    assert rude.lacks(("x",), ()) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("criteria: [", "is no YAML"),
        ("just words", "has no keys"),
        ("criteria: x\nlevls: [a, b]", "unknown key 'levls'"),
        ("criteria: x\nlevels: [a]", "one entry"),
        ("criteria: x\nlevels: 5", "no list of texts"),
        ("criteria: x\nneeds: [money]", "cannot hold 'money'"),
        ("criteria: x\nhigher_is_better: perhaps", "neither true nor false"),
        ("name: x", "has no criteria"),
        ("criteria: '  '", "has no criteria"),
    ],
)
def test_faults_of_a_file(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(UsageError, match=message) as error:
        open_rubric(str(tmp_path / "x.yaml"))
    assert error.value.where == str(tmp_path / "x.yaml") and error.value.fix


def test_rubrics_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as error:
        open_rubric("corectness")
    assert error.value.fix == "did you mean 'correctness'?"
    with pytest.raises(UsageError, match="there is no rubric 'xyz'"):
        open_rubric("xyz")
    (tmp_path / "polite.md").write_text("Judge.")
    with pytest.raises(UsageError) as error:
        open_rubric(str(tmp_path / "polte.md"))
    assert error.value.fix is not None and "polite.md" in error.value.fix
    (tmp_path / "latin.md").write_bytes(b"h\xf6flich genug")
    with pytest.raises(DataError, match="cannot be read"):
        open_rubric(str(tmp_path / "latin.md"))
    (tmp_path / "long.md").write_text("x " * 200_000)
    with pytest.raises(UsageError, match="too long"):
        open_rubric(str(tmp_path / "long.md"))
