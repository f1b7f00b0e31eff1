"""What a conversion shall make: the settings that decide, with the inputs, every byte of the output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from genai.config.finetune import RowFormat
from genai.errors import UsageError
from genai.storage.atomic import safe_name

Target = Literal["tokens", "rows"]
TRAIN = "train"
"""The split that gets what no other one takes."""


@dataclass(frozen=True, kw_only=True)
class TokenSettings:
    """How documents become rows of tokens."""

    seq_len: int
    """Tokens a row."""
    dtype: Literal["uint16", "uint32"]
    """What a token id is stored as: uint16 where the vocabulary fits."""
    end_of_text: str
    """The token put after every document."""
    end_of_text_id: int
    """Its id."""
    tokenizer: str
    """The reference that the tokenizer was named by."""
    tokenizer_fingerprint: str
    """sha256 of the tokenizer's content."""
    vocab_size: int
    """One more than the largest id."""


@dataclass(frozen=True, kw_only=True)
class ConvertSettings:
    """All that a conversion depends on beside its inputs."""

    target: Target
    """`tokens` for pretraining, `rows` for fine-tuning."""
    tokens: TokenSettings | None = None
    """For `tokens`."""
    format: RowFormat = "auto"
    """For `rows`: the format of the records, known when the inputs were looked at."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """What a format expects -> what the records call it; for `tokens` only `text`."""
    with_tools: bool = False
    """For chat `rows`: whether there is a column of tools."""
    shares: Mapping[str, float] = field(default_factory=dict)
    """Split -> share of the documents; what is left is `train`. Without any there is one data set and no split."""
    seed: int = 17
    """Decides, with its text, which split a document goes to."""
    compression: str | None = None
    """`zstd`, `zstd:LEVEL` or None."""
    shard_bytes: int = 1 << 26
    """Largest shard, before compression."""
    part_bytes: int = 1 << 26
    """About how much input makes one part: the piece of work that is whole or absent."""

    @property
    def splits(self) -> tuple[str | None, ...]:
        """The data sets that come out, in their order; None stands for the only one."""
        return (TRAIN, *self.shares) if self.shares else (None,)

    @property
    def mds_columns(self) -> dict[str, str]:
        """Columns of the shards and their encodings."""
        if self.tokens is not None:
            return {"tokens": f"ndarray:{self.tokens.dtype}:{self.tokens.seq_len}"}
        if self.format == "text":
            return {"text": "str"}
        return {"messages": "json", **({"tools": "json"} if self.with_tools else {})}

    def to_json(self) -> dict[str, Any]:
        """As plain values, for the plan and the lineage."""
        return {
            "to": self.target,
            "seq_len": self.tokens.seq_len if self.tokens else None,
            "tokenizer": self.tokens.tokenizer_fingerprint if self.tokens else None,
            "end_of_text_id": self.tokens.end_of_text_id if self.tokens else None,
            "format": self.format,
            "columns": dict(self.columns),
            "mds_columns": self.mds_columns,
            "splits": dict(self.shares),
            "seed": self.seed,
            "compression": self.compression,
            "shard_bytes": self.shard_bytes,
            "part_bytes": self.part_bytes,
        }


def parse_shares(words: Sequence[str]) -> dict[str, float]:
    """The shares of `--split NAME=SHARE`, e.g. `["validation=0.01"]`.

    Raises:
        UsageError: one is no such pair, or they leave nothing for training.
    """
    shares: dict[str, float] = {}
    for word in words:
        name, _, text = word.partition("=")
        share = _share(text)
        if share is None:
            raise UsageError(f"'{word}' is no split", where="--split", fix="write a share below 1: validation=0.01")
        if name in shares or name == TRAIN:
            what = "gets what is left" if name == TRAIN else "is given twice"
            raise UsageError(f"the split '{name}' {what}", where="--split", fix="name each other split once")
        shares[safe_name(name, kind="name of a split")] = share
    if sum(shares.values()) >= 1:
        raise UsageError("the splits leave nothing for training", where="--split", fix="lower their shares")
    return shares


def _share(text: str) -> float | None:
    try:
        share = float(text)
    except ValueError:
        return None
    return share if 0 < share < 1 else None
