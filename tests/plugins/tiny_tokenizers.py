"""Small tokenizers of each kind, as tokenizer.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from tokenizers.trainers import BpeTrainer

_TEXT = [
    '{"name": "the quick brown fox", "age": 17, "tags": [true, false, null]}',
    "grüße, naïve café, 漢字かな, 👋🏽 مرحبا",
]


def byte_level(folder: Path) -> Path:
    """Byte-level BPE of some 350 tokens: <|end|> is 0, <|turn|> is 1 (both special); <tool> is the last and is not."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = BpeTrainer(
        vocab_size=400, special_tokens=["<|end|>", "<|turn|>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(_TEXT * 4, trainer)
    tokenizer.add_tokens(["<tool>"])
    return _saved(tokenizer, folder)


def sentencepiece_like(folder: Path) -> Path:
    """As Llama 2 has it: words with ▁, and bytes for what is no token; <s> is 1, </s> is 2 (both special)."""
    words = [
        "<unk>",
        "<s>",
        "</s>",
        *(f"<0x{byte:02X}>" for byte in range(256)),
        "▁",
        "▁the",
        "▁fox",
        "fox",
        ",",
        "é",
        "漢",
        "▁▁",
    ]
    tokenizer = Tokenizer(
        models.BPE({word: number for number, word in enumerate(words)}, [], unk_token="<unk>", byte_fallback=True)
    )
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    steps: list[Any] = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(steps)
    return _saved(tokenizer, folder)


def word_piece(folder: Path) -> Path:
    """As BERT has it: continuations begin with ##; [CLS] is 1 (special)."""
    words = ["[UNK]", "[CLS]", "the", "fox", "##es", ".", ",", "do", "n't", "##!"]
    tokenizer = Tokenizer(models.WordPiece({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.add_special_tokens(["[UNK]", "[CLS]"])
    tokenizer.decoder = decoders.WordPiece()
    return _saved(tokenizer, folder)


def without_decoder(folder: Path) -> Path:
    """Words and nothing that puts them together."""
    words = ["[UNK]", "the", "fox"]
    return _saved(
        Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]")), folder
    )


def _saved(tokenizer: Tokenizer, folder: Path) -> Path:
    file = folder / "tokenizer.json"
    tokenizer.save(str(file))
    assert json.loads(file.read_text(encoding="utf-8"))
    return file
