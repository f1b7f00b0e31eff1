import json
from pathlib import Path
from typing import Any

import pytest

from genai.errors import UsageError
from genai.tracking import registry
from genai.tracking.lineage import Node, trace
from genai.tracking.run import RunDirectory


def write_run(
    runs_dir: Path, name: str, inputs: dict[str, Any], config: str = "", result: dict[str, Any] | None = None
) -> None:
    run = RunDirectory.open(runs_dir, name)
    run.write_config(config)
    run.write_inputs(inputs)
    run.write_result(result or {"losses": {}})
    run.set_status("done")


@pytest.fixture
def runs_dir(tmp_path: Path) -> Path:
    """A model that was tuned from one of another run, measured, and promoted."""
    model = {"reference": "gallery:smollm2-135m-instruct", "fingerprint": "sha256:gallery"}
    write_run(tmp_path, "base", {"model": model, "train": {"rows": 40, "fingerprint": "sha256:first rows"}})
    write_run(
        tmp_path,
        "faq-lora",
        {
            "model": {"reference": "runs:base", "fingerprint": "sha256:base"},
            "train": {"rows": 100, "fingerprint": "sha256:rows"},
            "eval": None,
            "tables": {"delta:faq": {"version": 3, "id": "abc"}},
        },
        config="train_loader: {dataset: {path: [data/faq.jsonl, data/more.jsonl]}}\n",
    )
    write_run(
        tmp_path,
        "faq-eval",
        {
            "targets": {"tuned": {"reference": "runs:faq-lora", "fingerprint": "sha256:tuned"}},
            "datasets": {"faq": {"path": "faq_test.jsonl", "fingerprint": "sha256:golden", "examples": 20}},
            "baseline": {"run": "gone-eval"},
        },
        config="datasets: [{name: faq, path: faq_test.jsonl}]\n",
        result={"kind": "eval", "gates": [{"passed": True}, {"passed": True}]},
    )
    registry.register(
        tmp_path,
        "faq",
        kind="causal_lm",
        model="runs:faq-lora",
        run="faq-lora",
        fingerprint="sha256:tuned",
        data_fingerprint="sha256:rows",
        tables={},
        metrics=[],
        tuned_from="runs:base",
        inputs={},
    )
    registry.set_alias(tmp_path, "faq", "production", 1, eval_run="faq-eval")
    return tmp_path


def walk(node: Node) -> list[Node]:
    return [node, *(each for parent in node.parents for each in walk(parent))]


def test_from_an_alias_to_the_data(runs_dir: Path) -> None:
    found = trace("registry:faq", runs_dir=runs_dir)
    assert (found.kind, found.name) == ("alias", "registry:faq@production")
    version, evaluation = found.parents
    assert (version.kind, version.name, version.facts["fingerprint"]) == ("version", "registry:faq@1", "sha256:tuned")
    assert (evaluation.kind, evaluation.name, evaluation.facts["gates"]) == ("evaluation", "faq-eval", "2 of 2 held")
    nodes = {(node.kind, node.name): node for node in walk(found)}
    assert nodes["data", "table delta:faq"].facts == {"version": "3", "id": "abc"}
    assert nodes["data", "dataset faq"].facts["fingerprint"] == "sha256:golden"
    assert nodes["data", "data/faq.jsonl"].facts["key"] == "train_loader.dataset.path.0"
    assert nodes["gone", "run gone-eval"].parents == ()
    assert nodes["model", "runs:faq-lora"].facts == {"as": "target tuned", "fingerprint": "sha256:tuned"}
    base = nodes["run", "base"]
    assert [node.name for node in base.parents] == ["gallery:smollm2-135m-instruct", "train"]
    assert base.parents[0].facts == {"fingerprint": "sha256:gallery"}
    way = [node.name for node in walk(version)]
    assert way.index("faq-lora") < way.index("runs:base") < way.index("base")


@pytest.mark.parametrize("reference", ["faq-lora", "runs:faq-lora", "runs:faq-lora/ba0000012", "faq-l"])
def test_from_a_run(runs_dir: Path, reference: str) -> None:
    found = trace(reference, runs_dir=runs_dir)
    assert (found.kind, found.name) == ("run", "faq-lora")


def test_from_a_version(runs_dir: Path) -> None:
    found = trace("registry:faq@1", runs_dir=runs_dir)
    assert found.kind == "version"
    assert [node.kind for node in found.parents] == ["run"]


def test_what_is_gone_is_said_to_be_gone(runs_dir: Path) -> None:
    for name in ("base", "faq-eval"):
        for file in (runs_dir / name).iterdir():
            file.unlink()
        (runs_dir / name).rmdir()
    nodes = [(node.kind, node.name) for node in walk(trace("registry:faq", runs_dir=runs_dir))]
    assert ("gone", "run base") in nodes and ("gone", "run faq-eval") in nodes


def test_runs_that_name_each_other_end(runs_dir: Path) -> None:
    write_run(runs_dir, "base", {"model": {"reference": "registry:faq@production", "fingerprint": "sha256:x"}})
    nodes = walk(trace("registry:faq", runs_dir=runs_dir))
    assert len(nodes) < 60
    json.dumps([node.name for node in nodes])


def test_a_version_that_nobody_registered(runs_dir: Path) -> None:
    write_run(runs_dir, "later", {"model": {"reference": "registry:fqa@7", "fingerprint": "sha256:x"}})
    (model,) = trace("later", runs_dir=runs_dir).parents
    assert [(node.kind, node.name) for node in model.parents] == [("gone", "registry:fqa@7")]
    with pytest.raises(UsageError, match="there is no model 'fqa'"):
        trace("registry:fqa", runs_dir=runs_dir)
    with pytest.raises(UsageError, match="there is no run 'nothing'"):
        trace("nothing", runs_dir=runs_dir)
