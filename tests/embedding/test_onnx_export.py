import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from genai.embedding import onnx_export
from genai.embedding.onnx_export import ONNX_FILE, exported
from genai.errors import MissingExtraError

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENAI_CACHE", str(tmp_path / "cache"))


def test_made_once(bert: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    file = exported(bert)
    assert file.name == ONNX_FILE
    assert sorted(entry.name for entry in file.parent.iterdir()) == ["genai-source.json", ONNX_FILE]
    assert capfd.readouterr().out == ""
    monkeypatch.setattr(onnx_export, "_export", None)
    assert exported(bert) == file


def test_a_package_that_is_missing(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_export, "_NEEDED", ("torch", "nowhere_to_be_found"))
    with pytest.raises(MissingExtraError, match=r"needs the package 'nowhere_to_be_found'.*genai-foundry\[onnx\]"):
        exported(bert)


def test_a_kill_leaves_nothing_that_is_taken_for_a_model(bert: Path, tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from genai.embedding import onnx_export;"
        "quantise = onnx_export._quantise\n"
        "def slow(whole, target):\n"
        "    quantise(whole, target); print('made', flush=True); import time; time.sleep(600)\n"
        f"onnx_export._quantise = slow; onnx_export._quiet = __import__('contextlib').nullcontext\n"
        f"print(onnx_export.exported(Path({str(bert)!r})))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    while b"made" not in process.stdout.readline():
        assert process.poll() is None
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    folder = tmp_path / "cache" / "onnx"
    assert [entry.name for entry in folder.iterdir() if not entry.name.startswith(".")] == []
    start = time.monotonic()
    file = exported(bert)
    assert time.monotonic() - start < 120
    left = {entry.name for entry in folder.iterdir()}
    assert left == {file.parent.name, f".{file.parent.name}.lock"}
