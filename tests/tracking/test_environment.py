import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from genai.tracking.environment import cgroup_memory_limit, collect_environment, git_state, package_versions

KEYS = {
    "genai",
    "python",
    "platform",
    "cpu",
    "num_cores",
    "memory_bytes",
    "memory_limit_bytes",
    "gpus",
    "packages",
    "git",
}


def test_only_what_is_on_the_list_is_collected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_TOKEN", "a-value-that-must-not-leak")
    environment = collect_environment(tmp_path)
    assert set(environment) == KEYS
    text = json.dumps(environment)
    for value in ("a-value-that-must-not-leak", os.environ["PATH"], os.environ["HOME"]):
        assert value not in text
    assert environment["python"] == platform.python_version()
    assert environment["git"] is None
    assert 0 < environment["num_cores"] <= (os.cpu_count() or 0)
    assert environment["memory_bytes"] > 1 << 26


def test_torch_is_not_imported_for_the_sake_of_gpu_names() -> None:
    code = (
        "import sys; from genai.tracking.environment import collect_environment\n"
        "assert collect_environment()['gpus'] == []; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_versions_of_absent_packages_are_left_out() -> None:
    assert package_versions(["pytest", "no-such-distribution"]) == {"pytest": pytest.__version__}


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("memory.max", "max\n", None),
        ("memory.max", "8589934592\n", 8 << 30),
        ("memory/memory.limit_in_bytes", "9223372036854771712\n", None),
        ("memory/memory.limit_in_bytes", "1073741824\n", 1 << 30),
    ],
)
def test_the_cgroups_memory_limit(tmp_path: Path, name: str, text: str, expected: int | None) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    assert cgroup_memory_limit(tmp_path) == expected


def test_no_cgroup_no_limit(tmp_path: Path) -> None:
    assert cgroup_memory_limit(tmp_path) is None


@pytest.mark.needs("git")
def test_the_git_revision_and_whether_files_were_changed(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        settings = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
        command = ["git", "-C", str(tmp_path), *settings, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-q", "-m", "one")
    assert git_state(tmp_path) == {"revision": git("rev-parse", "HEAD"), "dirty": False}
    (tmp_path / "a").write_text("2")
    state = git_state(tmp_path)
    assert state is not None and state["dirty"] is True
