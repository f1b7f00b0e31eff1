from pathlib import Path

import pytest

from genai.errors import CredentialsError, MissingExtraError
from genai.tracking.loggers import LOGGERS


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_offline_writes_to_the_run_directory_only(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    for resume_step in (0, 2):
        logger = LOGGERS.get("wandb")(tmp_path)
        logger.start("faq", {"optimizer.lr": "0.0005"}, resume_step=resume_step)
        logger.log(resume_step + 1, {"loss/train": 3.5})
        logger.finish("done")
    files = sorted((tmp_path / "wandb").glob("offline-run-*/run-faq.wandb"))
    assert len(files) == 2
    assert b"loss/train" in files[0].read_bytes()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_online_without_a_key_fails_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(CredentialsError, match="no W&B key"):
        LOGGERS.get("wandb")(tmp_path, mode="online").start("faq", {})


def test_a_missing_package_names_its_extra(tmp_path: Path, without) -> None:
    without("wandb")
    with pytest.raises(MissingExtraError) as caught:
        LOGGERS.get("wandb")(tmp_path)
    assert caught.value.fix == "pip install 'genai-foundry[wandb]'"
