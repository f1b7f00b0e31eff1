"""Training and running an embedding model on a CPU, beside sentence-transformers, with the same model and batches.

    python scripts/bench/embed_finetune.py --install-peers    the full table (half an hour on two cores)
    python scripts/bench/embed_finetune.py --quick --json     small batches, one round, one JSON object, under a minute

The model is all-MiniLM-L6-v2 from the gallery. Training is multiple-negatives ranking with its dropout, bfloat16
products over float32 weights, fused AdamW and clipped gradients: here by the job's own trainer, stream and loss, there
by SentenceTransformerTrainer, which is given the same batches in the same order. Everything between the ends of two
steps counts, the first two steps do not.

- ragged: first sentence of a docstring -> the rest of it, from packages that are installed here.
- uniform: texts of 64 tokens, so that there is nothing to win by leaving out what is filled up.
- encode: the texts of the ragged pairs, batches of 32, in float32 and in bfloat16 weights.
- gradients: of one ragged batch in float32 without dropout, theirs against ours, as the largest difference and as the
  norm of the difference to the norm.

The two take turns in processes of their own with one thread for `--rounds` rounds; the table shows medians of pairs and
texts per CPU-second. `--install-peers` puts sentence-transformers into a folder that is removed afterwards,
`--peers-target` names one where it is already; without it only this one is measured, and the report says so.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from turns.clock import peak_rss_mib
from turns.machine import environment, version_of
from turns.rounds import take_turns
from turns.workers import ONE_THREAD, run_worker

MODEL = "all-minilm-l6-v2"
PACKAGES = ("torch", "transformers")
INSTALLED = ("sentence-transformers==6.2.0", "scikit-learn", "scipy", "joblib", "threadpoolctl", "narwhals")
REPOSITORY = Path(__file__).resolve().parents[2]
SIZES: dict[str, dict[str, Any]] = {
    "full": {"batch_size": 32, "steps": 8, "num_texts": 1000},
    "quick": {"batch_size": 8, "steps": 2, "num_texts": 64},
}
NOT_COUNTED = 2
"""Steps at the beginning."""
GOALS = {
    "ragged_pairs_per_cpu_s": 1.3,
    "uniform_pairs_per_cpu_s": 1.0,
    "encode_fp32_texts_per_cpu_s": 1.15,
    "encode_bf16_texts_per_cpu_s": 1.15,
}
"""How many times theirs."""


# --- the parent: takes turns, prints ----------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="batches of 8, two steps, 64 texts, one round")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--install-peers", action="store_true", help="install sentence-transformers for this run")
    parser.add_argument("--peers-target", type=Path, help="folder where sentence-transformers is installed")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        name, settings = options.worker
        print(json.dumps(WORKERS[name](json.loads(settings))))
        return
    size = "quick" if options.quick else "full"
    with tempfile.TemporaryDirectory(prefix="bench-embed-finetune-") as folder:
        peers = install_peers(Path(folder) / "peers") if options.install_peers else options.peers_target
        report = measure(size, 1 if options.quick else options.rounds, peers)
    print(json.dumps(report) if options.json else table(report))


def measure(size: str, rounds: int, peers: Path | None) -> dict[str, Any]:
    settings = dict(SIZES[size])
    variables = {**ONE_THREAD, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    variables["PYTHONPATH"] = os.pathsep.join([str(REPOSITORY), *([str(peers)] if peers else [])])

    def run(name: str) -> dict[str, Any]:
        return run_worker(__file__, [name, json.dumps(settings)], environment=variables)

    report = {"benchmark": "embed_finetune", "size": size, "rounds": rounds, **settings, **environment(PACKAGES)}
    there = run("peer")
    report["versions"]["sentence-transformers"] = there["version"]
    names = ("ours", "theirs") if there["version"] else ("ours",)
    trained = take_turns([f"train_{name}" for name in names], rounds, run)
    encoded = take_turns([f"encode_{name}" for name in names], rounds, run)
    report["results"] = {name: trained[f"train_{name}"] | encoded[f"encode_{name}"] for name in names}
    if not there["version"]:
        return report | {"skipped": "sentence-transformers is not installed (--install-peers)"}
    ours, theirs = (report["results"][name] for name in names)
    report["ratios"] = {name: ours[name] / theirs[name] for name in GOALS}
    report["goals"] = GOALS
    report["gradients"] = run("gradients")
    return report


def install_peers(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-input", "--no-deps", "--target", str(folder)]
    done = subprocess.run([*command, *INSTALLED], capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"sentence-transformers is left out: {done.stderr.strip().splitlines()[-1]}", file=sys.stderr)
    return folder


def table(report: Mapping[str, Any]) -> str:
    sizes = f"batches of {report['batch_size']}, {report['steps']} steps, {report['num_texts']} texts"
    lines = [f"{report['cpu']}, one thread, {sizes}, {report['rounds']} rounds; {report['versions']}", ""]
    results = report["results"]
    lines += ["| | genai | sentence-transformers | ratio | goal |", "|---|---|---|---|---|"]
    for name, goal in GOALS.items():
        theirs = f"{results['theirs'][name]:.2f}" if "theirs" in results else "not installed"
        ratio = f"{report['ratios'][name]:.2f}" if "ratios" in report else ""
        missed = " **missed**" if "ratios" in report and report["ratios"][name] < goal else ""
        lines.append(
            f"| {name.replace('_', ' ')} | {results['ours'][name]:.2f} | {theirs} | {ratio}{missed} | {goal} |"
        )
    lines.append(
        "| peak memory, MiB | " + " | ".join(f"{values['peak_rss_mib']:.0f}" for values in results.values()) + " | | |"
    )
    if "gradients" in report:
        lines += ["", "gradients: " + ", ".join(f"{key} {value:.2g}" for key, value in report["gradients"].items())]
    return "\n".join(lines)


# --- the workers ------------------------------------------------------------------------------------------------------


def peer(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Which version is there."""
    return {"version": version_of("sentence-transformers")}


def prepare(settings: Mapping[str, Any]) -> tuple[Path, dict[str, Any], int]:
    """The model, the pairs of each kind, and how many batches are trained."""
    import torch
    from pairs.data import docstring_pairs, uniform_pairs

    from genai.models.pull import pull

    torch.set_num_threads(1)
    torch.manual_seed(0)
    folder = pull(MODEL)
    batches = settings["steps"] + NOT_COUNTED
    count = max(2 * batches * settings["batch_size"], settings["num_texts"] // 2)
    return folder, {"ragged": docstring_pairs(count), "uniform": uniform_pairs(count, folder)}, batches


def train_ours(settings: Mapping[str, Any]) -> dict[str, float]:
    from pairs import ours as side

    folder, kinds, batches = prepare(settings)
    found = {}
    for kind, pairs in kinds.items():
        setup = side.Setup(folder, pairs, batch_size=settings["batch_size"], precision="amp_bf16")
        found[f"{kind}_pairs_per_cpu_s"] = speed(side.train_times(setup, batches), settings)
    return {**found, "peak_rss_mib": peak_rss_mib()}


def train_theirs(settings: Mapping[str, Any]) -> dict[str, float]:
    from pairs import ours as other
    from pairs import theirs as side

    folder, kinds, batches = prepare(settings)
    size = settings["batch_size"]
    found = {}
    for kind, pairs in kinds.items():
        order = other.Setup(folder, pairs, batch_size=size, precision="fp32").order(batches)
        times = side.train_times(folder, pairs, order=order, batch_size=size, learning_rate=other.LEARNING_RATE)
        found[f"{kind}_pairs_per_cpu_s"] = speed(times, settings)
    return {**found, "peak_rss_mib": peak_rss_mib()}


def gradients(settings: Mapping[str, Any]) -> dict[str, float]:
    """How far apart the two are on one batch."""
    import torch
    from pairs import ours, theirs

    folder, kinds, _ = prepare(settings)
    setup = ours.Setup(folder, kinds["ragged"], batch_size=settings["batch_size"], precision="fp32")
    loss, found = ours.gradients(setup)
    batch = [kinds["ragged"][row] for row in setup.order(1)]
    their_loss, expected = theirs.gradients(folder, batch)
    if found.keys() != expected.keys():
        raise SystemExit(f"gradients of other parameters: {sorted(found.keys() ^ expected.keys())[:3]}")
    differences = [found[name] - expected[name] for name in expected]
    norm = torch.cat([values.flatten() for values in expected.values()]).norm()
    return {
        "loss_difference": abs(loss - their_loss),
        "largest_difference": max(float(values.abs().max()) for values in differences),
        "largest_gradient": max(float(values.abs().max()) for values in expected.values()),
        "relative_norm": float(torch.cat([values.flatten() for values in differences]).norm() / norm),
    }


def speed(times: list[float], settings: Mapping[str, Any]) -> float:
    """Pairs per CPU-second over the steps that count."""
    counted = times[NOT_COUNTED:]
    return len(counted) * settings["batch_size"] / sum(counted)


def encode_ours(settings: Mapping[str, Any]) -> dict[str, float]:
    from pairs import ours

    return encode(ours.encoder, settings)


def encode_theirs(settings: Mapping[str, Any]) -> dict[str, float]:
    from pairs import theirs

    return encode(theirs.encoder, settings)


def encode(make: Callable[[Path, str], Callable[[list[str]], Any]], settings: Mapping[str, Any]) -> dict[str, float]:
    """Texts per CPU-second, in both number formats; in a process of its own, which no training has changed."""
    folder, kinds, _ = prepare(settings)
    texts = [text for pair in kinds["ragged"] for text in pair][: settings["num_texts"]]
    found = {}
    for precision in ("fp32", "bf16"):
        embed = make(folder, precision)
        embed(texts[:2])
        started = time.process_time()
        embed(texts)
        found[f"encode_{precision}_texts_per_cpu_s"] = len(texts) / (time.process_time() - started)
    return found


WORKERS = {each.__name__: each for each in (peer, train_ours, train_theirs, encode_ours, encode_theirs, gradients)}

if __name__ == "__main__":
    main()
