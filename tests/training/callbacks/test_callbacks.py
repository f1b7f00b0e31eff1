"""The set as `genai.training.callbacks` builds it."""

import importlib.metadata
import json
import subprocess
import sys
import time

import pytest

from genai.config.training import CallbacksConfig, EarlyStoppingConfig, LossSpikeConfig, NaNGuardConfig, WebhookConfig
from genai.errors import UsageError
from genai.training.callbacks import Callback, build_callbacks

EVERYTHING = CallbacksConfig(early_stopping=EarlyStoppingConfig(), webhook=WebhookConfig(url="env:HOOK"))


class Plugin(Callback):
    def __init__(self, *, every):
        self.every = every


@pytest.fixture
def plugin(monkeypatch):
    point = importlib.metadata.EntryPoint("mine", "ignored:Plugin", "genai.callbacks")
    monkeypatch.setattr(importlib.metadata.EntryPoint, "load", lambda self: Plugin)
    monkeypatch.setattr(
        importlib.metadata, "entry_points", lambda *, group: importlib.metadata.EntryPoints([point]).select(group=group)
    )


def names(callbacks):
    return [type(callback).__name__ for callback in callbacks]


def test_guards_first_and_the_webhook_last():
    callbacks = build_callbacks(EVERYTHING, run_name="r", total_batches=10, webhook_url="http://127.0.0.1:9")
    assert names(callbacks) == [
        "NaNGuard",
        "LossSpike",
        "EarlyStopping",
        "SpeedMonitor",
        "MemoryMonitor",
        "Progress",
        "Webhook",
    ]


def test_a_rank_that_is_not_the_first_neither_shows_progress_nor_calls_anybody():
    callbacks = build_callbacks(EVERYTHING, run_name="r", total_batches=10, is_main=False)
    assert names(callbacks) == ["NaNGuard", "LossSpike", "EarlyStopping", "SpeedMonitor", "MemoryMonitor"]


def test_what_is_null_is_left_out():
    callbacks = build_callbacks(CallbacksConfig(loss_spike=None), run_name="r", total_batches=None)
    assert names(callbacks) == ["NaNGuard", "SpeedMonitor", "MemoryMonitor", "Progress"]


def test_settings_arrive():
    cfg = CallbacksConfig(nan_guard=NaNGuardConfig(max_skipped=1), loss_spike=LossSpikeConfig(window=5, threshold=2.0))
    guard, spike = build_callbacks(cfg, run_name="r", total_batches=None)[:2]
    assert not guard.before_step(float("nan"), 1.0, batch=1, row_ids=[])
    with pytest.raises(Exception, match="2 steps in a row"):
        guard.before_step(float("nan"), 1.0, batch=2, row_ids=[])
    spike.load_state_dict({"losses": [1.0] * 9, "in_spike": False})
    assert len(spike.state_dict()["losses"]) == 5


def test_a_webhook_without_its_url_is_our_own_mistake():
    with pytest.raises(ValueError, match="not resolved"):
        build_callbacks(EVERYTHING, run_name="r", total_batches=10)


def test_a_plugin_by_name(plugin):
    callbacks = build_callbacks(CallbacksConfig(), run_name="r", total_batches=1, plugins={"mine": {"every": 3}})
    assert isinstance(callbacks[-1], Plugin) and callbacks[-1].every == 3


@pytest.mark.parametrize(
    ("plugins", "text"),
    [({"main": {}}, "did you mean 'mine'"), ({"mine": {"evry": 3}}, "callbacks.mine: callback 'mine' does not take")],
)
def test_a_wrong_plugin_is_a_usage_error(plugin, plugins, text):
    with pytest.raises(UsageError) as caught:
        build_callbacks(CallbacksConfig(), run_name="r", total_batches=1, plugins=plugins)
    assert text in str(caught.value)


def test_every_state_is_json_and_can_be_loaded(step_info):
    callbacks = build_callbacks(EVERYTHING, run_name="r", total_batches=10, webhook_url="http://127.0.0.1:9")
    for callback in callbacks:
        callback.step_end(step_info())
        callback.load_state_dict(json.loads(json.dumps(callback.state_dict(), allow_nan=False)))


def test_cost_a_step(step_info, bars):
    cfg = CallbacksConfig(early_stopping=EarlyStoppingConfig(), loss_spike=LossSpikeConfig(window=500))
    callbacks = build_callbacks(cfg, run_name="r", total_batches=2000)
    infos = [step_info(batch, loss=2.0 + batch % 7 / 10) for batch in range(1, 2001)]
    for callback in callbacks:
        callback.fit_start(batch=0)
    started = time.process_time()
    for info in infos:
        for callback in callbacks:
            callback.before_step(info.loss, info.grad_norm, batch=info.batch, row_ids=((1,), (2, 3)))
        for callback in callbacks:
            callback.step_end(info)
    per_step_s = (time.process_time() - started) / len(infos)
    assert per_step_s < 0.5e-3  # measured: 0.02 ms


def test_importing_them_loads_no_torch():
    code = (
        "import sys, genai.training.callbacks.base; print([m for m in ('torch', 'urllib.request') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
