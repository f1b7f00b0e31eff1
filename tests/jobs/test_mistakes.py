"""What a newcomer gets wrong, through the real command line: a few lines with the place, the cause and the way out."""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from genai_cli.main import main

pytestmark = pytest.mark.integration

MAX_LINES = 8
MAX_CPU_S = 0.6
MAX_STARTS = 30
"""The same as a multiple of what starting Python takes, which is 0.03 CPU-seconds on an ordinary core."""
HEAVY = {"torch", "transformers", "peft", "safetensors", "boto3"}

RECORD_MODULES = """
import atexit, pathlib, sys
atexit.register(lambda: pathlib.Path("modules.txt").write_text(" ".join(sys.modules)))
"""
FILES = {
    "empty.jsonl": "",
    "wrong_role.jsonl": '{"messages": [{"role": "usr", "content": "a"}, {"role": "assistant", "content": "b"}]}\n',
    "wrong_key.jsonl": '{"prompt": "what is it ?", "respones": "it is a beam"}\n',
    "torn.jsonl": '{"prompt": "what is it ?", "response": "it is a beam"}\n{"prompt": "what',
    "no_answer.jsonl": '{"messages": [{"role": "user", "content": "what is it ?"}]}\n',
    "notes.docx": "PK",
}


@dataclass(frozen=True)
class Mistake:
    """A wrong job file, and the lines that it must give."""

    changes: dict[str, Any]
    """Dotted keys of the job file."""
    says: tuple[str, ...]
    """Of each line the key whose place it names, a space, and words of the message in their order."""
    heavy: bool = False
    """Only the tokenizer or the model's config can tell, so that torch is loaded."""
    prelude: str = ""
    cheap: bool = True
    """Whether it must be told within MAX_CPU_S."""


def without(*packages: str) -> str:
    return "import sys\n" + "".join(f"sys.modules[{package!r}] = None\n" for package in packages)


DATA = "train_loader.dataset"
MODEL = "model.pretrained_model_name_or_path"
MISTAKES = {
    "missing-data-path": Mistake(
        {f"{DATA}.path": "row.jsonl"}, (f"{DATA}.path row.jsonl: no such file … 'rows.jsonl'",)
    ),
    "empty-file": Mistake({f"{DATA}.path": "empty.jsonl"}, (f"{DATA}.path empty.jsonl: the file is empty",)),
    "unknown-alias": Mistake(
        {MODEL: "gallery:smolm2-135m-instruct"}, (f"{MODEL} no model … did you mean 'gallery:smollm2-135m-instruct'",)
    ),
    "wrong-role": Mistake(
        {f"{DATA}.path": "wrong_role.jsonl"}, (f"{DATA} wrong_role.jsonl:1: … role 'usr' (did you mean 'user'?",)
    ),
    "wrong-key-in-rows": Mistake(
        {f"{DATA}.path": "wrong_key.jsonl"}, (f"{DATA} wrong_key.jsonl:1: … prompt, respones … response: respones",)
    ),
    "torn-row": Mistake(
        {f"{DATA}.path": "torn.jsonl"},
        ("data.split.validation validation of 12 takes all 1 rows", f"{DATA} torn.jsonl:2:"),
    ),
    "no-answer": Mistake({f"{DATA}.path": "no_answer.jsonl"}, (f"{DATA} no_answer.jsonl:1: … assistant",)),
    "wrong-file-type": Mistake({f"{DATA}.path": "notes.docx"}, (f"{DATA}.path notes.docx … jsonl",)),
    "wrong-column": Mistake({f"{DATA}.columns": {"promt": "q"}}, (f"{DATA}.columns.promt … did you mean 'prompt'?",)),
    "column-not-there": Mistake(
        {f"{DATA}.columns": {"prompt": "quest"}}, (f"{DATA}.columns rows.jsonl:1: … 'quest' (the columns are",)
    ),
    "misspelt-optimizer": Mistake(
        {"optimizer.name": "decoupled_adamv"}, ("optimizer.name … did you mean 'decoupled_adamw'?",)
    ),
    "misspelt-scheduler": Mistake({"scheduler.name": "cosin_with_warmup"}, ("scheduler.name … 'cosine_with_warmup'?",)),
    "misspelt-key": Mistake({"max_sequence_len": 64}, ("max_sequence_len unknown key … did you mean 'max_seq_len'?",)),
    "misspelt-key-below": Mistake(
        {"model.peft_config.lora_drop": 0.1}, ("model.peft_config.lora_drop unknown key … 'lora_dropout'?",)
    ),
    "wrong-duration": Mistake(
        {"max_duration": "3epochs"}, ("max_duration … '3epochs' is not a duration … 3ep (epochs)",)
    ),
    "wrong-type": Mistake({"seed": "abc"}, ("seed seed must be a whole number",)),
    "wrong-model-folder": Mistake({MODEL: "modle"}, (f"{MODEL} there is no folder 'modle' (did you mean 'model'?",)),
    "folder-without-a-model": Mistake({MODEL: "no-model"}, (f"{MODEL} no-model is no model: config.json is missing",)),
    "wrong-adapter": Mistake(
        {"model.peft_config": None, "model.adapter": "nowhere"}, ("model.adapter there is no adapter at nowhere",)
    ),
    "wrong-load-path": Mistake({"load_path": "runs:never"}, ("load_path there are no checkpoints in … never",)),
    "wrong-tokenizer-argument": Mistake(
        {"tokenizer.kwargs": {"paddding_side": "left"}},
        ("tokenizer.kwargs.paddding_side … did you mean 'padding_side'?",),
    ),
    "code-not-allowed": Mistake({"model.trust_remote_code": True}, ("model.trust_remote_code … --allow-code",)),
    "broken-chat-template": Mistake(
        {"tokenizer.chat_template": "{% for m in messages %}{{ m['contnt'].strip() }}{% endfor %}"},
        ("tokenizer the chat template failed: … (see tokenizer.chat_template)",),
        heavy=True,
    ),
    "a-secret": Mistake(
        {"callbacks.webhook": {"url": "https://hooks.slack.com/services/T0/B0/x"}},
        ("callbacks.webhook.url … looks like a secret (write env:NAME",),
    ),
    "missing-extra": Mistake(
        {"loggers.mlflow": {}},
        ("loggers.mlflow … 'mlflow', which is not installed (pip install 'genai-foundry[mlflow]'",),
        prelude=without("mlflow"),
    ),
    "data-set-argument": Mistake(
        {f"{DATA}.path": "hf:json", f"{DATA}.hf_kwargs": {"data_files": "rows.jsonl", "feild": "x"}},
        (f"{DATA}.hf_kwargs hf:json: … 'feild'",),
        cheap=False,
    ),
    "four-at-once": Mistake(
        {"max_duration": "3e", "optimizer.lrr": 1, "seed": -1, f"{DATA}.pth": "x"},
        ("max_duration '3e'", "optimizer.lrr 'lr'", "seed of 0 or more", f"{DATA}.pth 'path'"),
    ),
    "several-that-only-the-folders-tell": Mistake(
        {MODEL: "modle", f"{DATA}.path": "row.jsonl", "model.adapter": "x", "model.peft_config": None},
        (f"{MODEL} 'modle'", "model.adapter no adapter", f"{DATA}.path row.jsonl"),
    ),
    "targets-that-match-nothing": Mistake(
        {"model.peft_config.target_modules": ["q_prj", "v_proj"]},
        ("model.peft_config.target_modules 'q_prj' matches nothing … did you mean 'q_proj'?",),
        heavy=True,
    ),
    "wrong-config-overrides": Mistake(
        {"model.config_overrides": {"attention_dropuot": 0.1, "hidden_act": 3}},
        (
            "model.config_overrides.attention_dropuot … did you mean 'attention_dropout'?",
            "model.config_overrides.hidden_act must be str",
        ),
        heavy=True,
    ),
    "wrong-chat-template": Mistake(
        {"tokenizer.chat_template": "nowhere.jinja"}, ("tokenizer.chat_template there is no chat … 'nowhere.jinja'",)
    ),
}


@dataclass(frozen=True)
class Told:
    """What a command line said, and what it cost."""

    code: int
    out: str
    err: str
    cpu_s: float
    modules: set[str] = field(repr=False)

    @property
    def errors(self) -> list[str]:
        return [line.removeprefix("error: ") for line in self.err.splitlines() if line.startswith("error: ")]


@pytest.fixture(scope="module")
def place(make_job: Callable[[Path], Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    job = make_job(tmp_path_factory.mktemp("mistakes"))
    for name, text in FILES.items():
        (job.folder / name).write_text(text)
    (job.folder / "no-model").mkdir()
    return job


@pytest.fixture
def tell(place: Any) -> Callable[..., Told]:
    """Run `genai finetune WORDS` in the folder of the job."""

    def run(*words: str, prelude: str = "") -> Told:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        ended: subprocess.CompletedProcess[str] = place.genai("finetune", *words, prelude=RECORD_MODULES + prelude)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        modules = set((place.folder / "modules.txt").read_text().split())
        return Told(ended.returncode, ended.stdout, ended.stderr, cpu_s, modules)

    return run


def cpu_of_python() -> float:
    """CPU-seconds of `python -c pass`."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def write(place: Any, changes: dict[str, Any]) -> None:
    """tiny.yaml with dotted keys changed."""
    path = place.write(model={}, train_loader={})
    config = yaml.safe_load(path.read_text())
    config["model"] = {"pretrained_model_name_or_path": "model", "peft_config": {"target_modules": ["q_proj"]}}
    config["train_loader"] = {"dataset": {"path": "rows.jsonl"}}
    for key, value in changes.items():
        *parents, last = key.split(".")
        section = config
        for name in parents:
            section = section.setdefault(name, {})
        section[last] = value
    path.write_text(yaml.safe_dump(config, sort_keys=False))


def where(path: Path, key: str) -> str:
    """file:line:column of a key, found by the YAML library's own marks."""
    node = yaml.compose(path.read_text())
    for name in key.split("."):
        mark, node = next((k.start_mark, v) for k, v in node.value if k.value == name)
    return f"{path.name}:{mark.line + 1}:{mark.column + 1}"


def assert_says(error: str, expected: str, path: Path) -> None:
    key, _, words = expected.partition(" ")
    place, _, message = error.partition(": ")
    assert place == where(path, key), error
    pattern = ".*".join(re.escape(part.strip()) for part in words.split("…"))
    assert re.search(pattern, message), error


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_told_in_a_few_lines_with_place_cause_and_fix(place: Any, tell: Any, name: str) -> None:
    mistake = MISTAKES[name]
    write(place, mistake.changes)
    told = tell("tiny.yaml", prelude=mistake.prelude)
    assert told.code == 2, told.err
    assert told.out == ""
    assert len(told.err.splitlines()) <= MAX_LINES, told.err
    assert len(told.errors) == len(mistake.says), told.err
    for error, expected in zip(told.errors, mistake.says, strict=True):
        assert_says(error, expected, place.folder / "tiny.yaml")
    if not mistake.heavy:
        assert not told.modules & HEAVY
    if not mistake.heavy and mistake.cheap:
        costs = [told.cpu_s]
        starts = [cpu_of_python()]
        while min(costs) > MAX_CPU_S and len(costs) < 4:
            costs.append(tell("tiny.yaml", prelude=mistake.prelude).cpu_s)
            starts.append(cpu_of_python())
        # On a core that two busy threads share everything takes twice the CPU time, Python's own start too.
        assert min(costs) <= MAX_CPU_S or sum(costs) <= MAX_STARTS * sum(starts), (costs, starts)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("trainer.device=cpu", "unknown key 'trainer'"),
        ("max_sequence_len=64", "did you mean 'max_seq_len'?"),
        ("optimizer.lr=fast", "optimizer.lr must be"),
        (f"{DATA}.path=row.jsonl", "no such file"),
    ],
)
def test_a_wrong_override_is_named(place: Any, tell: Any, override: str, says: str) -> None:
    write(place, {})
    told = tell("tiny.yaml", override)
    assert told.code == 2
    [error] = told.errors
    assert error.startswith(f"override '{override}': ")
    assert says in error
    assert not told.modules & HEAVY


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("tyny.yaml",), r"tyny\.yaml: no such file \(did you mean 'tiny\.yaml'\?\)"),
        ((), "a job file is missing"),
        (("broken.yaml",), r"broken\.yaml:1:\d+: "),
        (("tabs.yaml",), r"tabs\.yaml:2:1: "),
        (("tiny.yaml", "--dryrun"), "--dry-run"),
        (("tiny.yaml", "--run-name", "a/b"), "'a/b' cannot be used as a "),
    ],
    ids=["missing-file", "no-file", "not-yaml", "tabs", "flag", "run-name"],
)
def test_a_command_line_that_leads_nowhere(place: Any, tell: Any, words: tuple[str, ...], says: str) -> None:
    write(place, {})
    (place.folder / "broken.yaml").write_text("model: [1, 2")
    (place.folder / "tabs.yaml").write_text("model:\n\tpretrained_model_name_or_path: model\n")
    told = tell(*words)
    assert told.code == 2
    [error] = told.errors
    assert re.search(says, error), error
    assert not told.modules & HEAVY


def test_a_missing_secret_names_the_variable_and_is_told_before_training(place: Any, tell: Any) -> None:
    write(place, {"callbacks.webhook": {"url": "env:NO_SUCH_HOOK"}})
    told = tell("tiny.yaml")
    assert told.code == 4
    [error] = told.errors
    assert "NO_SUCH_HOOK is not set (export NO_SUCH_HOOK=" in error
    assert "torch" not in told.modules


@pytest.mark.parametrize("name", [name for name, mistake in MISTAKES.items() if not (mistake.heavy or mistake.prelude)])
def test_under_json_it_is_one_object(
    place: Any, name: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    mistake = MISTAKES[name]
    write(place, mistake.changes)
    monkeypatch.chdir(place.folder)
    capfd.readouterr()
    assert main(["finetune", "tiny.yaml", "--json", "--quiet"]) == 2
    captured = capfd.readouterr()
    error = json.loads(captured.out)["error"]
    assert set(error) <= {"code", "message", "where", "fix", "problems"}
    assert error["code"] == "config"
    assert error["where"] == where(place.folder / "tiny.yaml", mistake.says[0].partition(" ")[0])
    assert len(error.get("problems", [error])) == len(mistake.says)
    assert captured.err == ""


def test_a_mistake_leaves_nothing_behind(place: Any, tell: Any) -> None:
    write(place, {MODEL: "modle", "run_name": "never"})
    assert tell("tiny.yaml").code == 2
    assert not os.path.exists(place.folder / "runs" / "never")
