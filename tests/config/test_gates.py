"""Conditions on measures: the grammar by a table and by chance, the verdicts against figures worked out by hand."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genai.config.gates import Gate, Statement, parse_gate
from genai.errors import UsageError

WORD = st.from_regex(r"[a-z_][a-z0-9_-]{0,8}[a-z0-9_]", fullmatch=True)
NUMBER = st.floats(allow_nan=False, allow_infinity=False)
METRICS = st.builds(
    lambda datasets, name, k: ".".join([*datasets, name]) + ("" if k is None else f"@{k}"),
    st.lists(WORD | st.builds("{}/{}-shot".format, WORD, st.integers(0, 10)), max_size=2),
    WORD.filter(lambda name: name != "baseline"),
    st.none() | st.integers(1, 1000),
)
GATES = st.builds(
    Gate,
    metric=METRICS,
    operator=st.sampled_from([">", ">=", "<", "<="]),
    number=NUMBER,
    from_baseline=st.booleans(),
)
STATEMENTS = st.builds(
    Gate,
    metric=METRICS,
    operator=st.sampled_from(["not significantly worse", "significantly better"]),
    number=st.floats(0, 1e6),
    from_baseline=st.just(True),
)


@pytest.mark.parametrize(
    ("text", "gate"),
    [
        ("recall@10 > baseline", Gate(metric="recall@10", operator=">", number=0.0, from_baseline=True)),
        ("  recall@10>baseline  ", Gate(metric="recall@10", operator=">", number=0.0, from_baseline=True)),
        ("ndcg@10 >= baseline - 0.01", Gate(metric="ndcg@10", operator=">=", number=-0.01, from_baseline=True)),
        ("ndcg@10>=baseline-0.01", Gate(metric="ndcg@10", operator=">=", number=-0.01, from_baseline=True)),
        ("loss < baseline + .5", Gate(metric="loss", operator="<", number=0.5, from_baseline=True)),
        ("recall@1 >= 0.6", Gate(metric="recall@1", operator=">=", number=0.6)),
        ("perplexity <= 1e2", Gate(metric="perplexity", operator="<=", number=100.0)),
        ("margin > -0.5", Gate(metric="margin", operator=">", number=-0.5)),
        ("margin > +3.", Gate(metric="margin", operator=">", number=3.0)),
        ("faq.token_f1 >= 0.30", Gate(metric="faq.token_f1", operator=">=", number=0.3)),
        ("2024-faq.v1.token_f1 >= 0", Gate(metric="2024-faq.v1.token_f1", operator=">=", number=0.0)),
        ("copa/2-shot.accuracy >= 0.5", Gate(metric="copa/2-shot.accuracy", operator=">=", number=0.5)),
        ("cost_usd <= 1", Gate(metric="cost_usd", operator="<=", number=1.0)),
    ],
)
def test_conditions_that_are_read(text: str, gate: Gate) -> None:
    assert parse_gate(text) == gate
    assert not gate.is_statement


@pytest.mark.parametrize(
    ("text", "operator", "margin"),
    [
        ("faq.token_f1 not significantly worse", "not significantly worse", 0.0),
        ("faq.token_f1  not  significantly\tworse  than  baseline ", "not significantly worse", 0.0),
        ("faq.token_f1 not significantly worse by 0.02", "not significantly worse", 0.02),
        ("faq.token_f1 not significantly worse than baseline by .5", "not significantly worse", 0.5),
        ("faq.token_f1 significantly better", "significantly better", 0.0),
        ("faq.token_f1 significantly better than baseline by 1e-3", "significantly better", 0.001),
    ],
)
def test_statements_that_are_read(text: str, operator: Statement, margin: float) -> None:
    gate = parse_gate(text, known=["faq.token_f1"])
    assert gate == Gate(metric="faq.token_f1", operator=operator, number=margin, from_baseline=True)
    assert gate.is_statement


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it begins with a measure such as recall@10, and there it ends"),
        ("   ", "and there it ends"),
        ("baseline > 0.5", "it begins with a measure such as recall@10, not 'baseline' (character 1)"),
        ("0.5 < recall@10", "not '0.5' (character 1)"),
        ("recall@ > 0.5", "it begins with a measure"),
        ("recall@10", "after 'recall@10' comes one of > >= < <=, and there it ends"),
        ("recall@10 => 0.5", "comes one of > >= < <=, not '=>' (character 11) (write >=)"),
        ("recall@10 ≥ 0.5", "not '≥' (character 11) (write >=)"),
        ("recall@10 == 0.5", "(write >=)"),
        ("recall@10 - 0.1 > baseline", "not '-' (character 11)"),
        ("recall@10 >> 0.5", "not '>>' (character 11)"),
        ("recall@10 >", "after '>' comes a number or baseline, and there it ends"),
        ("recall@10 > base", "after '>' comes a number or baseline, not 'base' (character 13)"),
        ("recall@10 > baseline2", "not 'baseline2' (character 13)"),
        ("recall@10 > 60 %", "after the value comes nothing, not '%' (character 16)"),
        ("recall@10 > 60%", "a number or baseline, not '60%' (character 13)"),
        ("recall@10 > 0.5.1", "not '0.5.1' (character 13)"),
        ("recall@10 > 0,5", "not ',5' (character 14)"),
        ("recall@10 > nan", "not 'nan'"),
        ("recall@10 > 1e999", "1e999 is too large a number"),
        ("recall@10 > baseline -", "after '-' comes a number, and there it ends"),
        ("recall@10 > baseline - -0.1", "after '-' comes a number, not '-0.1' (character 24)"),
        ("recall@10 > baseline 0.1", "after the value comes nothing but + or - and a number, not '0.1' (character 22)"),
        ("recall@10 > baseline * 2", "not '*' (character 22)"),
        ("recall@10 > baseline - 0.1 and x > 1", "after the value comes nothing, not 'and' (character 28)"),
        ("recall@10 > baseline() ", "not '()' (character 21)"),
        ("__import__('os').system('x') > 1", "(character 11)"),
        ("a/b > 1", "it begins with a measure such as recall@10, not 'a/b' (character 1)"),
        (
            "f1 not worse",
            "after 'f1' comes 'not significantly worse' or 'significantly better', not 'not' (character 4)",
        ),
        ("f1 significantly worse", "or 'significantly better', not 'significantly' (character 4)"),
        ("f1 not significantly better", "comes 'not significantly worse' or 'significantly better', not 'not'"),
        ("f1 significant better", "or 'significantly better', not 'significant' (character 4)"),
        ("f1 not significantly worse by", "after 'by' comes a number, and there it ends"),
        ("f1 not significantly worse by -0.1", "after 'by' comes a number, not '-0.1' (character 31)"),
        ("f1 not significantly worse by 2%", "after 'by' comes a number, not '2%' (character 31)"),
        ("f1 not significantly worse by 0.1 and", "after the margin comes nothing, not 'and' (character 35)"),
        ("f1 not significantly worse 0.1", "after 'not significantly worse' comes nothing but by and a number"),
        ("f1 significantly better than it", "comes nothing but by and a number, not 'than' (character 25)"),
        ("f1 significantly better by 1e999", "1e999 is too large a number"),
    ],
)
def test_what_is_no_condition_is_told_with_its_place_and_an_example(text: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_gate(text)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert "write" in str(error.value)


def test_a_measure_that_is_not_there_is_refused_with_the_nearest_one() -> None:
    known = ["recall@1", "recall@10", "ndcg@10"]
    assert parse_gate("ndcg@10 > baseline", known=known).metric == "ndcg@10"
    with pytest.raises(UsageError, match=r"names 'ndgc@10', which is not measured \(did you mean 'ndcg@10'\?\)"):
        parse_gate("ndgc@10 > baseline", known=known)
    with pytest.raises(UsageError, match="known: ndcg@10, recall@1, recall@10"):
        parse_gate("accuracy > baseline", known=known)


def test_the_data_set_stands_before_the_last_dot() -> None:
    gate = parse_gate("my.faq.token_f1 >= 0.3")
    assert (gate.dataset, gate.measure) == ("my.faq", "token_f1")
    gate = parse_gate("recall@10 > 0.3")
    assert (gate.dataset, gate.measure) == (None, "recall@10")


@given(GATES | STATEMENTS)
def test_what_is_written_is_read_as_the_same(gate: Gate) -> None:
    assert parse_gate(str(gate)) == gate


@given(
    st.text(alphabet="ab@.10 ><=+-e%/baseline\n", max_size=30)
    | st.lists(
        st.sampled_from(["f1", "not", "significantly", "worse", "better", "than", "baseline", "by", "0.1", ">"]),
        max_size=8,
    ).map(" ".join)
)
def test_any_text_is_read_or_refused_in_one_line(text: str) -> None:
    try:
        gate = parse_gate(text)
    except UsageError as error:
        assert "\n" not in str(error)
    else:
        assert parse_gate(str(gate)) == gate


@pytest.mark.parametrize(
    ("text", "value", "passed", "reason"),
    [
        ("recall@10 > baseline", 0.848, True, "recall@10 0.848 > baseline 0.794 (+0.054)"),
        ("recall@10 > baseline", 0.794, False, "recall@10 0.794 is not > baseline 0.794 (+0.000)"),
        ("recall@10 >= baseline", 0.794, True, "recall@10 0.794 >= baseline 0.794 (+0.000)"),
        ("recall@10 >= baseline", 0.79, False, "recall@10 0.790 is not >= baseline 0.794 (-0.004)"),
        ("recall@10 >= baseline - 0.01", 0.79, True, "recall@10 0.790 >= baseline 0.794 - 0.01 (-0.004)"),
        ("recall@10 > baseline + 0.1", 0.848, False, "recall@10 0.848 is not > baseline 0.794 + 0.1 (+0.054)"),
        ("loss < baseline", 0.7, True, "loss 0.700 < baseline 0.794 (-0.094)"),
        ("loss <= baseline", 0.8, False, "loss 0.800 is not <= baseline 0.794 (+0.006)"),
        ("recall@1 >= 0.6", 0.65, True, "recall@1 0.650 >= 0.6"),
        ("recall@1 >= 0.6", 0.599999, False, "recall@1 0.599999 is not >= 0.6"),
        ("recall@1 >= 0.6", math.nan, False, "recall@1 nan is not >= 0.6"),
        ("loss < 5", math.nan, False, "loss nan is not < 5"),
        ("loss < -5", -6.0, True, "loss -6.000 < -5"),
        ("recall@1 > baseline", 0.7941, True, "recall@1 0.7941 > baseline 0.7940 (+0.0001)"),
    ],
)
def test_verdicts_in_figures(text: str, value: float, passed: bool, reason: str) -> None:
    verdict = parse_gate(text).judge(value, baseline=0.794)
    assert (verdict.passed, verdict.reason) == (passed, reason)


@pytest.mark.parametrize(
    ("text", "interval", "passed"),
    [
        ("recall@10 > baseline", (0.031, 0.078), True),
        ("recall@10 > baseline", (0.0, 0.078), False),
        ("recall@10 > baseline", (-0.001, 0.078), False),
        ("recall@10 >= baseline", (0.0, 0.078), True),
        ("recall@10 >= baseline - 0.01", (-0.01, 0.078), True),
        ("recall@10 >= baseline - 0.01", (-0.02, 0.078), False),
        ("recall@10 > baseline + 0.02", (0.031, 0.078), True),
        ("recall@10 > baseline + 0.04", (0.031, 0.078), False),
        ("recall@10 < baseline + 0.06", (0.031, 0.078), False),
        ("recall@10 < baseline + 0.08", (0.031, 0.078), True),
        ("recall@10 <= baseline + 0.078", (0.031, 0.078), True),
    ],
)
def test_a_significant_comparison_holds_at_the_worse_end(
    text: str, interval: tuple[float, float], passed: bool
) -> None:
    gate = parse_gate(text)
    assert gate.judge(0.848, baseline=0.794, interval=interval).passed  # the means alone would do
    verdict = gate.judge(0.848, baseline=0.794, interval=interval, significant=True)
    assert verdict.passed == passed
    assert f"95 % {interval[0]:+.3f} to {interval[1]:+.3f}" in verdict.reason
    assert verdict.reason.endswith("end of the interval") != passed


def test_the_reason_of_the_issue() -> None:
    verdict = parse_gate("recall@10 > baseline").judge(0.848, baseline=0.794, interval=(0.031, 0.078), significant=True)
    assert verdict.reason == "recall@10 0.848 > baseline 0.794 (+0.054, 95 % +0.031 to +0.078)"


def test_an_end_that_is_nearly_zero_does_not_look_like_zero() -> None:
    verdict = parse_gate("f1 > baseline").judge(0.848, baseline=0.794, interval=(0.0003, 0.1), significant=True)
    assert verdict.passed
    assert "95 % +0.0003 to" in verdict.reason


def test_means_that_do_not_hold_are_not_saved_by_the_interval() -> None:
    verdict = parse_gate("recall@10 > baseline").judge(0.7, baseline=0.7, interval=(0.01, 0.02), significant=True)
    assert not verdict.passed


def test_a_comparison_with_a_number_needs_no_interval() -> None:
    assert parse_gate("recall@1 >= 0.6").judge(0.6, significant=True).passed


def test_rounding_decides_nothing() -> None:
    assert parse_gate("f1 >= 0.3").judge(0.1 + 0.2).passed
    assert not parse_gate("f1 > 0.3").judge(0.1 + 0.2).passed
    assert parse_gate("f1 >= baseline + 0.1").judge(0.3, baseline=0.2).passed


def test_a_missing_baseline_or_interval_is_told() -> None:
    with pytest.raises(UsageError, match="'f1 > baseline' asks for a baseline"):
        parse_gate("f1 > baseline").judge(0.5)
    with pytest.raises(UsageError, match="asks for an interval of the difference"):
        parse_gate("f1 > baseline").judge(0.5, baseline=0.4, significant=True)


@pytest.mark.parametrize(
    ("text", "interval", "differs", "passed", "said"),
    [
        # value 0.40, baseline 0.42; higher is better
        ("f1 not significantly worse", (-0.05, 0.01), None, True, "not significantly worse"),
        ("f1 not significantly worse", (-0.03, -0.01), None, False, "significantly worse"),
        ("f1 not significantly worse", (-0.03, -0.01), False, True, "not significantly worse"),  # the test decides
        ("f1 not significantly worse", (-0.05, 0.01), True, False, "significantly worse"),
        ("f1 not significantly worse by 0.02", (-0.03, -0.01), True, True, "not significantly worse by 0.02"),
        ("f1 not significantly worse by 0.005", (-0.03, -0.01), True, False, "significantly worse by 0.005"),
        ("f1 not significantly worse by 0.005", (-0.03, -0.01), False, True, "not significantly worse by 0.005"),
        ("f1 significantly better", (-0.03, -0.01), True, False, "not significantly better"),
        ("f1 significantly better", (0.01, 0.03), True, False, "not significantly better"),  # it is lower after all
        ("f1 significantly better", (-0.03, 0.01), None, False, "not significantly better"),
    ],
)
def test_a_statement_is_about_more_than_chance(
    text: str, interval: tuple[float, float], differs: bool | None, passed: bool, said: str
) -> None:
    verdict = parse_gate(text).judge(0.40, baseline=0.42, interval=interval, differs=differs)
    assert verdict.passed == passed
    assert verdict.reason.startswith("f1 0.400, baseline 0.420 (-0.020, 95 % ")
    assert verdict.reason.endswith(f"): {said}")


def test_better_is_lower_where_lower_is_better() -> None:
    better = parse_gate("loss significantly better")
    worse = parse_gate("loss not significantly worse")
    for differs in (True, None):
        falls = {"baseline": 2.5, "interval": (-0.6, -0.4), "differs": differs}
        assert better.judge(2.0, higher_is_better=False, **falls).passed
        assert worse.judge(2.0, higher_is_better=False, **falls).passed
        assert not better.judge(2.0, **falls).passed
        assert not worse.judge(2.0, **falls).passed


def test_a_margin_counts_towards_its_own_side() -> None:
    rises = {"baseline": 0.3, "interval": (0.05, 0.15), "differs": True}
    assert parse_gate("f1 significantly better by 0.04").judge(0.4, **rises).passed
    assert not parse_gate("f1 significantly better by 0.06").judge(0.4, **rises).passed
    assert parse_gate("f1 not significantly worse by 0.06").judge(0.4, **rises).passed


@pytest.mark.parametrize("operator", ["not significantly worse", "significantly better"])
@pytest.mark.parametrize(
    ("value", "interval"), [(math.nan, (0.1, 0.2)), (0.5, (math.nan, math.nan))], ids=["value", "interval"]
)
def test_what_is_no_number_meets_no_statement(operator: str, value: float, interval: tuple[float, float]) -> None:
    verdict = parse_gate(f"f1 {operator}").judge(value, baseline=0.4, interval=interval, differs=False)
    assert not verdict.passed
    assert verdict.reason.endswith("that is no number")


def test_the_words_name_the_confidence() -> None:
    verdict = parse_gate("f1 >= baseline").judge(0.5, baseline=0.4, interval=(0.05, 0.15), confidence=0.9)
    assert verdict.reason == "f1 0.500 >= baseline 0.400 (+0.100, 90 % +0.050 to +0.150)"
    verdict = parse_gate("f1 significantly better").judge(0.5, baseline=0.4, interval=(0.05, 0.15), confidence=0.9)
    assert verdict.reason == "f1 0.500, baseline 0.400 (+0.100, 90 % +0.050 to +0.150): significantly better"


def test_a_statement_needs_a_baseline_and_an_interval() -> None:
    with pytest.raises(UsageError, match="'f1 significantly better' asks for a baseline"):
        parse_gate("f1 significantly better").judge(0.5)
    with pytest.raises(UsageError, match="asks for an interval of the difference"):
        parse_gate("f1 not significantly worse").judge(0.5, baseline=0.4)


@given(GATES, NUMBER, NUMBER)
def test_opposite_conditions_never_hold_together(gate: Gate, value: float, baseline: float) -> None:
    opposite = {">": "<=", ">=": "<", "<": ">=", "<=": ">"}[gate.operator]
    other = Gate(metric=gate.metric, operator=opposite, number=gate.number, from_baseline=gate.from_baseline)  # type: ignore[arg-type]
    assert gate.judge(value, baseline=baseline).passed != other.judge(value, baseline=baseline).passed


def test_importing_it_loads_nothing_heavy() -> None:
    code = "import sys, genai.config.gates; print(any(name in sys.modules for name in ('numpy', 'torch', 'pydantic')))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"
