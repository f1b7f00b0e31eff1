"""Gates as JUnit XML, which CI systems show as tests: one test case a gate.

Source of the form: the Jenkins JUnit plugin's schema (testsuites, testsuite, testcase, failure, properties).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from genai.evaluation.records import EvalResult, GateOutcome, Measured
from genai.storage.atomic import write_bytes

_NO_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 has no way to say. Source: XML 1.0, section 2.2."""


def junit_xml(result: EvalResult) -> bytes:
    """An evaluation as JUnit XML in UTF-8: every gate is a test case, every target a class.

    Without gates the suite is empty, so that a CI system cannot take a run that judged nothing for one that passed.
    """
    failed = sum(not gate.passed for gate in result.gates)
    totals = {"tests": str(len(result.gates)), "failures": str(failed), "errors": "0", "time": f"{result.seconds:.3f}"}
    root = ElementTree.Element("testsuites", totals)
    suite = ElementTree.SubElement(root, "testsuite", {"name": _text(f"genai eval {result.run}"), **totals})
    properties = ElementTree.SubElement(suite, "properties")
    for name, value in _properties(result.measured):
        ElementTree.SubElement(properties, "property", {"name": _text(name), "value": _text(value)})
    for gate in result.gates:
        _case(suite, gate)
    ElementTree.indent(root)
    written: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return written + b"\n"


def write_junit(path: Path, result: EvalResult) -> None:
    """Write `junit_xml` into a file.

    Raises:
        GenaiError: the disk is full.
    """
    write_bytes(path, junit_xml(result))


def _case(suite: ElementTree.Element, gate: GateOutcome) -> None:
    case = ElementTree.SubElement(
        suite, "testcase", {"classname": _text(gate.target), "name": _text(gate.gate), "time": "0"}
    )
    if gate.passed:
        ElementTree.SubElement(case, "system-out").text = _text(gate.reason)
        return
    failure = ElementTree.SubElement(case, "failure", {"type": "gate", "message": _text(gate.reason)})
    failure.text = _text(f"{gate.gate}: {gate.reason}")


def _properties(measured: Sequence[Measured]) -> list[tuple[str, str]]:
    return [
        (f"{each.target} {each.name}", f"{each.value:.6g} ({each.low:.6g} to {each.high:.6g}, {each.num} examples)")
        for each in measured
    ]


def _text(text: str) -> str:
    return _NO_XML.sub("\N{REPLACEMENT CHARACTER}", text)
