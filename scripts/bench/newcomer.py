"""What a newcomer waits for: the install, `--help`, a mistake, the first ten steps.

    python scripts/bench/newcomer.py                  installs into a temporary environment and measures everything
    (minutes)
    python scripts/bench/newcomer.py --quick --json   leaves the install and the training out; one JSON object, under
    a minute

Times are CPU-seconds of whole processes (user and system, children included), medians of five; memory is the largest
resident set of one process. The ten steps are those of configs/finetune/quickstart.yaml on SmolLM2-135M-Instruct, with
all proofs on, the model already pulled.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from turns.processes import run_python

REPOSITORY = Path(__file__).resolve().parents[2]
QUICKSTART = REPOSITORY / "configs" / "finetune" / "quickstart.yaml"
PLACE = re.compile(r"(\.yaml:\d+:\d+: )|(override ')")
MISTAKES = {
    "misspelt key": ["optimiser.lr=1e-4"],
    "misspelt nested key": ["optimizer.learnng_rate=1e-4"],
    "misspelt optimizer": ["optimizer.name=adamww"],
    "wrong duration": ["max_duration=3 epochs"],
    "wrong type": ["max_seq_len=long"],
    "negative number": ["global_train_batch_size=-1"],
    "missing data": ["train_loader.dataset.path=data/nowhere.jsonl"],
    "unknown data set": ["train_loader.dataset.path=gallery:construction-faq-eng"],
    "unknown model": ["model.pretrained_model_name_or_path=gallery:smollm2-135m"],
    "unknown column": ["train_loader.dataset.columns.prompt=question"],
    "unknown format": ["train_loader.dataset.format=chatml"],
    "no adapter to quantise for": ["model.peft_config=null", "model.quantization.bits=4"],
    "literal secret": ["callbacks.webhook.url=https://me:secret@example.org/hook"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="help and mistakes only, three runs each")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    runs = 3 if options.quick else 5
    results: dict[str, Any] = {"help": measure(["-m", "genai_cli.main", "--help"], runs)}
    results["python"] = measure(["-c", "pass"], runs)
    results["mistakes"] = {name: mistake(overrides, 1 if options.quick else 3) for name, overrides in MISTAKES.items()}
    if not options.quick:
        results["install"] = install()
        results["ten_steps"] = ten_steps()
    print(json.dumps({"benchmark": "newcomer", "results": results}) if options.json else table(results))


def measure(arguments: Sequence[str], runs: int) -> dict[str, float]:
    """Median CPU-seconds of a Python process."""
    return {"cpu_s": statistics.median(run(arguments)["cpu_s"] for _ in range(runs))}


def run(arguments: Sequence[str]) -> dict[str, Any]:
    return run_python(arguments, cwd=REPOSITORY)


def mistake(overrides: Sequence[str], runs: int) -> dict[str, Any]:
    """What a wrong config costs, and whether the answer is short, in place and without a traceback."""
    found = [run(["-m", "genai_cli.main", "finetune", str(QUICKSTART), *overrides]) for _ in range(runs)]
    lines = [line for line in found[0]["stderr"].splitlines() if line.startswith("error:")]
    return {
        "cpu_s": statistics.median(each["cpu_s"] for each in found),
        "exit_code": found[0]["exit_code"],
        "lines": len(found[0]["stderr"].splitlines()),
        "located": bool(lines) and all(PLACE.search(line) for line in lines),
        "traceback": "Traceback" in found[0]["stderr"],
    }


def install() -> dict[str, Any]:
    """Install what training needs into a fresh environment, from the lock."""
    with tempfile.TemporaryDirectory() as folder:
        venv = Path(folder) / "venv"
        started = time.perf_counter()
        subprocess.run(["make", "--silent", f"VENV={venv}", f"{venv}/.quickstart"], cwd=REPOSITORY, check=True)
        wall_s = time.perf_counter() - started
        listed = subprocess.run(
            [venv / "bin" / "pip", "list", "--format=json"], capture_output=True, text=True, check=True
        )
        size = sum(file.lstat().st_size for file in venv.rglob("*") if file.is_file() and not file.is_symlink())
    return {"wall_s": wall_s, "distributions": len(json.loads(listed.stdout)), "size_gb": size / 1e9}


def ten_steps() -> dict[str, Any]:
    """The quickstart's job, ten steps long."""
    run(["-m", "genai_cli.main", "models", "pull", "smollm2-135m-instruct"])
    with tempfile.TemporaryDirectory() as folder:
        values = run(["-m", "genai_cli.main", "finetune", str(QUICKSTART), "max_duration=10ba", f"runs_dir={folder}"])
    if values["exit_code"]:
        raise SystemExit(values["stderr"])
    del values["stderr"]
    return values


def table(results: dict[str, Any]) -> str:
    mistakes = results["mistakes"].values()
    right = sum(m["exit_code"] == 2 and m["located"] and not m["traceback"] and m["lines"] <= 8 for m in mistakes)
    rows = [
        (
            "`genai --help`",
            f"{results['help']['cpu_s']:.2f} CPU-s ({results['python']['cpu_s']:.2f} of it Python's own)",
        ),
        ("mistakes told with place and fix, exit code 2, at most 8 lines", f"{right} of {len(results['mistakes'])}"),
        (
            "CPU-seconds a mistake, median and worst",
            f"{statistics.median(m['cpu_s'] for m in mistakes):.2f}, {max(m['cpu_s'] for m in mistakes):.2f}",
        ),
    ]
    if "install" in results:
        found = results["install"]
        rows.append(
            ("install", f"{found['wall_s']:.0f} s, {found['distributions']} distributions, {found['size_gb']:.2f} GB")
        )
        steps = results["ten_steps"]
        rows.append(
            (
                "quickstart, 10 steps",
                f"{steps['wall_s']:.0f} s wall, {steps['cpu_s']:.0f} CPU-s, {steps['peak_rss_mib'] / 1024:.2f} GiB",
            )
        )
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])


if __name__ == "__main__":
    main()
