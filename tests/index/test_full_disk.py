"""A disk that is full, at whatever file: one clear line, the index as it was, and the next sync goes on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import sync_child

from genai.index.ledger import Ledger

_SYNCS_WITH_LIMIT = """
import resource, sys
from pathlib import Path
from genai.errors import GenaiError
from genai.index.applying import Applier
from sync_child import open_index
index = open_index(Path(sys.argv[1]), sys.argv[2], 2)
index.encoder._log = None
write = Applier._write
def fill_disk():
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_000, resource.RLIM_INFINITY))
def write_and_fill(*arguments):
    write(*arguments)
    fill_disk()
if sys.argv[3] == "ledger":
    fill_disk()
else:
    Applier._write = write_and_fill
try:
    index.sync(allow_mass_delete=True)
    print("done")
except GenaiError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs limits on files")
@pytest.mark.parametrize(
    ("engine", "file"),
    [
        ("exact", "ledger"),
        ("exact", "engine"),
        pytest.param("qdrant_edge", "engine", marks=pytest.mark.slow),
    ],
)
def test_the_index_stays_as_it_was(tmp_path: Path, engine: str, file: str) -> None:
    index = sync_child.open_index(tmp_path, engine, 1)
    index.sync()
    before = index.texts()
    index.close()
    command = [sys.executable, "-c", _SYNCS_WITH_LIMIT, str(tmp_path), engine, file]
    environment = {**os.environ, "PYTHONPATH": str(Path(sync_child.__file__).parent)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1 and "cannot write" in done.stdout and "free" in done.stdout
    assert ("index.db" in done.stdout) == (file == "ledger")
    with Ledger.open(tmp_path / "rows", read_only=True) as reader:
        live = reader.live()
        assert live is not None and live.points == sum(map(len, before.values()))
        opened = index.engine().reader(live.spec("rows"), str(live.token))
        assert opened.count() == live.points
        opened.close()
    index = sync_child.open_index(tmp_path, engine, 2)
    index.sync(allow_mass_delete=True)
    assert index.texts() == index.wanted()
    index.close()
