"""The held-out perplexity of a pretrained model beside n-gram models counted on the same training tokens.

    python ngrams.py s3://bucket/docs runs/docs-30m

Both predict every token but the first of each held-out row, from what stands before it in the row.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from genai.data.convert.lineage import read_lineage
from genai.data.mds import read_index, read_shard, token_block
from genai.metrics.ngrams import KneserNey, count_ngrams
from genai.storage import join, open_store

NAMES = {1: "unigram", 2: "bigram", 3: "trigram", 5: "5-gram"}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="folder or bucket that holds train/ and validation/")
    parser.add_argument("run", type=Path, nargs="?", help="the run directory of the model")
    arguments = parser.parse_args()
    train, held_out = (read_rows(join(arguments.data, split)) for split in ("train", "validation"))
    lineage = read_lineage(join(arguments.data, "train"))
    vocab_size = lineage["tokenizer"]["vocab_size"] if lineage else int(max(train.max(), held_out.max())) + 1
    print(f"counted on {train.size:,} tokens, held out {held_out.size:,}; Kneser-Ney, modified and interpolated")
    tables = count_ngrams(train, order=max(NAMES), vocab_size=vocab_size)
    found = {name: KneserNey(tables, order=n, vocab_size=vocab_size).perplexity(held_out) for n, name in NAMES.items()}
    if arguments.run is not None:
        result = json.loads((arguments.run / "result.json").read_text())
        found[f"{result['num_parameters'] / 1e6:.1f} M model"] = result["perplexity"]
    for name, perplexity in found.items():
        print(f"{name:<14} perplexity {perplexity:10.2f}   {np.log(perplexity):6.3f} nats a token")


def read_rows(url: str) -> np.ndarray:
    """All rows of a set of token shards, shape (rows, tokens a row)."""
    store = open_store(url)
    blocks = [token_block(read_shard(store, info)) for info in read_index(url)]
    return np.concatenate([block.gather(np.arange(len(block.rows))) for block in blocks])


if __name__ == "__main__":
    main()
