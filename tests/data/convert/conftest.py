"""Conversions of small files with a tiny tokenizer."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from genai.data.convert.inputs import HubOptions, Inputs, find_inputs
from genai.data.convert.parts import Work
from genai.data.convert.reading import Reader, fit_to_records
from genai.data.convert.settings import ConvertSettings, TokenSettings

END_ID = 0
Prepare = Callable[..., tuple[Work, Inputs]]


class NoTable:
    """Opens no table; can be sent to a worker."""

    def __call__(self, uri: str, version: int | None) -> Any:
        raise AssertionError(uri)


@pytest.fixture(scope="session")
def tokenizer_json() -> str:
    """A byte-level tokenizer without merges: id of byte b is that of its sign; 0 ends a text."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=257, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([], trainer)
    return str(tokenizer.to_str())


@pytest.fixture
def lines(tmp_path: Path) -> Callable[..., Path]:
    """lines(texts, name): a JSONL file with them."""

    def write(texts: Sequence[str], name: str = "rows.jsonl") -> Path:
        path = tmp_path / "in" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        return path

    return write


@pytest.fixture
def prepare(tmp_path: Path, tokenizer_json: str) -> Prepare:
    """prepare(source, out=..., seq_len=..., part_bytes=..., **settings): what `convert` takes."""

    def make(
        *sources: Path, out: str | None = None, seq_len: int = 8, part_bytes: int = 200, **changes: Any
    ) -> tuple[Work, Inputs]:
        tokens = TokenSettings(
            seq_len=seq_len,
            dtype="uint16",
            end_of_text="<|endoftext|>",
            end_of_text_id=END_ID,
            tokenizer="tiny",
            tokenizer_fingerprint="f",
            vocab_size=257,
        )
        hub_options = HubOptions()
        references = [str(source) for source in sources]
        inputs = find_inputs(references, part_bytes=part_bytes, hub_options=hub_options, open_table=NoTable())
        values = {"target": "tokens", "part_bytes": part_bytes, **changes}
        settings = ConvertSettings(tokens=tokens if values["target"] == "tokens" else None, **values)
        reader = Reader(inputs=inputs.inputs, settings=settings, hub_options=hub_options, open_table=NoTable())
        reader = replace(reader, settings=fit_to_records(reader, inputs, text_column=None))
        return Work(reader=reader, out=out or str(tmp_path / "out"), tokenizer_json=tokenizer_json), inputs

    return make
