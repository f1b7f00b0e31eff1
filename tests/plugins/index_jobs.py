"""What index jobs are tried with: a table of words' vectors as a model, a Delta table of rooms, and a job file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

ROWS: list[dict[str, Any]] = [
    {"id": 1, "text": "the screed under the tiles is sixty millimetres thick", "topic": "floors", "year": 2020},
    {"id": 2, "text": "a parquet of oak is sanded before it is oiled", "topic": "floors", "year": 2021},
    {"id": 3, "text": "roof tiles are laid from the eaves upwards", "topic": "roofs", "year": 2020},
    {"id": 4, "text": "a gutter needs a slope of three millimetres", "topic": "roofs", "year": 2022},
    {"id": 5, "text": "the invoice is due within thirty days", "topic": "money", "year": 2022},
]
NEW_TEXT = "the chimney is swept twice a year by a sweep"
QUERIES = [
    {"query": "how thick is the screed", "relevant": ["1"]},
    {"query": "oak parquet", "relevant": ["2"]},
    {"query": "slope of a gutter", "relevant": {"4": 2, "3": 1}},
    {"query": "invoice", "relevant": ["5"]},
]


def make_word_model(folder: Path, *, seed: int = 0, width: int = 256) -> Path:
    """A static model (model2vec's layout) that knows the words of the rows, each by a vector drawn at random."""
    from safetensors.numpy import save_file
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    texts = [*(row["text"] for row in ROWS), NEW_TEXT, *(query["query"] for query in QUERIES)]
    words = ["[UNK]", *sorted({word for text in texts for word in str(text).lower().split()})]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    folder.mkdir(parents=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    table = np.random.default_rng(seed).standard_normal((len(words), width)).astype(np.float32)
    save_file({"embeddings": table}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": "model2vec", "normalize": True}))
    return folder


def write_table(folder: Path, rows: Iterable[Mapping[str, Any]] = ROWS) -> int:
    """Write a Delta table anew, with its change feed; gives its version."""
    import deltalake
    import pyarrow as pa

    table = pa.Table.from_pylist([dict(row) for row in rows])
    configuration = {"delta.enableChangeDataFeed": "true"}
    deltalake.write_deltalake(folder, table, mode="overwrite", configuration=configuration)
    return int(deltalake.DeltaTable(folder).version())


def merge_rows(folder: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Put rows into a Delta table by their `id`; gives its version."""
    import deltalake
    import pyarrow as pa

    table = deltalake.DeltaTable(folder)
    merging = table.merge(
        pa.Table.from_pylist([dict(row) for row in rows]), "old.id = new.id", source_alias="new", target_alias="old"
    )
    merging.when_matched_update_all().when_not_matched_insert_all().execute()
    return int(table.version())


def delete_rows(folder: Path, *ids: int) -> int:
    """Take rows out of a Delta table; gives its version."""
    import deltalake

    table = deltalake.DeltaTable(folder)
    table.delete(f"id in ({','.join(map(str, ids))})")
    return int(table.version())


def write_job(path: Path, **changes: Any) -> Path:
    """The job file of an index `rooms` over `table/` with the model `model/`, both beside it and named relatively."""
    config: dict[str, Any] = {
        "name": "rooms",
        "source": {"table": "delta:table", "primary_key": "id", "text": "text", "metadata": ["topic", "year"]},
        "embedding": {"model": "./model"},
        "engine": {"name": "exact"},
        **changes,
    }
    path.write_text(yaml.safe_dump(config))
    return path


def write_queries(path: Path) -> Path:
    """Questions with what they should find."""
    path.write_text("".join(f"{json.dumps(query)}\n" for query in QUERIES))
    return path
