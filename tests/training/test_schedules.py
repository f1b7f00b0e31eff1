"""Schedules against closed forms written down independently, and the arithmetic of units."""

from __future__ import annotations

import math

import pytest

from genai.config.durations import Duration
from genai.config.training import ConstantConfig, CosineConfig, LinearConfig, SchedulerConfig, WSDConfig
from genai.errors import UsageError
from genai.training.schedules import Position, Schedule, build_schedule

STEPS = 200


def schedule_of(cfg: SchedulerConfig, max_duration: str = f"{STEPS}ba", **rates: float) -> Schedule:
    return build_schedule(cfg, max_duration=Duration.parse(max_duration), **{"batches_per_epoch": 50, **rates})


def factors(schedule: Schedule) -> list[float]:
    return [schedule(Position(batch=b, epoch=b / 50, tokens=b * 1000)) for b in range(STEPS + 1)]


def composer_cosine(step: int, warmup: int, total: int, alpha_f: float) -> float:
    """Composer's CosineAnnealingWithWarmupScheduler, from its documented formula."""
    if step < warmup:
        return step / warmup
    share = min(1.0, (step - warmup) / (total - warmup))
    return alpha_f + (1 - alpha_f) * 0.5 * (1 + math.cos(math.pi * share))


def composer_linear(step: int, warmup: int, total: int, alpha_f: float) -> float:
    """Composer's LinearWithWarmupScheduler."""
    if step < warmup:
        return step / warmup
    return 1 + (alpha_f - 1) * min(1.0, (step - warmup) / (total - warmup))


@pytest.mark.parametrize("warmup", [0, 7, 100])
@pytest.mark.parametrize("alpha_f", [0.0, 0.1, 1.0])
def test_cosine_and_linear_are_composers(warmup: int, alpha_f: float) -> None:
    cosine = schedule_of(CosineConfig(t_warmup=f"{warmup}ba", alpha_f=alpha_f))
    linear = schedule_of(LinearConfig(t_warmup=f"{warmup}ba", alpha_f=alpha_f))
    assert factors(cosine) == pytest.approx([composer_cosine(s, warmup, STEPS, alpha_f) for s in range(STEPS + 1)])
    assert factors(linear) == pytest.approx([composer_linear(s, warmup, STEPS, alpha_f) for s in range(STEPS + 1)])


def test_cosine_is_torchs_annealing() -> None:
    import torch

    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    annealing = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=STEPS, eta_min=0.1)
    expected = []
    for _ in range(STEPS + 1):
        expected.append(annealing.get_last_lr()[0])
        optimizer.step()
        annealing.step()
    assert factors(schedule_of(CosineConfig(alpha_f=0.1))) == pytest.approx(expected, abs=1e-9)


def test_constant_and_wsd() -> None:
    constant = factors(schedule_of(ConstantConfig(t_warmup="10ba")))
    assert constant[:11] == pytest.approx([step / 10 for step in range(11)])
    assert set(constant[10:]) == {1.0}
    wsd = factors(schedule_of(WSDConfig(t_warmup="10ba", t_decay="0.1dur", alpha_f=0.2)))
    assert wsd[:11] == pytest.approx(constant[:11])
    assert set(wsd[10:181]) == {1.0}
    assert wsd[180:] == pytest.approx([1 - 0.8 * step / 20 for step in range(21)])


def test_wsd_without_a_decay_stays_up() -> None:
    assert factors(schedule_of(WSDConfig(t_decay="0ba"))) == [1.0] * (STEPS + 1)


@pytest.mark.parametrize("warmup", ["20ba", "20000tok", "0.1dur", "40sp"])
def test_the_same_warmup_in_any_unit(warmup: str) -> None:
    rates = {"tokens_per_batch": 1000.0, "samples_per_batch": 2.0}
    expected = factors(schedule_of(CosineConfig(t_warmup="20ba")))
    assert factors(schedule_of(CosineConfig(t_warmup=warmup), **rates)) == pytest.approx(expected)


@pytest.mark.parametrize("max_duration", ["200ba", "4ep", "200000tok", "400sp"])
@pytest.mark.parametrize("config", [CosineConfig(t_warmup="20ba"), WSDConfig(t_warmup="20ba", t_decay="1ep")])
def test_the_same_run_in_any_unit(max_duration: str, config: SchedulerConfig) -> None:
    rates = {"tokens_per_batch": 1000.0, "samples_per_batch": 2.0}
    assert factors(schedule_of(config, max_duration, **rates)) == pytest.approx(factors(schedule_of(config)))


def test_t_max_ends_the_decay_early() -> None:
    values = factors(schedule_of(LinearConfig(t_max="2ep", alpha_f=0.5)))
    assert values[50] == pytest.approx(0.75)
    assert set(values[100:]) == {0.5}


def test_tokens_are_counted_not_estimated() -> None:
    """Under max_duration in tokens it is the tokens seen that decide, whatever their mean a batch was thought to be."""
    schedule = schedule_of(LinearConfig(), "1000tok", tokens_per_batch=1.0)
    assert schedule(Position(batch=3, epoch=0.1, tokens=250)) == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (CosineConfig(t_warmup="200ba"), "t_warmup"),
        (LinearConfig(t_warmup="20ba", t_max="20ba"), "t_max"),
        (WSDConfig(t_warmup="0.6dur", t_decay="0.5dur"), "longer than the run"),
        (CosineConfig(t_warmup="500tok"), "'tok'"),
    ],
)
def test_what_cannot_be(config: SchedulerConfig, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        schedule_of(config)
    assert caught.value.fix
