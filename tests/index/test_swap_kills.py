"""A swap that is killed at every step: the index answers as before or as after, and the next swap ends the work."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from toy_index import ToyIndex, document, make_config

from genai.config.embedding import EmbeddingConfig
from genai.config.index import SyncConfig
from genai.index.labelled_queries import LabelledQuery

BATCH = 20
NUM = 60
GOOD = EmbeddingConfig(model="good")

CHILD = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = [{plugins!r}, {here!r}]
import test_swap_kills as kills
from genai.index import applying, engines, generations, swap
from genai.index.engines.exact import ExactEngine, ExactWriter

kills_at = int(sys.argv[2])
steps = 0

def step(*_):
    global steps
    steps += 1
    if steps == kills_at:
        os.kill(os.getpid(), signal.SIGKILL)

def around(owner, name):
    inner = getattr(owner, name)
    def outer(*values, **named):
        step()
        given = inner(*values, **named)
        step()
        return given
    setattr(owner, name, outer)

around(generations, "begin_generation")
around(generations, "make_live")
around(applying, "note_published")
around(ExactWriter, "publish")
around(ExactEngine, "sweep")
toy = kills.open_toy(Path(sys.argv[1]))
encoder = toy.encoder_of(kills.GOOD)
embed = encoder.embed_documents

def counted(texts):
    step()
    with open(Path(sys.argv[1]) / "embedded", "a") as file:
        file.write(f"{{len(texts)}}\\n")
    given = embed(texts)
    step()
    return given

encoder.embed_documents = counted
report = swap.swap(
    toy.ledger, toy.engine(), toy.config, kills.GOOD, encoder_of=toy.encoder_of, queries=kills.make_queries(), wait_s=5
)
report.check()
print("steps", steps)
"""


def make_texts() -> list[str]:
    generator = np.random.default_rng(0)
    words = [f"w{number}" for number in range(200)]
    return [" ".join(generator.choice(words, size=8)) for _ in range(NUM)]


def make_queries() -> list[LabelledQuery]:
    return [LabelledQuery(text=text, relevant={f"d{place}": 1.0}) for place, text in enumerate(make_texts())]


def open_toy(folder: Path) -> ToyIndex:
    return ToyIndex(make_config(folder, sync=SyncConfig(batch_size=BATCH)))


def run(folder: Path, kill_at: int) -> subprocess.CompletedProcess[str]:
    plugins = Path(__file__).parents[1] / "plugins"
    code = CHILD.format(plugins=str(plugins), here=str(Path(__file__).parent))
    return subprocess.run([sys.executable, "-c", code, str(folder), str(kill_at)], capture_output=True, text=True)


def check(folder: Path) -> str:
    """Every text is found by itself; gives the fingerprint of the encoder that answers."""
    toy = open_toy(folder)
    with toy.open() as index:
        for place, results in enumerate(index.search(make_texts(), k=1)):
            assert results[0].key == f"d{place}"
        fingerprint = index.generation().fingerprint
    toy.close()
    return fingerprint


@pytest.mark.slow
def test_a_swap_killed_at_every_step_is_ended_by_the_next(tmp_path: Path) -> None:
    kill_at, num_steps = 0, 1
    seen = set()
    while kill_at < num_steps:
        folder = tmp_path / str(kill_at)
        toy = open_toy(folder)
        toy.put(*(document(f"d{place}", text) for place, text in enumerate(make_texts())))
        toy.close()
        ended = run(folder, kill_at)
        if kill_at == 0:  # nothing is killed: so many steps there are
            assert ended.returncode == 0, ended.stderr
            num_steps = int(ended.stdout.split()[-1]) + 1
            assert num_steps > 12
        else:
            assert ended.returncode == -signal.SIGKILL, ended.stderr
            seen.add(check(folder))
            again = run(folder, 0)
            swapped = check(folder) == "good-32"
            assert swapped, again.stderr
            assert again.returncode == 0 or "embedded by this already" in again.stderr
        embedded = sum(map(int, (folder / "embedded").read_text().split()))
        assert embedded <= NUM + BATCH
        kill_at += 1
    assert seen == {"words-32", "good-32"}
