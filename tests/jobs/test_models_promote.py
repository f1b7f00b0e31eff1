import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from evaluated_runs import answers, write_run

from genai.errors import DataError, GateError, UsageError
from genai.jobs.models_promote import promote, rollback
from genai.models.fingerprint import fingerprint
from genai.tracking import registry
from genai.tracking.lineage import Node, trace
from genai.tracking.run import RunDirectory

HELD = ["faq.token_f1 >= 0.1", "cost_usd <= 1"]
BROKEN = ["faq.token_f1 >= 0.1", "faq.token_f1 >= 0.99"]


def train(
    runs_dir: Path, name: str, config: str = '{"model_type": "llama", "architectures": ["LlamaForCausalLM"]}'
) -> str:
    """A run with a model in it; gives its fingerprint."""
    run = RunDirectory.open(runs_dir, name)
    run.write_inputs(
        {
            "model": {"reference": "gallery:smollm2-135m-instruct", "fingerprint": "sha256:base"},
            "train": {"rows": 40, "fingerprint": f"sha256:rows of {name}"},
            "tables": {"delta:faq": {"version": 3}},
        }
    )
    run.write_result({"losses": {"after": 2.0}})
    run.model.mkdir()
    (run.model / "config.json").write_text(config)
    (run.model / "model.safetensors").write_bytes(name.encode() * 100)
    run.set_status("done")
    return fingerprint(run.model)


def evaluate(runs_dir: Path, name: str, model: str, weights: str, gates: Sequence[str] = HELD) -> None:
    """A run of `genai eval` that measured a model."""
    noted = {"tuned": {"reference": model, "fingerprint": weights}}
    write_run(runs_dir, name, {"tuned": answers([True, False] * 4)}, gates=gates, targets=noted)


def state(runs_dir: Path) -> dict[str, bytes]:
    folder = registry.registry_folder(runs_dir)
    return {str(path): path.read_bytes() for path in folder.rglob("*.json")}


def walk(node: Node) -> list[Node]:
    return [node, *(each for parent in node.parents for each in walk(parent))]


def test_gates_that_held_register_the_model_and_move_the_alias(tmp_path: Path) -> None:
    weights = train(tmp_path, "faq-lora")
    evaluate(tmp_path, "faq-eval", "runs:faq-lora", weights)
    done = promote("faq", require_eval="faq-eval", runs_dir=tmp_path)
    assert (done.version, done.before, done.registered, done.eval_run) == (1, None, True, "faq-eval")
    assert done.gates == ("faq.token_f1 0.571 >= 0.1", "cost_usd 0.020 <= 1")
    version = registry.find(tmp_path, "faq")
    assert (version.kind, version.model, version.run) == ("causal_lm", "runs:faq-lora", "faq-lora")
    assert (version.fingerprint, version.data_fingerprint) == (weights, "sha256:rows of faq-lora")
    assert (version.tuned_from, version.tables) == ("gallery:smollm2-135m-instruct", {"delta:faq": {"version": 3}})
    assert [each["metric"] for each in version.metrics] == ["faq.exact_match", "faq.token_f1", "faq.latency_s"]
    names = [(node.kind, node.name) for node in walk(trace("registry:faq", runs_dir=tmp_path))]
    for node in (
        ("version", "registry:faq@1"),
        ("run", "faq-lora"),
        ("data", "train"),
        ("data", "table delta:faq"),
        ("evaluation", "faq-eval"),
    ):
        assert node in names
    again = promote("faq", require_eval="faq-eval", runs_dir=tmp_path)
    assert (again.version, again.before, again.registered) == (1, 1, False)


def test_the_version_that_was_measured_is_promoted_and_rolled_back(tmp_path: Path) -> None:
    for number, run in enumerate(("first", "second"), start=1):
        weights = train(tmp_path, run)
        evaluate(tmp_path, f"eval-{number}", f"runs:{run}", weights)
        promote("faq", alias="staging", require_eval=f"eval-{number}", runs_dir=tmp_path)
    assert registry.aliases(tmp_path, "faq") == {"staging": 2}
    done = promote("faq", require_eval="eval-1", runs_dir=tmp_path)
    assert (done.alias, done.version, done.registered) == ("production", 1, False)
    done = promote("faq@2", require_eval="eval-2", runs_dir=tmp_path)
    assert (done.version, done.before) == (2, 1)
    back = rollback("faq", runs_dir=tmp_path)
    assert (back.version, back.before, back.model, back.eval_run) == (1, 2, "runs:first", "eval-1")
    with pytest.raises(UsageError, match="never named another version than 1"):
        rollback("faq", runs_dir=tmp_path)


def test_a_version_is_known_by_a_reference_that_names_nothing_else(tmp_path: Path) -> None:
    weights = train(tmp_path, "first")
    evaluate(tmp_path, "eval-1", "runs:first", weights)
    promote("faq", alias="staging", require_eval="eval-1", runs_dir=tmp_path)
    evaluate(tmp_path, "eval-2", "registry:faq@1", "sha256:of all that an answer depends on")
    assert promote("faq", require_eval="eval-2", runs_dir=tmp_path).version == 1
    evaluate(tmp_path, "eval-3", "registry:faq@production", "sha256:of all that an answer depends on")
    with pytest.raises(GateError, match="which is no version of 'faq'"):
        promote("faq", alias="next", require_eval="eval-3", runs_dir=tmp_path)


def test_an_encoder_and_a_ranker_are_known_by_their_files(tmp_path: Path) -> None:
    ranker = '{"model_type": "bert", "architectures": ["BertForSequenceClassification"]}'
    for name, config in (("ranker", ranker), ("encoder", '{"model_type": "bert"}')):
        train(tmp_path, name, config)
    (tmp_path / "encoder" / "model" / "modules.json").write_text("[]")
    for name, kind in (("ranker", "cross_encoder"), ("encoder", "sentence_encoder")):
        evaluate(tmp_path, f"{name}-eval", f"runs:{name}", fingerprint(tmp_path / name / "model"))
        promote(name, require_eval=f"{name}-eval", runs_dir=tmp_path)
        assert registry.find(tmp_path, name).kind == kind


@pytest.mark.parametrize(
    ("gates", "message"),
    [
        (BROKEN, "1 of 2 gates do not hold: faq.token_f1 0.571 is not >= 0.99"),
        ([], "has no gates for tuned"),
    ],
    ids=["broken", "none"],
)
def test_without_gates_that_held_nothing_changes(tmp_path: Path, gates: list[str], message: str) -> None:
    weights = train(tmp_path, "first")
    evaluate(tmp_path, "good", "runs:first", weights)
    promote("faq", require_eval="good", runs_dir=tmp_path)
    before = state(tmp_path)
    evaluate(tmp_path, "bad", "runs:second", train(tmp_path, "second"), gates)
    with pytest.raises(GateError) as caught:
        promote("faq", require_eval="bad", runs_dir=tmp_path)
    assert message in caught.value.message
    assert caught.value.exit_code == 3
    assert state(tmp_path) == before


def test_a_baseline_has_no_gates(tmp_path: Path) -> None:
    weights = train(tmp_path, "first")
    noted = {"base": {"reference": "runs:first", "fingerprint": weights}}
    scored = {"base": answers([True] * 4), "tuned": answers([True] * 4)}
    write_run(tmp_path, "both", scored, baseline="base", gates=["cost_usd <= 1"], targets=noted)
    with pytest.raises(GateError, match="has no gates for base"):
        promote("faq", require_eval="both/base", runs_dir=tmp_path)
    assert state(tmp_path) == {}


def test_another_model_than_the_one_that_was_measured_is_refused(tmp_path: Path) -> None:
    weights = train(tmp_path, "first")
    evaluate(tmp_path, "eval-1", "runs:first", weights)
    promote("faq", require_eval="eval-1", runs_dir=tmp_path)
    evaluate(tmp_path, "eval-2", "runs:second", train(tmp_path, "second"))
    before = state(tmp_path)
    with pytest.raises(GateError, match="'eval-2' measured runs:second, not registry:faq@1") as caught:
        promote("faq@1", require_eval="eval-2", runs_dir=tmp_path)
    assert caught.value.fix == "evaluate it: genai eval CONFIG.yaml target.model=registry:faq@1"
    assert state(tmp_path) == before


def test_a_model_that_changed_since_is_refused(tmp_path: Path) -> None:
    weights = train(tmp_path, "first")
    evaluate(tmp_path, "eval-1", "runs:first", weights)
    (tmp_path / "first" / "model" / "model.safetensors").write_bytes(b"other weights")
    with pytest.raises(GateError, match="no longer what the evaluation 'eval-1' measured"):
        promote("faq", require_eval="eval-1", runs_dir=tmp_path)
    assert state(tmp_path) == {}
    (tmp_path / "first" / "model" / "model.safetensors").write_bytes(b"first" * 100)
    promote("faq", require_eval="eval-1", runs_dir=tmp_path)
    (tmp_path / "first" / "model" / "model.safetensors").write_bytes(b"other weights")
    with pytest.raises(DataError, match="no longer what was registered"):
        promote("faq", alias="next", require_eval="eval-1", runs_dir=tmp_path)
    assert registry.aliases(tmp_path, "faq") == {"production": 1}


def test_an_endpoint_is_no_model_of_a_run(tmp_path: Path) -> None:
    evaluate(tmp_path, "eval-1", "http://127.0.0.1:8080 assistant", "unknown")
    with pytest.raises(GateError, match=r"measured http://127\.0\.0\.1:8080 assistant, which is no version"):
        promote("faq", require_eval="eval-1", runs_dir=tmp_path)
    assert state(tmp_path) == {}


def test_an_evaluation_that_did_not_end_promotes_nothing(tmp_path: Path) -> None:
    run = RunDirectory.open(tmp_path, "eval-1")
    run.set_status("failed", "no answers")
    with pytest.raises(GateError, match="'eval-1' has no result"):
        promote("faq", require_eval="eval-1", runs_dir=tmp_path)
    train(tmp_path, "first")
    with pytest.raises(DataError, match="no result of genai eval"):
        promote("faq", require_eval="first", runs_dir=tmp_path)
    with pytest.raises(UsageError, match="there is no run 'eval-7'"):
        promote("faq", require_eval="eval-7", runs_dir=tmp_path)
    assert state(tmp_path) == {}


def test_without_an_evaluation_a_version_must_be_named(tmp_path: Path) -> None:
    evaluate(tmp_path, "eval-1", "runs:first", train(tmp_path, "first"))
    promote("faq", alias="staging", require_eval="eval-1", runs_dir=tmp_path)
    with pytest.raises(UsageError, match="'faq' names no version") as caught:
        promote("faq", runs_dir=tmp_path)
    assert caught.value.fix == "write faq@VERSION, or --require-eval RUN for the version that it measured"
    done = promote("faq@staging", alias="production", runs_dir=tmp_path)
    assert (done.version, done.eval_run, done.gates) == (1, None, ())
    json.dumps(done.to_json())
    for name, alias in (("../faq", "production"), ("faq@1", "2")):
        with pytest.raises(UsageError, match="cannot be used as a name"):
            promote(name, alias=alias, require_eval="eval-1", runs_dir=tmp_path)
