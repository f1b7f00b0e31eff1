"""`genai models export runs:RUN/CHECKPOINT` of a pretraining: what the run itself exports at its end, and before it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from genai.config.loading import load
from genai.config.pretrain import PretrainConfig
from genai.errors import UsageError
from genai.jobs.checkpoint_export import export_checkpoint, names_pretraining_checkpoint
from genai.jobs.pretrain import run

pytestmark = pytest.mark.integration


@pytest.fixture
def trained(token_job: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("GENAI_CACHE", str(tmp_path / "cache"))
    path = token_job.write(max_duration="4ba", save_interval="2ba")
    return run(load(path, PretrainConfig), run_name="toy")


def test_the_last_checkpoint_is_the_exported_model(trained: Any, tmp_path: Path) -> None:
    runs = Path(trained.path).parent
    assert names_pretraining_checkpoint("runs:toy/ba00000004", runs)
    assert not names_pretraining_checkpoint("runs:toy", runs)
    assert not names_pretraining_checkpoint("runs:other/ba00000004", runs)
    last, before = (
        load_file(
            export_checkpoint(f"runs:toy/{name}", tmp_path / name, kind="hf", runs_dir=runs) / "model.safetensors"
        )
        for name in ("ba00000004", "ba00000002")
    )
    exported = load_file(Path(trained.model) / "model.safetensors")
    assert last.keys() == exported.keys()
    assert all(last[name].equal(exported[name]) for name in exported)
    assert not all(before[name].equal(exported[name]) for name in exported)


def test_a_checkpoint_that_is_not_there(trained: Any, tmp_path: Path) -> None:
    runs = Path(trained.path).parent
    with pytest.raises(UsageError, match="has no checkpoint 'ba00000003'") as caught:
        export_checkpoint("runs:toy/ba00000003", tmp_path / "out", kind="hf", runs_dir=runs)
    assert caught.value.fix is not None and "runs:toy/ba0000000" in caught.value.fix
    with pytest.raises(UsageError, match="--dtype q8 is unknown"):
        export_checkpoint("runs:toy/ba00000004", tmp_path / "out", kind="hf", dtype="q8", runs_dir=runs)
