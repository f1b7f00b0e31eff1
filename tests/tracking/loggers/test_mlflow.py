import http.server
import json
import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from genai.errors import MissingExtraError
from genai.tracking.loggers import LOGGERS
from genai.tracking.loggers import mlflow as mlflow_module

pytestmark = pytest.mark.filterwarnings("ignore")  # MLflow and SQLAlchemy have some of their own


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run's folder."""
    folder = tmp_path / "runs" / "faq"
    folder.mkdir(parents=True)
    return folder


def history(run: Path, key: str) -> list[tuple[int, float]]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{run.parent / 'mlflow.db'}")
    run_id = json.loads((run / "mlflow.json").read_text())["run_id"]
    return sorted((point.step, point.value) for point in client.get_metric_history(run_id, key))


@pytest.mark.slow
def test_a_local_database_gets_everything_and_a_resume_goes_on_in_the_same_run(run: Path) -> None:
    pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    from mlflow.tracking import MlflowClient

    logger = LOGGERS.get("mlflow")(run, flush_every_s=0.05)
    logger.start("faq", {"optimizer.lr": "0.0005", "odd key [0]": "x" * 9000} | {f"many.{i}": "1" for i in range(150)})
    for step in range(1, 1501):
        logger.log(step, {"loss/train": 1 / step})
    logger.finish("stopped")
    client = MlflowClient(f"sqlite:///{run.parent / 'mlflow.db'}")
    run_id = json.loads((run / "mlflow.json").read_text())["run_id"]
    first = client.get_run(run_id)
    assert (first.info.status, first.info.run_name) == ("KILLED", "faq")
    assert len(first.data.params) == 152
    assert first.data.params["optimizer.lr"] == "0.0005"
    assert first.data.params["odd key _0_"] == "x" * 6000
    assert history(run, "loss/train") == [(step, 1 / step) for step in range(1, 1501)]

    resumed = LOGGERS.get("mlflow")(run, flush_every_s=60)
    resumed.start("faq", {"optimizer.lr": "0.001"}, resume_step=1400)
    for step in range(1401, 1511):
        resumed.log(step, {"loss/train": 1 / step})
    resumed.log(1510, {"loss/eval": float("nan")})
    resumed.finish("done")
    assert history(run, "loss/train") == [(step, 1 / step) for step in range(1, 1511)]
    assert [step for step, _ in history(run, "loss/eval")] == [1510]
    assert client.get_run(run_id).info.status == "FINISHED"
    assert len(client.search_runs([first.info.experiment_id])) == 1

    again = LOGGERS.get("mlflow")(run)
    again.start("faq", {})
    again.finish("failed")
    runs = client.search_runs([first.info.experiment_id])
    assert sorted(found.info.status for found in runs) == ["FAILED", "FINISHED"]


class _Unwell(http.server.BaseHTTPRequestHandler):
    """Answers 500 to everything."""

    def do_GET(self) -> None:
        self.send_error(500)

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def unwell_server() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Unwell)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.integration
@pytest.mark.parametrize("kind", ["dead", "unwell"])
def test_a_server_that_is_away_costs_a_warning_and_no_time(
    run: Path, kind: str, unwell_server: str, caplog, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    uri = unwell_server if kind == "unwell" else "http://127.0.0.1:9"
    logger = LOGGERS.get("mlflow")(run, tracking_uri=uri, flush_every_s=0.02, finish_within_s=10)
    with caplog.at_level(logging.WARNING, logger="genai"):
        logger.start("faq", {})
        started = time.perf_counter()
        for step in range(200):
            logger.log(step, {"loss/train": 1.0})
        assert time.perf_counter() - started < 1
        time.sleep(0.2)
        logger.finish("done")
    messages = [record.getMessage() for record in caplog.records if record.name.startswith("genai")]
    assert sum("does not answer, training goes on" in message for message in messages) == 1
    assert messages[-1] == f"mlflow: 200 values did not reach {uri}; metrics.jsonl has them all"
    assert not (run / "mlflow.json").exists()


@pytest.mark.integration
def test_a_server_that_stays_away_does_not_fill_the_memory(run: Path, caplog, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow")
    monkeypatch.setattr(mlflow_module, "_MAX_WAITING", 50)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    logger = LOGGERS.get("mlflow")(run, tracking_uri="http://127.0.0.1:9", flush_every_s=60)
    logger.start("faq", {})
    for step in range(200):
        logger.log(step, {"loss/train": 1.0})
    assert len(logger._waiting) == 50
    with caplog.at_level(logging.WARNING, logger="genai"):
        logger.finish("done")
    assert "200 values did not reach" in caplog.text


def test_a_missing_package_names_its_extra(run: Path, without) -> None:
    without("mlflow")
    with pytest.raises(MissingExtraError) as caught:
        LOGGERS.get("mlflow")(run)
    assert caught.value.fix == "pip install 'genai-foundry[mlflow]'"
