from __future__ import annotations

import errno
import os
import resource
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from genai import __version__
from genai.errors import ConfigError, CredentialsError, GateError, GenaiError, MissingExtraError, Problem, StoppedError
from genai_cli import main as main_module
from genai_cli.main import VERBS, main
from genai_cli.options import JobGroup, common_options, job_options
from genai_cli.output import Output

from_shell = (sys.executable, "-m", "genai_cli.main")


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Callable[[], Any]], None]]:
    """Make `genai planted` carry out a function."""

    def plant(action: Callable[[], Any]) -> None:
        @click.command("planted")
        @common_options
        def command(output: Output) -> None:
            action()

        monkeypatch.setattr(main_module, "planted_command", command, raising=False)
        monkeypatch.setitem(VERBS, "planted", ("main:planted_command", "For a test."))

    yield plant


def raises(error: BaseException) -> Callable[[], None]:
    def action() -> None:
        raise error

    return action


# --- help -------------------------------------------------------------------------------------------------------------


def _cpu_s(*command: str) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_help_costs_at_most_a_tenth_of_a_cpu_second() -> None:
    extra = [_cpu_s(*from_shell, "--help") - _cpu_s(sys.executable, "-c", "pass") for _ in range(7)]
    assert statistics.median(extra) <= 0.10


@pytest.mark.parametrize("words", [["--help"], ["-h"], ["--version"], ["finetune", "--help"], ["finetun"]])
def test_nothing_heavy_is_imported_for_words_that_do_nothing(words: list[str]) -> None:
    script = f"import sys; from genai_cli.main import main; main({words!r}); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stderr.split()}
    assert "click" in loaded
    assert not loaded & {"torch", "transformers", "numpy", "boto3", "mlflow", "pydantic", "omegaconf", "rich", "yaml"}


def test_help_names_every_verb_without_loading_one(genai: Callable[..., Any]) -> None:
    ended = genai("--help")
    assert ended.code == 0
    for verb, (_, line) in VERBS.items():
        assert f"  {verb} " in ended.out
        assert line in ended.out
    assert not any(char in ended.out for char in "╭│─")


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself_with_examples(verb: str, genai: Callable[..., Any]) -> None:
    long, short = genai(verb, "--help"), genai(verb, "-h")
    assert long == short
    assert long.code == 0
    assert f"Usage: genai {verb}" in long.out
    assert "Examples:\n" in long.out.replace("  Examples", "Examples")
    assert f"genai {verb}" in long.out.split("Examples:")[1]


def test_version(genai: Callable[..., Any]) -> None:
    assert genai("--version").out == f"genai {__version__}\n"


def test_no_words_at_all_show_the_help(genai: Callable[..., Any]) -> None:
    ended = genai()
    assert ended.code == 2
    assert "Usage: genai" in ended.err
    assert ended.out == ""


# --- usage ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with two job files."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    for name in ("faq-lora.yaml", "notes.yaml"):
        (tmp_path / "configs" / name).write_text("max_seq_len: 128\n")
    (tmp_path / "configs" / "data.jsonl").write_text("{}\n")
    return tmp_path


USAGE_ERRORS = [
    ("finetun configs/faq-lora.yaml", "unknown verb 'finetun' (did you mean 'finetune'?)"),
    ("zzz", "unknown verb 'zzz' (verbs: pretrain, finetune, embed-finetune, index, serve, eval, data"),
    (
        "configs/faq-lora.yaml",
        "configs/faq-lora.yaml: the verb is missing (write the job first: genai finetune configs/",
    ),
    ("finetune", "a job file is missing (name a .yaml; ready-made ones: genai recipes ls)"),
    ("finetune configs/faq-lra.yaml", "configs/faq-lra.yaml: no such file (did you mean 'configs/faq-lora.yaml'?)"),
    ("finetune configs/faq-lora", "configs/faq-lora: no such file (did you mean 'configs/faq-lora.yaml'?)"),
    ("finetune configs/zzz.yaml", "configs/zzz.yaml: no such file (in that folder: faq-lora.yaml, notes.yaml)"),
    ("finetune confgs/faq-lora.yaml", "confgs/faq-lora.yaml: no such file (the folder confgs does not exist)"),
    ("finetune configs", "configs: this is a folder, a job file is needed (in that folder: faq-lora.yaml, notes.yaml)"),
    ("finetune configs/data.jsonl", "configs/data.jsonl: a job file ends in .yaml or .yml"),
    (
        "finetune optimizer.lr=1 configs/faq-lora.yaml",
        "override 'optimizer.lr=1' stands before the job file (write: configs/faq-lora.yaml optimizer.lr=1)",
    ),
    ("finetune configs/faq-lora.yaml optimizer.lr", "'optimizer.lr' is no override (write optimizer.lr=VALUE, without"),
    ("finetune configs/faq-lora.yaml lr = 1", "'lr' is no override (write lr=VALUE, without blanks around '=')"),
    ("finetune configs/faq-lora.yaml =1", "override '=1' has no key (write KEY=VALUE"),
    ("finetune configs/faq-lora.yaml configs/notes.yaml", "configs/notes.yaml: one job file at a time ("),
    ("finetune configs/faq-lora.yaml --optimizer.lr=1", "an override is written without dashes: optimizer.lr=VALUE"),
    ("finetune configs/faq-lora.yaml --dry-rn", "no such option '--dry-rn'. Did you mean '--dry-run'?"),
    ("finetune configs/faq-lora.yaml --run-name", "option '--run-name' requires an argument"),
    ("recipes shw x", "no such command 'shw'. Did you mean 'show'?"),
]


@pytest.mark.parametrize(("words", "expected"), USAGE_ERRORS, ids=[words for words, _ in USAGE_ERRORS])
def test_a_usage_error_is_one_line(words: str, expected: str, folder: Path, genai: Callable[..., Any]) -> None:
    ended = genai(*words.split())
    assert ended.code == 2
    assert ended.out == ""
    assert ended.err.count("\n") == 1
    assert ended.err.startswith("error: ")
    assert expected in ended.err


@pytest.mark.parametrize("words", [words for words, _ in USAGE_ERRORS])
def test_a_usage_error_is_json_wherever_the_flag_stands(words: str, folder: Path, genai: Callable[..., Any]) -> None:
    for line in ([*words.split(), "--json"], ["--json", *words.split()]):
        ended = genai(*line)
        if words.endswith("--run-name") and line[-1] == "--json":
            continue  # here --json is the name of the run
        assert ended.code == 2
        assert ended.err == ""
        error = ended.json["error"]
        assert ended.json["schema_version"] == 1
        assert error["code"] == "usage"
        assert error["message"]
        assert set(error) == {"code", "message", "where", "fix"}


# --- errors of commands -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (GenaiError("it broke", where="step 3", fix="mend it"), 1, "error: step 3: it broke (mend it)\n"),
        (
            MissingExtraError("boto3", extra="s3", needed_for="reading s3://"),
            2,
            "error: reading s3:// needs the package",
        ),
        (GateError("too many bad rows"), 3, "error: too many bad rows\n"),
        (CredentialsError("HF_TOKEN is not set"), 4, "error: HF_TOKEN is not set\n"),
        (StoppedError("stopped", signal_number=signal.SIGTERM), 143, "error: stopped\n"),
        (StoppedError("stopped", signal_number=signal.SIGINT), 130, "error: stopped\n"),
        (KeyboardInterrupt(), 130, "error: interrupted\n"),
        (MemoryError(), 1, "error: out of memory (give the job more memory"),
        (
            OSError(errno.ENOSPC, "No space left on device", "/data/x"),
            1,
            "error: /data/x: the disk is full (genai cache gc",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", "/data/x"),
            1,
            "error: /data/x: permission denied (check who",
        ),
        (click.exceptions.Exit(3), 3, ""),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_exit_codes(error: BaseException, code: int, line: str, planted: Any, genai: Callable[..., Any]) -> None:
    planted(raises(error))
    ended = genai("planted")
    assert ended.code == code
    assert ended.err.startswith(line)
    assert ended.err.count("\n") == (1 if line else 0)


def test_all_problems_of_a_config_are_reported(planted: Any, genai: Callable[..., Any]) -> None:
    planted(
        raises(ConfigError([Problem(message="bad a", where="x.yaml:1:1"), Problem(message="bad b", fix="drop it")]))
    )
    ended = genai("planted")
    assert ended.code == 2
    assert ended.err == "error: x.yaml:1:1: bad a\nerror: bad b (drop it)\n"
    error = genai("planted", "--json").json["error"]
    assert (error["code"], error["message"], error["where"]) == ("config", "bad a", "x.yaml:1:1")
    assert error["problems"] == [
        {"message": "bad a", "where": "x.yaml:1:1", "fix": None},
        {"message": "bad b", "where": None, "fix": "drop it"},
    ]


def test_an_error_cannot_steer_the_terminal(planted: Any, genai: Callable[..., Any]) -> None:
    planted(raises(GenaiError("row \x1b[2J\x07 says\nhello")))
    assert genai("planted").err == "error: row [2J says hello\n"


def test_the_value_of_a_secret_is_never_printed(
    planted: Any, genai: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_SERVICE_TOKEN", "hunter2-hunter2")
    planted(raises(CredentialsError("the server refused 'hunter2-hunter2'", fix="renew hunter2-hunter2")))
    for line in (["planted"], ["planted", "--json"], ["planted", "--debug"]):
        ended = genai(*line)
        assert ended.code == 4
        assert "refused '***'" in ended.out + ended.err
        assert "hunter2" not in ended.out + ended.err


def test_a_bug_leaves_its_traceback_in_a_file(
    planted: Any, genai: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GENAI_CACHE", str(tmp_path))
    monkeypatch.setenv("SOME_API_KEY", "hunter2-hunter2")
    planted(raises(ZeroDivisionError("while using hunter2-hunter2")))
    ended = genai("planted")
    assert ended.code == 70
    (file,) = (tmp_path / "crashes").iterdir()
    assert ended.err.startswith(f"error: {file}: this is a bug in genai: ZeroDivisionError: while using ***")
    text = file.read_text()
    assert "Traceback" in text
    assert "raise error" in text
    assert "hunter2" not in text + ended.err
    assert genai("planted", "--json").json["error"]["code"] == "bug"


def test_a_bug_is_reported_where_the_cache_cannot_be_written(
    planted: Any, genai: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("GENAI_CACHE", str(tmp_path / "file"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    planted(raises(ZeroDivisionError("x")))
    assert str(tmp_path / "genai-crash-") in genai("planted").err


def test_debug_prints_the_traceback(planted: Any, genai: Callable[..., Any]) -> None:
    planted(raises(ZeroDivisionError("x")))
    ended = genai("planted", "--debug")
    assert ended.code == 70
    assert "Traceback" in ended.err
    assert "genai-crash" not in ended.err
    planted(raises(GenaiError("y")))
    assert "Traceback" in genai("planted", "--debug").err


def test_ctrl_c_ends_with_130(tmp_path: Path) -> None:
    script = (
        "import sys, time, click; from genai_cli import main as m\n"
        "@click.command('sleep')\n"
        "def command(): print('ready', flush=True); time.sleep(60)\n"
        "m.sleep_command = command; m.VERBS['sleep'] = ('main:sleep_command', '')\n"
        "sys.exit(m.main(['sleep']))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert err.strip() == "error: interrupted"


def test_a_reader_that_leaves_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([*from_shell, "recipes", "ls"], stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert done.stderr == ""
    assert done.returncode == 141


def test_colour_only_on_a_terminal_that_wants_it(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setattr("click.utils.should_strip_ansi", lambda *_: False)
    main(["finetun"])
    assert "\x1b[31m" in capsys.readouterr().err
    monkeypatch.setenv("NO_COLOR", "1")
    main(["finetun"])
    assert "\x1b" not in capsys.readouterr().err


# --- jobs -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """`genai planted` is a job with a helper `query`; the dict holds what it was called with."""
    seen: dict[str, Any] = {}

    @click.group("planted", cls=JobGroup)
    def command() -> None:
        """A job with helpers."""

    @command.command("run", hidden=True)
    @job_options
    def run(**values: Any) -> None:
        seen.update(values, ran="run")

    @command.command("query")
    @click.argument("name")
    @click.option("--top", type=int, default=3)
    def query(**values: Any) -> None:
        seen.update(values, ran="query")

    monkeypatch.setattr(main_module, "planted_command", command, raising=False)
    monkeypatch.setitem(VERBS, "planted", ("main:planted_command", "For a test."))
    return seen


@pytest.mark.parametrize(
    "words",
    [
        "configs/notes.yaml a.b=1 c=x=y --dry-run --run-name r1 --quiet",
        "--dry-run --run-name r1 configs/notes.yaml --quiet a.b=1 c=x=y",
        "--run-name=r1 configs/notes.yaml a.b=1 --dry-run c=x=y --quiet",
    ],
)
def test_a_job_group_runs_the_job_for_a_job_file(
    words: str, job: dict[str, Any], folder: Path, genai: Callable[..., Any]
) -> None:
    assert genai("planted", *words.split()).code == 0
    assert job["ran"] == "run"
    assert job["config"] == Path("configs/notes.yaml")
    assert job["overrides"] == ("a.b=1", "c=x=y")
    assert (job["dry_run"], job["run_name"], job["allow_code"]) == (True, "r1", False)
    assert job["output"] == Output(quiet=True)


def test_a_job_group_finds_its_helpers(job: dict[str, Any], folder: Path, genai: Callable[..., Any]) -> None:
    assert genai("planted", "query", "faq.yaml", "--top", "5").code == 0
    assert job == {"ran": "query", "name": "faq.yaml", "top": 5}
    ended = genai("planted", "qery", "x")
    assert (ended.code, "Did you mean 'query'" in ended.err) == (2, True)
    assert "stands before the job file" in genai("planted", "a=1", "configs/notes.yaml").err
    assert "run" not in genai("planted", "--help").out.split("Commands:")[1]


def test_flags_before_the_verb_count(job: dict[str, Any], folder: Path, genai: Callable[..., Any]) -> None:
    assert genai("--quiet", "--json", "planted", "configs/notes.yaml").code == 0
    assert job["output"] == Output(quiet=True, as_json=True)
