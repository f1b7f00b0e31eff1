"""Models without memory for the tests of predictions."""

from collections.abc import Callable
from typing import Any

import pytest

from genai.config.finetune import (
    FinetuneConfig,
    FinetuningDatasetConfig,
    FinetuningLoaderConfig,
    HFCausalLMConfig,
    PeftConfig,
)


@pytest.fixture
def make_meta() -> Callable[..., Any]:
    """Makes a small model on the meta device, by default a Llama; `changes` go to its config."""
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    def make(config_class: type[Any] = LlamaConfig, **changes: Any) -> Any:
        shape = {
            "vocab_size": 512,
            "hidden_size": 64,
            "intermediate_size": 160,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 4096,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "pad_token_id": 0,
            **changes,
        }
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config_class(**shape), attn_implementation="eager")

    return make


@pytest.fixture
def make_config() -> Callable[..., FinetuneConfig]:
    """Makes a job; `peft` is the adapter's settings or None, the rest goes to the job."""

    def make(peft: dict[str, Any] | None = None, **changes: Any) -> FinetuneConfig:
        model: dict[str, Any] = {"pretrained_model_name_or_path": "somewhere", **changes.pop("model", {})}
        adapter = None if peft is None else PeftConfig(**peft)
        return FinetuneConfig(
            **{
                "model": HFCausalLMConfig(**model, peft_config=adapter),
                "train_loader": FinetuningLoaderConfig(dataset=FinetuningDatasetConfig(path="rows.jsonl")),
                "global_train_batch_size": 1,
                **changes,
            }
        )

    return make
