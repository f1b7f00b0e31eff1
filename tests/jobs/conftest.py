"""A job that trains a tiny random Llama in seconds: model, tokenizer, rows and YAML in one folder."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from genai.tracking.metrics import read_metrics

WORDS = ["brick", "beam", "roof", "wall", "floor", "door", "nail", "sand", "lime", "glass", "stone", "wood"]
TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>\n{{ message['content'] }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


def make_model(folder: Path) -> Path:
    """A Llama of two layers with random weights, and a byte-level BPE tokenizer with a chat template."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=360,
        special_tokens=["<pad>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([f"what is a {word} ? it is a {word}" for word in WORDS], trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="<|end|>",
        additional_special_tokens=["<|user|>", "<|assistant|>", "<|system|>"],
    )
    fast.chat_template = TEMPLATE
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(fast),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        pad_token_id=0,
        eos_token_id=1,
        bos_token_id=None,
        attention_dropout=0.1,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    fast.save_pretrained(folder)
    return folder


def make_rows(path: Path, count: int = 60) -> Path:
    """Questions of varying length, each with an answer that can be learned."""
    rows = []
    for index in range(count):
        word = WORDS[index % len(WORDS)]
        question = "what is a " + " ".join([word] * (1 + index % 5)) + " ?"
        rows.append(
            {"prompt": question, "response": " ".join(["it is a", word] * (1 + index % 3)) + f" {WORDS[index % 7]}"}
        )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def make_config(folder: Path, **changes: Any) -> Path:
    """A job file over the model and the rows in `folder`; `changes` replace top-level keys (None removes one)."""
    import yaml

    config: dict[str, Any] = {
        "run_name": "tiny",
        "runs_dir": str(folder / "runs"),
        "seed": 3,
        "max_seq_len": 64,
        "model": {
            "pretrained_model_name_or_path": str(folder / "model"),
            "peft_config": {"r": 4, "lora_dropout": 0.1, "target_modules": ["q_proj", "v_proj"]},
        },
        "data": {"split": {"validation": 12}},
        "train_loader": {"dataset": {"path": str(folder / "rows.jsonl"), "packing_ratio": "auto"}},
        "optimizer": {"name": "decoupled_adamw", "lr": 0.01},
        "scheduler": {"name": "cosine_with_warmup", "t_warmup": "2ba"},
        "max_duration": "3ep",
        "global_train_batch_size": 2,
        "device_train_microbatch_size": 1,
        "num_threads": 1,
        "save_interval": "2ba",
        "eval_interval": "3ba",
        "proofs": {"labels": None, "packing": False, "accumulation": False, "export": False},
        "compare": {"num_samples": 1, "num_shots": 1, "max_new_tokens": 4},
        **changes,
    }
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in config.items() if value is not None}))
    return path


SEQ_LEN, NUM_WORDS, CHANCE = 32, 50, 0.1
"""Of a language in which a word determines the next one, but for one time in ten."""


def make_shards(folder: Path, count: int, seed: int) -> Path:
    """Shards of `count` rows of that language; its unigram entropy is log(NUM_WORDS)."""
    import numpy as np

    from genai.data.mds import MDSWriter

    random = np.random.default_rng(seed)
    rows = np.zeros((count, SEQ_LEN), dtype=np.uint16)
    rows[:, 0] = random.integers(0, NUM_WORDS, count)
    for column in range(1, SEQ_LEN):
        follows = (rows[:, column - 1] * 7 + 3) % NUM_WORDS
        rows[:, column] = np.where(random.random(count) < CHANCE, random.integers(0, NUM_WORDS, count), follows)
    with MDSWriter(str(folder), {"tokens": f"ndarray:uint16:{SEQ_LEN}"}, size_limit_bytes=1 << 13) as writer:
        writer.write_rows("tokens", rows)
    return folder


def make_word_tokenizer(folder: Path, num_tokens: int = NUM_WORDS + 1) -> Path:
    """A tokenizer whose tokens are words, the last one the end of a text."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {**{f"w{index}": index for index in range(num_tokens - 1)}, "<|endoftext|>": num_tokens - 1}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>").save_pretrained(folder)
    return folder


def make_pretrain_config(folder: Path, **changes: Any) -> Path:
    """A pretraining job over the shards and the tokenizer in `folder`; `changes` replace top-level keys."""
    import yaml

    config: dict[str, Any] = {
        "run_name": "tiny",
        "runs_dir": str(folder / "runs"),
        "seed": 3,
        "max_seq_len": SEQ_LEN,
        "model": {"name": "llama", "d_model": 32, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2},
        "tokenizer": {"name": str(folder / "tokenizer")},
        "train_loader": {"name": "text", "dataset": {"local": str(folder / "shards"), "split": "train"}},
        "eval_loader": {"name": "text", "dataset": {"local": str(folder / "shards"), "split": "val"}},
        "optimizer": {"name": "adamw", "lr": 0.01},
        "scheduler": {"name": "cosine_with_warmup", "t_warmup": "2ba"},
        "max_duration": "3ep",
        "eval_interval": "16ba",
        "save_interval": "10ba",
        "global_train_batch_size": 16,
        "device_train_microbatch_size": 8,
        "num_threads": 1,
        "precision": "fp32",
        "proofs": {"accumulation": False, "export": False},
        **changes,
    }
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in config.items() if value is not None}))
    return path


LET_TORCH_WARN = "import warnings; warnings.simplefilter('ignore')\n"
"""A prelude for jobs that compile: torch's compiler warns of itself."""
RESUMABLE: dict[str, Any] = {"save_interval": "2ba", "eval_interval": "5ba", "save_num_checkpoints_to_keep": 1}
"""Packed, shuffled, accumulated, with dropout, saved in the middle of epochs: what a checkpoint forgot would show."""
COMPILED = {"compile": True, "deterministic_mode": True, "max_duration": "8ba", "eval_interval": "8ba"}


@dataclass(frozen=True)
class Job:
    """The folder of a tiny job and how to run it as a process."""

    folder: Path
    write: Callable[..., Path]

    @property
    def run_directory(self) -> Path:
        return self.folder / "runs" / "tiny"

    def write_resumable(self, kind: Literal["lora", "full", "compiled"] = "lora", **changes: Any) -> Path:
        """Write the job file of a run that stops and goes on; see the fixture `uninterrupted`."""
        model = {"model": {"pretrained_model_name_or_path": str(self.folder / "model")}} if kind == "full" else {}
        return self.write(**{**RESUMABLE, **model, **(COMPILED if kind == "compiled" else {}), **changes})

    def finish(self, config: Path, prelude: str = "", *, verb: str = "finetune") -> str:
        """Run the job to its end; returns what it said."""
        done = self.genai(verb, str(config), prelude=prelude)
        assert done.returncode == 0, done.stderr
        return done.stderr

    def outcome(self, run_directory: Path | None = None) -> dict[str, Any]:
        """What an interruption must not change: the bits of the weights, and every number that was told, told once."""
        folder = run_directory or self.run_directory
        weights = [*folder.glob("model/*.safetensors"), *folder.glob("adapter/*.safetensors")]
        told = [
            (record["step"], name, record[name])
            for record in read_metrics(folder / "metrics.jsonl")
            for name in ("loss/train", "loss/eval", "grad_norm", "lr")
            if name in record
        ]
        return {"told": told, **{path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in weights}}

    def genai(
        self, *arguments: str, env: Mapping[str, str] | None = None, prelude: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run `genai ARGUMENTS` in a process of its own; `prelude` is Python that runs in it first."""
        with self.start(*arguments, env=env, prelude=prelude) as process:
            out, err = process.communicate(timeout=300)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def start(self, *arguments: str, env: Mapping[str, str] | None = None, prelude: str = "") -> subprocess.Popen[str]:
        """Like `genai`, without waiting for the end. Warnings are errors there too."""
        code = f"{prelude}\nimport sys\nfrom genai_cli.main import main\nsys.exit(main())"
        return subprocess.Popen(
            [sys.executable, "-W", "error", "-c", code, *arguments],
            env={**os.environ, **(env or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
        )


@pytest.fixture(scope="session")
def tiny_material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Model and rows, made once."""
    folder = tmp_path_factory.mktemp("tiny")
    make_model(folder / "model")
    make_rows(folder / "rows.jsonl")
    return folder


@pytest.fixture(scope="session")
def make_job(tiny_material: Path) -> Callable[[Path], Job]:
    """Makes a job in a folder, over the shared model and rows."""

    def make(folder: Path) -> Job:
        for name in ("model", "rows.jsonl"):
            (folder / name).symlink_to(tiny_material / name)
        return Job(folder, lambda **changes: make_config(folder, **changes))

    return make


@pytest.fixture(scope="session")
def uninterrupted(make_job: Callable[[Path], Job], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """`uninterrupted("lora")` is the outcome of that job when nothing stops it; it is run once."""

    @functools.cache
    def outcome(kind: str = "lora") -> dict[str, Any]:
        job = make_job(tmp_path_factory.mktemp(kind))
        job.finish(job.write_resumable(kind), LET_TORCH_WARN if kind == "compiled" else "")
        return job.outcome()

    return outcome


@pytest.fixture
def let_torch_warn() -> str:
    """A prelude for jobs that compile."""
    return LET_TORCH_WARN


@pytest.fixture
def job(make_job: Callable[[Path], Job], tmp_path: Path) -> Job:
    """A job in a folder of its own."""
    return make_job(tmp_path)


@pytest.fixture(scope="session")
def token_material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards and a tokenizer, made once."""
    folder = tmp_path_factory.mktemp("tokens")
    make_shards(folder / "shards" / "train", 256, seed=0)
    make_shards(folder / "shards" / "val", 48, seed=1)
    make_word_tokenizer(folder / "tokenizer")
    return folder


@pytest.fixture(scope="session")
def make_token_job(token_material: Path) -> Callable[[Path], Job]:
    """Makes a pretraining job in a folder, over the shared shards."""

    def make(folder: Path) -> Job:
        for name in ("shards", "tokenizer"):
            (folder / name).symlink_to(token_material / name)
        return Job(folder, lambda **changes: make_pretrain_config(folder, **changes))

    return make


@pytest.fixture
def token_job(make_token_job: Callable[[Path], Job], tmp_path: Path) -> Job:
    """A pretraining job in a folder of its own."""
    return make_token_job(tmp_path)


@pytest.fixture
def make_tokenizer() -> Callable[..., Path]:
    """Writes a tokenizer of so many words into a folder."""
    return make_word_tokenizer
