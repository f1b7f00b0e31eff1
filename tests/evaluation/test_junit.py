from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from evaluated_runs import HOSTILE, answers, result_of

from genai.evaluation.junit import junit_xml, write_junit
from genai.evaluation.records import EvalResult, GateOutcome
from genai.tracking.run import RunDirectory


@pytest.fixture
def result(tmp_path: Path) -> EvalResult:
    run = RunDirectory.open(tmp_path, "faq-eval")
    return result_of(run, {"tuned": answers([True, False] * 4)}, gates=["faq.token_f1 >= 0.1", "faq.token_f1 >= 0.9"])


def test_every_gate_is_a_test_case(result: EvalResult) -> None:
    root = ElementTree.fromstring(junit_xml(result))
    suite = root.find("testsuite")
    assert suite is not None
    for node in (root, suite):
        assert (node.get("tests"), node.get("failures"), node.get("errors")) == ("2", "1", "0")
    held, broken = suite.findall("testcase")
    assert (held.get("classname"), held.get("name")) == ("tuned", "faq.token_f1 >= 0.1")
    assert held.find("failure") is None
    failure = broken.find("failure")
    assert failure is not None
    assert failure.get("message") == result.gates[1].reason
    names = [each.get("name") for each in suite.iter("property")]
    assert names == ["tuned faq.exact_match", "tuned faq.token_f1", "tuned faq.latency_s"]


def test_texts_cannot_be_markup_and_what_xml_cannot_say_is_replaced(result: EvalResult, tmp_path: Path) -> None:
    gate = GateOutcome(gate=f'a "b" {HOSTILE}', target="]]>\x00\x1b[31m\ud800\ufffe", passed=False, reason="& < >")
    write_junit(tmp_path / "out" / "gates.xml", replace(result, gates=(gate,)))
    text = (tmp_path / "out" / "gates.xml").read_text(encoding="utf-8")
    assert "<script>" not in text
    case = next(ElementTree.fromstring(text.encode()).iter("testcase"))
    assert case.get("name") == gate.gate
    assert case.get("classname") == "]]>\ufffd\ufffd[31m\ufffd\ufffd"


def test_without_gates_no_test_has_passed(result: EvalResult) -> None:
    root = ElementTree.fromstring(junit_xml(replace(result, gates=())))
    assert root.get("tests") == "0"
    assert list(root.iter("testcase")) == []
