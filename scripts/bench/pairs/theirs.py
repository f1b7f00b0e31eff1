"""The same with sentence-transformers: its own trainer, loss and encode."""

from __future__ import annotations

import itertools
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pairs.data import Pairs


def load(folder: Path, dtype: str = "float32") -> Any:
    import torch
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(folder), device="cpu", model_kwargs={"dtype": getattr(torch, dtype)})


def train_times(folder: Path, pairs: Pairs, *, order: Sequence[int], batch_size: int, learning_rate: float) -> Any:
    """CPU-seconds between the ends of two steps, over the pairs in the order given."""
    from datasets import Dataset
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
    from torch.utils.data import BatchSampler, SequentialSampler
    from transformers import TrainerCallback

    times: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            times.append(time.process_time())

        def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
            times.append(time.process_time())

    model = load(folder)
    columns = zip(*(pairs[row] for row in order), strict=True)
    rows = Dataset.from_dict(dict(zip(("anchor", "positive"), map(list, columns), strict=True)))
    with tempfile.TemporaryDirectory() as scratch:
        arguments = SentenceTransformerTrainingArguments(
            output_dir=scratch,
            per_device_train_batch_size=batch_size,
            max_steps=len(order) // batch_size,
            learning_rate=learning_rate,
            adam_beta2=0.95,  # as in ours
            optim="adamw_torch_fused",
            bf16=True,
            use_cpu=True,
            report_to="none",
            logging_steps=1,
            save_strategy="no",
            disable_tqdm=True,
            batch_sampler=lambda dataset, **kwargs: BatchSampler(SequentialSampler(dataset), batch_size, True),
        )
        trainer = SentenceTransformerTrainer(
            model=model,
            args=arguments,
            train_dataset=rows,
            loss=MultipleNegativesRankingLoss(model),
            callbacks=[Clock()],
        )
        sys.stdout = sys.stderr  # the trainer prints its logs
        trainer.train()
        sys.stdout = sys.__stdout__
    return [after - before for before, after in itertools.pairwise(times)]


def gradients(folder: Path, pairs: Pairs) -> tuple[float, dict[str, Any]]:
    """Loss and gradients of these pairs as one batch, in float32 and without dropout."""
    import torch
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    model = load(folder).eval()
    loss = MultipleNegativesRankingLoss(model)
    features = [model.preprocess(list(texts)) for texts in zip(*pairs, strict=True)]
    value = loss(features, torch.zeros(0))
    value.backward()
    named = model[0].auto_model.named_parameters()
    return float(value.detach()), {name: parameter.grad for name, parameter in named if parameter.grad is not None}


def encoder(folder: Path, precision: str) -> Any:
    """From texts to vectors."""
    model = load(folder, {"fp32": "float32", "bf16": "bfloat16"}[precision])
    return lambda texts: model.encode(texts, batch_size=32, show_progress_bar=False)
