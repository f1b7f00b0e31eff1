from dataclasses import replace

from evaluated_runs import HOSTILE, answers

from genai.evaluation.files import row_of
from genai.evaluation.records import Score
from genai.jobs.eval_cards import example_cards, failures, unscored, verdict_of


def test_with_many_examples_faults_and_differences_are_shown_first() -> None:

    first, second = answers([True] * 40), answers([True] * 20 + [False] + [True] * 19)
    rows = {"a": [row_of("a", each) for each in first], "b": [row_of("b", each) for each in second]}
    cards, number = example_cards(rows, baseline="a", lower_is_better=["latency_s"], limit=4)
    assert number == 40
    assert [card.id for card in cards] == ["q0", "q7", "q9", "q20"]
    lost = cards[-1].answers[1]
    assert (lost.target, lost.verdicts["token_f1"], lost.verdicts["latency_s"]) == ("b", "lost", "tied")


def test_small_is_good_where_the_metric_says_so() -> None:

    slow, quick = (
        replace(each, scores={"latency_s": Score(parts=(value,), value=value)})
        for each, value in zip(answers([True]) * 2, (2.0, 1.0), strict=True)
    )
    rows = {"a": [row_of("a", slow)], "b": [row_of("b", quick)]}
    for lower, verdict in ((["latency_s"], "won"), ([], "lost")):
        cards, _ = example_cards(rows, baseline="a", lower_is_better=lower)
        assert cards[0].answers[1].verdicts == {"latency_s": verdict}


def test_faults_of_one_reason_are_one_row() -> None:
    rows = {name: [row_of(name, each) for each in answers([True] * 12)] for name in ("a", "b")}
    found = failures(rows)
    assert [(each.what, each.num, each.examples) for each in found] == [("a", 1, ["faq q7"]), ("b", 1, ["faq q7"])]
    (row,) = unscored(rows)
    assert (row.what, row.reason, row.num) == ("token_f1", f"the judge said nonsense {HOSTILE}", 2)
    assert row.examples == ["faq q9"]


def test_verdicts() -> None:
    assert verdict_of(0.1 + 0.2, 0.3, lower_is_better=False) == "tied"
    assert verdict_of(0.4, 0.3, lower_is_better=False) == "won"
    assert verdict_of(0.4, 0.3, lower_is_better=True) == "lost"
    assert verdict_of(None, 0.3, lower_is_better=False) is None
    assert verdict_of(0.3, float("nan"), lower_is_better=False) is None
