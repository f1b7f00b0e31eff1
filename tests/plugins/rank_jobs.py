"""Trainings on many ranks for tests: one process a rank, without torchrun, over a tiny random Llama.

    python rank_jobs.py FOLDER NAME...    one rank; its place comes from the environment

Each NAME is a function below; what it returns on rank 0 is written to FOLDER/NAME.json.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

VOCABULARY = 64
BATCH_SIZE = 4


class Recorder:
    """Keeps what is logged."""

    def __init__(self) -> None:
        self.lines: list[tuple[int, dict[str, float]]] = []

    def log(self, state: Any, metrics: Mapping[str, float]) -> None:
        self.lines.append((state.batch, dict(metrics)))

    def values(self, name: str) -> dict[str, float]:
        return {str(batch): metrics[name] for batch, metrics in self.lines if name in metrics}


def make_rows() -> Any:
    """17 rows of unequal trained tokens: half of the second batch trains nothing, the last batch is one row."""
    import numpy as np

    from genai.data.tokenized import TokenizedRows

    generator = np.random.default_rng(0)
    ids = [generator.integers(1, VOCABULARY, n).tolist() for n in generator.integers(4, 20, 17)]
    flags = [(generator.random(len(row)) < 0.6).tolist() for row in ids]
    for row in flags:
        row[0], row[-1] = False, True
    for row in (6, 7):
        flags[row] = [False] * len(ids[row])
    return TokenizedRows.from_lists(ids, flags)


def make_model(**changes: Any) -> Any:
    """Two layers, tied embeddings, in float32; the same on every rank."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(1)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = LlamaConfig(vocab_size=VOCABULARY, num_key_value_heads=2, tie_word_embeddings=True, **{**sizes, **changes})
    return LlamaForCausalLM(config)


def make_native() -> Any:
    """The same sizes in our own Llama."""
    from genai.models.llama import Llama, LlamaConfig

    config = LlamaConfig(
        vocab_size=VOCABULARY,
        d_model=32,
        d_ff=48,
        n_layers=2,
        n_heads=4,
        n_kv_heads=2,
        max_seq_len=64,
        tie_embeddings=True,
    )
    return Llama(config, seed=7)


def make_trainer(
    folder: Path,
    ranks: Any,
    *,
    fsdp: Any = None,
    lora: bool = False,
    layout: Any = "whole",
    in_background: bool = False,
    callbacks: Iterable[Any] = (),
    dropout: float = 0.0,
    native: bool = False,
    optimizer: Any = None,
    **settings: Any,
) -> tuple[Any, Any, Recorder]:
    """A trainer of ten batches over two epochs, its checkpoints, and what it logs."""
    from genai.config.durations import Duration
    from genai.config.training import AdamWConfig, CosineConfig
    from genai.data.batches import BatchStream, eval_batches
    from genai.training.checkpoints import Checkpoints
    from genai.training.forward import CausalLMLoss
    from genai.training.native_loss import LlamaLoss
    from genai.training.optimizers import build_optimizer
    from genai.training.parallel.parallelize import parallelize
    from genai.training.random_state import seed_rank
    from genai.training.schedules import build_schedule
    from genai.training.trainer import Settings, Trainer

    place = {"rank": ranks.data_rank, "world_size": ranks.data_world_size}
    rows = make_rows()
    stream = BatchStream(
        rows,
        max_seq_len=32,
        batch_size=BATCH_SIZE,
        packing=False,
        shuffle=False,
        seed=5,
        drop_last=False,
        pad_token_id=0,
        **place,
    )
    model = make_model(attention_dropout=dropout)
    if lora:
        from genai.config.training import PeftConfig
        from genai.models.adapters import add_adapter

        model = add_adapter(model, PeftConfig(r=4, target_modules=["q_proj", "v_proj"]))
    whole_loss: Any
    if native:
        whole_loss = LlamaLoss(make_native(), precision="fp32", device=ranks.device)
    else:
        whole_loss = CausalLMLoss(model, precision="fp32", device=ranks.device)
    parallel = parallelize(whole_loss, ranks, fsdp=fsdp, bf16=False)
    duration = Duration.parse("10ba")
    checkpoints = Checkpoints(str(folder), keep=9, context={}, ranks=ranks, layout=layout, in_background=in_background)
    recorder = Recorder()
    values = Settings(
        max_duration=duration,
        eval_interval=Duration.parse("5ba"),
        save_interval=Duration.parse("4ba"),
        total_batches=10,
        microbatch_size=1,
    )
    trainer = Trainer(
        optimizer=build_optimizer(optimizer or AdamWConfig(lr=1e-2), parallel.model_loss.model),
        schedule=build_schedule(CosineConfig(t_warmup="2ba"), max_duration=duration, batches_per_epoch=5),
        stream=stream,
        eval_batches=lambda: eval_batches(rows, max_seq_len=32, batch_size=6, pad_token_id=0, **place),
        callbacks=list(callbacks),
        checkpoints=checkpoints,
        metrics=recorder,
        settings=replace(values, **settings),
        parallel=parallel,
    )
    seed_rank(3, ranks.rank)
    return trainer, checkpoints, recorder


def told(recorder: Recorder) -> dict[str, dict[str, float]]:
    """What must not depend on the number of ranks."""
    return {name: recorder.values(name) for name in ("loss/train", "grad_norm", "loss/eval")}


def train(folder: Path, ranks: Any, **changes: Any) -> dict[str, Any]:
    """Train from the beginning."""
    trainer, _, recorder = make_trainer(folder, ranks, **changes)
    state = trainer.fit()
    return {**told(recorder), "tokens": state.tokens, "trained_tokens": state.trained_tokens}


def resume(folder: Path, ranks: Any, name: str, **changes: Any) -> dict[str, Any]:
    """Go on from the checkpoint `name`."""
    trainer, checkpoints, recorder = make_trainer(folder, ranks, **changes)
    checkpoints.restore(trainer, checkpoints.read_state(name))
    state = trainer.fit()
    return {**told(recorder), "tokens": state.tokens, "trained_tokens": state.trained_tokens}


# --- what a process of a rank can be told to do -----------------------------------------------------------------------


def ddp(folder: Path, ranks: Any) -> Any:
    return train(folder / "ddp", ranks)


def ddp_lora(folder: Path, ranks: Any) -> Any:
    return train(folder / "ddp_lora", ranks, lora=True)


def fsdp(folder: Path, ranks: Any) -> Any:
    from genai.config.training import FsdpConfig

    return train(folder / "fsdp", ranks, fsdp=FsdpConfig(), layout="sharded")


def fsdp_full(folder: Path, ranks: Any) -> Any:
    """Other settings: weights kept until the backward pass, activations computed again and on the host."""
    from genai.config.training import FsdpConfig

    cfg = FsdpConfig(sharding_strategy="SHARD_GRAD_OP", activation_checkpointing=True, activation_cpu_offload=True)
    return train(folder / "fsdp_full", ranks, fsdp=cfg)


def fsdp_background(folder: Path, ranks: Any) -> Any:
    from genai.config.training import FsdpConfig

    return train(folder / "fsdp_background", ranks, fsdp=FsdpConfig(), layout="sharded", in_background=True)


def resume_ddp(folder: Path, ranks: Any) -> Any:
    return resume(folder / "ddp", ranks, "ba00000004")


def resume_fsdp(folder: Path, ranks: Any) -> Any:
    from genai.config.training import FsdpConfig

    return resume(folder / "fsdp", ranks, "ba00000004", fsdp=FsdpConfig(), layout="sharded")


def resume_fsdp_from_whole(folder: Path, ranks: Any) -> Any:
    from genai.config.training import FsdpConfig

    return resume(folder / "ddp", ranks, "ba00000004", fsdp=FsdpConfig())


def resume_one(folder: Path, ranks: Any) -> Any:
    return resume(folder / "one", ranks, "ba00000008")


def native_fsdp(folder: Path, ranks: Any) -> Any:
    from genai.config.training import FsdpConfig

    return train(folder / "native_fsdp", ranks, fsdp=FsdpConfig(), native=True, layout="sharded")


def native_tensor(folder: Path, ranks: Any) -> Any:
    return train(folder / "native_tensor", replace(ranks, tensor_parallel=2), native=True)


def tensor(folder: Path, ranks: Any) -> Any:
    return train(folder / "tensor", replace(ranks, tensor_parallel=2), layout="sharded")


def resume_native_tensor(folder: Path, ranks: Any) -> Any:
    return resume(folder / "native_tensor", replace(ranks, tensor_parallel=2), "ba00000008", native=True)


def resume_native_tensor_sharded(folder: Path, ranks: Any) -> Any:
    """From what FSDP2 wrote."""
    neighbours = replace(ranks, tensor_parallel=2)
    return resume(folder / "native_fsdp", neighbours, "ba00000004", native=True, layout="sharded")


def native_muon(folder: Path, ranks: Any) -> Any:
    from genai.config.training import FsdpConfig, MuonConfig

    return train(folder / "native_muon", ranks, fsdp=FsdpConfig(), native=True, optimizer=MuonConfig())


def stop(folder: Path, ranks: Any) -> Any:
    """The second rank is sent a signal in its third batch."""
    from genai.errors import StoppedError
    from genai.training.callbacks.base import Callback

    class Signals(Callback):
        def before_step(self, loss: float, grad_norm: float, *, batch: int, row_ids: Any) -> bool:
            if batch == 3 and ranks.rank == 1:
                os.kill(os.getpid(), signal.SIGTERM)
            return True

    trainer, checkpoints, _ = make_trainer(folder / "stop", ranks, callbacks=[Signals()])
    try:
        trainer.fit()
    except StoppedError as stopped:
        assert stopped.exit_code == 143
    batches = [int(batch) for batch in ranks.gather(torch.tensor([trainer.state.batch]))]
    return {"batches": batches, "saved": checkpoints.names()}


def dropout(folder: Path, ranks: Any) -> Any:
    result = train(folder / "dropout", ranks, dropout=0.5)
    one, other = ranks.gather(torch.get_rng_state())
    return {**result, "streams_differ": not torch.equal(one, other)}


def resume_dropout(folder: Path, ranks: Any) -> Any:
    return resume(folder / "dropout", ranks, "ba00000004", dropout=0.5)


# --- starting them ----------------------------------------------------------------------------------------------------


def run_ranks(count: int, folder: Path, *names: str, script: str = __file__) -> dict[str, Any]:
    """Carry out functions of this module on `count` ranks, one after the other in the same processes.

    Args:
        script: of another module that ends as this one does.
    """
    folder.mkdir(exist_ok=True)
    port = free_port()
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "error", script, str(folder), *names],
            env={**os.environ, **environment(rank, count, port)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]
    said = [process.communicate(timeout=240)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * count, "\n".join(said)
    return {name: json.loads((folder / f"{name}.json").read_text()) for name in names}


def environment(rank: int, count: int, port: int) -> dict[str, str]:
    """What torchrun would set."""
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": "1",
    }


def free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main(folder: Path, names: list[str], tasks: Mapping[str, Any]) -> None:
    from genai.training.parallel.ranks import open_ranks

    with open_ranks("cpu") as ranks:
        for name in names:
            task: Callable[[Path, Any], Any] = tasks[name]
            result = task(folder, ranks)
            if ranks.is_main:
                (folder / f"{name}.json").write_text(json.dumps(result))


if __name__ == "__main__":
    from genai.jobs.worker import end

    main(Path(sys.argv[1]), sys.argv[2:], globals())
    end(0)
