"""A tiny random Llama with a real byte-level tokenizer: small enough for every test, built once per process."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

CORPUS = [
    "The site office opens at 7 and closes at 17.",
    "Wear a helmet, boots and a vest on the building site.",
    "Who signs the protocol when 25 pallets of bricks are delivered?",
    "room  1, room  22, room  333, room  4444",
    "def total(numbers): return sum(numbers)  # 1 + 2 = 3",
]
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def make_tokenizer(pre_tokenizer: Any = None, *, chat_template: str | None = CHATML) -> Any:
    """A byte-level BPE of 400 tokens; `<|endoftext|>` 0, `<|im_start|>` 1, `<|im_end|>` 2 (the end of sequence)."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizer or pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(CORPUS, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<|im_start|>", eos_token="<|im_end|>", unk_token="<|endoftext|>"
    )
    tokenizer.chat_template = chat_template
    return tokenizer


def make_llama_config(vocab_size: int, **changes: Any) -> Any:
    from transformers import LlamaConfig

    values = {
        "vocab_size": vocab_size,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "tie_word_embeddings": True,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "initializer_range": 0.2,
    }
    return LlamaConfig(**{**values, **changes})


def save_model(config: Any, tokenizer: Any, folder: Path) -> Path:
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_tokenizer() -> Any:
    return make_tokenizer()


@pytest.fixture(scope="session")
def _tiny(tiny_tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = make_llama_config(len(tiny_tokenizer))
    return save_model(config, tiny_tokenizer, tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture
def tiny(_tiny: Path, tmp_path: Path) -> Path:
    """A folder with the tiny Llama that the test may spoil."""
    return Path(shutil.copytree(_tiny, tmp_path / "tiny"))


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., Path]:
    """Saves a model of another config or with another tokenizer: `build(config, tokenizer)`."""
    return lambda config, tokenizer: save_model(config, tokenizer, tmp_path / "built")


@pytest.fixture
def llama_config() -> Callable[..., Any]:
    return make_llama_config


@pytest.fixture
def tokenizer_with() -> Callable[..., Any]:
    """`tokenizer_with(pre_tokenizer, chat_template=...)`."""
    return make_tokenizer


@pytest.fixture(scope="session")
def _cache_of_the_run() -> str:
    return os.environ["GENAI_CACHE"]


@pytest.fixture
def shared_cache(_own_cache: None, _cache_of_the_run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache of the whole test run, where a pulled model stays for the next run."""
    monkeypatch.setenv("GENAI_CACHE", _cache_of_the_run)


@pytest.fixture(autouse=True)
def _own_cache(_cache_of_the_run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every test has an empty cache of its own, and no credentials."""
    monkeypatch.setenv("GENAI_CACHE", str(tmp_path / "cache"))
    for name in ("HF_TOKEN", "GENAI_GALLERY_BUCKET", "GENAI_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    yield
