"""Training and encoding with the parts that `genai embed-finetune` is made of."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from pairs.data import Pairs

LEARNING_RATE = 5e-5


class Setup:
    """The job's encoder, loss and stream over some pairs."""

    def __init__(self, folder: Path, pairs: Pairs, *, batch_size: int, precision: str) -> None:
        from genai.config.embed_finetune import MultipleNegativesConfig, SentenceEncoderConfig
        from genai.data.retrieval.records import Pair, Passage, RetrievalData
        from genai.embedding.tuning.loss import EncoderLoss
        from genai.embedding.tuning.model import TrainableEncoder
        from genai.embedding.tuning.objectives import build_objective
        from genai.embedding.tuning.stream import PairStream, index_pairs
        from genai.embedding.tuning.tokenising import token_table

        passages = tuple(Passage(key=str(row), text=body, document=str(row)) for row, (_, body) in enumerate(pairs))
        train = tuple(Pair(query=query, positive=str(row)) for row, (query, _) in enumerate(pairs))
        index = index_pairs(RetrievalData(passages=passages, train=train, validation=(), test=()))
        config = SentenceEncoderConfig(pretrained_model_name_or_path=str(folder))
        self.model = TrainableEncoder.load(folder, config, precision=precision, device="cpu")  # type: ignore[arg-type]
        tokens = token_table(self.model.tokens, index.queries, index.texts)
        self.loss = EncoderLoss(self.model, tokens, build_objective(MultipleNegativesConfig()), device="cpu")
        self.batch_size = batch_size
        self._stream = lambda: PairStream(index, tokens, batch_size=batch_size, num_negatives=0, seed=1)

    def stream(self) -> Any:
        """From its beginning."""
        return self._stream()

    def order(self, batches: int) -> list[int]:
        """The pairs of the first batches, one after the other."""
        stream = self.stream()
        return [int(pair) for _ in range(batches) for pair in stream.next_batch().pairs]


def train_times(setup: Setup, steps: int) -> list[float]:
    """CPU-seconds between the ends of two steps of the trainer, so that all that it does in between counts."""
    import time

    from turns.steps import step_times

    from genai.config.durations import Duration
    from genai.config.training import AdamWConfig, CallbacksConfig, CosineConfig
    from genai.jobs.metric_sinks import MetricSinks
    from genai.tracking.metrics import MetricsLog
    from genai.training.allocator import keep_freed_memory
    from genai.training.callbacks import build_callbacks
    from genai.training.checkpoints import Checkpoints
    from genai.training.optimizers import build_optimizer
    from genai.training.parallel.ranks import Ranks
    from genai.training.parallel.whole_batch import share_whole_batches
    from genai.training.schedules import build_schedule
    from genai.training.trainer import Settings, Trainer

    keep_freed_memory()
    duration, stream = Duration(steps, "ba"), setup.stream()
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            optimizer=build_optimizer(AdamWConfig(lr=LEARNING_RATE), setup.model, device=setup.model.device),
            schedule=build_schedule(
                CosineConfig(), max_duration=duration, batches_per_epoch=stream.batches_in_epoch(0)
            ),
            stream=stream,
            eval_batches=None,
            callbacks=build_callbacks(CallbacksConfig(), run_name="bench", total_batches=steps),
            checkpoints=Checkpoints(str(Path(folder) / "checkpoints"), keep=1, context={}),
            metrics=MetricSinks(MetricsLog(Path(folder) / "metrics.jsonl"), []),
            settings=Settings(
                max_duration=duration,
                eval_interval=Duration(10**9, "ba"),
                save_interval=Duration(10**9, "ba"),
                total_batches=steps,
                microbatch_size=setup.batch_size,
            ),
            parallel=share_whole_batches(setup.loss, Ranks(device=setup.model.device)),
        )
        return step_times(trainer, time.process_time)


def gradients(setup: Setup) -> tuple[float, dict[str, Any]]:
    """Loss and gradients of the first batch, without dropout."""
    setup.model.eval()
    loss = setup.loss.accumulate(setup.stream().next_batch(), setup.batch_size, lambda rows, counts: rows.detach())
    named = setup.model.transformer.named_parameters()
    return loss, {name: parameter.grad for name, parameter in named if parameter.grad is not None}


def encoder(folder: Path, precision: str) -> Any:
    """From texts to vectors."""
    from genai.config.embedding import EmbeddingConfig
    from genai.embedding.opening import open_encoder

    config = EmbeddingConfig(model=str(folder), precision=precision, batch_size=32)  # type: ignore[arg-type]
    return open_encoder(config, num_threads=1).embed_documents
