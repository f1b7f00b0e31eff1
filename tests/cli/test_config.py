from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
QUICKSTART = REPOSITORY / "configs" / "finetune" / "quickstart.yaml"
MAX_CPU_S = 0.6
MAX_LINES = 8

MODEL = "model: {pretrained_model_name_or_path: gallery:tiny}\n"
LOADER = "train_loader:\n  dataset:\n    path: data/train.jsonl\n"
JOB = MODEL + LOADER
"""Four lines: the first that a test adds is line 5."""


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Write `configs/finetune/x.yaml` into an empty working directory."""
    monkeypatch.chdir(tmp_path)

    def write_file(text: str, name: str = "configs/finetune/x.yaml") -> Path:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write_file


def test_validate(genai: Callable[..., Any], write: Callable[..., Path]) -> None:
    path = write(JOB)
    ended = genai("config", "validate", path, "seed=3")
    assert (ended.code, ended.out, ended.err) == (0, "configs/finetune/x.yaml: a valid finetune job\n", "")
    said = genai("config", "validate", path, "seed=3", "--json").json
    assert said == {
        "schema_version": 1,
        "path": "configs/finetune/x.yaml",
        "job": "finetune",
        "overrides": ["seed=3"],
        "valid": True,
    }


def test_the_job_is_found_by_folder_flag_or_keys(genai: Callable[..., Any], write: Callable[..., Path]) -> None:
    path = write(JOB, "elsewhere.yaml")
    assert genai("config", "validate", path).code == 0
    assert genai("config", "validate", path, "--job", "finetune").code == 0
    ended = genai("config", "validate", path, "--job", "finetun")
    assert (ended.code, ended.err) == (2, "error: unknown job 'finetun' (did you mean 'finetune'?)\n")


def test_a_warning_is_no_error(genai: Callable[..., Any], write: Callable[..., Path]) -> None:
    ended = genai("config", "validate", write(JOB + "    packing_ratio: 3\n"))
    assert ended.code == 0
    assert ended.err.startswith("configs/finetune/x.yaml:5:5: train_loader.dataset.packing_ratio has no effect: ")


@pytest.mark.parametrize(
    ("text", "overrides", "expected"),
    [
        # keys
        (
            JOB + "optimzer:\n  lr: 1e-4\n",
            [],
            [("x.yaml:5:1", "unknown key 'optimzer'", "did you mean 'optimizer'?")],
        ),
        (
            JOB + "optimizer:\n  name: adamw\n  leraning_rate: 1e-4\n",
            [],
            [("x.yaml:7:3", "unknown key 'optimizer.leraning_rate'", "keys here: name, lr, betas, eps, weight_decay")],
        ),
        (
            MODEL + "train_loader:\n  dataset:\n    pth: data/train.jsonl\n    formt: chat\n",
            [],
            [
                ("x.yaml:4:5", "unknown key 'train_loader.dataset.pth'", "did you mean 'path'?"),
                ("x.yaml:5:5", "unknown key 'train_loader.dataset.formt'", "did you mean 'format'?"),
            ],
        ),
        (JOB + "lr: 1e-4\n", [], [("x.yaml:5:1", "unknown key 'lr'", "did you mean 'optimizer.lr'?")]),
        (
            MODEL + "train_loader:\n  path: data/train.jsonl\n  dataset: {}\n",
            [],
            [("x.yaml:3:3", "unknown key 'train_loader.path'", "did you mean 'train_loader.dataset.path'?")],
        ),
        (LOADER, [], [("x.yaml:1:1", "'model' is missing", "write model: {pretrained_model_name_or_path: ...}")]),
        (
            "model:\n  name: hf_causal_lm\n" + LOADER,
            [],
            [("x.yaml:1:1", "'model.pretrained_model_name_or_path' is missing", "A model reference: gallery:NAME")],
        ),
        (JOB + "seed: 1\nseed: 2\n", [], [("x.yaml:6:1", "key 'seed' is written twice (first in line 5)", "keep one")]),
        # names of things
        (
            JOB + "optimizer:\n  name: adamm\n  lr: 1e-4\n",
            [],
            [
                (
                    "x.yaml:6:3",
                    "optimizer.name must be one of adamw, decoupled_adamw, decoupled_lionw, muon, not 'adamm'",
                    "'adamw'",
                )
            ],
        ),
        (
            JOB + "scheduler:\n  name: cosin_with_warmup\n",
            [],
            [("x.yaml:6:3", "scheduler.name must be one of", "did you mean 'cosine_with_warmup'?")],
        ),
        (
            JOB + "    format: chatt\n",
            [],
            [("x.yaml:5:5", "train_loader.dataset.format must be auto, chat,", "did you mean 'chat'?")],
        ),
        (
            JOB + "precision: bf16\n",
            [],
            [("x.yaml:5:1", "precision must be amp_bf16 or fp32, not 'bf16'", "'amp_bf16'")],
        ),
        (
            JOB + "export:\n  formats: [hf, guff]\n",
            [],
            [("x.yaml:6:17", "export.formats.1 must be hf or gguf, not 'guff'", "did you mean 'gguf'?")],
        ),
        # values
        (
            JOB + "optimizer:\n  lr: fast\n",
            [],
            [("x.yaml:6:3", "optimizer.lr must be a number above 0, not 'fast'", None)],
        ),
        (
            JOB + "optimizer:\n  lr: -1e-4\n  betas: [0.9, 1.1]\n",
            [],
            [
                ("x.yaml:6:3", "optimizer.lr must be a number above 0, not -1e-4", None),
                ("x.yaml:7:16", "optimizer.betas.1 must be a number between 0 and 1, not 1.1", None),
            ],
        ),
        (
            JOB + "optimizer:\n  lr: '1e-4'\n",
            [],
            [("x.yaml:6:3", "optimizer.lr must be a number above 0, not '1e-4'", "write 1e-4, without quotes")],
        ),
        (JOB + "seed: 1e3\n", [], [("x.yaml:5:1", "seed must be a whole number of 0 or more, not 1e3", "write 1000")]),
        (JOB + "compile: yes\n", [], [("x.yaml:5:1", "compile must be true or false, not 'yes'", "write true")]),
        (
            JOB + "run_name: 3.10\n",
            [],
            [("x.yaml:5:1", "run_name must be text or null, not 3.10", "put it in quotes: '3.10'")],
        ),
        (
            JOB + "max_duration: 12:30:00\n",
            [],
            [("x.yaml:5:1", "max_duration: '12:30:00' is not a duration: write a number and a unit: 3ep", None)],
        ),
        (JOB + "max_duration: 3\n", [], [("x.yaml:5:1", "max_duration must be a duration, not 3", "3ep (epochs)")]),
        (JOB + "save_interval: 0ba\n", [], [("x.yaml:5:1", "save_interval: '0ba' must be longer than zero", None)]),
        (
            "model: gallery:tiny\n" + LOADER,
            [],
            [
                (
                    "x.yaml:1:1",
                    "model must be a section of keys, not 'gallery:tiny'",
                    "write model: {pretrained_model_name_or_path: gallery:tiny}",
                )
            ],
        ),
        (
            JOB + "optimizer:\n",
            [],
            [
                (
                    "x.yaml:5:1",
                    "optimizer must be a section with name: adamw",
                    "indent its keys below it, or remove the line",
                )
            ],
        ),
        (
            JOB + "callbacks: [early_stopping]\n",
            [],
            [("x.yaml:5:1", "callbacks must be a section of keys, not a list of 1", None)],
        ),
        # YAML itself
        ("", [], [("x.yaml:1:1", "the file is empty", "genai recipes ls")]),
        ("- model\n", [], [("x.yaml:1:1", "a job file holds `key: value` lines", None)]),
        (JOB + "\tseed: 1\n", [], [("x.yaml:5:1", "a tab where spaces are needed", "indent with spaces")]),
        (JOB + "run_name: a: b\n", [], [("x.yaml:5:12", "unexpected ':'", "quote text that holds ': '")]),
        (JOB + "run_name: 'x\n", [], [("x.yaml:5:11", "a quote is not closed", None)]),
        # references, secrets, bases
        (
            "variables: {lr: 1e-4}\n" + JOB + "optimizer: {lr: '${variables.lrr}'}\n",
            [],
            [("x.yaml:6:13", "optimizer.lr: ${variables.lrr} stands for no key", "did you mean ${variables.lr}?")],
        ),
        (
            JOB + "run_name: ${oc.env:HOME}\n",
            [],
            [("x.yaml:5:1", "run_name: ${oc.env:...} is switched off", "write env:NAME where a secret is needed")],
        ),
        (
            JOB + "callbacks:\n  webhook:\n    url: https://u:pw@host/x\n",
            [],
            [("x.yaml:7:5", "callbacks.webhook.url holds what looks like a secret", "write env:NAME")],
        ),
        (JOB + "base: comon.yaml\n", [], [("x.yaml:5:1", "no such file: configs/finetune/comon.yaml", None)]),
        # fields held against each other
        (
            MODEL + "train_loader:\n  dataset:\n    format: chat\n",
            [],
            [("x.yaml:3:3", "train_loader.dataset names no data", "write path: FILE, or hf_name: DATASET")],
        ),
        (
            JOB + "eval_loader: {dataset: {path: e.jsonl}}\ndata: {split: {validation: 0.1}}\n",
            [],
            [("x.yaml:6:8", "data.split makes evaluation rows, and eval_loader names others", "keep one of them")],
        ),
        (
            JOB + "global_train_batch_size: 8\ndevice_train_microbatch_size: 3\n",
            [],
            [
                (
                    "x.yaml:6:1",
                    "global_train_batch_size of 8 cannot be divided into microbatches of 3",
                    "write 2, or auto",
                )
            ],
        ),
        # overrides
        (
            JOB,
            ["optimizer.lrr=1"],
            [("override 'optimizer.lrr=1'", "unknown key 'optimizer.lrr'", "did you mean 'lr'?")],
        ),
        (
            JOB,
            ["optimizer.lr=big", "sed=3"],
            [
                ("override 'optimizer.lr=big'", "optimizer.lr must be a number above 0, not 'big'", None),
                ("override 'sed=3'", "unknown key 'sed'", "did you mean 'seed'?"),
            ],
        ),
        (JOB, ["model=[x"], [("override 'model=[x'", "a '[' is not closed", None)]),
        (
            JOB + "seed: -1\n",
            ["export.formats.4=hf"],
            [
                ("x.yaml:5:1", "seed must be a whole number of 0 or more, not -1", None),
                ("override 'export.formats.4=hf'", "export.formats must be a list (of hf or gguf)", "the whole list"),
            ],
        ),
    ],
)
def test_wrong_configs(
    genai: Callable[..., Any],
    write: Callable[..., Path],
    text: str,
    overrides: list[str],
    expected: list[tuple[str, str, str | None]],
) -> None:
    ended = genai("config", "validate", write(text), *overrides)
    lines = ended.err.splitlines()
    assert ended.code == 2 and ended.out == ""
    assert len(lines) == len(expected) <= MAX_LINES, ended.err
    for line, (where, message, fix) in zip(lines, expected, strict=True):
        place = where if where.startswith("override") else f"configs/finetune/{where}"
        assert line.startswith(f"error: {place}: {message}"), line
        assert (fix or "") in line
    as_json = genai("config", "validate", write(text), *overrides, "--json")
    assert (as_json.code, as_json.err) == (2, "")
    error = as_json.json["error"]
    assert error["code"] == "config" and len(error.get("problems", [error])) == len(expected)


@pytest.mark.parametrize("verb", ["validate", "show"])
def test_a_missing_file_is_suggested(genai: Callable[..., Any], write: Callable[..., Path], verb: str) -> None:
    write(JOB)
    ended = genai("config", verb, "configs/finetune/y.yaml")
    assert ended.code == 2 and "no such file" in ended.err and "x.yaml" in ended.err
    assert genai("config", verb).code == 2


def test_show(genai: Callable[..., Any], write: Callable[..., Path]) -> None:
    path = write(JOB + "callbacks: {webhook: {url: env:HOOK}}\nvariables: {n: 3}\nseed: ${variables.n}\n")
    shown = genai("config", "show", path, "compile=true").out.splitlines()
    assert "seed: 3" in shown and "compile: true" in shown and "precision: amp_bf16" in shown
    assert "    url: 'env:HOOK'" in shown or "    url: env:HOOK" in shown
    with_origins = genai("config", "show", path, "compile=true", "--origins").out.splitlines()
    assert [line.split() for line in with_origins if line.startswith(("seed", "compile", "precision"))] == [
        ["seed:", "3", "#", "configs/finetune/x.yaml:7"],
        ["precision:", "amp_bf16", "#", "default"],
        ["compile:", "true", "#", "override"],
    ]
    said = genai("config", "show", path, "--origins", "--json").json
    assert said["config"]["seed"] == 3 and said["origins"]["precision"] == "default"
    assert "origins" not in genai("config", "show", path, "--json").json


def test_schema(genai: Callable[..., Any]) -> None:
    printed = json.loads(genai("config", "schema", "finetune").out)
    assert printed["title"] == "genai finetune"
    assert genai("config", "schema", "finetune", "--json").json["schema"] == printed
    assert genai("config", "schema", "finetun").code == 2


def test_explain(genai: Callable[..., Any]) -> None:
    whole = genai("config", "explain", "finetune").out
    assert "\noptimizer.lr [adamw, decoupled_adamw]: a number above 0; default 1.0e-05\n" in whole
    one = genai("config", "explain", "finetune.seed").out
    assert one == genai("config", "explain", "finetune", "seed").out == genai("config", "explain", "seed").out
    assert one.splitlines() == [
        "seed",
        "  Seed of everything random.",
        "  must be  a whole number of 0 or more",
        "  default  17",
    ]
    (key,) = genai("config", "explain", "seed", "--json").json["keys"]
    assert (key["key"], key["default"]) == ("seed", "17")
    ended = genai("config", "explain", "finetune.sed")
    assert (ended.code, ended.err) == (2, "error: finetune has no key 'sed' (did you mean 'seed'?)\n")


CLI = "import sys; from genai_cli.main import main; code = main(sys.argv[1:])"
HEAVY = ("torch", "transformers", "boto3", "numpy", "pandas", "mlflow", "datasets", "rich")


@pytest.mark.parametrize(
    "text", [JOB + "optimzer: {lr: 1}\n", "variables: {n: 3}\n" + JOB + "seed: ${variables.n}\nsed: 1\n"]
)
def test_a_mistake_costs_little(write: Callable[..., Path], text: str) -> None:
    """A wrong job file is reported by the whole command line, imports included, before anything heavy is loaded."""
    code = f"{CLI}; print(code, [name for name in {HEAVY} if name in sys.modules])"
    path = str(write(text))

    def run() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        words = [sys.executable, "-c", code, "config", "validate", path]
        ended = subprocess.run(words, capture_output=True, text=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert ended.stdout == "2 []\n" and "unknown key" in ended.stderr
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(run() for _ in range(2)) <= MAX_CPU_S


def test_every_shipped_job_file_is_valid(genai: Callable[..., Any]) -> None:
    assert QUICKSTART.exists()
    for path in REPOSITORY.glob("configs/*/*.yaml"):
        ended = genai("config", "validate", path)
        assert (ended.code, ended.err) == (0, ""), path


FOUNDRY = """\
max_duration: 10ba
model: {name: mpt_causal_lm, init_device: meta, attn_config: {alibi: true}, no_bias: true}
tokenizer: {name: org/tokenizer}
train_loader: {name: text, dataset: {local: x, shuffle: true}, num_workers: 8}
eval_interval: 1
eval_gauntlet: gauntlet.yaml
"""


def test_a_file_of_llm_foundrys_is_written_as_ours(genai: Callable[..., Any], tmp_path: Path) -> None:
    source, target = tmp_path / "theirs.yaml", tmp_path / "ours.yaml"
    source.write_text(FOUNDRY)
    shown = genai("config", "from-llmfoundry", source)
    assert shown.code == 0 and "# eval_gauntlet: gauntlet.yaml    <- not supported: " in shown.out
    written = genai("config", "from-llmfoundry", source, "-o", target, "--json")
    assert written.json["job"] == "pretrain"
    assert written.json["not_supported"] == ["eval_gauntlet"]
    assert written.json["translated"] == ["eval_interval"]
    assert target.read_text().rstrip() == shown.out.rstrip()
    assert genai("config", "validate", target).code == 0
    again = genai("config", "from-llmfoundry", source, "-o", target)
    assert again.code == 2 and "the file exists already" in again.err


def test_a_missing_file_of_llm_foundrys(genai: Callable[..., Any], tmp_path: Path) -> None:
    assert genai("config", "from-llmfoundry", tmp_path / "no.yaml").code == 2
