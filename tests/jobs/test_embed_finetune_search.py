"""Which trials there are, how long they train; whole searches are in test_embed_finetune.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tuning_jobs import make_place, write_job

from genai.config.embed_finetune import EmbedFinetuneConfig, HyperSearchConfig
from genai.config.loading import load
from genai.errors import GenaiError
from genai.jobs import embed_finetune
from genai.jobs.embed_finetune_search import rounds_of, shortened, trials_of
from genai.training.trainer import Trainer

SPACE: dict[str, list[Any]] = {"optimizer.lr": [1, 2, 3], "loss.scale": [10, 20]}


def test_all_combinations_begin_where_there_are_few() -> None:
    trials = trials_of(HyperSearchConfig(space=SPACE, num_trials=6), seed=1)
    assert len(trials) == 6
    assert trials[0] == {"optimizer.lr": 1, "loss.scale": 10}


def test_else_as_many_are_drawn_by_the_seed() -> None:
    settings = HyperSearchConfig(space=SPACE, num_trials=4)
    trials = trials_of(settings, seed=1)
    assert len({tuple(trial.items()) for trial in trials}) == 4
    assert trials == trials_of(settings, seed=1)
    assert any(trials != trials_of(settings, seed=seed) for seed in range(2, 6))


@pytest.mark.parametrize(
    ("trials", "keep", "shortest", "rounds"),
    [
        (8, 0.5, 0.25, [(0.25, 8), (0.5, 4), (1.0, 2)]),
        (9, 1 / 3, 1 / 9, [(1 / 9, 9), (1 / 3, 3), (1.0, 1)]),
        (1, 0.5, 0.25, [(1.0, 1)]),
        (4, 0.5, 1.0, [(1.0, 4)]),
        (4, 0.0, 0.5, [(0.5, 4), (1.0, 1)]),
    ],
)
def test_the_last_round_trains_all_of_it(
    trials: int, keep: float, shortest: float, rounds: list[tuple[float, int]]
) -> None:
    found = rounds_of(trials, HyperSearchConfig(space=SPACE, keep=keep, shortest=shortest))
    assert [count for _, count in found] == [count for _, count in rounds]
    assert [share for share, _ in found] == pytest.approx([share for share, _ in rounds])


@pytest.mark.parametrize(
    ("text", "share", "short"),
    [("2ep", 0.25, "50sp"), ("2ep", 1.0, "2ep"), ("40ba", 0.5, "20ba"), ("1ba", 0.1, "1ba"), ("1ep", 0.001, "1sp")],
)
def test_a_share_of_a_duration(text: str, share: float, short: str) -> None:
    assert shortened(text, share, num_pairs=100) == short


@pytest.mark.integration
def test_trials_that_fail_are_told_and_the_others_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    step = Trainer.step

    def fail_with_a_high_rate(self: Trainer) -> None:
        if self.optimizer.param_groups[0]["lr"] > 0.5:
            raise GenaiError("too fast")
        step(self)

    monkeypatch.setattr(Trainer, "step", fail_with_a_high_rate)
    place = make_place(tmp_path)
    search = {"space": {"optimizer.lr": [1.0, 0.003]}, "shortest": 1.0}
    job = write_job(place, search=search, max_duration="2ba", scheduler={"name": "constant_with_warmup"})
    result = embed_finetune.run(load(job, EmbedFinetuneConfig))
    assert result.search is not None
    assert [trial.fault for trial in result.search.trials] == ["too fast", None]
    assert result.search.winner.endswith("t01-r0")
    only = write_job(
        place,
        run_name="only",
        search={"space": {"optimizer.lr": [1.0]}},
        scheduler={"name": "constant_with_warmup"},
    )
    with pytest.raises(GenaiError, match="no trial of search came to its end: too fast"):
        embed_finetune.run(load(only, EmbedFinetuneConfig))


@pytest.mark.integration
def test_no_trial_begins_that_the_budget_does_not_hold(tmp_path: Path) -> None:
    place = make_place(tmp_path)
    search = {"space": {"loss.scale": [5.0, 10.0, 20.0]}, "shortest": 1.0, "budget_minutes": 0.001}
    result = embed_finetune.run(load(write_job(place, search=search, max_duration="2ba"), EmbedFinetuneConfig))
    assert result.search is not None
    assert result.search.out_of_time
    assert len(result.search.trials) == 1
