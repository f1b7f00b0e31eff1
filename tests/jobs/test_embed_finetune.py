"""`genai embed-finetune` from the job file to the result, with a tiny model that really learns."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tuning_jobs import make_encoder, make_place, pairs, write_job, write_rows

from genai.config.embed_finetune import EmbedFinetuneConfig
from genai.config.embedding import EmbeddingConfig, RerankerConfig
from genai.config.loading import load
from genai.data.retrieval.labelled import read_held_out
from genai.embedding.opening import open_encoder, open_reranker
from genai.errors import ConfigError, GateError, StoppedError
from genai.jobs import embed_finetune, embed_finetune_plan
from genai.jobs.embed_finetune_result import EmbedFinetuneResult
from genai.tracking.metrics import read_metrics
from genai.training.trainer import Trainer

pytestmark = pytest.mark.integration

ENCODER = "sentence_encoder"
Run = Callable[..., EmbedFinetuneResult]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_place(tmp_path_factory.mktemp("tuning"))


@pytest.fixture
def place(template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(template, tmp_path / "place"))


@pytest.fixture
def run(place: Path) -> Run:
    def run_job(*overrides: str, **changes: Any) -> EmbedFinetuneResult:
        loaded = load(write_job(place, **changes), EmbedFinetuneConfig, overrides)
        return embed_finetune.run(loaded)

    return run_job


def change(result: EmbedFinetuneResult, metric: str = "ndcg@10") -> tuple[float, float]:
    found = next(each for each in result.changes if each.metric == metric)
    return found.before, found.after


def weights(folder: str | Path) -> bytes:
    return (Path(folder) / "model.safetensors").read_bytes()


def test_retrieval_gets_better_and_everything_is_written(run: Run, place: Path) -> None:
    result = run()
    before, after = change(result)
    assert after > before + 0.15
    assert result.loss_last is not None and result.loss_first is not None
    assert result.loss_last < 0.5 * result.loss_first
    assert result.num_passages == 80
    assert result.num_queries + result.num_pairs < 80
    assert result.num_won > result.num_lost
    assert all(each.low <= each.difference <= each.high for each in result.changes)
    assert result.promotion.promoted is None
    written = json.loads((place / "runs" / "tiny" / "result.json").read_text())
    assert EmbedFinetuneResult.from_json({key: written[key] for key in result.to_json()}) == result
    assert "oak" in Path(result.report).read_text()
    assert len(read_held_out(str(place / "runs" / "tiny" / "data" / "test.jsonl"))) == result.num_queries
    trained = [json.loads(line) for line in (place / "runs" / "tiny" / "data" / "train.jsonl").read_text().splitlines()]
    assert len(trained) == result.num_pairs
    answers = {row["query"]: row["positive"].strip() for row in pairs()}
    assert all(answers[row["query"]] == row["positive"].strip() for row in trained)
    encoder = open_encoder(EmbeddingConfig(model="runs:tiny"), runs_dir=place / "runs")
    vectors = encoder.embed_queries([pairs()[0]["query"], pairs()[1]["query"]])
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-3)
    losses = [
        record["loss/eval"]
        for record in read_metrics(place / "runs" / "tiny" / "metrics.jsonl")
        if "loss/eval" in record
    ]
    assert len(losses) == 3 and losses[-1] < losses[0]


def test_a_finished_run_gives_its_result_again(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(max_duration="2ba")
    monkeypatch.setattr(Trainer, "fit", lambda self: pytest.fail("it trained again"))
    assert run(max_duration="2ba") == first


@pytest.mark.parametrize("kind", ["plain", "mined"])
def test_a_stopped_run_goes_on_bit_by_bit(run: Run, place: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    mining = {"hard_negatives": {"num_negatives": 2, "candidates": 10, "refresh": "4ba"}} if kind == "mined" else {}
    whole = run(run_name="whole", **mining)
    step = Trainer.step

    def stop_at_seven(self: Trainer) -> None:
        step(self)
        if self.state.batch == 7:
            raise StoppedError("stopped", signal_number=15)

    monkeypatch.setattr(Trainer, "step", stop_at_seven)
    with pytest.raises(StoppedError):
        run(**mining)
    monkeypatch.setattr(Trainer, "step", step)
    continued = run(**mining)
    assert continued.exact
    assert continued.batches == whole.batches
    assert weights(continued.model) == weights(whole.model)
    assert (continued.negatives is not None) == (kind == "mined")
    if continued.negatives is not None:
        assert continued.negatives.times >= 3
        assert continued.negatives == whole.negatives


def test_the_cached_gradient_trains_the_same_model(run: Run) -> None:
    whole = run(run_name="whole", max_duration="2ep")
    cached = run(run_name="cached", max_duration="2ep", device_train_microbatch_size=2)
    difference = max(
        float(np.abs(one - other).max()) for one, other in zip(tensors(whole.model), tensors(cached.model), strict=True)
    )
    assert 0 < difference < 5e-2  # dropout draws otherwise; without it they would be equal to rounding


def tensors(folder: str) -> list[np.ndarray]:
    from safetensors.numpy import load_file

    return list(load_file(Path(folder) / "model.safetensors").values())


def test_an_adapter_is_merged_and_kept(run: Run, place: Path) -> None:
    peft = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear"}
    model = {"name": ENCODER, "pretrained_model_name_or_path": str(place / "model"), "peft_config": peft}
    result = run(model=model, optimizer={"name": "adamw", "lr": 0.02})
    before, after = change(result)
    assert after > before
    assert result.adapter is not None
    assert (Path(result.adapter) / "adapter_model.safetensors").is_file()
    assert weights(result.model) != weights(place / "model")


def test_a_reranker_is_tuned_by_the_same_file(run: Run, place: Path) -> None:
    # What it has to learn is in the document alone: matching words of two texts takes a larger model.
    rows = [{**row, "negative": row["positive"].replace("lasts long", "nail nail nail")} for row in pairs()]
    write_rows(place / "pairs.jsonl", rows)
    make_encoder(place / "reranker", classifier=True)
    model = {
        "name": "cross_encoder",
        "pretrained_model_name_or_path": str(place / "reranker"),
        "first_stage": str(place / "model"),
        "candidates": 160,
    }
    result = run(model=model, loss={"name": "binary_cross_entropy"}, max_duration="20ep")
    assert result.num_passages == 160
    assert result.loss_last is not None and result.loss_last < 0.2
    scorer = open_reranker(RerankerConfig(model=result.model))
    scores = [scorer.score(row["query"], [row["positive"], row["negative"]]) for row in rows]
    assert sum(right > wrong for right, wrong in scores) > 75


def test_shorter_vectors_are_trained_and_measured(run: Run) -> None:
    result = run(matryoshka={"dimensions": [32, 8]}, max_duration="3ep")
    assert list(result.shorter) == [8]
    assert {each.metric for each in result.shorter[8]} == {each.metric for each in result.changes}


def test_what_is_forgotten_is_measured(run: Run, place: Path) -> None:
    general = [{"query": f"{word} ?", "positive": f"about {word}"} for word in ("oak", "pine", "lime", "sand", "clay")]
    write_rows(place / "general.jsonl", general)
    result = run(max_duration="1ep", evaluation={"general": str(place / "general.jsonl"), "metrics": ["ndcg@10"]})
    assert [each.metric for each in result.forgetting] == ["ndcg@10"]


def test_queries_are_made_of_a_corpus_alone(run: Run, place: Path) -> None:
    texts = [
        {"id": row["id"], "text": f"{row['positive']}. The {row['id'].replace('-', ' ')} is old. It is built well."}
        for row in pairs()
    ]
    write_rows(place / "corpus.jsonl", texts)
    asked = [{"query": row["query"], "relevant": [row["id"]]} for row in pairs()]
    write_rows(place / "asked.jsonl", asked)
    result = run(
        data={
            "corpus": {"path": str(place / "corpus.jsonl")},
            "synthetic_queries": {"methods": ["inverse_cloze"], "round_trip_k": 80, "min_yield": 0.1},
            "split": {"validation": 0.1, "test": 0.0},
        },
        evaluation={"queries": str(place / "asked.jsonl")},
        max_duration="2ep",
    )
    assert result.made is not None
    assert result.made.method == "inverse_cloze"
    assert result.made.num_judged == result.made.num_round_trip <= result.made.num_made
    assert result.num_queries == 80


def test_the_best_of_several_settings_is_taken_and_its_file_gives_the_same_model(run: Run, place: Path) -> None:
    search = {
        "space": {"optimizer.lr": [1.0e-6, 0.003], "loss.scale": [5.0, 20.0]},
        "num_trials": 4,
        "keep": 0.5,
        "shortest": 0.5,
        "budget_minutes": 10,
    }
    result = run(search=search, max_duration="4ep")
    assert result.search is not None
    rounds = [trial.round for trial in result.search.trials]
    assert rounds == [0, 0, 0, 0, 1, 1]
    assert {trial.settings["optimizer.lr"] for trial in result.search.trials if trial.round == 1} == {0.003}
    best = max((trial for trial in result.search.trials if trial.round == 1), key=lambda trial: trial.score or 0)
    assert result.search.winner == best.run
    copied = place / "winner.yaml"
    shutil.copy(result.search.config, copied)
    alone = embed_finetune.run(load(copied, EmbedFinetuneConfig), run_name="alone")
    assert weights(alone.model) == weights(result.model)
    assert alone.changes == result.changes
    assert best.run in Path(result.report).read_text()


def test_a_promotion_that_was_not_earned_keeps_the_model(run: Run, place: Path) -> None:
    then = {"promote_if": "ndcg@10 >= 1.1", "register": "oak"}
    result = run(max_duration="1ba", then=then)
    assert result.promotion.promoted is False
    assert Path(result.model).is_dir()
    assert not (place / "runs" / ".registry" / "oak").exists()
    with pytest.raises(GateError, match="not promoted: ndcg@10"):
        embed_finetune.check_promotion(result)


def test_a_promotion_that_was_earned_is_registered_and_can_be_tuned_on(run: Run, place: Path) -> None:
    result = run(then={"promote_if": "ndcg@10 > baseline", "register": "oak"})
    assert result.promotion.promoted is True
    assert result.promotion.registered == "oak@1"
    again = run(
        run_name="again",
        max_duration="1ba",
        model={"name": ENCODER, "pretrained_model_name_or_path": "registry:oak@production"},
    )
    assert change(again)[0] == pytest.approx(change(result)[1], abs=1e-6)


def test_what_follows_may_change_after_training(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run()
    step = pytest.MonkeyPatch()
    step.setattr(Trainer, "step", lambda self: pytest.fail("it trained again"))
    try:
        result = run(then={"promote_if": "ndcg@10 > baseline", "register": "oak"})
    finally:
        step.undo()
    assert result.promotion.registered == "oak@1"


def test_a_plan_tells_and_writes_nothing(place: Path) -> None:
    loaded = load(write_job(place), EmbedFinetuneConfig)
    plan = embed_finetune_plan.make_plan(loaded)
    assert plan.batches == plan.num_pairs // 8 * 6
    assert plan.num_pairs + plan.num_validation + plan.num_test == 80
    assert "new; nothing was written" in plan.text()
    assert json.loads(json.dumps(plan.to_json()))["rows_per_batch"] == 8
    assert not (place / "runs").exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"data": {"pairs": "absent.jsonl"}}, "absent.jsonl"),
        ({"model": {"name": ENCODER, "pretrained_model_name_or_path": "absent"}}, "absent"),
        ({"loss": {"name": "margin_mse", "teacher": "absent"}, "hard_negatives": {}}, "absent"),
        ({"loss": {"name": "cosent"}}, "cosent learns from scores, but the pairs have none"),
        ({"loss": {"name": "distillation", "teacher": "MODEL"}}, "distillation compares with negatives"),
    ],
)
def test_what_leads_nowhere_is_told_before_anything_is_loaded(
    run: Run, place: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], said: str
) -> None:
    monkeypatch.setattr(embed_finetune, "_train", lambda *_, **__: pytest.fail("it went on"))
    changes = json.loads(json.dumps(changes).replace("MODEL", str(place / "model")))
    with pytest.raises(ConfigError, match=said):
        run(**changes)


def test_too_few_queries_stop_the_job(run: Run, place: Path) -> None:
    write_rows(place / "pairs.jsonl", [dict(row) for row in pairs()[:20]])
    with pytest.raises(GateError, match="test queries are held back, 10 are needed"):
        run()


def test_a_query_that_is_its_own_answer_teaches_nothing(run: Run, place: Path) -> None:
    write_rows(place / "pairs.jsonl", [{**row, "query": row["positive"]} for row in pairs()])
    with pytest.raises(GateError, match="letter by letter"):
        run()
