"""The tokenizer of a Hugging Face folder as the metadata of a GGUF file.

Source: the GGUF specification (ggml, docs/gguf.md), section "Tokenizer".
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import IntEnum
from pathlib import Path
from typing import Any

from genai.errors import DataError, UsageError
from genai.models.chat_template import end_of_turn_id
from genai.models.pretokenizers import PRE_TOKENIZERS, name_of
from genai.models.quiet import quiet_transformers


class _TokenType(IntEnum):
    """The specification's numbers for kinds of tokens."""

    NORMAL = 1
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5


def add_tokenizer(writer: Any, folder: Path, *, num_rows: int) -> None:
    """Write vocabulary, merges, special tokens and chat template into the metadata of a GGUF file.

    Args:
        writer: a `gguf.GGUFWriter`, before its header is written.
        folder: holds a tokenizer.json.
        num_rows: rows of the embeddings; every one needs a token.

    Raises:
        UsageError: it is no byte-level BPE, or llama.cpp has no name for how it cuts text.
        DataError: it has more tokens than there are rows.
    """
    described, pre = _byte_level_tokenizer(folder)
    tokens, types = _token_list(described, num_rows)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    merges = described["model"]["merges"]
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in merges])
    _add_special_tokens(writer, folder)


def _byte_level_tokenizer(folder: Path) -> tuple[dict[str, Any], str]:
    """The tokenizer.json of `folder` and llama.cpp's name for how it cuts text."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise UsageError("GGUF export needs a tokenizer.json", where=str(folder))
    described = json.loads(path.read_text(encoding="utf-8"))
    if described["model"]["type"] != "BPE" or described["model"].get("byte_fallback"):
        raise UsageError("GGUF export knows byte-level BPE tokenizers only", where=str(path), fix="export as hf")
    normalizer = described.get("normalizer")
    pre = name_of(described.get("pre_tokenizer"))
    if pre is None or (normalizer and normalizer.get("type") != "NFC"):
        known = ", ".join(PRE_TOKENIZERS)
        raise UsageError(
            f"GGUF has no name for how this tokenizer cuts text (known: {known})", where=str(path), fix="export as hf"
        )
    return described, pre


def _token_list(described: Mapping[str, Any], num_rows: int) -> tuple[list[str], list[int]]:
    """One token and its type for every row of the embeddings; rows without a token are marked unused."""
    by_id = {index: (token, _TokenType.NORMAL) for token, index in described["model"]["vocab"].items()}
    for added in described.get("added_tokens", ()):
        kind = _TokenType.CONTROL if added["special"] else _TokenType.USER_DEFINED
        by_id[added["id"]] = (added["content"], kind)
    if max(by_id) >= num_rows:
        raise DataError(f"the tokenizer has {max(by_id) + 1} tokens, the model only {num_rows} embeddings")
    rows = [by_id.get(index, (f"[PAD{index}]", _TokenType.UNUSED)) for index in range(num_rows)]
    return [token for token, _ in rows], [int(kind) for _, kind in rows]


def _add_special_tokens(writer: Any, folder: Path) -> None:
    from transformers import AutoTokenizer

    with quiet_transformers():
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    adders = {"bos": writer.add_bos_token_id, "eos": writer.add_eos_token_id, "pad": writer.add_pad_token_id}
    for name, add in adders.items():
        if (index := getattr(tokenizer, f"{name}_token_id")) is not None:
            add(index)
    end_of_turn = end_of_turn_id(tokenizer)
    if end_of_turn is not None and end_of_turn != tokenizer.eos_token_id:
        writer.add_eot_token_id(end_of_turn)
    first = tokenizer("a")["input_ids"][:1]
    writer.add_add_bos_token(bool(first) and first[0] == tokenizer.bos_token_id)
    if isinstance(tokenizer.chat_template, str):
        writer.add_chat_template(tokenizer.chat_template)
