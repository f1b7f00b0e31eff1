import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from genai.errors import DataError, UsageError
from genai.tracking import registry
from genai.tracking.catalog import run_folders
from genai.tracking.registry import ModelVersion


def add(runs_dir: Path, name: str = "faq", run: str = "first", **changes: Any) -> ModelVersion:
    values: dict[str, Any] = {
        "kind": "sentence_encoder",
        "model": f"runs:{run}",
        "run": run,
        "fingerprint": f"sha256:{run}",
        "data_fingerprint": "sha256:data",
        "tables": {"delta:faq": {"version": 3}},
        "metrics": [{"metric": "recall@10", "before": 0.5, "after": 0.75, "low": 0.1, "high": 0.4}],
        "tuned_from": "gallery:all-minilm-l6-v2",
        "inputs": {"model_fingerprint": "sha256:base"},
        **changes,
    }
    return registry.register(runs_dir, name, **values)


def test_versions_count_from_one_and_keep_what_they_were_given(tmp_path: Path) -> None:
    first, second = add(tmp_path), add(tmp_path, run="second", kind="cross_encoder")
    assert (first.version, second.version) == (1, 2)
    assert registry.versions(tmp_path, "faq") == [first, second]
    assert registry.names(tmp_path) == ["faq"]
    found = registry.find(tmp_path, "faq@2")
    assert (found.kind, found.run, found.model) == ("cross_encoder", "second", "runs:second")
    assert found.metrics[0]["after"] == 0.75
    assert found.tables == {"delta:faq": {"version": 3}}
    assert found.reference == "registry:faq@2"


def test_the_registry_is_no_run(tmp_path: Path) -> None:
    add(tmp_path)
    assert run_folders(tmp_path) == []


def test_the_same_weights_of_a_run_are_registered_once(tmp_path: Path) -> None:
    first = add(tmp_path)
    file = tmp_path / ".registry" / "faq" / "versions" / "1.json"
    before = file.stat().st_mtime_ns
    assert add(tmp_path, metrics=[]) == first
    assert file.stat().st_mtime_ns == before
    assert add(tmp_path, fingerprint="sha256:trained again").version == 2
    assert add(tmp_path, run="other", fingerprint="sha256:first").version == 3


def test_an_alias_names_a_version_until_it_is_moved_or_rolled_back(tmp_path: Path) -> None:
    for run in ("first", "second", "third"):
        add(tmp_path, run=run)
    with pytest.raises(UsageError, match="has no alias 'production'"):
        registry.find(tmp_path, "faq")
    for version in (1, 2, 2, 3):
        registry.set_alias(tmp_path, "faq", "production", version)
    registry.set_alias(tmp_path, "faq", "next", 2)
    assert registry.aliases(tmp_path, "faq") == {"production": 3, "next": 2}
    assert registry.find(tmp_path, "faq").version == registry.find(tmp_path, "faq@production").version == 3
    assert registry.rollback_alias(tmp_path, "faq").version == 2
    assert registry.rollback_alias(tmp_path, "faq").version == 1
    with pytest.raises(UsageError, match="never named another version than 1"):
        registry.rollback_alias(tmp_path, "faq")
    registry.set_alias(tmp_path, "faq", "production", 3)
    assert registry.rollback_alias(tmp_path, "faq").version == 1
    told = [(each.alias, each.version, each.action) for each in registry.alias_history(tmp_path, "faq")]
    assert told == [
        ("production", 1, "set"),
        ("production", 2, "set"),
        ("production", 3, "set"),
        ("next", 2, "set"),
        ("production", 2, "rollback"),
        ("production", 1, "rollback"),
        ("production", 3, "set"),
        ("production", 1, "rollback"),
    ]


def test_an_alias_keeps_the_evaluation_that_it_rests_on(tmp_path: Path) -> None:
    for run in ("first", "second"):
        add(tmp_path, run=run)
    assert registry.standing_of(tmp_path, "faq", "production") is None
    registry.set_alias(tmp_path, "faq", "production", 1, eval_run="eval-1")
    registry.set_alias(tmp_path, "faq", "production", 2)
    registry.set_alias(tmp_path, "faq", "production", 2, eval_run="eval-2")
    registry.set_alias(tmp_path, "faq", "production", 2)
    registry.set_alias(tmp_path, "faq", "production", 2, eval_run="eval-2")
    history = registry.alias_history(tmp_path, "faq")
    assert [(each.version, each.eval_run) for each in history] == [(1, "eval-1"), (2, None), (2, "eval-2")]
    assert registry.rollback_alias(tmp_path, "faq").version == 1, "what was measured again is no other version"
    standing = registry.standing_of(tmp_path, "faq", "production")
    assert standing is not None
    assert (standing.version, standing.eval_run) == (1, "eval-1")


def test_a_run_that_an_alias_rests_on_stays(tmp_path: Path) -> None:
    for run in ("first", "second"):
        add(tmp_path, run=run)
    registry.set_alias(tmp_path, "faq", "production", 1, eval_run="eval-1")
    with pytest.raises(UsageError, match="rests on the evaluation 'eval-1'"):
        registry.refuse_if_named(tmp_path, "eval-1")
    registry.set_alias(tmp_path, "faq", "production", 2, eval_run="eval-2")
    registry.refuse_if_named(tmp_path, "eval-1")


def test_aliases_of_an_older_genai_are_read(tmp_path: Path) -> None:
    add(tmp_path)
    file = tmp_path / ".registry" / "faq" / "aliases.json"
    old = {"alias": "production", "version": 1, "action": "set", "at": "2026-01-01T00:00:00+00:00"}
    file.write_text(json.dumps({"format": 1, "history": [old]}))
    assert registry.aliases(tmp_path, "faq") == {"production": 1}
    standing = registry.standing_of(tmp_path, "faq", "production")
    assert standing is not None and standing.eval_run is None
    file.write_text(json.dumps({"format": 3, "history": [old]}))
    with pytest.raises(DataError, match="was written by a newer genai"):
        registry.aliases(tmp_path, "faq")


@pytest.mark.parametrize(
    ("text", "message", "fix"),
    [
        ("fqa", "there is no model 'fqa' in the registry of", "did you mean 'registry:faq'?"),
        ("zzz@1", "there is no model 'zzz' in the registry of", "known: faq"),
        ("faq@prodction", "has no alias 'prodction'", "did you mean 'registry:faq@production'?"),
        ("faq@v1", "has no alias 'v1'", "did you mean 'registry:faq@1'?"),
        ("faq@zzz", "has no alias 'zzz'", "it has @production, versions 1"),
        ("faq@7", "has no version 7 in the registry", "it has 1"),
        ("faq@01x", "has no alias '01x'", "it has @production"),
        ("faq@", "'registry:faq@' names no version", "registry:faq@ALIAS"),
        ("../faq", "cannot be used as a name in the registry", "letters, digits"),
        ("", "cannot be used as a name in the registry", "letters, digits"),
    ],
)
def test_what_is_not_there_says_what_is(tmp_path: Path, text: str, message: str, fix: str) -> None:
    add(tmp_path)
    registry.set_alias(tmp_path, "faq", "production", 1)
    with pytest.raises(UsageError) as caught:
        registry.find(tmp_path, text)
    assert message in caught.value.message
    assert fix in (caught.value.fix or "")


def test_an_empty_registry(tmp_path: Path) -> None:
    assert (registry.names(tmp_path), registry.versions(tmp_path, "faq")) == ([], [])
    for look in (
        lambda: registry.find(tmp_path, "faq@1"),
        lambda: registry.set_alias(tmp_path, "faq", "production", 1),
        lambda: registry.rollback_alias(tmp_path, "faq"),
    ):
        with pytest.raises(UsageError) as caught:
            look()
        assert caught.value.fix == "known: none yet"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["faq@1", "a/b", ".faq", ""])
def test_names_that_cannot_be(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="cannot be used as a name in the registry"):
        add(tmp_path, name=name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("alias", ["2", "a@b", "../x", ""])
def test_aliases_that_cannot_be(tmp_path: Path, alias: str) -> None:
    add(tmp_path)
    with pytest.raises(UsageError, match="cannot be used as a name of an alias"):
        registry.set_alias(tmp_path, "faq", alias, 1)


def test_an_alias_of_a_version_that_is_not_there(tmp_path: Path) -> None:
    add(tmp_path)
    with pytest.raises(UsageError, match="has no version 2"):
        registry.set_alias(tmp_path, "faq", "production", 2)


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "{}", '{"format": 1}', '{"format": "x"}', "\udcff"],
)
def test_a_damaged_version_is_one_line(tmp_path: Path, content: str) -> None:
    add(tmp_path)
    file = tmp_path / ".registry" / "faq" / "versions" / "1.json"
    file.write_bytes(content.encode("utf-8", "surrogateescape"))
    for look in (lambda: registry.find(tmp_path, "faq@1"), lambda: add(tmp_path, run="second")):
        with pytest.raises(DataError, match="this file of the registry is damaged") as caught:
            look()
        assert caught.value.where == str(file)
    assert [path.name for path in file.parent.iterdir()] == ["1.json"]


def test_a_version_of_another_model_or_of_a_newer_genai(tmp_path: Path) -> None:
    add(tmp_path)
    file = tmp_path / ".registry" / "faq" / "versions" / "1.json"
    values = json.loads(file.read_bytes())
    for changed in ({"name": "other"}, {"version": 2}, {"kind": "soup"}):
        file.write_text(json.dumps({**values, **changed}))
        with pytest.raises(DataError, match="is damaged"):
            registry.find(tmp_path, "faq@1")
    file.write_text(json.dumps({**values, "format": 2}))
    with pytest.raises(DataError, match="was written by a newer genai"):
        registry.find(tmp_path, "faq@1")
    file.write_text(json.dumps({**values, "later": "what a newer genai adds is passed over"}))
    assert registry.find(tmp_path, "faq@1").version == 1


@pytest.mark.parametrize(
    "content",
    ["{", '{"format": 1}', '{"format": 1, "history": [{"alias": "a", "version": 1, "action": "rollback", "at": ""}]}'],
)
def test_damaged_aliases_are_one_line(tmp_path: Path, content: str) -> None:
    add(tmp_path)
    file = tmp_path / ".registry" / "faq" / "aliases.json"
    file.write_text(content)
    for look in (
        lambda: registry.find(tmp_path, "faq"),
        lambda: registry.set_alias(tmp_path, "faq", "production", 1),
        lambda: registry.rollback_alias(tmp_path, "faq"),
    ):
        with pytest.raises(DataError, match="this file of the registry is damaged"):
            look()
    assert file.read_text() == content
    assert registry.find(tmp_path, "faq@1").version == 1


def test_an_alias_of_a_version_whose_file_is_gone(tmp_path: Path) -> None:
    add(tmp_path)
    add(tmp_path, run="second")
    registry.set_alias(tmp_path, "faq", "production", 2)
    (tmp_path / ".registry" / "faq" / "versions" / "2.json").unlink()
    with pytest.raises(DataError, match="this file of the registry is gone"):
        registry.find(tmp_path, "faq")


REGISTER = """
import sys
from pathlib import Path
sys.path.insert(0, {here!r})
from test_registry import add
from genai.tracking import registry
print("ready", flush=True)
sys.stdin.readline()
for number in range({count}):
    made = add(Path(sys.argv[1]), run=f"{{sys.argv[2]}}-{{number}}")
    registry.set_alias(sys.argv[1], "faq", sys.argv[2], made.version)
"""


def test_two_processes_never_make_the_same_version(tmp_path: Path) -> None:
    count = 12
    code = REGISTER.format(here=str(Path(__file__).parent), count=count)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path), who], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for who in ("a", "b")
    ]
    for process in processes:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        process.communicate(timeout=60)
        assert process.returncode == 0
    found = registry.versions(tmp_path, "faq")
    assert [version.version for version in found] == list(range(1, 2 * count + 1))
    assert {version.run for version in found} == {f"{who}-{number}" for who in "ab" for number in range(count)}
    history = registry.alias_history(tmp_path, "faq")
    assert len(history) == 2 * count
    named = registry.aliases(tmp_path, "faq")
    assert {registry.find(tmp_path, f"faq@{who}").run for who in named} == {f"a-{count - 1}", f"b-{count - 1}"}


def promote(runs_dir: Path, *, kills_at: int = 0) -> tuple[int, int]:
    """Register and promote in a process that is killed at one of the steps that reach the disk.

    Returns:
        its exit code, and how many steps it would have taken.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child:
        os.close(writer)
        _, status = os.waitpid(child, 0)
        with open(reader) as told:
            return os.waitstatus_to_exitcode(status), len(told.read())
    steps = 0

    def around(inner: Callable[..., Any]) -> Callable[..., Any]:
        def outer(*values: Any) -> Any:
            nonlocal steps
            steps += 1
            os.write(writer, b".")
            if steps == kills_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return inner(*values)

        return outer

    try:
        os.replace, os.fsync = around(os.replace), around(os.fsync)
        made = add(runs_dir, run="second")
        registry.set_alias(runs_dir, "faq", "production", made.version)
        os._exit(0)
    finally:
        os._exit(1)


def test_a_kill_leaves_the_old_or_the_new(tmp_path: Path) -> None:
    def make(name: str) -> Path:
        add(tmp_path / name)
        registry.set_alias(tmp_path / name, "faq", "production", 1)
        return tmp_path / name

    code, steps = promote(make("whole"))
    assert (code, steps) == (0, 6)
    seen = set()
    for kills_at in range(1, steps + 1):
        runs_dir = make(str(kills_at))
        assert promote(runs_dir, kills_at=kills_at)[0] == -signal.SIGKILL
        there = [each.version for each in registry.versions(runs_dir, "faq")]
        named = registry.find(runs_dir, "faq").version
        seen.add((len(there), named))
        assert promote(runs_dir)[0] == 0  # the same command again
        assert [each.run for each in registry.versions(runs_dir, "faq")] == ["first", "second"]
        assert registry.find(runs_dir, "faq").version == 2
    assert seen == {(1, 1), (2, 1), (2, 2)}


def test_a_run_that_an_alias_names_must_stay(tmp_path: Path) -> None:
    add(tmp_path)
    add(tmp_path, run="second")
    registry.refuse_if_named(tmp_path, "first")  # no alias names it
    registry.set_alias(tmp_path, "faq", "production", 1)
    with pytest.raises(UsageError, match=r"run 'first' made registry:faq@production \(version 1\)"):
        registry.refuse_if_named(tmp_path, "first")
    registry.set_alias(tmp_path, "faq", "production", 2)
    registry.refuse_if_named(tmp_path, "first")
