"""What every training job builds, for one that trains no causal language model but a loss over whole batches."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import whole_batch_jobs as toy

from genai.config.durations import Duration
from genai.config.embed_finetune import EmbedFinetuneConfig, RetrievalDataConfig, SentenceEncoderConfig
from genai.config.loading import load
from genai.config.training import AdamWConfig
from genai.errors import ConfigError
from genai.jobs import training_parts
from genai.tracking.run import RunDirectory
from genai.training.checkpoints import Checkpoints
from genai.training.parallel.ranks import Ranks
from genai.training.plan.steps import count_steps
from genai.training.trainer import Trainer

CONFIG = EmbedFinetuneConfig(
    model=SentenceEncoderConfig(pretrained_model_name_or_path="gallery:all-minilm-l6-v2"),
    data=RetrievalDataConfig(pairs="pairs.jsonl"),
    optimizer=AdamWConfig(lr=1e-2),
    global_train_batch_size=toy.BATCH_SIZE,
    max_duration="2ep",
    device="cpu",
    num_threads=1,
)


def make(folder: Path, config: EmbedFinetuneConfig = CONFIG) -> tuple[Trainer, Checkpoints, toy.Recorder]:
    """A trainer of six batches over two epochs, as the job makes it."""
    device = training_parts.choose_device(config)
    ranks = Ranks(device=device)
    directory = RunDirectory.open(folder, "run")
    context = training_parts.context_of(config, device, ranks, data_fingerprint="abc")
    checkpoints = training_parts.open_checkpoints(config, directory, context, ranks)
    torch.manual_seed(config.seed)
    stream, recorder = toy.ToyStream(), toy.Recorder()
    steps = count_steps(stream, Duration.parse(config.max_duration), num_rows=toy.NUM_PAIRS, num_tokens=77)
    trainer = training_parts.make_trainer(
        config,
        training_parts.share_batches(config, toy.ToyLoss(toy.make_model(0.2)), ranks),
        stream=stream,
        steps=steps,
        eval_batches=toy.eval_batches,
        microbatch_size=3,
        checkpoints=checkpoints,
        metrics=recorder,
        run_name="run",
    )
    return trainer, checkpoints, recorder


def test_a_trainer_without_a_decoder(tmp_path: Path) -> None:
    trainer, checkpoints, recorder = make(tmp_path)
    state = trainer.fit()
    assert (state.batch, state.epoch, state.samples) == (6, 2, 2 * toy.NUM_PAIRS)
    assert checkpoints.names() == ["ba00000003", "ba00000006"]
    assert list(recorder.values("loss/eval")) == ["3", "6"]


def test_a_checkpoint_knows_what_it_was_made_with(tmp_path: Path) -> None:
    trainer, checkpoints, _ = make(tmp_path)
    trainer.fit()
    saved = checkpoints.read_state("ba00000006")
    assert saved.layout == "whole"
    assert saved.context["data_fingerprint"] == "abc"
    assert saved.context["model"]["pretrained_model_name_or_path"] == "gallery:all-minilm-l6-v2"
    assert saved.context["environment"]["num_ranks"] == 1
    again, _, _ = make(tmp_path)
    checkpoints.restore(again, saved)
    assert all(map(torch.equal, again.model.parameters(), trainer.model.parameters()))
    assert again.microbatch_size == 3


def test_checkpoints_lie_in_the_save_folder(tmp_path: Path) -> None:
    _, checkpoints, _ = make(tmp_path, replace(CONFIG, save_folder=str(tmp_path / "elsewhere")))
    assert checkpoints.url == str(tmp_path / "elsewhere")


def test_utilisation_needs_the_length_of_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_parts, "peak_flops", lambda device: 1e12)
    monkeypatch.setattr(training_parts, "flops_per_token", lambda model, seq_len: 10.0 * seq_len)
    loss = toy.ToyLoss(toy.make_model())
    assert training_parts._flops(loss, None, 2) is None
    flops = training_parts._flops(loss, 8, 2)
    assert flops is not None
    assert (flops.flops_per_token, flops.peak_flops) == (80.0, 2e12)


def test_a_warm_start_takes_the_trained_weights(tmp_path: Path) -> None:
    trainer, checkpoints, _ = make(tmp_path)
    trainer.fit()
    file, weights = tmp_path / "job.yaml", tmp_path / "run" / "checkpoints" / checkpoints.names()[-1]
    text = "model: {name: sentence_encoder, pretrained_model_name_or_path: x}\ndata: {pairs: p.jsonl}\nload_path: "
    file.write_text(f"{text}{weights}\n")
    model = toy.make_model()
    training_parts.warm_start(load(file, EmbedFinetuneConfig), model)
    assert all(map(torch.equal, model.parameters(), trainer.model.parameters()))
    with pytest.raises(ConfigError, match="do not fit the model") as caught:
        training_parts.warm_start(load(file, EmbedFinetuneConfig), model[0])
    assert str(caught.value.problems[0].where).endswith("job.yaml:3:1")


def test_a_model_is_finished_for_a_job_that_does_not_recompute(tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_text("model: {name: sentence_encoder, pretrained_model_name_or_path: x}\ndata: {pairs: p.jsonl}\n")
    model: Any = toy.make_model()
    model[0].weight.requires_grad_(False)
    model.half()
    training_parts.finish_loading(load(file, EmbedFinetuneConfig), model, torch.device("cpu"))
    assert model[0].weight.dtype == torch.bfloat16
    assert model[3].weight.dtype == torch.float32
