"""`genai data convert` as a process that is killed: what it had done is kept, and the end is the same."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from genai.config.finetune import DataConfig, FinetuningDatasetConfig
from genai.data.mds import read_samples
from genai.data.prepare import load_rows
from genai.jobs.data_convert import ConvertRequest, make_plan, run
from genai.models.tokenizer_training import save_tokenizer, train_tokenizer

SCRIPT = """
import sys
from genai.jobs.data_convert import ConvertRequest, run

if __name__ == "__main__":
    folder, out, workers = sys.argv[1:]
    run(ConvertRequest(sources=(f"{folder}/in",), out=out, tokenizer=f"{folder}/tok", seq_len=32,
                       splits=("validation=0.1",), part_bytes=250_000, workers=int(workers)))
"""


def _texts(count: int) -> list[str]:
    generator = random.Random(5)
    words = [f"word{n}" for n in range(400)]
    return [" ".join(generator.choices(words, k=generator.randrange(5, 200))) for _ in range(count)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Sources in `in`, a tokenizer in `tok`, the script that converts."""
    texts = _texts(3000)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts[:2500]))
    (tmp_path / "in" / "b.csv").write_text("text\n" + "".join(f"{text}\n" for text in texts[2500:2900]))
    for number, text in enumerate(texts[2900:]):
        (tmp_path / "in" / f"{number}.txt").write_text(text)
    save_tokenizer(train_tokenizer(texts[:200], vocab_size=600), tmp_path / "tok")
    (tmp_path / "convert.py").write_text(SCRIPT)
    return tmp_path


def _digests(out: Path) -> dict[str, str]:
    files = sorted(path for path in out.rglob("*") if path.is_file())
    return {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_killed_at_any_moment_it_goes_on_to_the_same_bytes(workers: int, folder: Path) -> None:
    whole = folder / "whole"
    subprocess.run([sys.executable, folder / "convert.py", folder, whole, "2"], check=True)
    command = [sys.executable, folder / "convert.py", folder, folder / "out", str(workers)]
    generator = random.Random(workers)
    kills = done_between = 0
    for _ in range(40):
        process = subprocess.Popen(command)
        journal = folder / "out" / ".convert"
        before = len(list(journal.glob("part-*.json"))) if journal.exists() else 0
        deadline = time.monotonic() + 120
        # Wait until it has done something new, so that every attempt is killed in the midst of its work.
        while process.poll() is None and time.monotonic() < deadline:
            if journal.exists() and len(list(journal.glob("part-*.json"))) > before:
                break
            time.sleep(0.01)
        time.sleep(generator.random() * 0.2)
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
        now = len(list(journal.glob("part-*.json"))) if journal.exists() else before
        done_between += now > before
    assert process.wait() == 0
    assert kills >= 2
    assert done_between >= 2
    assert _digests(folder / "out") == _digests(whole)


@pytest.mark.slow
def test_no_worker_outlives_a_killed_parent(folder: Path) -> None:
    process = subprocess.Popen([sys.executable, folder / "convert.py", folder, folder / "out", "2"])
    deadline = time.monotonic() + 60
    while not (children := _children(process.pid)) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert children
    while any(os.path.exists(f"/proc/{pid}") for pid in children) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [pid for pid in children if os.path.exists(f"/proc/{pid}")]


def _children(pid: int) -> list[int]:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except FileNotFoundError:
        return []
    return [int(word) for word in text.split()]


@pytest.mark.integration
def test_every_token_of_every_document_comes_out_once(folder: Path) -> None:
    request = ConvertRequest(
        sources=(str(folder / "in"),), out=str(folder / "out"), tokenizer=str(folder / "tok"), seq_len=64, workers=1
    )
    plan = make_plan(request)
    assert not plan.finished
    assert plan.work.settings.tokens is not None
    assert plan.work.settings.tokens.dtype == "uint16"
    done = run(request)
    (lineage,) = done.lineages
    assert lineage["counts"]["documents"] == 3000
    from tokenizers import Tokenizer

    assert plan.work.tokenizer_json is not None
    tokenizer = Tokenizer.from_str(plan.work.tokenizer_json)
    ids = [token for sample in read_samples(request.out) for token in sample["tokens"].tolist()]
    text = tokenizer.decode(ids, skip_special_tokens=False)
    pieces = text.split("<|endoftext|>")
    # Files of a folder come by name: 0.txt, 1.txt, 10.txt, ..., then a.jsonl, then b.csv.
    texts = _texts(3000)
    names = sorted(f"{number}.txt" for number in range(100))
    expected = [texts[2900 + int(name.removesuffix(".txt"))] for name in names] + texts[:2900]
    assert pieces[:-1] == expected[: len(pieces) - 1]
    assert len(pieces) >= 2999
    assert make_plan(request).finished


def test_a_table_with_deletion_vectors_to_rows_to_train_on(tmp_path: Path) -> None:
    deltalake, pa = pytest.importorskip("deltalake"), pytest.importorskip("pyarrow")
    delta_tables = pytest.importorskip("delta_tables")
    table, out = str(tmp_path / "faq"), tmp_path / "rows"
    numbers = range(40)
    columns = {"prompt": [f"question {n}" for n in numbers], "response": [f"answer {n}" for n in numbers]}
    deltalake.write_deltalake(table, pa.table(columns))
    delta_tables.delete_by_vector(table, {0: [0, 39]})
    deltalake.write_deltalake(table, pa.table({"prompt": ["more"], "response": ["rows"]}), mode="append")
    run(ConvertRequest(sources=(f"delta:{table}",), out=str(out), target="rows", workers=1, part_bytes=100))
    said = {row["messages"][1]["content"] for row in read_samples(str(out))}
    assert said == {"rows", *(f"answer {n}" for n in range(1, 39))}
    rows = load_rows(FinetuningDatasetConfig(local=str(out)), DataConfig())
    assert {row.messages[1].content for row in rows.rows} == said
