import logging
from pathlib import Path

import pytest

from genai.errors import MissingExtraError
from genai.tracking.loggers import LOGGERS


@pytest.mark.integration
def test_what_was_logged_is_what_tensorboard_reads(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logger = LOGGERS.get("tensorboard")(tmp_path)
    logger.start("faq", {"optimizer.lr": "0.0005"})
    logger.log(1, {"loss/train": 3.5, "lr": 1e-4})
    logger.log(2, {"loss/train": 3.25})
    logger.log(3, {"loss/train": 3.0})
    logger.finish("stopped")
    resumed = LOGGERS.get("tensorboard")(tmp_path)
    resumed.start("faq", {"optimizer.lr": "0.0005"}, resume_step=1)
    resumed.log(2, {"loss/train": 2.5})
    resumed.finish("done")

    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(point.step, point.value) for point in events.Scalars("loss/train")] == [(1, 3.5), (2, 2.5)]
    assert [point.step for point in events.Scalars("lr")] == [1]
    (config, *_) = events.Tensors("config")
    assert b"| optimizer.lr | 0.0005 |" in config.tensor_proto.string_val[0]


@pytest.mark.integration
def test_another_folder(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    logger = LOGGERS.get("tensorboard")(tmp_path / "run", log_dir=str(tmp_path / "events"))
    logger.start("faq", {})
    logger.finish("done")
    assert len(list((tmp_path / "events").glob("events.out.tfevents.*"))) == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.integration
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # the writing thread of TensorBoard
def test_a_full_disk_ends_the_logging_and_not_the_job(tmp_path: Path, caplog) -> None:
    pytest.importorskip("tensorboard")
    logger = LOGGERS.get("tensorboard")(tmp_path)
    logger.start("faq", {})
    full = open("/dev/full", "wb", buffering=0)  # noqa: SIM115 (the logger closes it)
    logger._writer._async_writer._writer._writer = full
    with caplog.at_level(logging.WARNING, logger="genai"):
        for step in range(2000):
            logger.log(step, {"loss/train": 1.0})
        logger.finish("done")
    full.close()
    assert "training goes on without: [Errno 28]" in caplog.text


def test_a_missing_package_names_its_extra(tmp_path: Path, without) -> None:
    without("tensorboard")
    with pytest.raises(MissingExtraError) as caught:
        LOGGERS.get("tensorboard")(tmp_path)
    assert caught.value.fix == "pip install 'genai-foundry[tensorboard]'"
