"""A job that tunes a tiny random BERT in seconds: model, pairs, general pairs and YAML in one folder.

Every subject has a name of its own ("oak beam") and a document that says it; a question says it in other words, which
the model has to learn. Names are made of two words out of a short list, so that there is something to confuse.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FIRST = ("oak", "pine", "lime", "sand", "clay", "iron", "glass", "stone", "brick", "steel")
SECOND = ("beam", "wall", "roof", "door", "floor", "nail", "pipe", "stair")
HIDDEN = 32


def pairs() -> list[dict[str, str]]:
    """80 questions with their documents."""
    return [
        {
            "id": f"{first}-{second}",
            "query": f"what about the {second} made of {first} ?",
            "positive": f"{first} {second} : the {second} is built of {first} and lasts " + "long " * (1 + place % 7),
        }
        for place, (first, second) in enumerate((one, two) for one in FIRST for two in SECOND)
    ]


def make_encoder(folder: Path, *, classifier: bool = False, dropout: float = 0.1) -> Path:
    """A BERT of two layers with random weights, as a sentence-transformers folder (or a cross-encoder's)."""
    import torch
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertForSequenceClassification, BertModel, PreTrainedTokenizerFast

    words = sorted({word for row in pairs() for text in (row["query"], row["positive"]) for word in text.split()})
    vocabulary = {word: number for number, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=HIDDEN,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=64,
        num_labels=1,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
    )
    model: Any = (BertForSequenceClassification if classifier else BertModel)(config)
    model.save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=48,
    ).save_pretrained(folder)
    if not classifier:
        modules = [
            {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
            {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
            {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
        ]
        pooling = {"word_embedding_dimension": HIDDEN, "pooling_mode_mean_tokens": True}
        (folder / "modules.json").write_text(json.dumps(modules))
        (folder / "1_Pooling").mkdir()
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
        (folder / "2_Normalize").mkdir()
    return folder


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_job(folder: Path, **changes: Any) -> Path:
    """A job file over `model` and `pairs.jsonl` in `folder`; `changes` replace top-level keys (None removes one)."""
    import yaml

    config: dict[str, Any] = {
        "run_name": "tiny",
        "runs_dir": str(folder / "runs"),
        "seed": 3,
        "model": {"name": "sentence_encoder", "pretrained_model_name_or_path": str(folder / "model")},
        "data": {
            "pairs": str(folder / "pairs.jsonl"),
            "split": {"validation": 0.15, "test": 0.3, "near_duplicates": 1.0},
        },
        "optimizer": {"name": "adamw", "lr": 0.003},
        "max_duration": "6ep",
        "global_train_batch_size": 8,
        "num_threads": 1,
        "precision": "fp32",
        "eval_interval": "2ep",
        "save_interval": "5ba",
        **changes,
    }
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in config.items() if value is not None}))
    return path


def make_place(folder: Path) -> Path:
    """The folder with everything that `write_job` names."""
    make_encoder(folder / "model")
    write_rows(folder / "pairs.jsonl", [dict(row) for row in pairs()])
    return folder
