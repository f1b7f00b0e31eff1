import json
from dataclasses import replace
from pathlib import Path

import pytest
from evaluated_runs import answers, write_run

from genai.errors import DataError, UsageError
from genai.evaluation.records import Unscored
from genai.jobs.eval_compare import compare

BEFORE = [False, True] * 12
AFTER = [True, True, False] * 8


@pytest.fixture
def runs_dir(tmp_path: Path) -> Path:
    write_run(tmp_path, "faq-base", {"model": answers(BEFORE)})
    write_run(tmp_path, "faq-lora", {"model": answers(AFTER)})
    return tmp_path


def test_wins_and_losses_are_told_example_by_example(runs_dir: Path) -> None:
    compared = compare("faq-base", "faq-lora", runs_dir=runs_dir)
    assert (compared.first, compared.second, compared.num_examples) == ("faq-base", "faq-lora", 24)
    assert [each.metric for each in compared.measured] == ["exact_match", "token_f1", "latency_s"]
    found = compared.measured[0].comparison
    assert found is not None
    numbers = [number for number in range(24) if number != 7]
    won = [f"q{number}" for number in numbers if AFTER[number] and not BEFORE[number]]
    lost = [f"q{number}" for number in numbers if BEFORE[number] and not AFTER[number]]
    assert (found.wins, found.losses, found.ties) == (len(won), len(lost), 23 - len(won) - len(lost))
    assert found.difference == pytest.approx((len(won) - len(lost)) / 23)
    assert found.low <= found.difference <= found.high
    changes = [each for each in compared.changes if each.metric == "exact_match"]
    assert sorted(each.id for each in changes if each.verdict == "won") == sorted(won)
    assert sorted(each.id for each in changes if each.verdict == "lost") == sorted(lost)
    assert changes[0].question.startswith("Question ")
    latency = compared.measured[2].comparison
    assert latency is not None and (latency.wins, latency.losses, latency.p_value) == (0, 0, 1.0)
    assert compared.left_out == ()
    json.dumps(compared.to_json(), allow_nan=False)


def test_the_other_way_round_wins_are_losses(runs_dir: Path) -> None:
    one, other = (
        compare(*names, runs_dir=runs_dir).measured[0].comparison
        for names in (("faq-base", "faq-lora"), ("faq-lora", "faq-base"))
    )
    assert one is not None and other is not None
    assert (one.wins, one.losses) == (other.losses, other.wins)
    assert one.difference == pytest.approx(-other.difference)


def test_a_page_is_written_where_it_is_wanted(runs_dir: Path, tmp_path: Path) -> None:
    compared = compare("faq-base", "faq-lora", runs_dir=runs_dir, html=tmp_path / "out" / "diff.html")
    page = (tmp_path / "out" / "diff.html").read_text(encoding="utf-8")
    assert compared.html == str(tmp_path / "out" / "diff.html")
    assert page.count('class="card example"') == 24
    assert "faq-lora beside faq-base" in page
    assert "<script>alert" not in page


def test_targets_of_one_run_can_be_compared(tmp_path: Path) -> None:
    scored = {"a": answers(BEFORE), "runs:b/step": answers(AFTER), "base": answers([False] * 24)}
    write_run(tmp_path, "both", scored, baseline="base")
    compared = compare("both/a", "runs:both/runs:b/step", runs_dir=tmp_path)
    assert (compared.first, compared.second) == ("both/a", "both/runs:b/step")
    against_baseline = compare("both/base", "both/a", runs_dir=tmp_path).measured[0].comparison
    assert against_baseline is not None and against_baseline.losses == 0
    with pytest.raises(UsageError, match="measured 2 targets") as caught:
        compare("both", "both/a", runs_dir=tmp_path)
    assert caught.value.fix == "name one of them: both/a, both/runs:b/step, both/base"
    with pytest.raises(UsageError, match="has no target 'bas'") as caught:
        compare("both/bas", "both/a", runs_dir=tmp_path)
    assert caught.value.fix == "did you mean 'both/base'?"


def test_data_that_changed_is_refused(runs_dir: Path) -> None:
    write_run(runs_dir, "later", {"model": answers(AFTER)}, fingerprints={"faq": "sha256:other rows"})
    with pytest.raises(
        DataError, match="data set 'faq' has changed between the runs: sha256:rows in faq-base"
    ) as caught:
        compare("faq-base", "later", runs_dir=runs_dir)
    assert caught.value.fix == "run the job of faq-base again on the data of later, then compare"
    write_run(runs_dir, "sums", {"model": answers(AFTER, name="sums")})
    with pytest.raises(DataError, match="share no data set: faq-base measured faq, sums sums"):
        compare("faq-base", "sums", runs_dir=runs_dir)


def test_what_only_one_of_them_has_is_said(runs_dir: Path) -> None:
    write_run(runs_dir, "half", {"model": answers(AFTER[:12]) + answers(AFTER[:2], name="sums")})
    compared = compare("faq-base", "half", runs_dir=runs_dir)
    assert compared.num_examples == 12
    assert compared.left_out == ("sums: only half measured it", "faq: 12 examples that only faq-base has")


def test_scores_that_do_not_give_the_figures_are_not_compared(runs_dir: Path) -> None:
    path = runs_dir / "faq-lora" / "result.json"
    values = json.loads(path.read_bytes())
    values["measured"][0]["value"] += 0.01
    path.write_text(json.dumps(values))
    compared = compare("faq-base", "faq-lora", runs_dir=runs_dir)
    assert [each.metric for each in compared.measured] == ["token_f1", "latency_s"]
    assert compared.left_out == ("faq.exact_match: its scores do not add up to the figures of both runs",)


def test_what_was_not_scored_is_not_compared(runs_dir: Path) -> None:
    scored = [replace(each, scores={**each.scores, "token_f1": Unscored(reason="nonsense")}) for each in answers(AFTER)]
    write_run(runs_dir, "silent", {"model": scored})
    compared = compare("faq-base", "silent", runs_dir=runs_dir)
    assert [each.metric for each in compared.measured] == ["exact_match", "latency_s"]
    assert compared.left_out == ("faq.token_f1: no example was scored",)


def test_a_figure_that_is_no_mean_is_added_up_as_its_run_did(runs_dir: Path) -> None:
    (latency,) = [each for each in compare("faq-base", "faq-lora", runs_dir=runs_dir).measured if each.unit == "s"]
    values = sorted(0.5 + 0.01 * number for number in range(24) if number != 7)
    assert latency.value > sum(values) / len(values), "the 95th percentile, as the run has it"


def test_what_is_no_evaluation_is_one_line(runs_dir: Path) -> None:
    (runs_dir / "half").mkdir()
    (runs_dir / "half" / "config.yaml").write_text("target: m\n")
    with pytest.raises(DataError, match="this run has no result"):
        compare("faq-base", "half", runs_dir=runs_dir)
    with pytest.raises(UsageError, match="faq-base would be compared with itself"):
        compare("faq-base", "runs:faq-base/model", runs_dir=runs_dir)
    with pytest.raises(UsageError, match="there is no run 'faq-bse'"):
        compare("faq-bse", "faq-lora", runs_dir=runs_dir)
    (runs_dir / "faq-lora" / "examples.jsonl").unlink()
    with pytest.raises(DataError, match="this run has no examples"):
        compare("faq-base", "faq-lora", runs_dir=runs_dir)
