import json
import time

import pytest

from genai.errors import GateError
from genai.training.proofs.rendering import Piece, RenderedExample
from genai.training.proofs.result import ProofResult
from genai.training.proofs.runner import Proof, proof_key, run_proofs

EXAMPLE = RenderedExample(source="a:1", pieces=(Piece(text="Hé\n", trained=True, num_tokens=4),))


class Counted:
    """A proof that counts how often it is carried out."""

    def __init__(self, name, *, error=None, ok=True, wait_s=0.0):
        self.name, self.error, self.ok, self.wait_s, self.calls = name, error, ok, wait_s, 0

    def __call__(self):
        self.calls += 1
        time.sleep(self.wait_s)
        if self.error:
            raise GateError(self.error, fix="mend it")
        return ProofResult(name=self.name, ok=self.ok, details=("seen",), numbers={"x": 1.5}, examples=(EXAMPLE,))


def run(proofs, cache_dir, *, key="k", forget=(), **kwargs):
    listed = [Proof(name=proof.name, prove=proof, remember=proof.name not in forget) for proof in proofs]
    return run_proofs(listed, key=key, cache_dir=cache_dir, **kwargs)


def test_what_held_is_not_proved_again(tmp_path, log_lines):
    a, b = Counted("a"), Counted("b")
    first = run([a, b], tmp_path)
    second = run([a, b], tmp_path)
    assert (a.calls, b.calls) == (1, 1)
    assert [result.cached for result in second] == [True, True]
    assert second[0].examples == first[0].examples == (EXAMPLE,)
    assert second[0].details == ("seen",) and second[0].numbers == {"x": 1.5}
    assert "INFO: proof a: seen (0.0 s)" in log_lines and "INFO: proof a: held before (seen)" in log_lines


def test_another_key_is_another_matter(tmp_path):
    a = Counted("a")
    run([a], tmp_path, key="k1")
    run([a], tmp_path, key="k2")
    assert a.calls == 2


def test_what_changes_from_run_to_run_is_not_remembered(tmp_path):
    disk, a = Counted("disk"), Counted("a")
    for _ in range(2):
        run([disk, a], tmp_path, forget=["disk"])
    assert (disk.calls, a.calls) == (2, 1)


def test_all_refutations_are_reported_and_not_remembered(tmp_path):
    a, b, c = Counted("a", error="a leaks"), Counted("b"), Counted("c", error="c is lost")
    for _ in range(2):
        with pytest.raises(GateError) as caught:
            run([a, b, c], tmp_path)
        assert [problem.message for problem in caught.value.problems] == ["a leaks", "c is lost"]
        assert caught.value.exit_code == 3
    assert (a.calls, b.calls, c.calls) == (2, 1, 2)


def test_what_begins_after_the_budget_is_left_out_and_proved_next_time(tmp_path, log_lines):
    a, b = Counted("a", wait_s=0.05), Counted("b")
    results = run([a, b], tmp_path, budget_s=0.01)
    assert [result.ok for result in results] == [True, False]
    assert any(line.startswith("WARNING: proof b: left out") for line in log_lines)
    assert run([a, b], tmp_path)[1].ok
    assert (a.calls, b.calls) == (1, 1)


def test_what_was_not_carried_out_is_a_warning_and_not_remembered(tmp_path, log_lines):
    a = Counted("a", ok=False)
    for _ in range(2):
        run([a], tmp_path)
    assert a.calls == 2 and log_lines[0].startswith("WARNING: proof a: seen")


@pytest.mark.parametrize("content", ["", "[]", '{"a": {}}', '{"a": {"name": "a", "unknown": 1}}', "\x00"])
def test_a_broken_memory_is_none(tmp_path, content):
    (tmp_path / "proofs").mkdir()
    (tmp_path / "proofs/k.json").write_text(content)
    a = Counted("a")
    run([a], tmp_path)
    assert a.calls == 1
    assert json.loads((tmp_path / "proofs/k.json").read_text())["a"]["ok"]


def test_the_key_depends_on_every_fingerprint():
    keys = {proof_key("a", "b"), proof_key("b", "a"), proof_key("a", "c"), proof_key("a")}
    assert len(keys) == 4
    assert proof_key("a", "b") == proof_key("a", "b")
