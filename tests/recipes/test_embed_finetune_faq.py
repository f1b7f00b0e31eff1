"""The story's own files: pairs out of wheels, the summary, and all of it at toy size with wheels made here."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
STORY = REPOSITORY / "recipes" / "embed-finetune-faq"
REST = "The colour is mixed from what is given, in the order in which it is given, until nothing more of it is left."
MODULE = f'''"""Mixes colours of many kinds. {REST}"""

raise SystemExit("a wheel is never run")


class Palette:
    """Hold the colours that were mixed so far.

    Each is known by its name. {REST.replace("colour", "paint")}
    """

    def mix(self):
        """Mix, e.g. red and blue, into one colour.

        >>> mix("red", "blue")
        'violet', {REST.lower()}
        """

    def short(self):
        """Return the last one. {REST}"""

    def again(self):
        """Mixes colours of MANY kinds: {REST.replace("mixed", "stirred")} """
'''


def make_wheel(folder: Path, name: str, members: dict[str, str]) -> str:
    """Write a wheel; its line in wheels.txt."""
    folder.mkdir(parents=True, exist_ok=True)
    wheel = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for member, text in members.items():
            archive.writestr(member, text)
    return f"{name}==1.0 --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}\n"


def run_python(script: str, *words: object, **settings: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(STORY / script), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, **settings)


@pytest.fixture
def pairs(tmp_path: Path) -> Callable[..., list[dict[str, str]]]:
    """Run pairs.py over one wheel with those files."""

    def run(members: dict[str, str], *flags: str) -> list[dict[str, str]]:
        pins = tmp_path / "wheels.txt"
        pins.write_text(f"--only-binary :all:\n{make_wheel(tmp_path / 'wheels', 'paint', members)}")
        done = run_python("pairs.py", pins, tmp_path / "wheels", tmp_path / "pairs.jsonl", *flags)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in (tmp_path / "pairs.jsonl").read_text().splitlines()]

    return run


def test_first_sentences_and_what_follows_them(pairs: Callable[..., list[dict[str, str]]]) -> None:
    found = pairs({"paint/colours.py": MODULE, "paint/tests/test_colours.py": MODULE, "paint/broken.py": "def"})
    assert [row["query"] for row in found] == [
        "Mixes colours of many kinds.",
        "Hold the colours that were mixed so far.",
        "Mix, e.g. red and blue, into one colour.",
    ], "the others say again what was said"
    assert found[0] == {"query": "Mixes colours of many kinds.", "positive": REST, "file": "paint/colours.py"}
    assert found[1]["positive"].startswith("Each is known by its name.")
    assert ">>> mix" in found[2]["positive"]


def test_lengths_are_limited(pairs: Callable[..., list[dict[str, str]]]) -> None:
    long = "word " * 1000
    (row,) = pairs({"paint/a.py": f'"""Says much about very little.\n\n{long}"""'})
    assert 550 < len(row["positive"]) <= 600 and row["positive"].endswith("word")
    assert pairs({"paint/a.py": f'"""Too few words.\n\n{long}"""'}) == []
    assert pairs({"paint/a.py": '"""A sentence that is followed by nothing."""'}) == []
    assert pairs({"paint/a.py": f'"""{"A sentence without end " * 20}.\n\n{long}"""'}) == []


def test_order_is_the_same_everywhere_and_files_stay_whole(tmp_path: Path) -> None:
    members = {
        f"p/m{number}.py": "".join(
            f'def f{number}_{each}():\n    """Does thing {number} {each} for you.\n\n    {REST}{number}{each}"""\n'
            for each in range(3)
        )
        for number in range(20)
    }
    pins = tmp_path / "wheels.txt"
    pins.write_text(make_wheel(tmp_path / "w", "p", members))
    texts = []
    for seed in ("1", "2"):
        out = tmp_path / f"{seed}.jsonl"
        done = run_python(
            "pairs.py", pins, tmp_path / "w", out, "--max-pairs=10", env={**os.environ, "PYTHONHASHSEED": seed}
        )
        assert done.returncode == 0, done.stderr
        texts.append(out.read_text())
    assert texts[0] == texts[1]
    files = [json.loads(line)["file"] for line in texts[0].splitlines()]
    assert len(files) == 12 and {files.count(file) for file in files} == {3}


def test_a_wheel_that_is_not_the_pinned_one_is_refused(tmp_path: Path) -> None:
    pins = tmp_path / "wheels.txt"
    pins.write_text(make_wheel(tmp_path / "w", "paint", {"paint/a.py": MODULE}))
    make_wheel(tmp_path / "w", "paint", {"paint/a.py": MODULE + "\n"})
    done = run_python("pairs.py", pins, tmp_path / "w", tmp_path / "out.jsonl")
    assert done.returncode == 1 and "lacks what" in done.stderr and "paint" in done.stderr
    assert not (tmp_path / "out.jsonl").exists()


def test_wheels_are_pinned_as_pip_reads_them() -> None:
    lines = [line for line in (STORY / "wheels.txt").read_text().splitlines() if not line.startswith(("#", "--"))]
    assert len(lines) >= 5
    for line in lines:
        requirement, _, digest = line.partition(" --hash=sha256:")
        assert "==" in requirement and len(digest) == 64


def test_the_summary(tmp_path: Path) -> None:
    def write(name: str, low: float) -> None:
        change = {"metric": "recall@10", "before": 0.79, "after": 0.84, "difference": 0.05, "low": low, "high": 0.07}
        other = {**change, "metric": "map@100"}
        result = {"run": name, "num_queries": 500, "train_cpu_s": 98.4, "changes": [change, other]}
        (tmp_path / name).mkdir()
        (tmp_path / name / "result.json").write_text(json.dumps(result))

    for name, low in {"faq": -0.01, "docstrings-1": 0.03, "docstrings-2": -0.002}.items():
        write(name, low)
    done = run_python("summary.py", tmp_path, "faq", "docstrings-1", "docstrings-2", "generator")
    assert done.returncode == 0, done.stderr
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert lines[1:] == [
        "faq 500 recall@10 0.790 0.840 +0.050 (-0.010 to +0.070) 98",
        "docstrings-1 500 recall@10 0.790 0.840 +0.050 (+0.030 to +0.070) 98",
        "docstrings-2 500 recall@10 0.790 0.840 +0.050 (-0.002 to +0.070) 98",
        "docstrings, mean of 2: recall@10 +0.050, above 0 in 1 of 2 intervals",
    ]


STAND_IN = """\
#!/usr/bin/env bash
[ "$1" = models ] && exit 0
[ "$4" = generator ] && exit "$GENERATOR_ENDS_WITH"
mkdir -p "runs/$4"
echo '{"run": "'"$4"'", "num_queries": 5, "train_cpu_s": 9, "changes": []}' > "runs/$4/result.json"
echo "$@"
"""
"""In the place of genai: writes a result, and says what it was called with."""


@pytest.mark.parametrize(("ends_with", "code"), [(0, 0), (3, 0), (1, 1)])
def test_only_a_poor_yield_of_the_generator_is_passed_over(tmp_path: Path, ends_with: int, code: int) -> None:
    folder = tmp_path / "story"
    shutil.copytree(STORY, folder, ignore=shutil.ignore_patterns("runs", "__pycache__"))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "genai").write_text(STAND_IN)
    (tmp_path / "bin" / "genai").chmod(0o755)
    (tmp_path / "wheels.txt").write_text(make_wheel(tmp_path / "wheels", "paint", {"paint/a.py": MODULE}))
    (folder / "questions.py").write_text("import sys\nopen(sys.argv[1], 'w').close()\n")
    places = [str(tmp_path / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]]
    environment = {
        **os.environ,
        "PATH": os.pathsep.join(places),
        "GENERATOR_ENDS_WITH": str(ends_with),
        "SEEDS": "4 5",
        "WHEELS": str(tmp_path / "wheels"),
        "PINS": str(tmp_path / "wheels.txt"),
    }
    command = ["bash", str(folder / "run.sh"), "optimizer.lr=1e-4"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    assert ("too few of its queries" in done.stdout) == (ends_with == 3)
    assert done.stdout.count("optimizer.lr=1e-4") == 4
    assert "docstrings-5 runs_dir=runs variables.pairs=runs/.embed-finetune-faq/docstrings.jsonl seed=5" in done.stdout


@pytest.mark.slow
def test_the_story_at_toy_size(tmp_path: Path) -> None:
    folder = tmp_path / "story"
    shutil.copytree(STORY, folder, ignore=shutil.ignore_patterns("runs", "__pycache__"))
    members = {
        f"paint/m{number}.py": f'"""Mixes colour number {number} from others.\n\n{REST} It is {number} in the list."""'
        for number in range(80)
    }
    (tmp_path / "wheels.txt").write_text(make_wheel(tmp_path / "wheels", "paint", members))
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "OMP_NUM_THREADS": "2",
        "TOY": "1",
        "SEEDS": "1",
        "WHEELS": str(tmp_path / "wheels"),
        "PINS": str(tmp_path / "wheels.txt"),
    }
    command = ["bash", str(folder / "run.sh"), "device=cpu", "data.split.near_duplicates=1"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    for name in ("faq", "docstrings-1", "cloze"):
        result = json.loads((folder / "runs" / name / "result.json").read_text())
        assert result["batches"] == 2
        assert (folder / "runs" / name / "model" / "modules.json").is_file()
    told = [line.split()[:3] for line in done.stdout.splitlines()]
    assert ["faq", str(json.loads((folder / "runs/faq/result.json").read_text())["num_queries"]), "ndcg@10"] in told
    again = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert again.returncode == 0, again.stdout + again.stderr
    assert again.stdout.splitlines()[-1] == done.stdout.splitlines()[-1]
